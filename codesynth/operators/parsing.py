"""Answer text -> instruction or code: thinking split off, fences taken away, inner text exact.

Everything takes time linear in the text. What a model says around its answer is known by English
words, and a few of other languages; where they do not apply, more is kept.
"""

from __future__ import annotations

import re
import textwrap
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
)
from codesynth.operators.languages import (
    PYTHON,
    Language,
    asks_for_python,
    is_aside,
    may_be_words,
    name_of,
    parses_python,
)
from codesynth.operators.prose import is_prose, without_introduction, without_prose
from codesynth.operators.reading import nested, only_closes, read, rejoined
from codesynth.operators.trimmings import first_turn, without_span

_PYTHON_INFO = frozenset({"python", "Python", "py", "python3"})
_PYTHON_BEGINNINGS = ("def ", "class ", "import ", "from ", "async def ")
_RUN = re.compile(r"`+|~+")
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
    3. Later ones introduced as usage, example, test or output, or as another way to do the same,
       are left out unless others need what they define; so is what repeats a part of another.
    4. A block is left out where later ones define all its names again: a stub repeated from the
       prompt, a first draft, a step on the way. Steps that define nothing are left out where a
       later block is introduced as the whole.
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
    body, blocks = read(text, prompt)
    if blocks and (nest := nested(body, blocks)):
        name = name_of(nest.info)
        if name and not is_aside(name):
            return _joined([nest], language)
        body, blocks = nest.text, find_blocks(nest.text)
    if blocks and only_closes(body, blocks[0]):
        body, blocks = body[: blocks[0].start], []
    if not blocks:
        return _unfenced(strip_blank_lines(body), language)
    if not _is_plain(blocks):
        if language is None and asks_for_python(prompt):
            language = PYTHON
        blocks = rejoined(body, blocks)
        parts = (part for block in blocks for part in _parts(body, block, language))
        blocks = first_turn(body, list(parts))
    chosen = choose(body, blocks, language)
    found = _joined(chosen, language)
    if isinstance(found, Failure) and name_of(chosen[0].info) == "markdown":
        inner = chosen[0].text
        return parse_code(inner, prompt, language) if find_blocks(inner) else found
    return found


def _joined(chosen: list[Block], language: Language | None) -> str | Failure:
    why = lacks_code(chosen, language) if chosen else None
    return _no_code(why) if why else _without_label(join(chosen))


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
    if any(sign in text for sign in ("think", "thought", "reasoning", "THINK", "<|")):
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
    body, blocks = read(text, prompt)
    if blocks and (nest := nested(body, blocks)):
        blocks = [nest]
    if not blocks or not _is_wrapped(body, blocks):
        return strip_blank_lines(body)
    starts = (0, *(block.stop for block in blocks))
    for start, block in zip(starts, blocks, strict=False):
        if not _EXAMPLE.fullmatch(_last_line(body[start : block.start])):
            return _or_empty(block.text)
    return _or_empty(blocks[-1].text)


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
    if (bare := without_span(text)) != text:
        return bare
    if is_prose(text):
        return _no_code("words only")
    return _without_label(_code_in(text, language or PYTHON) or without_introduction(text))


def _without_label(code: str) -> str:
    """Leave out a first line that only says that Python follows."""
    first, _, rest = code.partition("\n")
    labelled = name_of(first) == PYTHON.name and first.strip().isalnum()
    return rest if labelled and parses_python(rest) else code


def _code_in(text: str, language: Language) -> str | None:
    """Leave out the words before and after code, where that is what makes it parse."""
    if language.parses is None or (code := without_prose(text)) == text or language.parses(text):
        return None
    return next(filter(language.parses, (code, textwrap.dedent(code))), None)


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
