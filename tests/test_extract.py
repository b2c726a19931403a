"""Answers -> code, instructions: real answers, their shapes, and any text at all."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from codesynth.models import Failure
from codesynth.operators import extract
from codesynth.operators.extract import (
    ExtractedCode,
    extract_code,
    extract_instruction,
    find_blocks,
)

HERE = Path(__file__).parent
ANSWERS = [json.loads(line) for line in (HERE / "data/answers.jsonl").read_text().splitlines()]
SEEDS = (HERE.parent / "samples/seeds.jsonl").read_text().splitlines()
PROMPTS = [json.loads(line)["prompt"] for line in SEEDS]
F = "def f(x):\n    return x"
TEXTS = st.text(st.characters() | st.sampled_from("`~ \t\r\n\v\x85\u2028\ud800\0"))
WORDS = ["x = 1", "  y", "It is so.", "Here is one:", "def f():", "  return 1", "", "\r", "# T"]
MARKS = ["```", "````", "~~~", "```python", "    ```", "- ```", "Prompt: x", "```\n```py"]
MARKED = st.lists(st.sampled_from(WORDS + MARKS)).map("\n".join)


def code_of(answer: str, instruction: str = "", language: str | None = None) -> str:
    """Extract the code, or name the kind of failure."""
    found = extract_code(answer, instruction, language)
    return found.kind if isinstance(found, Failure) else found.code


def fence(text: str, info: str = "") -> str:
    """Put a text in a fence longer than any inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    run = "`" * max(3, longest + 1)
    return f"{run}{info}\n{text}\n{run}"


# Real answers.


@pytest.mark.parametrize("case", ANSWERS, ids=[case["name"] for case in ANSWERS])
def test_the_code_of_a_real_answer_is_the_part_that_a_reader_would_copy(case: Any) -> None:
    found = extract_code(case["answer"], case["instruction"], None)
    if "kind" in case:
        assert isinstance(found, Failure)
        assert found.kind == case["kind"]
    else:
        assert isinstance(found, ExtractedCode)
        assert (found.code, found.blocks, found.taken) == (
            case["code"],
            case["blocks"],
            case["taken"],
        )


# Which block.


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (f"Use it:\n```bash\npip install x\n```\n```python\n{F}\n```", F),
        (f"For\n```\n3\n1 2\n```\nthis reads it:\n```python\n{F}\n```", F),
        (f"```\n3 3 = = 4\n```\n```\n{F}\n```", F),
        (f"```python\nx = = 1\n```\n```python\n{F}\n```", F),
        (f"```python\nreturn 1\n```\n```python\n{F}\n```", F),
        (f"```python\n{F}\n```\n```python\nprint(f(1))\n```", F),
        (f"```server.py\n{F}\n```\n```client.py\nimport server\n```", F),
        (f'```python title="x.py"\n{F}\n```', F),
        ("```python\nprint 'x'\n```\n```text\nx\n```", "print 'x'"),
        ("```bash\nls\n```\n```text\nx\n```", "ls"),
        ("```js\nf()\n```\n```html\n<p>\n```", "f()"),
        ("```gleam\nf()\n```\n```output\n42\n```", "f()"),
        ("```python\n\n```\n```python\nx = 1\n```", "x = 1"),
        ("```python\n\n```", "no_code"),
    ],
)
def test_the_first_valid_block_in_the_language_is_taken(answer: str, code: str) -> None:
    assert code_of(answer) == code


def test_the_language_asked_for_decides() -> None:
    page = "```html\n<p>\n```\n```rust\nfn f() {}\n```\n```python\nx = 1\n```"
    assert code_of(page) == "<p>"
    assert code_of(page, "Write a Python program.") == "x = 1"
    assert code_of(page, "Complete it:\ndef f(x):") == "x = 1"
    assert code_of(page, "Write a Python program.", "rust") == "fn f() {}"
    assert code_of(page, language="go") == "<p>"
    pytest.importorskip("tree_sitter_rust")
    assert code_of("```rust\nfn f( {}\n```\n```rust\nfn f() {}\n```") == "fn f() {}"


def test_a_block_quoted_from_the_instruction_is_not_the_answer() -> None:
    asked = "Fix it:\n```python\ndef f(x):\n    return y\n```"
    fixed = fence(F, "python")
    assert code_of(f"{asked}\n\n{fixed}", asked) == F
    assert code_of(f"It was:\n{fence('def f(x):', 'python')}\nNow:\n{fixed}", asked) == F
    assert code_of(fence("return y"), asked) == "return y"


def test_a_document_in_a_fence_keeps_its_own_fences() -> None:
    inner = "# T\n\n```bash\nls\n```\n\nIt is done."
    for tag in ("markdown", "README.md", "", "text"):
        assert code_of(f"```{tag}\n{inner}\n```\n") == inner
    assert code_of(f"````markdown\n{inner}\n````") == inner


# Fences.


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("~~~python\nx\n~~~", ["x"]),
        ("1. A:\n\n    ```\n    x\n      y\n    ```\n2. B", ["x\n  y"]),
        ("- A:\n\t```\n\tx\n\t\ty\n\t```", ["x\n\ty"]),
        ("1. ```py\n   - ```\n     x\n   ```\n2. B", ["- ```\n  x"]),
        ("```\n    ```\nx\n```", ["    ```\nx"]),
        ("```\r\nx\r\ny\r\n```\r\n", ["x\r\ny"]),
        ("```python\nx\n", ["x\n"]),
        ("```", [""]),
        ("``` `x`\n", []),
        ("See ```x```.", []),
        ('```python\nx = """\n```json\n{}\n```\n"""\n```', ['x = """\n```json\n{}\n```\n"""']),
        ("```\nx\n``` and so on\n```", ["x\n``` and so on"]),
    ],
)
def test_blocks_are_found(text: str, blocks: list[str]) -> None:
    assert [block.text for block in find_blocks(text)] == blocks


LINES = ["", "x", "  y", "    z", "```", "````", "~~~", "~~~~", "  ```", "``` a b", "~~~ `b` c"]


@given(st.lists(st.sampled_from(LINES)).map("\n".join))
def test_blocks_are_those_of_another_commonmark_parser(text: str) -> None:
    tokens = MarkdownIt("zero").enable(["fence", "code"]).parse(text)
    theirs = [token.content.rstrip("\n") for token in tokens if token.type == "fence"]
    assert [block.text.rstrip("\n") for block in find_blocks(text)] == theirs


# Without a fence.


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (F, F),
        (f"\n\n{F}\r\n\n", F),
        (f"Here is the code:\n\n{F}\n\nThis returns its argument.", F),
        (f"{F}\n\nclass B:\n    def g(self, ", f"{F}\n\nclass B:\n    def g(self, "),
        (f"def f(x):\n    pass\n\n@@ Response\n{F}\n\ny = f(1)", f"{F}\n\ny = f(1)"),
        ("SELECT name FROM users", "SELECT name FROM users"),
        ("const x = 1;\nlog(x)\nif (x) { f() }", "const x = 1;\nlog(x)\nif (x) { f() }"),
        ('def f():\n    """\n    ```\n    x\n    ```\n    """', None),
        ("I'm sorry, but I can't do that.", "no_code"),
        ("You can use `sum(xs)` for this.", "no_code"),
        ("The sum is \\( n = 3 \\). So it is three.", "no_code"),
        ("抱歉\uff0c我不能这样做。", "no_code"),
        ("", "empty"),
        (" \n", "empty"),
    ],
)
def test_without_a_fence_code_is_told_from_words(answer: str, code: str | None) -> None:
    assert code_of(answer) == (answer if code is None else code)


# Instructions.


@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "\n\n{0}\n",
        "**Instruction:**\n\n{0}",
        "### Example 4\n\n{0}\n\nLet me know if you want another one!",
        "Sure! Here is a new instruction:\n\n{1}\n\nIn summary, this one asks for a loop.",
        "### Example 4\n{1}",
        "Here's another coding task in the same style:\n\n{2}\n\nThis function needs a loop.",
        "A task about strings:\n{1}",
    ],
)
def test_what_surrounds_an_instruction_goes_and_it_stays_exact(form: str) -> None:
    for prompt in PROMPTS:
        found = extract_instruction(form.format(prompt, fence(prompt), fence(prompt, "python")))
        assert isinstance(found, str)
        assert found.strip("\n") == prompt.strip("\n")


@pytest.mark.parametrize(
    "text",
    [
        "Write a function:\n```python\ndef f(x):\n```\nIt doubles x.",
        "```python\ndef f(x):\n    return y\n```\n\nFix the function above.",
        "**Scenario**: You have a list.\n\nFor example:\n```\n[1]\n```",
        "Great circles: compute their distance.",
        "Here are two lists. Merge them.",
    ],
)
def test_an_instruction_with_a_fence_in_it_stays_whole(text: str) -> None:
    assert extract_instruction(text) == text
    assert extract_instruction(f"**New Instruction:** {text}") == text


@pytest.mark.parametrize("text", ["", "\n", "**Instruction:**", "### Example 4", "```\n\n```"])
def test_an_answer_without_an_instruction_is_empty(text: str) -> None:
    for around in ("", "Sure! Here is a new instruction:\n", "I'm sorry, but I can't do that.\n"):
        found = extract_instruction(around + text)
        assert isinstance(found, Failure)
        assert found.kind == "empty"


# Any text.


@given(TEXTS | MARKED, TEXTS | MARKED, st.sampled_from([None, "python", "rust"]))
def test_any_answer_is_read(answer: str, instruction: str, language: str | None) -> None:
    found = extract_code(answer, instruction, language)
    if isinstance(found, ExtractedCode):
        assert found.code.strip()
        assert found.taken is None or 0 <= found.taken < found.blocks
        assert found.code in answer or re.search(r"(?m)^[ \t]+(```|~~~)", answer)
    extract_instruction(answer)


@given(TEXTS.filter(str.strip), st.sampled_from(["", "python", "rust", "x.py"]))
def test_a_text_in_a_fence_comes_out_unchanged(text: str, info: str) -> None:
    assert code_of(f"Here it is:\n\n{fence(text, info)}\n\nThat is all.") == text
    assert extract_instruction(fence(text, info)) == text


@given(TEXTS.filter(lambda text: text.isprintable() and bool(text.strip())))
def test_a_python_program_without_a_fence_comes_out_unchanged(text: str) -> None:
    program = f"x = {text!r}\nif x:\n    print(x)"
    assert code_of(program) == program
    assert code_of(f"Here is the program you want:\n\n{program}\n\nIt prints it.") == program


# Work.


PARTS = ["```\n", "```a\n", "```python\nx = = 1\n```\n", "    ```\n", "`", "~", "> ", "- a\n"]
PARTS += ["x = (\n", '"""\n', "@a\n", "`a\n", "def f(): pass\n", "It is. ", "("]


def count_steps(function: Callable[[str], object], text: str) -> int:
    """Count the lines of Python that a call runs, and the functions of C that it calls."""
    steps = 0

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    sys.setprofile(count)
    try:
        function(text)
    finally:
        sys.setprofile(None)
        sys.settrace(before)
    return steps


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("function", [code_of, extract_instruction])
def test_work_grows_with_the_text_and_not_faster(
    part: str, function: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (count_steps(function, part * (size // len(part))) for size in (1_000, 8_000))
    assert many < 10 * few + 1_000
    parsed: list[int] = []
    monkeypatch.setattr(extract, "first_error", lambda code: parsed.append(len(code)) or 0)
    function(part * (100_000 // len(part)))  # a long one ends, and little of it is parsed
    assert len(parsed) <= 400
