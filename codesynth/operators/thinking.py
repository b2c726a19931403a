"""The thinking that an answer begins with, told by its tags."""

from __future__ import annotations

import re

from codesynth.operators.fences import Block, find_blocks

_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}
_THOUGHT = re.compile(rf"\s*+({'|'.join(map(re.escape, _THOUGHTS))})")
_REST_IS_BLANK = re.compile(r"[ \t]*(?:[\r\n]|\Z)")


def split_thinking(text: str) -> tuple[str, str]:
    """Split an answer in two: the thinking it begins with, tags and all, and the rest.

    A closing tag without an opening one counts too (chat templates open it in the prompt),
    if it stands at an edge of its line and outside of code. Thinking that is not closed is all
    there is.

    >>> split_thinking("<think>Hm.</think>print(1)")
    ('<think>Hm.</think>', 'print(1)')
    """
    start = 0
    while opening := _THOUGHT.match(text, start):
        closing = _THOUGHTS[opening[1]]
        end = text.find(closing, opening.end())
        if end < 0:
            return text, ""
        start = end + len(closing)
    for tag, closing in _THOUGHTS.items():
        end = text.find(closing, start)
        if end >= 0 and text.find(tag, start, end) < 0:
            start = _lone_end(text, start, closing)
    return text[:start], text[start:]


def _lone_end(text: str, start: int, closing: str) -> int:
    """Return where thinking ends that began before the text; ``start`` where there is none."""
    closed = [block for block in find_blocks(text[start:]) if block.closed]
    blocks = iter([*closed, Block("", "", len(text), len(text), closed=True)])
    block = next(blocks)
    end = text.find(closing, start)
    while end >= 0:
        while block.stop <= end - start:
            block = next(blocks)
        after = end + len(closing)
        at_edge = end == start or text[end - 1] in "\r\n" or _REST_IS_BLANK.match(text, after)
        if at_edge and end - start < block.start:
            return after
        end = text.find(closing, after)
    return start
