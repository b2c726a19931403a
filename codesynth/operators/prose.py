"""Words to a reader or code, told by how lines look: any natural or programming language.

A sentence runs from an upper-case letter over plain words to a full stop or the like, or is mostly
letters of a script without cases. Text without sentences counts as code, whatever it is, so that
code in a language that nobody thought of here is not taken for prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from codesynth.operators.fences import BLANK, EOL, strip_blank_lines

_TELLING = 400  # characters at either end of a line or sentence, which tell what it is
_MOST = 100_000
"""Characters looked at."""

_Kind: TypeAlias = Literal["prose", "item", "heading", "code", "remark", "other"]

_ITEM = re.compile(r"(?:[-*+•>]|\d{1,3}[.)])\s+")
_HEADING = re.compile(r"#{2,6}\s|\*\*[^*]+\*\*:?$|-{3,}$|\*{3,}$")
_REMARK = re.compile(r"#|//|--|;|%|\||!|'\s|\"\s|REM\b")
"""Starts of comments in one language or another, and of rows of tables."""

_SPAN = re.compile(r"(?<!`)(`++)[^`]++\1(?!`)|https?://\S+")
_QUOTE = re.compile(r'"[^"]*"|(?<!\w)\'[^\']*\'(?!\w)')
_EMPHASIS = re.compile(r"\*\*|__|(?<!\w)[*_]|[*_](?!\w)")

_CODE = re.compile(
    r"""
      [\])}] | /\* | \"{3} | '{3}
    | (?:[a-z]+[ ]){0,3}[\w.$@\[\]'"]+[ ]?[-+*/|&?:<]?=       # an assignment
    | [\w.]+[ ]?<-[ ]
    | (?!O\()[\w.:$@!>-]+\((?:[^()]|\([^()]*\))*\)[;:.]?$       # a call
    | </?[A-Za-z!?%]
    | \$[ ] | >>> | \#! | @\w | @@ | \+\+\+
    | \#[ ]*(?:include|define|if|ifdef|ifndef|pragma|import)\b
    | (?:(?:local|async|export|pub|static)[ ])*(?:defp?|defmodule|fn|func|proc|subroutine)[ ]
    | import[ ][\w.{*"'(]+(?:[ ]as[ ]\w+|[ ]\(.*\)|[ ]from[ ].*)?$
    | from[ ]\S+[ ]import[ ]
    | (?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|MERGE|EXPLAIN|FROM|RUN)[ ]
    | (?:Theorem|Lemma|Definition|Fixpoint|Inductive)[ ]\w+.*[:=] | (?:Proof|Qed)\.$
    """,
    re.VERBOSE,
)
_CODE_ENDS = (*"{};\\([", "*/")
_TEMPLATE = re.compile(r"\{\{|\{%|<%|\$[{(]")
_OPERATOR = re.compile(r"=>|->|::|:=|&&|\|\||[!=<>]=|\(\)|:-|\|>|<-")

_WORD = re.compile(
    r"""[(\["“«¿¡]*(?:[^\W\d_]+(?:[-'\u2019./][^\W\d_]+)*|\d+)[)\]"”»]*[.,;:!?…]*[)"”»]*"""
    r"|[-\u2013—&]"
)
_END = re.compile(r"[.!?:…;][^\w(]*$")
_CLOSERS = 20
_PLAIN, _SIGNS = 0.75, 0.5
"""The least share of plain words in a sentence, and in what may belong to one."""
_COLONS = (":", "\uff1a")
_SPEAKS = re.compile(r"(?:I|I['\u2019]\w+|Sorry|Unfortunately|Please)\b")


class _Unit(NamedTuple):
    """A line, or the lines of a sentence."""

    text: str
    start: int
    stop: int
    at_margin: bool
    kind: _Kind


def is_prose(text: str) -> bool:
    r"""Whether a text is words to a reader, without code.

    >>> is_prose("I'm sorry, but I can't help with that.")
    True
    >>> is_prose("SELECT name FROM users")
    False
    """
    prose = other = 0
    for unit in _units(text[:_MOST]):
        if unit.kind == "code":
            return False
        if unit.kind == "prose":
            prose += len(unit.text)
        elif unit.kind == "other":
            other += len(unit.text)
    return prose > other


def shows_code(text: str) -> bool:
    """Whether a line of a text is surely code."""
    return any(unit.kind == "code" for unit in _units(text[:_MOST]))


def without_prose(text: str) -> str:
    r"""Leave out the sentences before the first line of code, and those after the last.

    >>> without_prose("It is short:\n\nx = 1\n\nThis sets the variable.")
    'x = 1'
    """
    if len(text) > _MOST or _begins_and_ends_in_code(text):
        return text
    units = list(_units(text))
    code = [i for i, unit in enumerate(units) if unit.kind == "code"]
    if not code:
        return text
    start = max((unit.stop for unit in units[: code[0]] if _speaks(unit)), default=0)
    stop = len(text)
    for unit in reversed(units[code[-1] + 1 :]):
        if unit.kind == "remark" or not unit.at_margin:
            break
        if _speaks(unit):
            stop = unit.start
    return strip_blank_lines(text[start:stop])


def without_introduction(text: str) -> str:
    r"""Leave out the sentences before the first line of code, if they end in a colon.

    >>> without_introduction("Here it is:\n\nSELECT 1;\n\nIt says one.")
    'SELECT 1;\n\nIt says one.'
    """
    end = 0
    for unit in _units(text[:_MOST]):
        if unit.kind == "code":
            return strip_blank_lines(text[end:])
        if unit.kind not in ("prose", "heading"):
            break
        end = unit.stop if unit.text.endswith(_COLONS) else end
    return text


def _begins_and_ends_in_code(text: str) -> bool:
    """Look at the first and the last line only, which is nearly always enough."""
    lines = text.strip(BLANK)
    first, last = EOL.split(lines, 1)[0], lines[max(lines.rfind("\n"), lines.rfind("\r")) + 1 :]
    return _kind_of_line(first.strip()) == "code" and (
        last[:1] in BLANK or _kind_of_line(last.strip()) == "code"
    )


def _speaks(unit: _Unit) -> bool:
    label = unit.kind == "other" and unit.text.endswith(_COLONS) and unit.text[0].isupper()
    return label or unit.kind in ("prose", "heading")


def _units(text: str) -> Iterator[_Unit]:
    """Yield the lines that are not blank, those of a sentence that goes on as one."""
    lines: list[str] = []
    start = stop = 0
    at_margin = item = announced = False

    def unit() -> _Unit:
        whole = " ".join(lines)
        lines.clear()
        return _Unit(whole, start, stop, at_margin, _kind(whole, item, announced))

    for first, end, line in _lines(text):
        kind = _kind_of_line(line)
        marker = _ITEM.match(line)
        dedents = not at_margin and text[first : first + 1] not in BLANK
        if lines and (not line or kind or marker or dedents or _ends(lines[-1])):
            last = unit()
            announced = last.text.endswith(_COLONS)
            yield last
        if kind:
            yield _Unit(line, first, end, text[first] not in BLANK, kind)
            announced = False
        elif line:
            if not lines:
                start, item = first, marker is not None
                at_margin = item or text[first] not in BLANK
            lines.append(line[marker.end() :] if marker else line)
            stop = end
    if lines:
        yield unit()


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the start and the end of each line and what it says, stripped."""
    start = 0
    for eol in EOL.finditer(text):
        yield start, eol.start(), text[start : eol.start()].strip()
        start = eol.end()
    yield start, len(text), text[start:].strip()


def _kind_of_line(line: str) -> _Kind | None:
    """Tell what a line is by itself; None where it takes its words to tell."""
    line = line[:_TELLING]
    bare = _SPAN.sub("x", line)
    if bare.endswith(_CODE_ENDS) or _CODE.match(bare) or _TEMPLATE.search(bare):
        return "code"
    if _HEADING.match(line):
        return "heading"
    return "remark" if _REMARK.match(line) else None


def _kind(text: str, item: bool, announced: bool) -> _Kind:
    """Tell what a unit is by its words.

    Args:
        item: it is an item of a list.
        announced: what comes before it ends with a colon.
    """
    if len(text) > 2 * _TELLING:
        text = f"{text[:_TELLING]} {text[-_TELLING:]}"
    text = _EMPHASIS.sub("", _QUOTE.sub("'", _SPAN.sub("x", text)))
    words = text.split()
    share = sum(_WORD.fullmatch(word) is not None for word in words) / max(1, len(words))
    upper = text.lstrip("(\"“«¿¡'")[:1].isupper()
    if _has_no_cases(text):
        return "prose"
    plain = upper and share >= _PLAIN and not text.isupper()
    speaks = _SPEAKS.match(text) is not None
    enough = len(words) > 3 if speaks else _ends(text) and len(words) > 2
    if plain and (enough or (speaks and _ends(text))):
        return "prose"
    if item:
        return "item" if plain else "other"
    if announced or _OPERATOR.search(text) or share < _SIGNS:
        return "code"
    return "other" if upper or share >= _PLAIN else "code"


def _ends(text: str) -> bool:
    """Whether a sentence ends where a text does; brackets, quotes and pictures may follow."""
    return _END.search(text, len(text) - _CLOSERS) is not None


def _has_no_cases(text: str) -> bool:
    """Whether most of a text is letters that are neither upper nor lower case."""
    if text.isascii():
        return False
    letters = sum(c.isalpha() and c.lower() == c.upper() for c in text)
    ascii_signs = sum("!" <= c <= "~" for c in text)
    return letters >= 4 and letters > ascii_signs
