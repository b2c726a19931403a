"""Fenced blocks of an answer -> those that are the code it was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable

from codesynth.operators.fences import BLANK, EOL, Block
from codesynth.operators.languages import (
    PYTHON,
    Language,
    is_aside,
    is_only_remarks,
    is_surely_python,
    may_be_words,
    name_of,
)
from codesynth.operators.prose import is_prose

_KIN = ({"c", "cpp"}, {"javascript", "typescript"})
"""Languages that are taken for each other."""

_MANY = 50
"""More blocks than that are not parsed one by one."""

_LOOKED_AT = 400
_NAME = re.compile(r"\w+")
_HEADING = re.compile(r"#|\*\*.*\*\*:?$")
_USAGE = re.compile(
    r"\b(?:usages?|examples?|tests?|testing|outputs?|how to (?:use|run|call)|try (?:it|this)"
    r"|make (?:it|the \w+) executable|run (?:it|with|the script)"
    r"|exemples?|utilisation|ejemplos?|uso|pruebas?|beispiele?|verwendung|ausgabe|exemplos?|esempi[oi])\b"
    r"|示例|用法|用例|测试|输出|使用例|テスト|出力|예시|사용|테스트|пример|использовани|тест|вывод",
    re.IGNORECASE,
)
_OTHER_WAY = re.compile(
    r"\balternativ|^\W*or\b|\bor,? (?:you|using|with|even|simply)\b|\banother (?:\w+ )?"
    r"(?:way|version|approach|option|solution|implementation)\b|\b(?:option|approach|method|solution"
    r"|version|variant|way) (?:[2-9]|b|two)\b|\b(?:you )?(?:can|could|may|might) also\b"
    r"|\b(?:recursive|iterative|functional|shorter|one-line\w*|compact|concise)(?: \w+)?"
    r" (?:version|approach|solution|implementation|variant|way)\b|\bin plain \w+:",
    re.IGNORECASE,
)
_WHOLE = re.compile(
    r"\b(?:put(?:ting)? (?:it|everything|this)(?: all)? together"
    r"|(?:complete|full|final|entire|whole) (?:\w+ ){0,2}"
    r"(?:code|program|script|implementation|solution|version|function|class|module))\b",
    re.IGNORECASE,
)
_DEFINES = re.compile(
    r"^(?:[a-z]{1,12} +){0,4}(?:(?:def|class|func|fn|fun|function|sub|struct|enum|trait|interface"
    r"|module|const)\*? +(\w+)|\w{1,20} +(main) *\()",
    re.MULTILINE,
)


def choose(body: str, blocks: list[Block], language: Language | None) -> list[Block]:
    """Choose the blocks that are the code, by the rules of ``parse_code``; none of blank ones."""
    filled = [block for block in blocks if block.text.strip(BLANK)]
    if len(filled) < 2:
        return filled
    starts = [0, *(block.stop for block in blocks)]
    before = {
        b.start: _introduction(body[stop : b.start])
        for stop, b in zip(starts, blocks, strict=False)
    }
    ranks = [_rank(block, language) for block in filled]
    best = min(ranks)
    alike = [block for block, rank in zip(filled, ranks, strict=True) if rank == best]
    name = name_of(alike[0].info)
    alike = [block for block in alike if name_of(block.info) == name]
    kept = _without_drafts(_without_asides(alike, before))
    parses = _judge(name, kept, language) if 1 < len(alike) <= _MANY else None
    return _that_parse(kept, alike, parses) if parses else kept


def join(blocks: list[Block]) -> str:
    """Put blocks together, with a blank line between."""
    return "\n\n".join(block.text for block in blocks)


def lacks_code(chosen: list[Block], language: Language | None) -> str | None:
    """Say why there is no code in the blocks that were chosen; None where there is."""
    name, code = name_of(chosen[0].info), join(chosen)
    python_of_words = name == PYTHON.name and not code.lstrip()[:1].islower()
    if (may_be_words(name) or python_of_words) and is_prose(code):
        return "words only"
    if name == PYTHON.name and is_only_remarks(code):
        return "comments only"
    if language is None or not is_aside(name) or is_aside(language.name):
        return None
    if language.parses is None and may_be_words(name):
        return None
    if language.parses is not None and language.parses(code):
        return None
    return f"no {language.name}, only {name}"


def _rank(block: Block, language: Language | None) -> int:
    """Rank what a block may be: 0 is what was asked for, 4 is something beside code."""
    name = name_of(block.info)
    if block.text.startswith(">>> "):
        return 4
    if language is not None and name == language.name:
        return 0
    if is_aside(name):
        return 4
    if name:
        return 1 if language is not None and {name, language.name} in _KIN else 2
    if language is None or (language.parses is not None and not language.parses(block.text)):
        return 3
    return 1


def _without_drafts(blocks: list[Block]) -> list[Block]:
    """Leave out each block whose names are all defined again by later ones."""
    kept: list[Block] = []
    later: set[str] = set()
    for block in reversed(blocks):
        names = _names([block])
        if not names or not names <= later:
            kept.append(block)
            later |= names
    return kept[::-1]


def _judge(name: str, kept: list[Block], language: Language | None) -> Callable[[str], bool] | None:
    """Find what tells whether blocks of the language ``name`` parse; None where nothing does."""
    if language is not None:
        return language.parses if name in ("", language.name) else None
    sure = name == PYTHON.name or (not name and any(is_surely_python(b.text) for b in kept))
    return PYTHON.parses if sure else None


def _that_parse(
    kept: list[Block], alike: list[Block], parses: Callable[[str], bool]
) -> list[Block]:
    """Leave out blocks that do not parse, where nothing that is defined is lost by that."""
    if parses(join(kept)):
        return kept
    good = [block for block in kept if parses(block.text)]
    if good:
        known = _names(good)
        return [block for block in kept if block in good or _names([block]) - known]
    names = _names(kept)
    earlier = [block for block in alike if names and names <= _names([block])]
    return [block for block in earlier if parses(block.text)][-1:] or kept


def _names(blocks: list[Block]) -> set[str]:
    """Return the names that blocks define."""
    return {name or main for block in blocks for name, main in _DEFINES.findall(block.text)}


def _without_asides(blocks: list[Block], before: dict[int, str]) -> list[Block]:
    """Leave out what shows a use, does the same in another way, or repeats a part of a block.

    Steps that define nothing go too, where a later block is introduced as the whole.
    """
    kept = blocks[:1]
    for block in blocks[1:]:
        aside = _USAGE.search(before[block.start]) or _OTHER_WAY.search(before[block.start])
        near = kept[-_MANY:]  # so that it takes no square of the blocks
        repeats = any(block.text.strip(BLANK) in other.text for other in near)
        if not repeats and (not aside or _is_needed(block, near)):
            kept.append(block)
    wholes = [i for i, block in enumerate(kept) if _WHOLE.search(before[block.start])]
    if wholes:
        kept = [block for i, block in enumerate(kept) if i >= wholes[-1] or _names([block])]
    if len(kept) > 1 and _USAGE.search(before[kept[0].start]) and _names(kept[1:]):
        shown = [name for name in _names(kept[:1]) if not name.lower().startswith("test")]
        return kept if shown else kept[1:]
    return kept


def _is_needed(block: Block, blocks: list[Block]) -> bool:
    """Whether other blocks use a name that only this one defines."""
    own = _names([block]) - _names(blocks)
    used = {word for other in blocks for word in _NAME.findall(other.text)} if own else own
    return not own.isdisjoint(used)


def _introduction(prose: str) -> str:
    """Return the last heading and the last line before a block."""
    lines = [line for line in map(str.strip, EOL.split(prose[-_LOOKED_AT:])) if line]
    headings = [line for line in lines if _HEADING.match(line)]
    return "\n".join(dict.fromkeys((*headings[-1:], *lines[-1:])))
