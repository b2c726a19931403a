"""Find, check and fill prompt templates.

The syntax is a part of ``str.format``: ``{name}`` is a placeholder, ``{{`` and ``}}`` are braces.
Values are put in as they are; placeholders in a value are not filled. ``{one|two|three}`` becomes
one of the alternatives. The values of the other placeholders decide which, so equal rows get equal
prompts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

from codesynth.codec import dumps
from codesynth.errors import ConfigError
from codesynth.models import Failure

_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "prompts", _PACKAGE.parent / "prompts")  # in a wheel, in a checkout
PROMPTS = next((folder for folder in _PLACES if folder.is_dir()), _PLACES[0])
"""The folder of the built-in templates."""
REQUIRED = {
    "code_instruction_generate": "examples",
    "code_instruction_to_code": "instruction",
    "code_to_instruction": "code",
    "enhance_instruction": "instruction",
    "instruction_to_tests": "instruction",
}
"""The placeholder that a text given in place of a built-in template must have."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}\r\n]*)\}|[{}]")
_COLUMN = re.compile(r"(?!\d+$)[^.[!:]+")


def column_of(columns: Collection[str], name: str) -> str:
    """Choose a row's column; ``generated_instruction`` stands in for ``instruction``, and so on."""
    if name in columns:
        return name
    generated = f"generated_{name}"
    return generated if generated in columns else name


@dataclass(slots=True)
class Template:
    """A text with placeholders.

    Attributes:
        name: where it comes from, for messages.
        pieces: text, name, text, name, ..., text.
        fits: a row had all its columns.

    >>> template = Template.parse("Say {what}.", "demo")
    >>> template.fill({"what": "{hi}"})
    'Say {hi}.'
    """

    name: str
    pieces: tuple[str, ...]
    fits: bool = False

    @classmethod
    def parse(cls, text: str, name: str, required: str | None = None) -> Self:
        """Check a template's text; ConfigError if it cannot be filled, or lacks a placeholder."""
        pieces, end = [""], 0
        for token in _TOKEN.finditer(text):
            pieces[-1] += text[end : token.start()]
            end = token.end()
            brace, column = token[0], token[1]
            if brace in ("{{", "}}"):
                pieces[-1] += brace[0]
            elif column and ("|" in column or _COLUMN.fullmatch(column)):
                pieces += [column, ""]
            else:
                line = text.count("\n", 0, token.start()) + 1
                fix = f"Write {{name}} for a column, {brace[0] * 2} for a brace that is text"
                raise ConfigError(f"{name}:{line}: {brace} is no placeholder. {fix}")
        pieces[-1] += text[end:]
        if required is not None and required not in pieces[1::2]:
            raise ConfigError(f"{name}:1: missing placeholder {{{required}}}")
        return cls(name, tuple(pieces))

    def fill(self, values: Mapping[str, object]) -> str | Failure:
        """Put values in, a str as it is and anything else as JSON; a missing one is a Failure.

        Raises:
            ConfigError: one is missing from the first row, so the template does not fit the rows.
        """
        pieces, filled, drawn = list(self.pieces), [], []
        for place in range(1, len(pieces), 2):
            if "|" in (name := pieces[place]):
                drawn.append(place)
                continue
            if (column := column_of(values, name)) not in values:
                return self._miss(place, values)
            value = values[column]
            pieces[place] = value if isinstance(value, str) else dumps(value).decode()
            filled.append(pieces[place])
        self.fits = True
        if drawn:
            digest = blake2b("\0".join(filled).encode("utf-8", "surrogatepass")).digest()
            number = int.from_bytes(digest)
            for place in drawn:
                alternatives = pieces[place].split("|")
                number, chosen = divmod(number, len(alternatives))
                pieces[place] = alternatives[chosen]
        return "".join(pieces)

    def _miss(self, place: int, values: Mapping[str, object]) -> Failure:
        name = self.pieces[place]
        if self.fits:
            return Failure("missing_key", f"the template's {{{name}}} is not a column of the row")
        line = 1 + "".join(self.pieces[:place]).count("\n")
        known = ", ".join(f"{{{column}}}" for column in sorted(values))
        raise ConfigError(f"{self.name}:{line}: unknown placeholder {{{name}}}; known: {known}")


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
    name = name_or_path.removesuffix(".txt")
    if name in template_names():
        path, shown = PROMPTS / f"{name}.txt", f"prompts/{name}.txt"
    elif "/" not in name_or_path and not path.exists():
        known = ", ".join(template_names())
        raise ConfigError(f'no template "{name_or_path}". Known: {known}. Or give a path')
    try:
        return path.read_bytes().decode("utf-8-sig"), shown
    except OSError as exc:
        raise ConfigError(f"cannot read template {shown}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"template {shown} is not UTF-8: {exc}") from exc


def template_names() -> list[str]:
    """List the built-in templates."""
    return sorted(path.stem for path in PROMPTS.glob("*.txt"))


def format_examples(examples: Sequence[str]) -> str:
    r"""Write few-shot examples one after another, each in a fence longer than any inside.

    >>> format_examples(["Add two numbers."])
    '### Example 1\n```\nAdd two numbers.\n```'
    """
    runs = re.findall("`{3,}", "\n".join(examples))
    fence = "`" * (1 + max(map(len, runs), default=2))
    texts = [example.removesuffix("\n") for example in examples]
    blocks = (f"### Example {i}\n{fence}\n{text}\n{fence}" for i, text in enumerate(texts, 1))
    return "\n\n".join(blocks)
