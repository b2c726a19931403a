"""Prompt templates: found, loaded, checked and filled.

The syntax is the part of ``str.format`` that only names: ``{name}``, and ``{{`` and ``}}`` for
braces. Values are put in as they are and never looked at again. ``{one|two|three}`` is one of the
alternatives, drawn by what the other placeholders hold, so equal rows get equal prompts.
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

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}\r\n]*)\}|[{}]")
_BACKTICKS = re.compile(r"`{3,}")
_TOO_MUCH = {
    ".": "no attribute of a value can be taken",
    "[": "no part of a value can be taken",
    "!": "no conversion can be asked for",
    ":": "no format can be asked for",
}


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders.

    Attributes:
        name: for messages: where it comes from.
        pieces: literal text and names by turns; the first and the last are text.

    >>> template = Template.parse("Say {what}.", name="demo", required={"what"}, known=None)
    >>> template.fill({"what": "{hi}"})
    'Say {hi}.'
    """

    name: str
    pieces: tuple[str, ...]

    @classmethod
    def parse(
        cls, text: str, *, name: str, required: Collection[str], known: Collection[str] | None
    ) -> Self:
        """Check a template's text.

        Args:
            required: placeholders that must be in it.
            known: placeholders that may be in it; None is any.

        Raises:
            ConfigError: the text cannot be filled as it stands.
        """
        pieces, end = [""], 0
        for token in _TOKEN.finditer(text):
            pieces[-1] += text[end : token.start()]
            end = token.end()
            if token[0] in ("{{", "}}"):
                pieces[-1] += token[0][0]
            elif fault := _fault(token, known):
                line = text.count("\n", 0, token.start()) + 1
                raise ConfigError(f"{name}:{line}: {fault}")
            else:
                pieces += [token[1], ""]
        pieces[-1] += text[end:]
        if missing := sorted(set(required) - set(pieces[1::2])):
            raise ConfigError(f"{name}:1: missing placeholder {_braced(missing)}")
        return cls(name, tuple(pieces))

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders, each once, in the order of the text."""
        return tuple(dict.fromkeys(name for name in self.pieces[1::2] if "|" not in name))

    def first_missing(self, values: Mapping[str, object]) -> str | None:
        """Name the first placeholder that has no value."""
        return next((name for name in self.names if name not in values), None)

    def fill_or_fail(self, values: Mapping[str, object]) -> str | Failure:
        """Put values in, or say which placeholder is no column of the row."""
        missing = self.first_missing(values)
        if missing is not None:
            return Failure("missing_key", f"the template's {{{missing}}} is no column of the row")
        return self.fill(values)

    def line_of(self, placeholder: str) -> int:
        """Tell the line of a placeholder in the template, from 1."""
        place = self.pieces[1::2].index(placeholder)
        return 1 + sum(text.count("\n") for text in self.pieces[: 2 * place + 1 : 2])

    def fill(self, values: Mapping[str, object]) -> str:
        """Put values in: a str as it is, anything else as JSON.

        Raises:
            KeyError: a placeholder has no value.
        """
        pieces = list(self.pieces)
        for i in range(1, len(pieces), 2):
            if "|" not in pieces[i]:
                value = values[pieces[i]]
                pieces[i] = value if isinstance(value, str) else dumps(value).decode()
        if any("|" in name for name in self.pieces[1::2]):
            self._draw(pieces)
        return "".join(pieces)

    def _draw(self, pieces: list[str]) -> None:
        """Put one alternative in the place of each ``{one|two}``."""
        filled = [pieces[i] for i in range(1, len(pieces), 2) if "|" not in self.pieces[i]]
        number = int.from_bytes(
            blake2b("\0".join(filled).encode("utf-8", "surrogatepass")).digest()
        )
        for i in range(1, len(pieces), 2):
            if "|" in self.pieces[i]:
                alternatives = self.pieces[i].split("|")
                number, chosen = divmod(number, len(alternatives))
                pieces[i] = alternatives[chosen]


def _fault(token: re.Match[str], known: Collection[str] | None) -> str:
    """Say what is wrong with a brace or placeholder; empty where nothing is."""
    if token[1] is None:
        return f'lone "{token[0]}". Write {token[0] * 2} for a brace that is text'
    if "|" in token[1]:
        return ""
    hint = "; write {{ and }} for braces that are text"
    if not token[1] or token[1].isdecimal():
        return f"placeholder {token[0]} has no name{hint}"
    for sign, words in _TOO_MUCH.items():
        if sign in token[1]:
            return f"placeholder {token[0]}: {words}{hint}"
    if known is not None and token[1] not in known:
        return f"unknown placeholder {token[0]}; known: {_braced(sorted(known))}"
    return ""


def _braced(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def load_template(
    given: str | None,
    default: str,
    *,
    required: Collection[str],
    known: Collection[str] | None,
    name: str = "<prompt_template>",
) -> Template:
    """Check the template's text that was given, or else the built-in one of the name ``default``.

    Args:
        name: where ``given`` comes from, for messages.

    Raises:
        ConfigError: the text cannot be filled as it stands, or the built-in one is not there.
    """
    if given is None:
        given, name = find_template(default)
    return Template.parse(given, name=name, required=required, known=known)


def find_template(name_or_path: str) -> tuple[str, str]:
    """Read a template by name (with or without ``.txt``) or path.

    What has a separator in it is a path. Else a template of that name comes first, then a file.

    Returns:
        Its text, without a byte order mark, and its name for messages.

    Raises:
        ConfigError: there is none, it cannot be read, or it is no UTF-8.
    """
    if "/" not in name_or_path and os.sep not in name_or_path:
        name = name_or_path.removesuffix(".txt") + ".txt"
        for folder in PROMPTS:
            if (folder / name).is_file():
                return _read(folder / name, f"prompts/{name}"), f"prompts/{name}"
        if not Path(name_or_path).exists():
            there = ", ".join(template_names())
            raise ConfigError(f'no template "{name_or_path}". There are: {there}; or give a path')
    return _read(Path(name_or_path), name_or_path), name_or_path


def template_names() -> list[str]:
    """Name the built-in templates."""
    return sorted({path.stem for folder in PROMPTS for path in folder.glob("*.txt")})


def _read(path: Path, name: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise ConfigError(f"cannot read template {name}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"template {name} is not UTF-8: {exc.reason} at byte {exc.start}"
        ) from exc
    except ValueError as exc:
        raise ConfigError(f"cannot read template {name!r}: {exc}") from exc


def format_examples(examples: Sequence[str]) -> str:
    r"""Write few-shot examples one after another, each in a fence longer than any inside.

    >>> print(format_examples(["Add two numbers.", "Sort a list."]))
    ### Example 1
    ```
    Add two numbers.
    ```
    <BLANKLINE>
    ### Example 2
    ```
    Sort a list.
    ```
    """
    runs = (run[0] for example in examples for run in _BACKTICKS.finditer(example))
    fence = "`" * max(3, 1 + max(map(len, runs), default=0))
    blocks = []
    for i, example in enumerate(examples, 1):
        end = "" if example.endswith("\n") else "\n"
        blocks.append(f"### Example {i}\n{fence}\n{example}{end}{fence}")
    return "\n\n".join(blocks)


def check_first(records: Iterable[Record], template: Template) -> Iterator[Record]:
    """Pass records on; see that the template fits the first row that can be read.

    Raises:
        ConfigError: a placeholder is no column of it.
    """
    checked = False
    for record in records:
        if not checked and record.error is None:
            checked = True
            columns = {"instruction": "", "signature_rule": "", "num_tests": "", **record.fields}
            if (missing := template.first_missing(columns)) is not None:
                known = _braced(sorted({"instruction", *record.fields}))
                where = f"{template.name}:{template.line_of(missing)}"
                raise ConfigError(f"{where}: unknown placeholder {{{missing}}}; known: {known}")
        yield record
