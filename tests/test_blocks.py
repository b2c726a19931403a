"""Which of an answer's blocks are the code, and answers whose blocks are none."""

import json
from pathlib import Path

import pytest
from answers import completion
from command import codesynth
from endpoint import Endpoint
from hypothesis import given
from hypothesis import strategies as st

from codesynth.models import Failure
from codesynth.operators.languages import Language, find_language
from codesynth.operators.parsing import parse_code

STUB = 'def twice(x: int) -> int:\n    """Double x.\n    >>> twice(2)\n    4\n    """'
CODE = STUB + "\n    return 2 * x"
ASKED = "Write a Python function that doubles a number."

PIECES = st.sampled_from(
    [
        "```python\ndef f():\n    pass\n```",
        "```python\nx = (\n```",
        "```\nx = 1\n```",
        "```js\nlet x\n```",
        "```sh\nls\n```",
        "It is so.",
        "For example:",
        "```python\nx = 1",
        "```",
        "def f():\n    pass",
    ]
)


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


def test_the_language_asked_for_comes_before_the_first_one() -> None:
    answer = "```html\n<p>\n```\n```js\nlet x\n```\n```python\nx = 1\n```\n```\nx = 2\n```"
    assert parse_code(answer) == "<p>"
    assert parse_code(answer, ASKED) == "x = 1"
    assert parse_code(answer, language=find_language("node")) == "let x"
    assert parse_code(answer, ASKED, find_language("javascript")) == "let x"


def test_a_block_without_a_language_may_be_in_the_one_asked_for() -> None:
    answer = "```java\nint x;\n```\n```\nlet x = 1\n```"
    assert parse_code(answer) == "int x;"
    assert parse_code(answer, language=find_language("swift")) == "let x = 1"
    strict = Language("swift", lambda text: "func" in text)
    assert parse_code(answer, language=strict) == "int x;"


def test_another_language_is_better_than_none() -> None:
    answer = "```java\nint x;\n```\n```text\n4\n```"
    assert parse_code(answer, language=find_language("kotlin")) == "int x;"


@pytest.mark.parametrize(("asked", "written"), [("c++", "c"), ("ts", "js"), ("javascript", "ts")])
def test_languages_that_are_near_each_other_are_taken_for_each_other(
    asked: str, written: str
) -> None:
    answer = f"```{written}\nint x;\n```\nand it prints\n```\n4\n```"
    assert parse_code(answer, language=find_language(asked)) == "int x;"


@pytest.mark.parametrize("asked", ["bash", "sh", "shell"])
def test_commands_are_code_where_they_are_asked_for(asked: str) -> None:
    answer = "```python\nx = 1\n```\n```zsh\nls\n```"
    assert parse_code(answer, language=find_language(asked)) == "ls"
    assert parse_code("```console\n$ ls\n```", language=find_language(asked)) == "$ ls"


def test_data_is_code_where_it_is_asked_for() -> None:
    answer = "```python\nx = 1\n```\n```yml\na: 1\n```"
    assert parse_code(answer, language=find_language("yaml")) == "a: 1"


@pytest.mark.parametrize(
    "other",
    [
        "```python\nfor each item: do it\n```",
        "```python\ndef twice(x)\n    ...\n```",
        "```python\ntwice(2) -> 4\n```",
        "```python\n- return x + 2\n+ return x + x\n```",
    ],
)
def test_what_does_not_parse_is_left_out(other: str) -> None:
    block = f"```python\n{CODE}\n```"
    assert parse_code(f"{block}\nIn short:\n{other}") == CODE
    assert parse_code(f"{other}\nIn full:\n{block}") == CODE
    assert parse_code(f"```\n{CODE}\n```\nYou will see\n```\nHello World it is 4\n```") == CODE


def test_what_defines_something_stays_though_it_does_not_parse() -> None:
    old = 'def f(x):\n    print "x", x'
    answer = f"```python\n{old}\n```\nThen:\n```python\nf(2)\n```"
    assert parse_code(answer) == f"{old}\n\nf(2)"


def test_blocks_that_parse_together_only_are_joined() -> None:
    answer = "```python\nclass A:\n    x = 1\n```\nand\n```python\n    def f(self): ...\n```"
    assert parse_code(answer) == "class A:\n    x = 1\n\n    def f(self): ..."


def test_a_draft_that_parses_is_better_than_a_last_word_that_does_not() -> None:
    answer = f"```python\n{CODE}\n```\nShorter:\n```python\ndef twice(x) return 2 * x\n```"
    assert parse_code(answer) == CODE


def test_blocks_stay_where_none_parses() -> None:
    answer = "```python\nfoo bar\n```\nand\n```python\nbar foo\n```"
    assert parse_code(answer) == "foo bar\n\nbar foo"


def test_blocks_without_a_language_are_not_taken_for_python() -> None:
    answer = "```\nprint('a')\n```\nand\n```\nlocal x = 1\n```"
    assert parse_code(answer) == "print('a')\n\nlocal x = 1"


def test_any_parser_may_judge() -> None:
    answer = "```rust\nfn f() {}\n```\nand\n```rust\n...\n```"
    strict = Language("rust", lambda text: "..." not in text)
    assert parse_code(answer, language=strict) == "fn f() {}"
    assert parse_code(answer, language=Language("rust")) == "fn f() {}\n\n..."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Run it:\n```bash\npip install twice\n```", "no python, only bash"),
        ("It prints\n```text\n4\n```", "no python, only text"),
        ("```console\n$ python twice.py\n4\n```", "no python, only console"),
        ("```json\n[4]\n```", "no python, only json"),
        ("```\nI'm sorry, but I can't help with that.\n```", "words only"),
        ("```markdown\n# Twice\n\nIt doubles a number.\n```", "words only"),
        ("```python\nI'm sorry, but I can't.\n```", "words only"),
        ("```python\n# I'm sorry, but I can't do that.\n```", "comments only"),
        ("```python\n# Step 1\n\n# Step 2\n```", "comments only"),
    ],
)
def test_an_answer_without_code_says_why(answer: str, why: str) -> None:
    found = parse_code(answer, ASKED)
    assert parse_code(answer, language=find_language("python")) == found
    assert found == Failure("no_code", f"no code in the answer: {why}")


@pytest.mark.parametrize("label", ["bash", "text", "console", "output", "json"])
def test_code_under_a_wrong_label_is_code(label: str) -> None:
    assert parse_code(f"```{label}\n{CODE}\n```", ASKED) == CODE


def test_commands_are_kept_where_nothing_is_known_of_the_language() -> None:
    assert parse_code("```bash\npip install x\n```", "Install x.") == "pip install x"
    assert parse_code("```text\nzig\n```", language=find_language("zig")) == "zig"


@given(
    st.lists(PIECES, max_size=6).map("\n".join),
    st.sampled_from(["", ASKED, "It is so."]),
    st.sampled_from([None, "python", "js", "rust", "bash", "text"]),
)
def test_every_line_of_the_code_is_of_the_answer(
    answer: str, prompt: str, name: str | None
) -> None:
    code = parse_code(answer, prompt, find_language(name) if name else None)
    if isinstance(code, str):
        assert {*code.split("\n")} <= {*answer.split("\n"), ""}


ROW = b'{"instruction":"Double it."}\n'


def test_an_answer_without_code_is_a_failure_that_is_not_asked_for_again(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    words = "I'm sorry, but I can't help with that."
    endpoint.plan = lambda _: completion(words)
    for _ in range(2):
        run = codesynth("gen-code", "-o", tmp_path / "out.jsonl", stdin=ROW, endpoint=endpoint)
        failure = json.loads((tmp_path / "out.failures.jsonl").read_bytes())
        assert run.code == 3
        assert (tmp_path / "out.jsonl").read_bytes() == b""
        assert (failure["error"]["kind"], failure["answer"]) == ("no_code", words)
        assert failure["error"]["attempts"] == 1
    assert sum(endpoint.counts.values()) == 1


@pytest.mark.parametrize(("options", "code"), [((), "<p>"), (("--language", "rs"), "fn f() {}")])
def test_gen_code_keeps_the_language_that_it_is_told(
    endpoint: Endpoint, options: tuple[str, ...], code: str
) -> None:
    endpoint.plan = lambda _: completion("```html\n<p>\n```\n```rust\nfn f() {}\n```")
    run = codesynth("gen-code", *options, stdin=ROW, endpoint=endpoint)
    assert [row["generated_code"] for row in run.rows] == [code]
