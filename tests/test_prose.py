"""Words and code without fences, told apart; see the tables in ``unfenced``."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.models import Failure
from codesynth.operators.fences import strip_blank_lines
from codesynth.operators.parsing import parse_code
from codesynth.operators.prose import is_prose, shows_code, without_introduction, without_prose

LINES = st.lists(
    st.sampled_from(
        ["", "x = 1", "    y = 2", "It is so.", "Here it is:", "# A remark.", "- An item", "f(x)"]
    )
).map("\n".join)


def table(name: str) -> list[object]:
    """Read answers by name; none of them has a fence."""
    text = (Path(__file__).parent / "unfenced" / name).read_text(encoding="utf-8")
    entries = re.split(r"^=== (\w+)\n", text, flags=re.MULTILINE)[1:]
    return [
        pytest.param(answer, id=name)
        for name, answer in zip(entries[::2], entries[1::2], strict=True)
    ]


PROSE, CODE = table("prose.txt"), table("code.txt")


def test_there_are_at_least_a_hundred_answers_of_either_kind() -> None:
    assert min(len(PROSE), len(CODE)) >= 100


@pytest.mark.parametrize("answer", PROSE)
def test_an_answer_in_words_has_no_code(answer: str) -> None:
    failure = parse_code(answer)
    assert isinstance(failure, Failure)
    assert failure.kind == "no_code"


@pytest.mark.parametrize("answer", PROSE)
def test_a_block_of_words_has_no_code(answer: str) -> None:
    if "`" not in answer:
        assert isinstance(parse_code(f"```\n{answer}\n```"), Failure)


@pytest.mark.parametrize("answer", CODE)
def test_code_without_a_fence_stays_as_it_is(answer: str) -> None:
    assert parse_code(answer) == strip_blank_lines(answer)


@pytest.mark.parametrize("answer", CODE)
def test_code_in_a_fence_stays_as_it_is(answer: str) -> None:
    code = answer.rstrip("\n")
    assert parse_code(f"````\n{code}\n````") == code


@pytest.mark.parametrize("answer", CODE)
def test_words_around_a_block_do_not_matter(answer: str) -> None:
    code = answer.rstrip("\n")
    assert parse_code(f"Sure! Here it is.\n\n````\n{code}\n````\n\nThat is all of it.") == code


def test_a_sentence_may_go_over_several_lines() -> None:
    assert is_prose("I am afraid that the input\nis never said to be sorted\nso I cannot begin.")


def test_one_line_of_code_is_enough_not_to_be_prose() -> None:
    assert not is_prose("You can do it like this.\n\nx = sorted(xs)\n\nThis sorts the list.")
    assert not is_prose("Use this command:\n\nfind . -delete\n\nIt deletes the files.")
    assert not is_prose("Use this command:\n\nmake all")
    assert not is_prose("The grammar is short.\n\nExpr -> Term Plus Expr\n\nThat is all of it.")


@pytest.mark.parametrize("before", ["", "Here it is:\n\n", "It is short.\n", "**Solution**\n\n"])
@pytest.mark.parametrize(
    "after",
    [
        "",
        "\nThis sets the variable.",
        "\n\nExplanation:\n\nThis sets the variable.\n\n- It is a number.\n- It is one.",
        "\n\n### Notes\n\nThis sets the variable. It is a number.",
    ],
)
def test_sentences_around_code_are_left_out(before: str, after: str) -> None:
    code = "x = 1\nif x:\n    print(x)"
    assert without_prose(f"{before}{code}{after}") == code


@pytest.mark.parametrize(
    "text",
    [
        "# This is a script. It sets a variable.\nx = 1\n# This is its end.",
        "cat <<EOF\nDear user, this is a text.\nEOF",
        "x: |\n  This is a text.\n  It has two lines.",
        "It is a text without any code.",
    ],
)
def test_what_is_part_of_the_code_is_not_left_out(text: str) -> None:
    assert without_prose(text) == text


def test_only_an_introduction_that_ends_in_a_colon_is_left_out() -> None:
    assert (
        without_introduction("Here it is:\n\nSELECT 1;\n\nIt is one.") == "SELECT 1;\n\nIt is one."
    )
    assert without_introduction("Dear all.\n\nHi {{ name }},") == "Dear all.\n\nHi {{ name }},"


@given(LINES)
def test_what_is_left_is_one_piece_with_all_the_code(text: str) -> None:
    left = without_prose(text)
    assert left in text
    assert shows_code(left) == shows_code(text)
    assert left.count("x = 1") == text.count("x = 1")


@given(st.text() | st.text(st.sampled_from("aA .:`'\"*_-=(){}#\n\r\t1中é")))
def test_any_text_is_prose_or_not(text: str) -> None:
    assert is_prose(text) in (True, False)
    assert not (is_prose(text) and shows_code(text))
    assert without_introduction(text) in text


def test_runs_of_signs_take_linear_time() -> None:
    start = time.perf_counter()
    for sign in "`.'\"*_(-":
        is_prose(f"It is {sign * 50_000} so")
    assert time.perf_counter() - start < 5
