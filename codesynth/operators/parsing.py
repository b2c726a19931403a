"""Answer text -> instruction or code: thinking split off, fences taken away, inner text exact.

Everything takes time linear in the text. What a model says around its answer is known by English
words; in another language the rules that need them do not apply, and more is kept.
"""

from __future__ import annotations

import re
from itertools import pairwise

from codesynth.operators.fences import (
    BLANK,
    EOL,
    Block,
    find_blocks,
    strip_blank_lines,
    without_last_eol,
)

_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}
_THOUGHT = re.compile(rf"\s*+({'|'.join(map(re.escape, _THOUGHTS))})")
_REST_IS_BLANK = re.compile(r"[ \t]*(?:[\r\n]|\Z)")

_GLUED = re.compile(r"```(?<=[^\s`~]```)(?=[ \t]*(?:[\r\n]|\Z))")
_INNER_OPENING = re.compile(r"^ {0,3}(?:`{3,}|~{3,})[ \t]*\w", re.MULTILINE)
_LANGUAGE = re.compile(r"[^\w+#-]*([\w+#-]+)")
_ALIASES = {
    "py": "python",
    "python3": "python",
    "js": "javascript",
    "jsx": "javascript",
    "node": "javascript",
    "ts": "typescript",
    "tsx": "typescript",
    "c++": "cpp",
    "cc": "cpp",
    "cs": "csharp",
    "c#": "csharp",
    "golang": "go",
    "rs": "rust",
    "rb": "ruby",
    "kt": "kotlin",
}
_ASIDE = re.compile(
    r"(?:ba|z|fi)?sh|shell|console|shell-?session|terminal|powershell|cmd|bat|te?xt|plain(?:text)?"
    r"|output|stdout|logs?|none|markdown|md|mermaid|json[c5l]?|ya?ml|toml|ini|[ct]sv|diff|pycon"
    r"|python-repl|doctest"
)
"""Languages of what stands beside code: commands, output, data. Taken where nothing else is."""

_HEADING = re.compile(r"#|\*\*.*\*\*:?$")
_USAGE = re.compile(
    r"\b(?:usages?|examples?|tests?|testing|outputs?|how to (?:use|run|call)|try (?:it|this))\b",
    re.IGNORECASE,
)
_DEFINES = re.compile(
    r"^(?:[a-z]{1,12} +){0,4}(?:(?:def|class|func|fn|fun|function|sub|struct|enum|trait|interface"
    r"|module|const)\*? +(\w+)|\w{1,20} +(main) *\()",
    re.MULTILINE,
)

_SHORT = 200
_FEW = 6
_SPEAKS = re.compile(
    r"(?:sure|certainly|of course|okay|ok|absolutely|great|alright|yes|understood|got it|below|here"
    r"|looking at|based on|following|i(?:.ll|.ve|.m| will| have| am)|let(?:.s| me| us)|this is)\b",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(
    r"(?:.*\b)?(?:new|generated)(?: [\w-]+){0,3} "
    r"(?:instruction|prompt|problem|task|exercise|challenge|question)\W*",
    re.IGNORECASE,
)
_INSTRUCTS = re.compile(
    r"(?:^|[.!?;:*])\W*(?:write|implement|create|complete|fill|fix|repair|correct|given|define"
    r"|design|develop|build|make|modify|change|extend|update|refactor|rewrite|simplify|convert"
    r"|translate|port|explain|describe|find|debug|optimi[sz]e|add|remove|use|using|consider|suppose"
    r"|assume|imagine|return|compute|calculate|determine|solve|sort|print|parse|you are|you have"
    r"|you need|you will|you must|your|what|how|why|which|when|if|in|for)\b",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r"\W*example \d+\W*", re.IGNORECASE)


def parse_code(text: str) -> str:
    r"""Take the code out of an answer; empty where there is nothing but thinking or a blank block.

    Without a fence, it is the whole text without outer blank lines. Of several blocks:

    1. Blocks of commands, output or data are left out where there is another; so are blocks
       without a language where there is one with.
    2. The first block left sets the language; blocks of other languages are left out.
    3. Later ones introduced as usage, example, test or output are left out.
    4. A block is left out where later ones define all its names again: a stub repeated from the
       prompt, a first draft, a step on the way.
    5. The rest belongs together, and is joined in order with a blank line between.

    >>> parse_code("Here you are:\n```python\nprint(1)\n```\nIt prints 1.")
    'print(1)'
    """
    body, blocks = _read(text)
    if blocks and (nest := _nest(body, blocks)):
        body, blocks = nest.text, find_blocks(nest.text) if _rank(nest) else [nest]
    if not blocks:
        return strip_blank_lines(body)
    return _or_empty("\n\n".join(block.text for block in _choose(body, blocks)))


def parse_instruction(text: str) -> str:
    r"""Clean an answer to look like a row of the pool; empty where nothing is left.

    A fence that wraps the instruction goes, with the sentences around it. A fence within an
    instruction stays: the text before it is then more than an introduction, or the text after it
    tells what to do. Examples repeated from the prompt are passed over.

    >>> parse_instruction("Here is a new prompt:\n```\ndef f():\n```")
    'def f():'
    """
    body, blocks = _read(text)
    if blocks and (nest := _nest(body, blocks)):
        blocks = [nest]
    if not blocks or not _is_wrapped(body, blocks):
        return strip_blank_lines(body)
    starts = (0, *(block.stop for block in blocks))
    for start, block in zip(starts, blocks, strict=False):
        if not _EXAMPLE.fullmatch(_last_line(body[start : block.start])):
            return _or_empty(block.text)
    return _or_empty(blocks[-1].text)


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


def _read(text: str) -> tuple[str, list[Block]]:
    """Split off the thinking; find the blocks of the rest.

    A lone fence at the very end closes what the prompt opened. A block that is not closed by a
    line of its own ends where a line of it ends in a fence.
    """
    body = split_thinking(text)[1]
    blocks = find_blocks(body)
    if not blocks or blocks[-1].closed:
        return body, blocks
    last = blocks[-1]
    if len(blocks) == 1 and _is_dangling(last):
        return body[: last.start], []
    if glued := _GLUED.search(last.text):
        blocks[-1] = last._replace(text=last.text[: glued.start()])
    return body, blocks


def _is_dangling(block: Block) -> bool:
    return not (block.closed or block.info or block.text.strip(BLANK))


def _nest(body: str, blocks: list[Block]) -> Block | None:
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


def _or_empty(text: str) -> str:
    return text if text.strip(BLANK) else ""


def _choose(body: str, blocks: list[Block]) -> list[Block]:
    """Choose the blocks that are the code, by the rules of ``parse_code``."""
    if len(blocks) == 1:
        return blocks
    usage = {
        block.start
        for previous, block in pairwise(blocks)
        if _introduces_usage(body[previous.stop : block.start])
    }
    filled = [block for block in blocks if _or_empty(block.text)]
    best = min(map(_rank, filled), default=0)
    alike = [block for block in filled if _rank(block) == best]
    language = _language(alike[0]) if alike else ""
    alike = [block for block in alike if _language(block) == language]
    return _without_drafts([b for i, b in enumerate(alike) if i == 0 or b.start not in usage])


def _language(block: Block) -> str:
    found = _LANGUAGE.match(block.info)
    name = found[1].lower() if found else ""
    return _ALIASES.get(name, name)


def _rank(block: Block) -> int:
    """Rank what a block may be: 0 code, 1 perhaps code, 2 something beside code."""
    if _ASIDE.fullmatch(_language(block)) or block.text.startswith(">>> "):
        return 2
    return 0 if _language(block) else 1


def _without_drafts(blocks: list[Block]) -> list[Block]:
    """Leave out each block whose names are all defined again by later ones."""
    kept: list[Block] = []
    later: set[str] = set()
    for block in reversed(blocks):
        names = {name or main for name, main in _DEFINES.findall(block.text)}
        if not names or not names <= later:
            kept.append(block)
            later |= names
    return kept[::-1]


def _introduces_usage(prose: str) -> bool:
    """Whether the last line or the last heading before a block says that it shows a use."""
    lines = [line for line in map(str.strip, EOL.split(prose[-2 * _SHORT :])) if line]
    headings = [line for line in lines if _HEADING.match(line)]
    return any(_USAGE.search(line) for line in (*headings[-1:], *lines[-1:]))


def _last_line(text: str) -> str:
    return EOL.split(text[-2 * _SHORT :].rstrip(BLANK))[-1]


def _is_wrapped(body: str, blocks: list[Block]) -> bool:
    """Whether the first fence wraps the instruction, rather than being an example in it."""
    before = body[: blocks[0].start].strip(BLANK)
    last = _last_line(before)
    if _ANNOUNCES.fullmatch(last) and not _INSTRUCTS.search(last):
        return True
    if len(before) > _FEW * _SHORT:
        return False
    lines = [line for line in map(str.strip, EOL.split(before)) if line]
    after = body[blocks[0].stop :][:_SHORT].strip(BLANK)
    return len(lines) <= _FEW and all(map(_is_intro, lines)) and not _INSTRUCTS.match(after)


def _is_intro(line: str) -> bool:
    """Whether a line speaks about the instruction that follows, rather than being part of it."""
    if _HEADING.match(line):
        return True
    if len(line) > _SHORT or _INSTRUCTS.search(line):
        return False
    return line.endswith(":") or _SPEAKS.match(line) is not None
