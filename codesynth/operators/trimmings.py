"""What a chat template, a server or a habit leaves around an answer, and what is said after it."""

from __future__ import annotations

import re

from codesynth.operators.fences import BLANK, Block, strip_blank_lines

_ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>", "<|endoftext|>"),
    *("<|end_of_text|>", "<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "</s>"),
)
_STARTS = re.compile(
    r"\s*(?:<\|im_start\|>assistant\n|<start_of_turn>model\n"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|assistant\|>|\[/INST\])"
)
_TAG = re.compile(r"\s*<(answer|solution|response|result|code)>[ \t]*[\r\n]")
_SPAN = re.compile(r"(`+)(?!`)(?:(?<=```)(?:python|py) )?([^\r\n`]+)\1")
_QUOTED = re.compile(r"^>(?: |$)", re.MULTILINE)
_LATE_FENCE = re.compile(r"(?<=[:.!])[ \t]*(?=```\w*[ \t]*[\r\n])")
_NEXT_TURN = re.compile(r"^(?:#+ *|\*\*)?(?:Instruction|Human|User):", re.MULTILINE)


def without_tokens(text: str) -> str:
    r"""Take off the special tokens of a chat template at the ends of an answer.

    >>> without_tokens("<|im_start|>assistant\nprint(1)<|im_end|>")
    'print(1)'
    """
    start = _STARTS.match(text)
    text = text[start.end() :] if start else text
    stop = whole = len(text.rstrip(BLANK))
    ends = tuple(end for end in _ENDS if end != "</s>" or "<s>" not in text)
    while text.endswith(ends, 0, stop):
        stop = next(stop - len(end) for end in ends if text.endswith(end, 0, stop))
        while stop and text[stop - 1] in BLANK:
            stop -= 1
    return text if stop == whole else text[:stop]


def without_wrapper(body: str) -> str:
    r"""Take off a tag around a whole answer, or the marks of a quotation.

    >>> without_wrapper("<answer>\nprint(1)\n</answer>")
    'print(1)'
    """
    tag = _TAG.match(body)
    if tag and body.rstrip(BLANK).endswith(f"</{tag[1]}>"):
        return strip_blank_lines(body[tag.end() : body.rindex("</")])
    if "> ```" in body and all(_QUOTED.match(line) for line in body.split("\n") if line.strip()):
        return _QUOTED.sub("", body)
    return body


def split_late_fence(body: str) -> str:
    r"""Give an opening fence that stands after a sentence a line of its own.

    >>> split_late_fence("Here you go: ```python\nprint(1)\n```")
    'Here you go:\n```python\nprint(1)\n```'
    """
    return _LATE_FENCE.sub("\n", body, count=1)


def without_span(text: str) -> str:
    """Take the backticks off where one code span is all there is.

    >>> without_span("`lambda x: x * x`")
    'lambda x: x * x'
    """
    span = _SPAN.fullmatch(text.strip(BLANK))
    return span[2].strip(BLANK) if span else text


def first_turn(body: str, blocks: list[Block]) -> list[Block]:
    r"""Leave out blocks after a line that begins another turn, as base models go on to write.

    >>> from codesynth.operators.fences import find_blocks
    >>> text = "```\na = 1\n```\n\n### Instruction:\nNow b.\n\n```\nb = 2\n```"
    >>> [block.text for block in first_turn(text, find_blocks(text))]
    ['a = 1']
    """
    kept = blocks[:1]
    for block in blocks[1:]:
        if _NEXT_TURN.search(body[kept[-1].stop : block.start]):
            break
        kept.append(block)
    return kept
