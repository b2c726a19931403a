"""Text -> its fenced code blocks, by CommonMark 0.31, section 4.5.

Three or more backticks or tildes open a block; at least as many of the same close it, or the end
of the text does. Lines end with LF, CR LF or CR and nothing else. Beyond CommonMark, a fence may
be indented by any amount in a list, where models write it carelessly; and of more blocks than any
answer has, the first thousand are read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BLANK = " \t\r\n"
EOL = re.compile(r"\r\n?|\n")

_TAB = 4
_DEEPEST = 64
_MOST = 1_000
_FENCE = re.compile(r"(?:```+|~~~+)([^\r\n]*)")
"""The first possible fence of a line, and the rest of the line."""

_MARKER = re.compile(r"(?:[-*+]|\d{1,9}[.)])[ \t]+")
_MARGIN = re.compile(r"(?<![^\r\n])(?: {0,3}([-*+]|\d{1,9}[.)])(?=[ \t])|(?=[^ \t\r\n]))")
"""The start of a line at the left margin; group 1 where it is an item of a list."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        info: what stands after the opening fence.
        text: the lines between the fences, without the last line's end.
        start: offset of the opening fence's line.
        stop: offset of the end of the closing fence's line, or of the text.
        closed: whether there is a closing fence.
    """

    info: str
    text: str
    start: int
    stop: int
    closed: bool


def find_blocks(text: str) -> list[Block]:
    r"""Find the fenced blocks of a text, in order, in time linear in the text.

    >>> find_blocks("See:\n~~~ sh\nls\n~~~")
    [Block(info='sh', text='ls', start=5, stop=18, closed=True)]
    """
    blocks: list[Block] = []
    if "```" not in text and "~~~" not in text:
        return blocks
    position = seen = 0
    in_list = True  # nothing at the left margin yet says otherwise
    while len(blocks) < _MOST and (opening := _FENCE.search(text, position)):
        position = opening.end()
        before = _before(text, opening.start())
        if before is None or ("`" in opening[1] and opening[0][0] == "`"):
            continue
        for line in _MARGIN.finditer(text, seen, opening.start()) if before else ():
            in_list = line[1] is not None
        seen = opening.start()
        if before and not in_list and _width(before) > 3:
            continue
        in_list = in_list and before != ""
        blocks.append(_block(text, opening, before))
        position = seen = blocks[-1].stop
    return blocks


def strip_blank_lines(text: str) -> str:
    r"""Take the blank lines off both ends; the first line keeps its indentation.

    >>> strip_blank_lines("\n \n  a \n\n")
    '  a '
    """
    kept = text.rstrip(BLANK)
    first = len(kept) - len(kept.lstrip(BLANK))
    start = max(kept.rfind("\n", 0, first), kept.rfind("\r", 0, first)) + 1
    end = EOL.search(text, len(kept))
    return text[start : end.start() if end else len(text)] if kept else ""


def without_last_eol(content: str, eol: str) -> str:
    r"""Take one line end off, of the kind ``eol`` if it may be, so that a CR that is text stays.

    >>> without_last_eol("a\r\n", "\n"), without_last_eol("a\r\n", "\r\n")
    ('a\r', 'a')
    """
    if content.endswith((eol, "\n", "\r")):
        return content[: -len(eol) if content.endswith(eol) else -1]
    return content


def _before(text: str, start: int) -> str | None:
    """Return the white space or list marker before a fence; None where something else is."""
    if start == 0 or text[start - 1] in "\r\n":
        return ""
    head = text[max(0, start - _DEEPEST) : start]
    line = head[max(head.rfind("\n"), head.rfind("\r")) + 1 :]
    if len(line) == _DEEPEST or (line.strip(BLANK) and not _MARKER.fullmatch(line)):
        return None
    return line


def _width(before: str) -> int:
    return len(before.expandtabs(_TAB))


def _block(text: str, opening: re.Match[str], before: str) -> Block:
    """Read the block that a fence opens."""
    eol = EOL.match(text, opening.end())
    first = position = eol.end() if eol else len(text)
    run = text[opening.start() : opening.start(1)]
    limit = 3 if _width(before) <= 3 else _width(before) + 3
    last, stop, closed = len(text), len(text), False
    while (end := text.find(run, position)) >= 0 and (closing := _FENCE.match(text, end)):
        position = closing.end()
        indent = _before(text, end)
        if indent is None or indent.strip(BLANK) or closing[1].strip(BLANK):
            continue
        if _width(indent) <= limit:
            last, stop, closed = end - len(indent), position, True
            break
    content = without_last_eol(text[first:last], eol[0] if eol else "\n")
    content = _unindent(content, before) if before else content
    return Block(opening[1].strip(BLANK), content, opening.start() - len(before), stop, closed)


def _unindent(content: str, before: str) -> str:
    """Take as much white space off each line as stands before the opening fence."""
    spaces = f" {{1,{_width(before)}}}"
    same = f"{before}|" if before.isspace() else ""
    return re.sub(f"(?<![^\r\n])(?:{same}{spaces})", "", content)
