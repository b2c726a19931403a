"""Prompt templates: found, checked and filled."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.errors import ConfigError
from codesynth.models import Failure
from codesynth.operators.extract import find_blocks
from codesynth.operators.templates import (
    REQUIRED,
    Template,
    find_template,
    format_examples,
    load_template,
    template_names,
)

BRACES = st.text(st.sampled_from("{}a. !:[0\n"), max_size=12)


def template(text: str, required: str | None = None) -> Template:
    return Template.parse(text, "t.txt", required)


def test_placeholders_are_filled_with_texts_or_json_that_are_never_looked_at_again() -> None:
    filled = template("{{{a}}} {my column}{a}\r\n{{}}").fill({"a": "x", "my column": "y", "c": "z"})
    assert filled == "{x} yx\r\n{}"
    assert template("{a}|{b}").fill({"a": "{b}{{", "b": "}"}) == "{b}{{|}"
    values = {"list": [1, "é"], "none": None, "float": 1.5, "big": 2**70}
    filled = template("{list} {none} {float} {big}").fill(values)
    assert filled == f'[1,"é"] null 1.5 {2**70}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\r\n{", "t.txt:2: { is no placeholder. Write {name} for a column, {{ for a brace"),
        ("}", "t.txt:1: } is no placeholder. Write {name} for a column, }} for a brace"),
        ("{code}}", "t.txt:1: } is no placeholder"),
        ("{\ncode}", "t.txt:1: { is no placeholder"),
        ("Do {{code}}", "t.txt:1: missing placeholder {code}"),
        *(
            (text, f"t.txt:1: {text} is no placeholder")
            for text in ("{}", "{0}", "{code.__class__}", "{code[0]}", "{code!r}", "{code:>9}")
        ),
    ],
)
def test_what_cannot_be_filled_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        template(text, required="code")
    assert str(caught.value).startswith(message)


@given(BRACES)
def test_a_template_means_what_it_means_to_str_format(text: str) -> None:
    values = {"a": "A{}", "a a": "B"}
    try:
        ours = template(text).fill(values)
    except ConfigError:
        return
    assert isinstance(ours, Failure) or ours == text.format_map(values)


@given(st.lists(st.text() | st.just("a\n````\nb\n````"), max_size=5))
def test_examples_come_out_of_their_fences(examples: list[str]) -> None:
    blocks = find_blocks(format_examples(examples))
    assert len(blocks) == len(examples)
    for block, example in zip(blocks, examples, strict=True):
        assert block.text in (example, example.removesuffix("\n"))


@pytest.mark.parametrize("name", template_names())
def test_each_built_in_template_has_what_its_step_fills_in(name: str) -> None:
    text, shown = find_template(f"{name}.txt")
    assert (text, shown) == (find_template(name)[0], f"prompts/{name}.txt")
    assert load_template(name).name == shown
    if name in REQUIRED:
        words = rf"^<prompt_template>:1: missing placeholder \{{{REQUIRED[name]}\}}$"
        with pytest.raises(ConfigError, match=words):
            load_template(name, "Do it.")


def test_a_path_is_read_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.txt").write_bytes(b"\xef\xbb\xbfDo\r\n{x}\n")
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / "mine.txt"), "mine.txt", "./mine.txt"):
        assert find_template(path) == ("Do\r\n{x}\n", path)


def test_what_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes("größe".encode("latin-1"))
    for path, words in (
        ("nope", 'no template "nope". Known: code_instruction_generate, code_instruction_to_'),
        (tmp_path / "latin", "is not UTF-8"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        ("", "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=words):
            find_template(str(path))


def test_one_alternative_is_drawn_by_what_the_others_hold() -> None:
    drawn = template("{Harder: go.|Broader!|Plain} {task}")
    texts = [str(drawn.fill({"task": f"t{i}"})) for i in range(60)]
    assert {text.rpartition(" ")[0] for text in texts} == {"Harder: go.", "Broader!", "Plain"}
    assert [drawn.fill({"task": f"t{i}", "other": i}) for i in range(60)] == texts
    # the same in each version: else the journal's answers would no longer fit
    assert texts[:4] == ["Plain t0", "Broader! t1", "Harder: go. t2", "Broader! t3"]


def test_the_first_row_shows_whether_a_template_fits() -> None:
    with pytest.raises(ConfigError, match=r"t.txt:2: unknown placeholder \{b\}; known: \{a\}"):
        template("\n{a}{x|y}{b}").fill({"a": "x"})


def test_a_generated_column_stands_in_for_one_without_generated() -> None:
    judged = template("{instruction}/{code}")
    generated = {"generated_instruction": "i", "generated_code": "c"}
    assert judged.fill(generated) == "i/c"
    assert judged.fill({**generated, "instruction": "own"}) == "own/c"
    missing = judged.fill({"instruction": "i"})
    assert isinstance(missing, Failure)
    assert "{code} is not a column" in missing.message
