"""Take the reasoning, the code or the instruction out of a model's answer.

The rule for code: reasoning (a leading ``<think>`` block or the like) is split off, and fenced blocks
are found as in CommonMark. The code is the first block in the language asked for that is valid, else
the first in that language, else the first that is not commands, data or output. A block without a
language counts where it is valid; one quoted from the instruction only if there is no other. The
language asked for is ``--language``, else Python if the instruction names it, else the first that a
block names. Without a fence, an answer in plain words is ``no_code``; the code is the longest run of
whole lines that is valid Python and has a compound statement (``def``, ``if``, ...), else the whole
text. Valid is what Python's ``compile`` accepts, or tree-sitter for other languages (``--language``
with the extra ``languages``). What is inside is never changed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from codesynth.models import Failure
from codesynth.operators.languages import BESIDE_CODE, PYTHON, Language, first_error, language_of

_MOST_CHARACTERS, _MOST_BLOCKS = 50_000, 100  # that are looked at

_TAGS = {f"<{each}>": f"</{each}>" for each in ("think", "thinking", "thought", "reasoning")} | {
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",
}
_OPENING = re.compile(rf"\s*+({'|'.join(map(re.escape, _TAGS))})")

_FENCE = re.compile(r"\n((?:[ \t]*+(?:[-*+]|\d{1,9}[.)])(?=[ \t]))?[ \t]*+)(`{3,}|~{3,})([^\n]*)")
_NAMES_PYTHON = re.compile(r"(?m)\b[Pp]ython(?! if)|^[ \t]*(?:async )?def \w+\(")
_STATEMENT = re.compile(r"(?!(?:else|elif|except|finally)\b)[^\s)\]}]")
_COMPOUND = re.compile(r"(?m)^(?:async )?(?:def|class|for|while|if|with|try|from)\b")
_SPAN = re.compile(r"`[^`\n]*`|\\\(.*?\\\)|\\\[[^\]]*\\\]")  # code or a formula in a sentence
_WORD = re.compile(r"[\"'(“*_]*([^\W\d_]+(['’/，、。-][^\W\d_]+)*|[\d.]+)[^\w\s(){}=]*|[-*•–—]|#+")
_SENTENCE = re.compile(r"\w[*_)\"'”]*[.!?:。！？：](?:\s|$)")
_ABOUT = re.compile(
    r"(?i)[#*_ ]*(?:new |generated )?(?:instruction|prompt|example)(?: \d+)?[*_: ]*"
    r"|(?:sure|certainly|of course|okay|absolutely|great)[,.!].*|(?:here|below)\b.*\b(?:instruction"
    r"|prompt|problem|task|exercise|challenge|question|one)\b.*:|(?:in summary|this (?:instruction"
    r"|prompt)|let me know|i hope|feel free|would you like|i['’]m sorry)\b.*"
)
_LABEL = re.compile(r"(?i)[#*_ ]*(?:new |generated )?(?:instruction|prompt)[*_ ]*:[*_ ]*")
_ASKS = re.compile(
    r"(?i)\W*(?:write|implement|create|complete|fill|fix|find|given|design|modify|change|add|explain"
    r"|refactor|rewrite|convert|translate|use|your?|the)\b"
)


@dataclass(frozen=True, slots=True)
class ExtractedCode:
    """The code of an answer, the number of its fenced blocks, and which one (from 0) was taken."""

    code: str
    blocks: int
    taken: int | None


class Block(NamedTuple):
    """A fenced block, with the offsets of its first character and behind its last."""

    language: str
    text: str
    start: int
    stop: int
    closed: bool


def split_reasoning(text: str) -> tuple[str | None, str]:
    """Split an answer into its reasoning, without the tags, and the rest.

    A ``</think>`` at the end of a line, outside of code, is enough: chat templates open it in the
    prompt. Reasoning without an end ends before its last fenced block.

    >>> split_reasoning("<think>Hm.</think>print(1)")
    ('Hm.', 'print(1)')
    """
    if opening := _OPENING.match(text):
        reasoning, closing, rest = text[opening.end() :].partition(_TAGS[opening[1]])
        if not closing and (blocks := find_blocks(reasoning)):
            reasoning, rest = reasoning[: blocks[-1].start], reasoning[blocks[-1].start :]
        return reasoning.strip(), rest
    reasoning, closing, rest = text.partition("</think>")
    if closing and re.match(r"\s*(\n|\Z)", rest) and all(b.closed for b in find_blocks(reasoning)):
        return reasoning.strip(), rest
    return None, text


def find_blocks(text: str) -> list[Block]:
    r"""Find the fenced blocks by CommonMark 0.31, section 4.5; one without an end ends with the text.

    Beyond it, a fence may be indented by any amount, as in lists, and a block of Markdown or of no
    language may hold blocks that name a language.

    >>> find_blocks("See:\n~~~ sh\nls\n~~~")
    [Block(language='bash', text='ls', start=5, stop=18, closed=True)]
    """
    blocks: list[Block] = []
    opening, margin, depth = None, 0, 0
    for fence in _FENCE.finditer("\n" + text):
        indent, run, info = fence.groups()
        width = len(indent.expandtabs(4))
        if opening is None:
            if run[0] != "`" or "`" not in info:
                opening, margin, depth = fence, width, 0
        elif run.startswith(opening[2]) and width < margin + 4 and not indent.strip():
            if info.strip():
                depth += language_of(opening[3]) in ("", "text", "markdown")
            elif depth:
                depth -= 1
            else:
                blocks.append(_block(text, opening, fence))
                opening = None
    return blocks if opening is None else [*blocks, _block(text, opening, None)]


def _block(text: str, opening: re.Match[str], closing: re.Match[str] | None) -> Block:
    last, stop = (closing.start() - 1, closing.end() - 1) if closing else (len(text), len(text))
    code, indent, info = text[opening.end() : last], opening[1], opening[3]
    if closing and info.endswith("\r"):
        code = code.removesuffix("\r")
    if indent:  # the lines of the block stand as far to the right as its fence
        same = f"{indent}|" if indent.isspace() else ""
        code = re.sub(rf"(?m)^(?:{same} {{1,{len(indent.expandtabs(4))}}})", "", code)
    return Block(language_of(info), code, opening.start(), stop, closing is not None)


def extract_code(
    answer: str, instruction: str, language: Language | None
) -> ExtractedCode | Failure:
    """Take the code out of an answer, by the rule at the top of this file.

    >>> extract_code("Here you are:\\n```python\\nprint(1)\\n```\\nIt prints 1.", "", None).code
    'print(1)'
    """
    text = split_reasoning(answer)[1]
    blocks = find_blocks(text)
    filled = [block for block in blocks if block.text.strip()]
    wanted = language or PYTHON
    if not blocks or (text[blocks[0].start].isspace() and wanted.is_valid(text)):
        code = _unfenced(text, wanted)
        return code if isinstance(code, Failure) else ExtractedCode(code, 0, None)
    if not filled:
        return Failure("no_code", "the code block is empty")
    block = filled[0] if len(filled) == 1 else _choose(filled, instruction, language)
    code = block.text if block.closed else _longest_run(block.text) or block.text
    return ExtractedCode(code, len(blocks), blocks.index(block))


def _choose(blocks: list[Block], instruction: str, language: Language | None) -> Block:
    blocks = [block for block in blocks if block.text not in instruction] or blocks
    code = [block for block in blocks if block.language not in BESIDE_CODE]
    if language is None:
        names = [block.language for block in code if block.language] or [PYTHON.name]
        is_python = PYTHON.name in names and _NAMES_PYTHON.search(instruction)
        language = PYTHON if is_python or names[0] == PYTHON.name else Language(names[0])
    own = [block for block in blocks if block.language == language.name]
    perhaps = own + [block for block in blocks if not block.language]
    valid = (block for block in perhaps[:_MOST_BLOCKS] if language.is_valid(block.text))
    return next(valid, None) or [*own, *code, *blocks][0]


def _unfenced(text: str, language: Language) -> str | Failure:
    if not text.strip():
        return Failure("empty", "the answer has no text but reasoning")
    words = _SPAN.sub("x", text[:_MOST_CHARACTERS]).split()
    plain = sum(_WORD.fullmatch(word) is not None for word in words)
    if plain > 0.85 * len(words) and _SENTENCE.search(text):
        return Failure("no_code", "the answer is words only")
    run = _longest_run(text) if language is PYTHON else ""
    return run if _COMPOUND.search(run) else text.strip("\r\n")


def _longest_run(text: str) -> str:
    """Find the longest run of whole lines, from statement to statement, that is valid Python."""
    best, place = "", 0
    lines = text.split("\n") if len(text) <= _MOST_CHARACTERS else []
    starts = [i for i, line in enumerate(lines) if _STATEMENT.match(line)]
    while place < len(starts):
        first = starts[place]
        error = first_error("\n".join(lines[first:]))
        wrong = len(lines) if error is None else first + error
        place = bisect_right(starts, wrong)
        run = "\n".join(lines[first : wrong if error is None else starts[place - 1]]).rstrip()
        if len(run) > len(best) and (error is None or first_error(run) is None):
            best = run
    return best


def extract_instruction(answer: str) -> str | Failure:
    """Take the instruction out of an answer: without a fence and sentences around it.

    >>> extract_instruction("Sure! Here is a new one:\\n```\\nSort a list.\\n```")
    'Sort a list.'
    """
    lines = split_reasoning(answer)[1].split("\n")
    own = [i for i, line in enumerate(lines) if line.strip() and not _ABOUT.fullmatch(line.strip())]
    text = "\n".join(lines[own[0] : own[-1] + 1]) if own else ""
    text = text[label.end() :] if (label := _LABEL.match(text)) else text
    for block in find_blocks(text)[:1]:
        before = text[: block.start].strip()
        is_introduced = not before or (before.endswith(":") and not _ASKS.match(before))
        if is_introduced and not _ASKS.match(text, block.stop):
            text = block.text
    return text if text.strip() else Failure("empty", "the answer has no instruction")
