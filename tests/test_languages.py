"""Which language is asked for, and whether a text is code in it."""

import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codesynth.errors import ConfigError
from codesynth.operators.languages import (
    asks_for_python,
    find_language,
    is_aside,
    is_only_remarks,
    is_surely_python,
    name_of,
    parses_python,
)
from codesynth.operators.templates import load_template


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("python", "python"),
        (" Py ", "python"),
        ("python3", "python"),
        ("JS", "javascript"),
        ("ts", "typescript"),
        ("C++", "cpp"),
        ("c#", "csharp"),
        ("CS", "csharp"),
        ("sh", "bash"),
        ("golang", "go"),
        ("rs", "rust"),
        ("PostgreSQL", "sql"),
        ("c", "c"),
        ("Zig", "zig"),
        ("visual basic", "visual basic"),
        ("../../etc", "../../etc"),
    ],
)
def test_a_language_is_found_by_any_of_its_names(name: str, expected: str) -> None:
    assert find_language(name).name == expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("", ""),
        ("py", "python"),
        ("{.c++ .numberLines}", "cpp"),
        ("python:src/x.py", "python"),
        ('JS title="x.js"', "javascript"),
        ("c#", "csharp"),
        ("{}", ""),
    ],
)
def test_a_fence_names_its_language(info: str, expected: str) -> None:
    assert name_of(info) == expected


def test_commands_output_and_data_stand_beside_code() -> None:
    asides = ["bash", "console", "text", "output", "json", "yaml", "pycon", "powershell"]
    assert all(map(is_aside, asides))
    assert not any(map(is_aside, ["", "python", "sql", "html", "rust", "textile", "batch"]))


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "print(1)",
        "lambda x: x",
        "[x for x in y]",
        "import os",
        "def f(): pass",
        "async def f():\n    await g()",
        "xs = '\\d'",
        "if x is 1: pass",
        '"""Words."""\n\nx = 1',
        "x = 1\r\ny = 2\r\n",
    ],
)
def test_python_that_does_something_parses(code: str) -> None:
    assert parses_python(code)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "4",
        "Hello",
        "[1, 2, 3]",
        "'text'",
        "# x = 1",
        "It is so.",
        "x =",
        "  x = 1\n y = 2",
        "const x = 1",
        'print "x"',
        "x = 1\0",
        "x = '\ud800'",
        "return = 1",
        "0777",
        "1" * 5_000 + " if x",
    ],
)
def test_what_is_no_python_or_a_mere_value_does_not(text: str) -> None:
    assert not parses_python(text)


@pytest.mark.parametrize(
    "unit", ["(", "[", "-", "not ", "f(", "lambda:", "a+", "a.", "x if y else "]
)
def test_nothing_is_nested_too_deeply_to_be_asked_about(unit: str) -> None:
    for length in (90, 3_000, 10_000):
        text = unit * (length // len(unit)) + "1"
        assert parses_python(f"x = {text}") in (True, False)
        assert parses_python(text + ")" * text.count("(")) in (True, False)


def test_long_texts_are_not_looked_into() -> None:
    assert parses_python("x = 1\n" * 1_000)
    assert not parses_python("x = 1\n" * 20_000)


def test_the_parser_warns_nobody() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert parses_python("x = '\\d'\ny = 1if x else 2\nz = x is 1")
    assert caught == []


@given(st.text() | st.text(st.sampled_from("ab1 \n\t:=()[]{}'\"\\#.,*@\0")))
@example("\ud800")
@example("'\\N{x}'")
@example("\f\\")
def test_any_text_can_be_asked_about(text: str) -> None:
    assert parses_python(text) in (True, False)
    assert is_surely_python(text) <= parses_python(text)


def test_compound_statements_are_pythons_own() -> None:
    assert is_surely_python("x = 1\nfor i in x:\n    print(i)")
    assert is_surely_python("def f(x):\n    return x")
    assert not is_surely_python("print('a')")
    assert not is_surely_python("x = 1")
    assert not is_surely_python("for i = 1, 2 do print(i) end")


def test_comments_are_told_from_code() -> None:
    assert is_only_remarks("# a\n\n  # b\r\n# c\r# d")
    assert not is_only_remarks("# a\nx")
    assert not is_only_remarks("# a\rx")


@pytest.mark.parametrize(
    "prompt",
    [
        "Write a Python function that doubles a number.",
        "write a python script",
        "Implement, in Python, a stack.",
        "Write a Python 3 class `Stack`.",
        "Create a short recursive Python method for it.",
        'def f(x: int) -> int:\n    """Double x."""\n',
        "Complete:\n\nfrom typing import List\n\n\ndef f(\n    xs: List[int],\n) -> int:\n",
    ],
)
def test_a_prompt_asks_for_python(prompt: str) -> None:
    assert asks_for_python(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Write a function that doubles a number.",
        "Write a Rust function.",
        "Translate this Python function to Rust.",
        "Rewrite this Python program in Go.",
        "Write a Dockerfile for a Python program.",
        "Which JSON does this Python function return?",
        "Write a bash command that runs a Python script.",
        "Is a python a snake?",
        "def f(x: Int): Int = {",
        "def f(x)\n  x\nend",
        "The Pythonic function.",
    ],
)
def test_a_prompt_that_is_not_clear_asks_for_nothing(prompt: str) -> None:
    assert not asks_for_python(prompt)


def test_the_built_in_template_asks_for_no_language_by_itself() -> None:
    template = load_template(
        None, "code_instruction_to_code", required={"instruction"}, known=None, name="x"
    )
    assert not asks_for_python(template.fill({"instruction": "Double it."}))
    assert asks_for_python(template.fill({"instruction": "Write a Python function."}))


def test_a_language_without_a_grammar_is_not_checked() -> None:
    for name in ("zig", "visual basic", "../../etc", "language_pack", "", "\0", "ü"):
        assert find_language(name).parses is None


GRAMMARS = {
    "bash": ("for x in *; do echo $x; done", "for x in; do ("),
    "c": ("int main(void) { return 0; }", "It is a function."),
    "cpp": ("template<class T> T f(T x) { return x; }", "It is a function."),
    "go": ("func f() int { return 1 }", "It is a function."),
    "java": ("int f(int x) { return x; }", "It is a function."),
    "javascript": ("const f = x => <b>{x}</b>", "It is a function."),
    "php": ("<?php function f() { return 1; }", "It is a function."),
    "ruby": ("def f(x)\n  x\nend", "def f(x"),
    "rust": ("fn f() -> i32 { 1 }", "It is a function."),
    "typescript": ("const x: number = 1", "It is a function."),
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_extra_checks_other_languages(name: str) -> None:
    pytest.importorskip("tree_sitter")
    pytest.importorskip(f"tree_sitter_{name}")
    parses = find_language(name).parses
    code, other = GRAMMARS[name]
    assert parses is not None
    assert parses(code)
    assert not parses(other)
    assert not parses(code + "\n" * 20_000)
    assert parses(f"{code} \ud800") in (True, False)


def test_a_grammar_that_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = "class Language:\n    def __init__(self, _):\n        raise ValueError('version 3')\n"
    (tmp_path / "tree_sitter.py").write_text(library)
    (tmp_path / "tree_sitter_demo.py").write_text("def language(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("tree_sitter", "tree_sitter_demo"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=r"^tree_sitter_demo does not fit .*version 3.*Update"):
        find_language("demo")
    for name in ("tree_sitter", "tree_sitter_demo"):
        del sys.modules[name]
