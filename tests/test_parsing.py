"""Real and hostile answers -> instructions and code."""

import re
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from codesynth.models import Failure
from codesynth.operators import parsing
from codesynth.operators.languages import Language, find_language, is_only_remarks
from codesynth.operators.parsing import parse_code, parse_instruction
from codesynth.operators.prose import is_prose

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


@given(TEXTS, st.sampled_from("`~"), st.sampled_from(["", "python", "{.c}"]))
@example("\r", "`", "")
@example("\n\n", "~", "")
@example("<think>", "`", "")
def test_text_in_a_long_enough_fence_comes_back_exact(text: str, sign: str, info: str) -> None:
    assume(not is_only_remarks(text) and not is_prose(text))
    fence = fence_around(text, sign)
    expected = text if text.strip(" \t\r\n") else ""
    assert parse_code(f"{fence}{info}\n{text}\n{fence}") == expected
    assert parse_code(f"Hi.\n\n{fence}{info}\n{text}\n{fence}\nBye.\n") == expected
    assert parse_instruction(f"Here is a new prompt:\n{fence}{info}\n{text}\n{fence}") == expected


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{CODE}\n\nThis doubles a number. It works for all of them.",
        f"```python\n{CODE}\n\nExplanation:\n\nThis doubles a number.\n\n- It is fast.",
        f"```\n{CODE}\n\n### Notes\n\nThis doubles a number.",
        f"```python\n{CODE}\n\nExample usage:\n\n```python\nprint(twice(2))\n```\nIt prints 4.",
        f"```python\n{CODE}\n\nRun it:\n\n```bash\npython twice.py\n```",
        f"```python\n{CODE}\n```python\n",
        f"{CODE}\n```\n\nThis doubles a number. It works for all of them.",
        f"{CODE}\n```\nThis doubles a number.\n\n```python\nprint(twice(2))\n```\n",
        f"{CODE}\n~~~\nThis doubles a number.\n",
        f"Here is the function:\n\n{CODE}\n\nThis doubles a number.",
        f"Here is the function:\n{CODE}\nThis doubles a number.",
        f"Certainly!\n\n**Solution:**\n\n{CODE}",
        f"<think>\nDouble it.\n</think>\nHere is the function:\n\n{CODE}",
    ],
)
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_code_comes_out_though_fences_are_missing(answer: str, eol: str) -> None:
    assert parse_code(answer.replace("\n", eol)) == CODE.replace("\n", eol)


def test_words_stay_where_no_parser_tells_them_from_code() -> None:
    code = "SELECT name FROM users;\n\nIt lists the names."
    assert parse_code(f"Here it is:\n\n{code}") == code
    assert parse_code(f"```sql\n{code}") == code
    closed = "```python\nx = 1\n\nIt is one.\n```"
    assert parse_code(closed) == "x = 1\n\nIt is one."


def test_another_parser_tells_words_from_code_too() -> None:
    strict = Language("sql", lambda text: "names." not in text)
    answer = "SELECT name FROM users;\n\nIt lists the names."
    assert parse_code(answer, language=strict) == "SELECT name FROM users;"
    assert parse_code(f"```sql\n{answer}", language=strict) == "SELECT name FROM users;"
    lenient = Language("sql", lambda _: True)
    assert parse_code(answer, language=lenient) == answer


@pytest.mark.parametrize("name", ["markdown", "text"])
def test_words_are_no_failure_where_they_are_asked_for(name: str) -> None:
    answer = "This is a text. It has no code."
    assert parse_code(answer, language=find_language(name)) == answer


TASK = "Write a function.\n\nInstruction:\nDouble a number, whatever it is.\n"


@pytest.mark.parametrize("echo", [TASK, TASK.strip(), TASK[TASK.index("Double") :]])
@pytest.mark.parametrize("code", [CODE, f"```python\n{CODE}\n```", f"So:\n\n```\n{CODE}\n```"])
def test_a_prompt_that_is_repeated_goes(echo: str, code: str) -> None:
    assert parse_code(f"{echo}\n\n{code}", TASK) == CODE
    assert parse_code(f"<think>Hm.</think>\n{echo}\n{code}", TASK) == CODE


def test_blocks_of_a_prompt_that_is_repeated_go() -> None:
    task = f"Fix this:\n\n```python\ndef thrice(x): ...\n```\n\nand complete:\n\n{STUB}\n"
    assert parse_code(f"{task}\n```python\n{CODE}\n```", task) == CODE
    assert parse_code(f"{task}\n{CODE}", task) == CODE


@pytest.mark.parametrize("prompt", [STUB, f"{STUB}\n", f"Complete the function.\n\n{STUB}"])
def test_code_that_goes_on_with_the_prompts_stays_whole(prompt: str) -> None:
    assert parse_code(CODE, prompt) == CODE
    assert parse_code(f"{STUB}\n\n```python\n{CODE}\n```", prompt) == CODE
    assert parse_code(f"{prompt.rstrip()}\n    return 2 * x", prompt) == CODE
    assert parse_code(f"{CODE}\n```\nThis doubles a number.", prompt) == CODE
    assert (
        parse_code(f"{prompt.rstrip()}\n\nx = 1\n```\nThis is one more.", prompt)
        == f"{STUB}\n\nx = 1"
    )


def test_an_answer_that_is_the_prompt_stays() -> None:
    assert parse_code("x = 1", "x = 1") == "x = 1"
    assert parse_instruction("Add two numbers.", "Add two numbers.") == "Add two numbers."
    assert parse_instruction("Say this.\n\nAdd two numbers.", "Go.\nSay this.") == (
        "Say this.\n\nAdd two numbers."
    )


USUAL = st.sampled_from(
    [
        *("Here:", "Usage:\n", "Print ", "- ", "# x", " ", "\n", "\r", "```", "~~~", "\n    ```\n"),
        *(
            "```python\n",
            "```py\r\n",
            "```js\n",
            "\n```",
            "\n``` ",
            "def f(): pass",
            "def ",
            ">>> f()",
        ),
        *("<think>", "</think>", "[/THINK]", "</reasoning>", "class A: pass", "import it and see."),
    ]
)


@given(
    st.lists(USUAL, max_size=4).map("".join),
    st.lists(USUAL, max_size=3).map("".join),
    st.lists(USUAL, max_size=4).map("".join),
    st.lists(USUAL, max_size=3).map("".join),
)
@example("```Here:\n``` ```js\n", "", "\n```", "")
def test_the_usual_answer_is_read_as_the_rules_for_all_answers_say(
    before: str, code: str, after: str, prompt: str
) -> None:
    for answer in (f"{before}```python\n{code}\n```{after}", before + code + after):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parsing, "_usual", lambda text, prompt: None)
            careful = parse_code(answer, prompt)
        assert parse_code(answer, prompt) == careful


@given(TEXTS, TEXTS)
@example("a\n", "a")
@example("```\n", "```")
def test_any_answer_to_any_prompt_is_read(text: str, prompt: str) -> None:
    for answer in (text, prompt + text, f"{prompt}\n\n{text}"):
        assert isinstance(parse_instruction(answer, prompt), str)
        assert isinstance(parse_code(answer, prompt), str | Failure)


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
        "a `",
        "a ``b` ",
        "x.",
        "x()",
        '"',
        "A b c d.\n",
        "A b c d:\n\nx = 1\n\n",
        "```py\nA b c d.\n",
        "你好世界。",
        "def f(:",
        "ython a ",
    ],
)
def test_long_texts_take_linear_time(parse, piece: str) -> None:
    text = piece * (50_000 // len(piece))
    start = time.perf_counter()
    parse(text)
    parse("x\n" + text + "\nx", text[:20_000])
    assert time.perf_counter() - start < 5


def test_growing_fences_take_linear_time() -> None:
    text = "".join("`" * length + " x\n" for length in range(3, 600))
    assert parse_code(text) == text.partition("\n")[2].removesuffix("\n")
