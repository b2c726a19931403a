"""Answer text -> instruction or code: thinking split off, fences taken away, inner text exact.

Everything takes time linear in the text. What a model says around its answer is known by English
words; in another language the rules that need them do not apply, and more is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from codesynth.models import Failure
from codesynth.operators.blocks import choose, join, lacks_code
from codesynth.operators.fences import (
    BLANK,
    EOL,
    Block,
    find_blocks,
    strip_blank_lines,
    without_last_eol,
)
from codesynth.operators.languages import (
    PYTHON,
    Language,
    asks_for_python,
    is_aside,
    may_be_words,
    name_of,
)
from codesynth.operators.prose import is_prose, shows_code, without_introduction, without_prose
from codesynth.operators.thinking import split_thinking

_GLUED = re.compile(r"```(?<=[^\s`~]```)(?=[ \t]*(?:[\r\n]|\Z))")
_MOST_ECHOES = 8
_PYTHON_INFO = frozenset({"python", "Python", "py", "python3"})
_PYTHON_BEGINNINGS = ("def ", "class ", "import ", "from ", "async def ")
_EOLS = ("\n", "\r")
_LINE = re.compile(r"[^\r\n]+")
_RUN = re.compile(r"`+|~+")
_INNER_OPENING = re.compile(r"^ {0,3}(?:`{3,}|~{3,})[ \t]*\w", re.MULTILINE)
_HEADING = re.compile(r"#|\*\*.*\*\*:?$")
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


def parse_code(text: str, prompt: str = "", language: Language | None = None) -> str | Failure:
    r"""Take the code out of an answer; empty where there is nothing but thinking or a blank block.

    Without a fence, it is the whole text without outer blank lines, and without the sentences
    around it where a parser then takes it. Of several blocks:

    1. Those in the language asked for come first; then those without a language, if that parses;
       then those of another; blocks of commands, output or data come last.
    2. The first block left sets the language; blocks of other languages are left out.
    3. Later ones introduced as usage, example, test or output are left out.
    4. A block is left out where later ones define all its names again: a stub repeated from the
       prompt, a first draft, a step on the way.
    5. The rest belongs together, and is joined in order with a blank line between. Where that does
       not parse, blocks are left out that do not, unless they define something.

    Args:
        text: the answer.
        prompt: what was asked; where the answer begins with it or its end, that goes.
        language: what was asked for; None looks whether the prompt says Python.

    Returns:
        The code, or a Failure ``no_code``: words only, or commands where a program was asked for.

    >>> parse_code("Here you are:\n```python\nprint(1)\n```\nIt prints 1.")
    'print(1)'
    >>> parse_code("I'm sorry, but I can't do that.").kind
    'no_code'
    """
    if (usual := _usual(text, prompt)) is not None:
        return usual
    body, blocks = _read(text, prompt)
    if blocks and (nest := _nest(body, blocks)):
        name = name_of(nest.info)
        if name and not is_aside(name):
            return _joined([nest], language)
        body, blocks = nest.text, find_blocks(nest.text)
    if blocks and _only_closes(body, blocks[0]):
        body, blocks = body[: blocks[0].start], []
    if not blocks:
        return _unfenced(strip_blank_lines(body), language)
    if not _is_plain(blocks):
        if language is None and asks_for_python(prompt):
            language = PYTHON
        blocks = [part for block in blocks for part in _parts(body, block, language)]
    return _joined(choose(body, blocks, language), language)


def _joined(chosen: list[Block], language: Language | None) -> str | Failure:
    why = lacks_code(chosen, language) if chosen else None
    return _no_code(why) if why else join(chosen)


def _usual(text: str, prompt: str) -> str | None:
    """Take the code out of the usual answer, words around one block, in a tenth of the time.

    None where any rule of the others might have something to say.
    """
    start = text.find("```")
    first, stop = text.find("\n", start) + 1, text.find("\n```", start)
    if not start < first <= stop or text[start - 1 : start] not in ("", "\n"):
        return None
    opening = text.partition("\n")[0].rstrip()
    if not opening or "\r" in opening or opening[0] in BLANK or opening in prompt:
        return None
    if text.count("```") != 2 or text[stop + 4 : stop + 5] not in ("", "\n") or "~~~" in text:
        return None
    if "think" in text or "thought" in text or "reasoning" in text or "THINK" in text:
        return None
    is_code = text.startswith(_PYTHON_BEGINNINGS, first)
    return text[first:stop] if is_code and text[start + 3 : first - 1] in _PYTHON_INFO else None


def parse_instruction(text: str, prompt: str = "") -> str:
    r"""Clean an answer to look like a row of the pool; empty where nothing is left.

    A fence that wraps the instruction goes, with the sentences around it. A fence within an
    instruction stays: the text before it is then more than an introduction, or the text after it
    tells what to do. Examples repeated from the prompt are passed over.

    >>> parse_instruction("Here is a new prompt:\n```\ndef f():\n```")
    'def f():'
    """
    body, blocks = _read(text, prompt)
    if blocks and (nest := _nest(body, blocks)):
        blocks = [nest]
    if not blocks or not _is_wrapped(body, blocks):
        return strip_blank_lines(body)
    starts = (0, *(block.stop for block in blocks))
    for start, block in zip(starts, blocks, strict=False):
        if not _EXAMPLE.fullmatch(_last_line(body[start : block.start])):
            return _or_empty(block.text)
    return _or_empty(blocks[-1].text)


def _read(text: str, prompt: str) -> tuple[str, list[Block]]:
    """Split off the thinking and what is repeated of the prompt; find the blocks of the rest.

    A fence that opens nothing closes what the prompt opened. A block that is not closed by a line
    of its own ends where a line of it ends in a fence.
    """
    body = _without_echo(split_thinking(text)[1], prompt)
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


def _only_closes(body: str, block: Block) -> bool:
    """Whether the fence of a block closes what the prompt opened: words come after it, not code."""
    if block.info:
        return False
    text, *more = _INNER_OPENING.split(block.text, maxsplit=1)
    is_pair = block.closed and not more
    return not is_pair and is_prose(text) and shows_code(body[: block.start])


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


def _is_plain(blocks: list[Block]) -> bool:
    """Whether there is one whole block, and of code: the usual answer, which needs no care."""
    only = blocks[0]
    if len(blocks) > 1 or not only.closed or "```" in only.text or "~~~" in only.text:
        return False
    return not is_aside(name_of(only.info))


def _parts(body: str, block: Block, language: Language | None) -> Iterator[Block]:
    """Split a block where a fence like its own opens another: the end of the first is missing.

    What has no end is left without the sentences after its code, where it then parses.
    """
    starts = [block.start]
    run = _RUN.match(body, block.start)
    if run and run[0] in block.text:
        again = re.compile(rf"(?<![^\r\n]){run[0]}[ \t]*\w[^\r\n`]*(?=[\r\n])")
        starts += [each.start() for each in again.finditer(body, run.end(), block.stop)]
    for start, stop in pairwise([*starts, block.stop]):
        part = block
        if len(starts) > 1:
            part = find_blocks(body[start:stop])[0]._replace(start=start, stop=stop)
        if part.closed:
            yield part
            continue
        wanted, name = language or PYTHON, name_of(part.info)
        text = (_code_in(part.text, wanted) if name in ("", wanted.name) else None) or part.text
        end = body.find(text, start, stop) + len(text)
        yield part._replace(text=text, stop=end if end >= len(text) else stop)


def _unfenced(text: str, language: Language | None) -> str | Failure:
    """Read an answer without fences: code, perhaps with words around it, or words only."""
    if not text or (language is not None and may_be_words(language.name)):
        return text
    if is_prose(text):
        return _no_code("words only")
    return _code_in(text, language or PYTHON) or without_introduction(text)


def _code_in(text: str, language: Language) -> str | None:
    """Leave out the words before and after code, where that is what makes it parse."""
    if language.parses is None or (code := without_prose(text)) == text:
        return None
    return code if language.parses(code) and not language.parses(text) else None


def _no_code(why: str) -> Failure:
    return Failure("no_code", f"no code in the answer: {why}")


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
