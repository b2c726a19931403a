"""Prompt templates: found, checked and filled."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record
from codesynth.operators.extract import find_blocks
from codesynth.operators.templates import (
    PROMPTS,
    Template,
    check_first,
    find_template,
    format_examples,
    load_template,
)

BRACES = st.text(st.sampled_from("{}a. !:[0\n"), max_size=12)


def template(text: str, known: set[str] | None = None) -> Template:
    return Template.parse(text, name="t.txt", required=(), known=known)


def test_placeholders_are_filled_and_doubled_braces_halved() -> None:
    text = "{{{a}}} {b}{a}\r\n{{}}"
    assert template(text).fill({"a": "x", "b": "y", "c": "z"}) == "{x} yx\r\n{}"
    assert template(text).names == ("a", "b")


def test_values_are_never_looked_at_again() -> None:
    assert template("{a}|{b}").fill({"a": "{b}{{", "b": "}"}) == "{b}{{|}"


def test_a_value_that_is_no_text_is_written_as_json() -> None:
    values = {"list": [1, "é"], "none": None, "float": 1.5, "big": 2**70}
    filled = template("{list} {none} {float} {big}").fill(values)
    assert filled == f'[1,"é"] null 1.5 {2**70}'


def test_any_column_name_can_be_a_placeholder() -> None:
    assert template("{my column}{task-id}{größe}").fill(
        {"my column": "a", "task-id": "b", "größe": "c"}
    ) == ("abc")


def test_a_missing_value_is_a_key_error_with_its_name() -> None:
    with pytest.raises(KeyError) as caught:
        template("{a}{b}").fill({"a": ""})
    assert caught.value.args == ("b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n\nDo {task}.", "t.txt:4: unknown placeholder {task}; known: {code}, {instruction}"),
        ("a\r\n{", 't.txt:2: lone "{". Write {{ for a brace that is text'),
        ("}", 't.txt:1: lone "}". Write }} for a brace that is text'),
        ("{code}}", 't.txt:1: lone "}"'),
        ("{\ncode}", 't.txt:1: lone "{"'),
        ("{{code}", 't.txt:1: lone "}"'),
        ("{}", "t.txt:1: placeholder {} has no name"),
        ("{0}", "t.txt:1: placeholder {0} has no name"),
        ("{code.__class__}", "t.txt:1: placeholder {code.__class__}: no attribute"),
        ("{code[0]}", "t.txt:1: placeholder {code[0]}: no part"),
        ("{code!r}", "t.txt:1: placeholder {code!r}: no conversion"),
        ("{code:>9}", "t.txt:1: placeholder {code:>9}: no format"),
        ('{"code": 1}', 't.txt:1: placeholder {"code": 1}: no format'),
        ("{ code }", "t.txt:1: unknown placeholder { code }"),
    ],
)
def test_what_cannot_be_filled_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        template(text, known={"instruction", "code"})
    assert str(caught.value).startswith(message)


def test_a_required_placeholder_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"^t\.txt:1: missing placeholder \{instruction\}$"):
        Template.parse("Do {{instruction}}", name="t.txt", required={"instruction"}, known=None)


@given(BRACES)
def test_a_template_means_what_it_means_to_str_format(text: str) -> None:
    try:
        ours = template(text).fill({"a": "A{}", "a a": "B"})
    except (ConfigError, KeyError):
        return
    assert ours == text.format_map({"a": "A{}", "a a": "B"})


@given(st.text(), st.text(), st.text())
def test_text_with_its_braces_doubled_comes_back(before: str, value: str, after: str) -> None:
    doubled = [re.sub(r"[{}]", r"\g<0>\g<0>", text) for text in (before, after)]
    assert template("{a}".join(doubled)).fill({"a": value}) == before + value + after


@given(st.lists(st.text(), max_size=5))
def test_examples_come_out_of_their_fences(examples: list[str]) -> None:
    blocks = find_blocks(format_examples(examples))
    assert len(blocks) == len(examples)
    for block, example in zip(blocks, examples, strict=True):
        assert block.text in (example, example.removesuffix("\n"))


def test_examples_with_fences_get_longer_fences() -> None:
    text = format_examples(["a\n````\nb\n````", "c"])
    assert text.count("`````\n") == 3
    assert text.endswith("c\n`````")


def test_the_built_in_templates_are_filled_by_their_names() -> None:
    generate = load_template(
        None, "code_instruction_generate", required={"examples"}, known={"examples"}
    )
    to_code = load_template(
        None, "code_instruction_to_code", required={"instruction"}, known={"instruction"}
    )
    assert "EXAMPLES" in generate.fill({"examples": "EXAMPLES"})
    assert "Add {a}." in to_code.fill({"instruction": "Add {a}."})


def test_a_text_given_is_the_template() -> None:
    given_text = load_template("Do {x}", "none", required=(), known={"x"})
    assert (given_text.name, given_text.fill({"x": "it"})) == ("<prompt_template>", "Do it")
    with pytest.raises(ConfigError, match=r"^mine\.txt:1: unknown"):
        load_template("{y}", "none", required=(), known={"x"}, name="mine.txt")


@pytest.mark.parametrize("name", ["code_instruction_to_code", "code_instruction_to_code.txt"])
def test_a_name_is_looked_up_among_the_prompts(name: str) -> None:
    text, shown = find_template(name)
    assert "{instruction}" in text
    assert shown == "prompts/code_instruction_to_code.txt"


def test_a_path_is_read_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.txt").write_bytes(b"\xef\xbb\xbfDo\r\n{x}\n")
    path = str(tmp_path / "mine.txt")
    assert find_template(path) == ("Do\r\n{x}\n", path)
    monkeypatch.chdir(tmp_path)
    assert find_template("mine.txt") == ("Do\r\n{x}\n", "mine.txt")
    assert find_template("./mine.txt") == ("Do\r\n{x}\n", "./mine.txt")


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        find_template("nope")
    words = 'no template "nope". There are: code_instruction_generate, code_instruction_to_code,'
    assert str(caught.value).startswith(words)


def test_what_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("größe".encode("latin-1"))
    for path, words in (
        (tmp_path / "latin", "is not UTF-8"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "a\0b", "null byte"),
    ):
        with pytest.raises(ConfigError, match=words):
            find_template(str(path))
    for name in ("a\0b", "", "."):
        with pytest.raises(ConfigError):
            find_template(name)


def test_prompts_lie_in_the_package_or_beside_it() -> None:
    package, beside = PROMPTS
    assert package == beside.parent / "codesynth" / "prompts"


def test_one_alternative_is_drawn_by_what_the_others_hold() -> None:
    drawn = template("{Harder: go.|Broader!|Plain} {task}")
    assert drawn.names == ("task",)
    texts = [drawn.fill({"task": f"t{i}"}) for i in range(60)]
    assert {text.rpartition(" ")[0] for text in texts} == {"Harder: go.", "Broader!", "Plain"}
    assert [drawn.fill({"task": f"t{i}", "other": i}) for i in range(60)] == texts


def test_the_first_row_shows_whether_a_template_fits() -> None:
    rows = [Record(0, b"[]", {}, error=Failure("not_an_object", "no")), Record(1, b"{}", {"a": ""})]
    fitting, unfitting = template("{a}"), template("\n{a} {b}")
    assert list(check_first(rows, fitting)) == rows
    with pytest.raises(ConfigError, match=r"t.txt:2: unknown placeholder \{b\}; known: \{a\}"):
        list(check_first(rows, unfitting))
