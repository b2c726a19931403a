"""Real and hostile answers -> instructions and code."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codesynth.operators.parsing import parse_code, parse_instruction, split_thinking

STUB = 'def twice(x: int) -> int:\n    """Double x.\n    >>> twice(2)\n    4\n    """'
CODE = STUB + "\n    return 2 * x"
TEXTS = st.text(st.characters() | st.sampled_from("`~ \t\r\n\v\x85\u2028\ud800\0"))


def fence_around(text: str, sign: str = "`") -> str:
    runs = re.findall(f"{sign}+", text)
    return sign * max([3, *(len(run) + 1 for run in runs)])


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{CODE}\n```",
        f"```py\n{CODE}\n```\n",
        f"```Python\n{CODE}\n```",
        f"```\n{CODE}\n```",
        f"~~~python\n{CODE}\n~~~",
        f"````python\n{CODE}\n````",
        f"```{{.python .numberLines}}\n{CODE}\n```",
        f'```python title="twice.py"\n{CODE}\n```',
        f"```python:src/twice.py\n{CODE}\n```",
        f"``` python \n{CODE}\n```  ",
        f"\n\n```python\n{CODE}\n```\n\n",
        f"Here's the implementation:\n\n```python\n{CODE}\n```\n\nThis doubles `x` in O(1).",
        f"Sure! Below is it.\n```python\n{CODE}\n```\n**Explanation**\n- `2 * x` doubles `x`.",
        f"Use ``` for fences.\n\n```python\n{CODE}\n```",
        f"```python\n{CODE}\n``````",
        f"```python\n{CODE}\n   ```",
        f"```python\n{CODE}",
        f"```python\n{CODE}\n",
        f"Here you are:\n~~~\n{CODE}",
        f"```python\n{CODE}```",
        f"Here:\n```python\n{CODE}``` \nIt doubles `x`.\n",
        f"<think>\nDouble it.\n```python\nreturn x + x\n```\n</think>\n\n```python\n{CODE}\n```",
        f"<think>\n\n</think>\n\n```python\n{CODE}\n```",
        f"Okay, so we double.\n```python\nx + x\n```\nGood.\n</think>\n\n```python\n{CODE}\n```",
        f"{CODE}\n```",
        CODE,
        f"\n \n{CODE}\n\n",
        f"```python\n{CODE}\n```\n```\n```",
        f"```markdown\n# Solution\n\n```python\n{CODE}\n```\n\nIt doubles.\n```",
    ],
)
def test_code_comes_out_of_an_answer(answer: str) -> None:
    assert parse_code(answer) == CODE


@pytest.mark.parametrize(
    "after",
    [
        "Example usage:\n```python\nprint(twice(2))\n```",
        "### Example Usage\n\nCall it like this:\n```python\nprint(twice(2))\n```",
        "**Tests:**\n\n```python\nassert twice(2) == 4\n```",
        "Output:\n```\n4\n```",
        "It prints\n```text\n4\n```",
        "Save it as `twice.py` and run it:\n```bash\npython twice.py\n```",
        "In a session:\n```python\n>>> twice(2)\n4\n```",
        "The same in JavaScript:\n```js\nconst twice = x => 2 * x\n```",
        "```json\n{}\n```",
        "```python\n```",
    ],
)
def test_what_stands_beside_the_code_is_left_out(after: str) -> None:
    block = f"```python\n{CODE}\n```"
    assert parse_code(f"{block}\n\n{after}") == CODE
    assert parse_code(f"It is easy.\n{block}\n{after}\nHope that helps!") == CODE


@pytest.mark.parametrize(
    "before",
    [
        "First install it:\n```bash\npip install numpy\n```",
        "The layout:\n```\nsrc/\n  twice.py\n```",
        "Input:\n```json\n[1]\n```",
        f"The task was:\n```python\n{STUB}\n```",
        "A first try:\n```python\ndef twice(x):\n    return x + 2\n```\nThat is wrong. Fixed:",
    ],
)
def test_what_stands_before_the_code_is_left_out(before: str) -> None:
    assert parse_code(f"{before}\n\n```python\n{CODE}\n```") == CODE


def test_blocks_that_belong_together_are_joined_in_order() -> None:
    answer = (
        "The import:\n```python\nimport math\n```\nA helper:\n```py\ndef f(): ...\n```\nThen:\n"
    )
    answer += "```python\ndef g():\n    return f()\n```"
    assert parse_code(answer) == "import math\n\ndef f(): ...\n\ndef g():\n    return f()"


def test_a_draft_of_several_functions_stays_where_only_one_is_written_again() -> None:
    answer = "```python\ndef f(): ...\ndef g(): ...\n```\nBetter:\n```python\ndef g(): 1\n```"
    assert parse_code(answer) == "def f(): ...\ndef g(): ...\n\ndef g(): 1"


def test_commands_are_code_where_there_is_nothing_else() -> None:
    assert parse_code("Run:\n```bash\nls | wc -l\n```") == "ls | wc -l"


def test_the_first_language_wins() -> None:
    assert parse_code("```html\n<p>\n```\n```css\np {}\n```\n```html\n</p>\n```") == "<p>\n\n</p>"


@given(TEXTS, st.sampled_from("`~"), st.sampled_from(["", "python", "{.c}"]))
@example("\r", "`", "")
@example("\n\n", "~", "")
@example("<think>", "`", "")
def test_text_in_a_long_enough_fence_comes_back_exact(text: str, sign: str, info: str) -> None:
    fence = fence_around(text, sign)
    expected = text if text.strip(" \t\r\n") else ""
    assert parse_code(f"{fence}{info}\n{text}\n{fence}") == expected
    assert parse_code(f"Hi.\n\n{fence}{info}\n{text}\n{fence}\nBye.\n") == expected
    assert parse_instruction(f"Here is a new prompt:\n{fence}{info}\n{text}\n{fence}") == expected


@pytest.mark.parametrize("tag", ["think", "thinking", "thought", "reasoning", "seed:think"])
def test_leading_thoughts_are_split_off(tag: str) -> None:
    thinking = f"\n<{tag}>\nHm, </b> `x`.\n</{tag}>"
    assert split_thinking(f"{thinking}\n\nx = 1") == (thinking, "\n\nx = 1")
    assert parse_code(f"{thinking}\n\nx = 1") == "x = 1"
    assert parse_code(f"<{tag}>{CODE}") == ""
    assert parse_instruction(f"Hm.\n</{tag}>\n\nAdd two numbers.") == "Add two numbers."


@pytest.mark.parametrize(("opening", "closing"), [("◁think▷", "◁/think▷"), ("[THINK]", "[/THINK]")])
def test_other_marks_of_thoughts_are_known(opening: str, closing: str) -> None:
    assert parse_code(f"{opening}Hm.{closing}\nx = 1") == "x = 1"
    assert parse_code(f"Hm.{closing}\nx = 1") == "x = 1"


def test_several_thoughts_are_split_off() -> None:
    assert parse_code("<think>a</think>\n<think>b</think>\nx") == "x"


@pytest.mark.parametrize(
    "code",
    [
        'text = re.sub(r"<think>.*?</think>", "", text)',
        'text = """\n<think>\n</think>\n"""',
        'END = "</think>"  # ends it',
        "x = 1\n<think>",
    ],
)
def test_tags_in_code_are_text(code: str) -> None:
    assert parse_code(code) == code
    assert parse_code(f"```python\n{code}\n```") == code
    assert parse_code(f"<think>Hm.</think>```python\n{code}\n```") == code


def test_a_lone_closing_tag_in_a_block_is_text() -> None:
    assert parse_code("```html\n<b>\n</think>\n```\nDone.") == "<b>\n</think>"


@given(TEXTS)
def test_splitting_loses_nothing(text: str) -> None:
    assert "".join(split_thinking(text)) == text


@pytest.mark.parametrize(
    "answer",
    [
        STUB,
        f"\n\n{STUB}\n\n",
        f"```python\n{STUB}\n```",
        f"```\n{STUB}\n```",
        f"Here is a new instruction:\n\n```python\n{STUB}\n```",
        f"Here's a new coding problem in the same style:\n```python\n{STUB}\n```",
        f"Sure! Here is one that fits the set.\n\n```python\n{STUB}\n```\n\nLet me know!",
        f"### New instruction\n```\n{STUB}\n```",
        f"**New Instruction:**\n\n```\n{STUB}\n```\n\nThis one is about doubling.",
        f"### Example 4\n```\n{STUB}\n```",
        f"### Example 1\n```\na\n```\n\n### Example 2\n```\nb\n```\n\n### New\n```\n{STUB}\n```",
        f"### Example 1\n```\nold\n```\n\n### Example 2\n```\n{STUB}\n```",
        f"I came up with this:\n```python\n{STUB}\n```",
        f"Certainly! I'll keep the style.\n\n## New Prompt\n\n```python\n{STUB}\n```",
        f"```python\n{STUB}\n```\n\n**Solution:**\n```python\n{CODE}\n```",
        f"All of them use lists.\n\nMine is short.\n\nHere is the new task:\n```py\n{STUB}\n```",
        f"<think>\nA stub, then.\n</think>\n\n```python\n{STUB}\n```",
        f"```python\n{STUB}",
        f"{STUB}\n```",
    ],
)
def test_an_instruction_comes_out_of_an_answer(answer: str) -> None:
    assert parse_instruction(answer) == STUB


@pytest.mark.parametrize(
    "instruction",
    [
        "Write a function that doubles a number. For example:\n\n```python\n>>> twice(2)\n4\n```",
        "Fix the bug in this code:\n```python\nretrun 1\n```",
        "What does the following print?\n\n```c\nputs(s);\n```\n\nExplain why.",
        "### Doubling\n\nImplement `twice` so that it holds:\n\n```python\ntwice(2) == 4\n```",
        "```python\ndef f(): ...\n```\n\nRewrite the function above so that it is tail recursive.",
        "Below is a function. Optimize it:\n```python\ndef f(): ...\n```",
        "Write a scheduler that takes a new task:\n```python\nadd(task)\n```",
        "Given:\n\n```\na b\n```\n\nand\n\n```\nc d\n```\n\nmerge the two.",
        "  Keep my indentation.\n\n\nAnd  my spaces  ",
        "Add two numbers.",
        "Describe the `<think>` and `</think>` tags.",
    ],
)
def test_a_fence_within_an_instruction_stays(instruction: str) -> None:
    assert parse_instruction(instruction) == instruction
    assert parse_instruction(f"\n{instruction}\n\n") == instruction


def test_inner_fences_as_long_as_the_outer_ones_stay() -> None:
    instruction = (
        "Write `twice`.\n\n```python\ntwice(2)\n```\n\nIt is fast:\n\n```sh\ntime\n```\nOK?"
    )
    assert parse_instruction(f"```\n{instruction}\n```") == instruction
    assert parse_instruction(f"Here it is:\n\n```text\n{instruction}\n```\n") == instruction


def test_text_of_a_wrapped_instruction_is_exact() -> None:
    inner = "\n    indented first  \n\n\n\ttab \u2028 \x0b\n"
    assert parse_instruction(f"```\n{inner}\n```") == inner


@pytest.mark.parametrize("parse", [parse_code, parse_instruction])
@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n\t\r\n",
        "```python\n```",
        "Here it is:\n```\n \n\n```",
        "```",
        "```py",
        "```\n```\n```python\n\n```",
        "<think>Hm",
        "<think>x</think>",
        "x\n</think>\n",
        "\n</thinking>",
    ],
)
def test_nothing_left_is_empty(parse, answer: str) -> None:
    assert parse(answer) == ""


@pytest.mark.parametrize("parse", [parse_code, parse_instruction])
@pytest.mark.parametrize(
    "piece",
    [
        "```\n",
        "```\na\n```\n",
        "```py\ndef f(): 1\n```\n",
        "    ```\n",
        "- a\n     ```\n",
        "1. ```\n",
        "a ``` ",
        "a: ``",
        "`",
        " ",
        "\n",
        "~~~ `\n",
        "`````````\n````\n",
        "# Example 1\n```\nx\n```\n",
        "<think></think>",
        "</think>\n",
        "x </think> ",
        "```\n</think>\n```\n",
        "def a ",
    ],
)
def test_long_texts_take_linear_time(parse, piece: str) -> None:
    text = piece * (100_000 // len(piece))
    start = time.perf_counter()
    parse(text)
    parse("x\n" + text + "\nx")
    assert time.perf_counter() - start < 5


def test_growing_fences_take_linear_time() -> None:
    text = "".join("`" * length + " x\n" for length in range(3, 600))
    assert parse_code(text) == text.partition("\n")[2].removesuffix("\n")
