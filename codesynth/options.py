"""How an option is declared, and how the text of each kind of option is read and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesynth.codec import loads
from codesynth.errors import ConfigError

IN = "Input and output"
ASK = "What to ask"
CHECK = "What to check"
MODEL = "Endpoint and model"
SPEED = "Speed and patience"
RESUME = "Stop and resume"
PICK = "Which rows"
MORE = "Other"
GROUPS = (IN, PICK, ASK, CHECK, MODEL, SPEED, RESUME, MORE)

_REFUSED_IN_BODY = ("messages", "model", "n", "stream")


@dataclass(frozen=True, slots=True)
class Option:
    """How a field is given on the command line.

    Attributes:
        names: ``-o`` and ``--output``; none for the positional INPUT.
        metavar: stands for the value in the help; empty for a flag.
        parse: reads the text; raises ValueError with words that follow "it".
        least: the smallest number allowed.
        complete: names the values that a shell offers.
        env: the environment variable that is read where the option is not given.
    """

    names: tuple[str, ...]
    metavar: str
    group: str
    help: str
    parse: Callable[[str], Any] | None = None
    least: float | None = None
    complete: Callable[[], list[str]] | None = None
    env: str | None = None


def option(default: Any, group: str, usage: str, text: str, **more: Any) -> Any:
    """Declare a field that is given as an option.

    Args:
        default: the field's value where the option is not given; ``[]`` makes it repeatable.
        usage: names and metavar, such as ``-o, --output PATH``.
        text: of the help.
        more: further attributes of ``Option``.
    """
    words = usage.replace(",", " ").split()
    names = tuple(word for word in words if word.startswith("-"))
    metavar = usage[usage.rfind(names[-1]) + len(names[-1]) :].strip() if names else usage
    metadata = {"option": Option(names, metavar, group, text, **more)}
    if isinstance(default, list):
        return field(default_factory=list, metadata=metadata)
    return field(default=default, metadata=metadata)


# How the text of an option is read. Each raises ValueError with words that follow "it".


def read_concurrency(text: str) -> int:
    """Read ``auto`` (0) or a number from 1."""
    if text == "auto":
        return 0
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ValueError("must be a number from 1, or auto")


def read_ratio(text: str) -> tuple[int, int]:
    """Read ``H:M``."""
    human, _, machine = text.partition(":")
    if human.isdecimal() and machine.isdecimal() and int(human) + int(machine) > 0:
        return int(human), int(machine)
    raise ValueError("must be H:M, two numbers such as 6:2")


def read_shard(text: str) -> tuple[int, int]:
    """Read ``I/N``."""
    part, slash, parts = text.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and int(part) < int(parts):
        return int(part), int(parts)
    raise ValueError("must be I/N with I from 0 to N - 1, such as 0/8")


def read_price(text: str) -> tuple[float, float]:
    """Read ``IN,OUT``."""
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        prompt = completion = -1.0
    if 0 <= prompt < math.inf and 0 <= completion < math.inf:
        return prompt, completion
    raise ValueError("must be IN,OUT, two numbers such as 0.15,0.6")


def read_condition(text: str) -> tuple[str, str, str]:
    """Read ``KEY=VALUE``, ``KEY!=VALUE``, ``KEY`` or ``!KEY`` as (key, operator, value)."""
    key, operator, value = re.fullmatch("(!?[^=!]*)(!?=|)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]  # it matches any text
    if key.startswith("!") and not operator and not value:
        key, operator = key[1:], "!"
    if not key or key.startswith("!") or (value and not operator):
        raise ValueError("not KEY=VALUE, KEY!=VALUE, KEY or !KEY, such as error.kind=truncated")
    return key, operator, value


def read_body(text: str) -> dict[str, Any]:
    """Read a JSON object that may be merged into a request."""
    try:
        value = loads(text)
    except ValueError as exc:
        raise ValueError(f"is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - the caller expects ValueError
    for name in _REFUSED_IN_BODY:
        if name in value:
            raise ValueError(f'must not change "{name}"')
    return value


def read_header(text: str) -> str:
    """Check ``NAME: VALUE``; the value may be secret, so no message holds it."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not all(c.isalnum() or c in "-_" for c in name.strip()):
        raise ValueError("must be NAME: VALUE, such as 'X-Title: my run'")
    if not value.strip().isprintable() or not value.isascii():
        raise ValueError("holds a character that no header can carry")
    return text


def read_text(text: str) -> str:
    """Read a text, or the file named after ``@``."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"cannot be read: {exc}") from exc


def read_field(text: str) -> tuple[str, str]:
    """Read ``NAME`` or ``NAME:type`` of a JSON object's field."""
    from codesynth.operators.generic import TYPES

    name, _, kind = text.partition(":")
    if name and (not kind or kind in TYPES):
        return name, kind
    raise ValueError(f"must be NAME or NAME:type with a type of {', '.join(TYPES)}")


def read_statuses(text: str) -> frozenset[str]:
    """Read names of verification statuses with commas between them."""
    from codesynth.verify import STATUSES

    names = frozenset(text.split(","))
    if names <= set(STATUSES):
        return names
    raise ValueError(f"must be one or more of {','.join(STATUSES)}")


def read_language(text: str) -> str:
    """Check the name of a programming language."""
    from codesynth.operators.languages import find_language

    try:
        return find_language(text).name
    except ConfigError as exc:
        raise ValueError(f"is unknown: {exc}") from exc


def complete_templates() -> list[str]:
    """Name the built-in templates."""
    from codesynth.operators.templates import template_names

    return template_names()


def complete_languages() -> list[str]:
    """Name the languages whose code can be recognised."""
    from codesynth.operators.languages import language_names

    return language_names()


def complete_statuses() -> list[str]:
    """Name the statuses of ``verify``."""
    from codesynth.verify import STATUSES

    return list(STATUSES)
