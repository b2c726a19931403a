"""Languages by their names, and whether a text is valid code in one."""

import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codesynth.errors import ConfigError
from codesynth.operators.languages import (
    PYTHON,
    find_language,
    first_error,
    is_valid,
    language_names,
    language_of,
)


def test_a_language_is_found_by_any_of_its_names() -> None:
    found = [*map(find_language, (" Py ", "JS", "C++", "c#", "c"))]
    assert found == ["python", "javascript", "cpp", "csharp", "c"]
    names = language_names()
    assert [*map(find_language, names)] == names == sorted(set(names))


@pytest.mark.parametrize("name", ["pyton", "", "../../etc", "\0", "language_pack"])
def test_an_unknown_name_is_told_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r'^unknown language ".*"; known: ada, .*python, .*zig$'):
        find_language(name)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("", ""),
        ("{}", ""),
        (" py", "python"),
        ("{.c++ .numberLines}", "cpp"),
        ("python:src/x.py", "python"),
        ('JS title="x.js"', "javascript"),
        ("rust,ignore", "rust"),
        ("server.py", "python"),
        ("./src/main.rs", "rust"),
        ("README.md", "markdown"),
        ("Gleam\r", "gleam"),
    ],
)
def test_a_fence_names_its_language(info: str, expected: str) -> None:
    assert language_of(info) == expected


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("", None),
        ("x = 1\r\ny = 2\r\n", None),
        ("x = 1\nIt is so.\n", 1),
        ("x = 1\n\nreturn x", 2),
        ("x = 1\0", 0),
        ("x = '\ud800'", 0),
        ("x = 1\n" * 20_000, 0),
    ],
)
def test_the_first_error_in_python_is_found(code: str, line: int | None) -> None:
    assert first_error(code) == line
    assert is_valid(code, PYTHON) == (line is None)


@pytest.mark.parametrize("unit", ["(", "[", "-", "not ", "lambda:", "a+", "a.", "x if y else "])
def test_nothing_is_nested_too_deeply_to_be_asked_about(unit: str) -> None:
    for length in (90, 5_000):
        text = unit * (length // len(unit)) + "1"
        assert first_error(text + ")" * text.count("(")) in (None, 0)


@given(st.text() | st.text(st.sampled_from("ab1 \n\t:=()[]{}'\"\\#.,*@\0")))
@example("\ud800")
@example("'\\N{x}'")
@example("\f\\")
@example("x = '\\d'\ny = 1if x else 2\nz = x is 1")
def test_any_text_can_be_asked_about(text: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = first_error(text)
    assert caught == []
    assert line is None or 0 <= line <= len(text)
    assert isinstance(language_of(text), str)


GRAMMARS = {
    "cpp": "template<class T> T f(T x) { return x; }",
    "go": "func f() int { return 1 }",
    "javascript": "const f = x => <b>{x}</b>",
    "php": "<?php function f() { return 1; }",
    "rust": "fn f() -> i32 { 1 }",
    "typescript": "const x: number = 1",
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_the_extra_checks_other_languages(name: str) -> None:
    pytest.importorskip("tree_sitter")
    pytest.importorskip(f"tree_sitter_{name}")
    code = GRAMMARS[name]
    assert is_valid(code, name)
    assert not is_valid(f"{code} )(", name)
    assert not is_valid(code + "\n" * 20_000, name)
    assert is_valid(f"{code} \ud800", name) in (True, False)
    assert not is_valid("const x = 1;", "zig")  # there is no parser for it
