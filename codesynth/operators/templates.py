"""Find, check and fill prompt templates.

The syntax is a part of ``str.format``: ``{name}`` is a placeholder, ``{{`` and ``}}`` are braces.
Values are put in as they are; placeholders in a value are not filled. ``{one|two|three}`` becomes
one of the alternatives. The values of the other placeholders decide which, so equal rows get equal
prompts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

from codesynth.codec import dumps
from codesynth.errors import ConfigError
from codesynth.models import Failure, Record

_PACKAGE = Path(__file__).resolve().parent.parent
PROMPTS = (_PACKAGE / "prompts", _PACKAGE.parent / "prompts")
"""Where templates are: in a wheel, and in a checkout or an editable install."""
REQUIRED = {
    "code_instruction_generate": "examples",
    "code_instruction_to_code": "instruction",
    "code_to_instruction": "code",
    "enhance_instruction": "instruction",
    "instruction_to_tests": "instruction",
}
"""The placeholder that a text given in place of a built-in template must have."""

STAND_INS = {"instruction": "generated_instruction", "code": "generated_code"}
"""Columns that are read where a row has none with the placeholder's own name."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}\r\n]*)\}|[{}]")
_BACKTICKS = re.compile(r"`{3,}")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders.

    Attributes:
        name: where it comes from, for messages.
        pieces: text, name, text, name, ..., text.

    >>> template = Template.parse("Say {what}.", "demo")
    >>> template.fill({"what": "{hi}"})
    'Say {hi}.'
    """

    name: str
    pieces: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, name: str, required: str | None = None) -> Self:
        """Check a template's text; ConfigError if it cannot be filled, or lacks a placeholder."""
        pieces, end = [""], 0
        for token in _TOKEN.finditer(text):
            pieces[-1] += text[end : token.start()]
            end = token.end()
            if token[0] in ("{{", "}}"):
                pieces[-1] += token[0][0]
            elif fault := _fault(token[0], token[1]):
                line = text.count("\n", 0, token.start()) + 1
                raise ConfigError(f"{name}:{line}: {fault}")
            else:
                pieces += [token[1], ""]
        pieces[-1] += text[end:]
        if required is not None and required not in pieces[1::2]:
            raise ConfigError(f"{name}:1: missing placeholder {{{required}}}")
        return cls(name, tuple(pieces))

    def check(self, columns: Collection[str]) -> None:
        """Make sure that each placeholder is one of the columns; ConfigError if not."""
        for place, name in enumerate(self.pieces):
            if place % 2 and "|" not in name and {name, STAND_INS.get(name)}.isdisjoint(columns):
                line = 1 + sum(text.count("\n") for text in self.pieces[:place:2])
                known = ", ".join(f"{{{column}}}" for column in sorted(columns))
                where = f"{self.name}:{line}"
                raise ConfigError(f"{where}: unknown placeholder {{{name}}}; known: {known}")

    def fill(self, values: Mapping[str, object]) -> str | Failure:
        """Put values in, a str as it is and anything else as JSON; a missing one is a Failure."""
        pieces, filled, drawn = list(self.pieces), [], []
        for place in range(1, len(pieces), 2):
            name = pieces[place]
            if "|" in name:
                drawn.append(place)
                continue
            column = name if name in values else STAND_INS.get(name, name)
            if column not in values:
                return Failure(
                    "missing_key", f"the template's {{{name}}} is not a column of the row"
                )
            value = values[column]
            pieces[place] = value if isinstance(value, str) else dumps(value).decode()
            filled.append(pieces[place])
        if drawn:
            digest = blake2b("\0".join(filled).encode("utf-8", "surrogatepass")).digest()
            number = int.from_bytes(digest)
            for place in drawn:
                alternatives = pieces[place].split("|")
                number, chosen = divmod(number, len(alternatives))
                pieces[place] = alternatives[chosen]
        return "".join(pieces)


def _fault(token: str, name: str | None) -> str | None:
    """Say what is wrong with a brace or placeholder, if something is."""
    if name is None:
        return f'lone "{token}". Write {token * 2} for a brace that is text'
    if "|" in name or re.fullmatch(r"(?!\d+$)[^.[!:]+", name):
        return None
    wrong = 'it is empty, a number, or has ".", "[", "!" or ":" in it'
    fix = "Write {{ for a brace that is text"
    return f"placeholder {token} is not the name of a column: {wrong}. {fix}"


def load_template(
    default: str, text: str | None = None, name: str = "<prompt_template>"
) -> Template:
    """Check a template's text, or else the built-in template named ``default``."""
    if text is None:
        text, name = find_template(default)
    return Template.parse(text, name, REQUIRED.get(default))


def find_template(name_or_path: str) -> tuple[str, str]:
    """Read a template; return its text, and its name for messages. ConfigError if it is unreadable.

    A name with a ``/`` is a path. Another name is first looked for among the built-in templates,
    with or without ``.txt``, then as a file.
    """
    path, shown = Path(name_or_path), name_or_path
    if "/" not in name_or_path and os.sep not in name_or_path:
        name = f"{name_or_path.removesuffix('.txt')}.txt"
        built_in = next((each / name for each in PROMPTS if (each / name).is_file()), None)
        if built_in is not None:
            path, shown = built_in, f"prompts/{name}"
        elif not path.exists():
            there = ", ".join(template_names())
            raise ConfigError(f'no template "{name_or_path}". Known: {there}. Or give a path')
    try:
        return path.read_bytes().decode("utf-8-sig"), shown
    except UnicodeDecodeError as exc:
        reason = f"it is not UTF-8: {exc.reason} at byte {exc.start}"
    except (OSError, ValueError) as exc:
        reason = str(getattr(exc, "strerror", None) or exc)
    raise ConfigError(f"cannot read template {shown}: {reason}")


def template_names() -> list[str]:
    """List the built-in templates."""
    return sorted({path.stem for folder in PROMPTS for path in folder.glob("*.txt")})


def format_examples(examples: Sequence[str]) -> str:
    r"""Write few-shot examples one after another, each in a fence longer than any inside.

    >>> format_examples(["Add two numbers."])
    '### Example 1\n```\nAdd two numbers.\n```'
    """
    runs = (run for example in examples for run in _BACKTICKS.findall(example))
    fence = "`" * (1 + max(map(len, runs), default=2))
    blocks = []
    for number, example in enumerate(examples, 1):
        end = "" if example.endswith("\n") else "\n"
        blocks.append(f"### Example {number}\n{fence}\n{example}{end}{fence}")
    return "\n\n".join(blocks)


def check_first(
    records: Iterable[Record], template: Template, filled: Collection[str] = ()
) -> Iterator[Record]:
    """Pass records on; ConfigError if a placeholder is not a column of the first readable record.

    Args:
        filled: further placeholders, which need no column.
    """
    is_checked = False
    for record in records:
        if not is_checked and record.error is None:
            is_checked = True
            template.check({*filled, *record.fields})
        yield record
