"""Thinking at the beginning of answers, and tags that are text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.operators.parsing import parse_code, parse_instruction
from codesynth.operators.thinking import split_thinking

CODE = "def twice(x: int) -> int:\n    return 2 * x"
TEXTS = st.text(st.characters() | st.sampled_from("`~ \t\r\n\v\x85\u2028\ud800\0"))


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
