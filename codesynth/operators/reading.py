"""An answer -> what it says without thinking and what surrounds it, and the blocks in that."""

from __future__ import annotations

import itertools
import re

from codesynth.operators.fences import BLANK, EOL, Block, find_blocks, without_last_eol
from codesynth.operators.languages import PYTHON, name_of, parses_python
from codesynth.operators.prose import is_prose, shows_code
from codesynth.operators.thinking import split_thinking
from codesynth.operators.trimmings import split_late_fence, without_tokens, without_wrapper

_GLUED = re.compile(r"```(?<=[^\s`~]```)(?=[ \t]*(?:[\r\n]|\Z))")
_MOST_ECHOES = 8
_MOST_ENDS = 8
_MOST_TRIED = 50
_END = re.compile(r"(?:\r\n?|\n)(?:```+|~~~+)[ \t]*(?=[\r\n]|\Z)")
_EOLS = ("\n", "\r")
_LINE = re.compile(r"[^\r\n]+")
_INNER_OPENING = re.compile(r"^ {0,3}(?:`{3,}|~{3,})[ \t]*\w", re.MULTILINE)


def read(text: str, prompt: str) -> tuple[str, list[Block]]:
    """Split off the thinking and what is repeated of the prompt; find the blocks of the rest.

    A fence that opens nothing closes what the prompt opened. A block that is not closed by a line
    of its own ends where a line of it ends in a fence.
    """
    answer = without_wrapper(split_thinking(without_tokens(text))[1])
    body = _without_echo(answer, prompt)
    blocks = find_blocks(body)
    if not blocks or _is_dangling(blocks[0]):
        body = split_late_fence(body)
        blocks = find_blocks(body)
    if not blocks:
        return body, blocks
    if len(blocks) == 1 and _is_dangling(blocks[0]):
        return body[: blocks[0].start], []
    last = blocks[-1]
    if not last.closed and (glued := _GLUED.search(last.text)):
        blocks[-1] = last._replace(text=last.text[: glued.start()])
    return body, blocks


def _without_echo(body: str, prompt: str) -> str:
    """Take off the prompt, or its end, where an answer begins by repeating it.

    An end that is code may be gone on with: it stays, unless blocks come after it.
    """
    answer = body.lstrip(BLANK)
    line = _LINE.match(answer)
    first = line[0].rstrip() if line else ""
    start = prompt.find(first) if first else -1
    for _ in range(_MOST_ECHOES):
        if start < 0:
            break
        echo = prompt[start:].strip(BLANK)
        rest = answer.removeprefix(echo)
        if rest != answer and rest[:1] in _EOLS and rest.strip(BLANK):
            return rest if _is_new(rest, echo, first) else body
        start = prompt.find(first, start + 1)
    return body


def _is_new(rest: str, echo: str, first: str) -> bool:
    """Whether what comes after an echo is an answer by itself, and does not go on with its code."""
    if rest.lstrip("\r\n")[0] in BLANK:
        return False
    if blocks := find_blocks(rest):
        return not shows_code(rest[: blocks[0].start])
    return is_prose(first) or find_blocks(echo) != []


def only_closes(body: str, block: Block) -> bool:
    """Whether the fence of a block closes what the prompt opened: words come after it, not code."""
    if block.info:
        return False
    text, *more = _INNER_OPENING.split(block.text, maxsplit=1)
    is_pair = block.closed and not more
    return not is_pair and is_prose(text) and shows_code(body[: block.start])


def _is_dangling(block: Block) -> bool:
    return not (block.closed or block.info or block.text.strip(BLANK))


def nested(body: str, blocks: list[Block]) -> Block | None:
    """Return the whole as one block where inner fences are as long as the outer ones.

    By CommonMark the first inner fence without info closes the outer block, and the outer block's
    own end opens one that has nothing in it: that is how it is known.
    """
    first, last = blocks[0], blocks[-1]
    if not _is_dangling(last) or not _INNER_OPENING.search(first.text):
        return None
    eol = EOL.search(body, first.start)
    text = without_last_eol(body[eol.end() : last.start], eol[0]) if eol else ""
    return Block(first.info, text, first.start, last.stop, closed=True)


def rejoined(body: str, blocks: list[Block]) -> list[Block]:
    """Let the first block of Python that does not parse end at a later fence, if it then does.

    A fence at the margin of a string ends a block by CommonMark, and models do write that.
    """
    broken = (b for b in blocks if name_of(b.info) == PYTHON.name and not parses_python(b.text))
    block = next(broken, None) if len(blocks) <= _MOST_TRIED else None
    first = EOL.search(body, block.start) if block else None
    if block is None or first is None:
        return blocks
    for end in itertools.islice(_END.finditer(body, block.stop), _MOST_ENDS):
        text = body[first.end() : end.start()]
        if parses_python(text):
            stop = end.end()
            whole = block._replace(text=text, stop=stop, closed=True)
            rest = find_blocks(body[stop:])
            moved = [b._replace(start=b.start + stop, stop=b.stop + stop) for b in rest]
            return [*blocks[: blocks.index(block)], whole, *moved]
    return blocks
