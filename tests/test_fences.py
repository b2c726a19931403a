"""CommonMark fences, and what models make of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.operators.fences import find_blocks, strip_blank_lines

TEXTS = st.text(st.characters() | st.sampled_from("`~ \t\r\n\v\x85\u2028\ud800\0"))


def texts(text: str) -> list[str]:
    return [block.text for block in find_blocks(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\n<\n >\n```", ["<\n >"]),
        ("``\nfoo\n``", []),
        ("```\naaa\n~~~\n```", ["aaa\n~~~"]),
        ("~~~\naaa\n```\n~~~", ["aaa\n```"]),
        ("````\naaa\n```\n``````", ["aaa\n```"]),
        ("```", [""]),
        ("`````\n\n```\naaa", ["\n```\naaa"]),
        ("```\n\n  \n```", ["\n  "]),
        (" ```\n aaa\naaa\n```", ["aaa\naaa"]),
        ("   ```\n   aaa\n    aaa\n  aaa\n   ```", ["aaa\n aaa\naaa"]),
        ("x\n\n    ```\n    aaa\n    ```", []),
        ("```\naaa\n  ```", ["aaa"]),
        ("```\naaa\n    ```", ["aaa\n    ```"]),
        ("``` ```\naaa", []),
        ("~~~~~~\naaa\n~~~ ~~", ["aaa\n~~~ ~~"]),
        ("foo\n```\nbar\n```\nbaz", ["bar"]),
        ("~~~~    ruby startline=3 $%@#$\ndef foo(x)\n~~~~~~~", ["def foo(x)"]),
        ("``` aa ```\nfoo", []),
        ("~~~ aa ``` ~~~\nfoo\n~~~", ["foo"]),
        ("```\n``` aaa\n```", ["``` aaa"]),
    ],
)
def test_examples_of_the_specification_hold(text: str, expected: list[str]) -> None:
    assert texts(text) == expected
    assert texts(text.replace("\n", "\r\n")) == [t.replace("\n", "\r\n") for t in expected]


def test_info_is_what_follows_the_fence() -> None:
    text = '``` py title="a"  \n```\n~~~\t{.c}\n~~~'
    assert [block.info for block in find_blocks(text)] == ['py title="a"', "{.c}"]


@pytest.mark.parametrize("other", ["\u2028", "\x85", "\v", "\f", "\x1c"])
def test_only_cr_and_lf_end_lines(other: str) -> None:
    assert texts(f"```\na{other}```\n```") == [f"a{other}```"]


def test_a_fence_in_a_docstring_does_not_close() -> None:
    code = 'def f():\n    """Use it.\n\n    ```\n    f()\n    ```\n    """'
    assert texts(f"```python\n{code}\n```") == [code]
    assert texts(code) == []


@pytest.mark.parametrize(
    "answer",
    [
        "1. Write it:\n   ```python\n   def f():\n       return 1\n   ```\n2. Done.",
        "1. Write it:\n\n    ```python\n    def f():\n        return 1\n    ```\n\n2. Done.",
        "- Write it:\n\n\t```python\n\tdef f():\n\t    return 1\n\t```",
        "- a\n  - b\n\n      ```python\n      def f():\n          return 1\n      ```",
        "- ```python\n  def f():\n      return 1\n  ```",
        "10. ```python\n    def f():\n        return 1\n    ```",
        "    ```python\n    def f():\n        return 1\n    ```",
        "1. Write it:\n    ```python\n    def f():\n        return 1\n```\n",
    ],
)
def test_fences_in_lists_may_be_indented(answer: str) -> None:
    assert texts(answer) == ["def f():\n    return 1"]


@pytest.mark.parametrize("eol", ["\n", "\r\n", "\r"])
def test_line_ends_of_the_text_stay(eol: str) -> None:
    answer = eol.join(["Hi:", "```python", "def f():", "    return 1", "```", "Bye."])
    assert texts(answer) == [f"def f():{eol}    return 1"]


@given(st.text("`~ \t\r\n-1.ax", max_size=60))
def test_blocks_lie_in_order_within_the_text(text: str) -> None:
    stop = 0
    for block in find_blocks(text):
        assert stop <= block.start < block.stop <= len(text)
        stop = block.stop


@given(TEXTS)
def test_blank_lines_alone_are_stripped(text: str) -> None:
    kept = strip_blank_lines(text)
    start = text.index(kept)
    assert not (text[:start] + text[start + len(kept) :]).strip(" \t\r\n")
    lines = re.split(r"\r\n|\r|\n", kept)
    assert not kept or (lines[0].strip(" \t") and lines[-1].strip(" \t"))
    assert start == 0 or not kept or text[start - 1] in "\r\n"


def test_blocks_without_end_are_read_to_a_limit() -> None:
    assert len(find_blocks("```\na\n```\n" * 2000)) == 1000
