"""Read the text of an option into a value: each function returns it, or raises ValueError.

The last three list the values that a shell offers.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from codesynth.codec import loads
from codesynth.models import Price

_REFUSED_IN_BODY = ("messages", "model", "n", "stream")


def concurrency(text: str) -> int:
    """Read ``auto`` (0) or a number from 1."""
    if text == "auto":
        return 0
    if int(text) < 1:
        raise ValueError
    return int(text)


def mix(text: str) -> tuple[int, int]:
    """Read ``H:M``."""
    human, generated = map(int, text.split(":"))
    if min(human, generated) < 0 or human + generated == 0:
        raise ValueError
    return human, generated


def shard(text: str) -> tuple[int, int]:
    """Read ``I/N``."""
    part, parts = map(int, text.split("/"))
    if not 0 <= part < parts:
        raise ValueError
    return part, parts


def price(text: str) -> Price:
    """Read ``IN,OUT``."""
    prompt, completion = map(float, text.split(","))
    if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
        raise ValueError
    return Price(prompt, completion)


def condition(text: str) -> tuple[str, str, str]:
    """Read ``KEY=VALUE``, ``KEY!=VALUE``, ``KEY`` or ``!KEY`` as (key, operator, value)."""
    found = re.fullmatch("(!?)([^=!]+)(!?=|)(.*)", text, re.DOTALL)
    if found is None:
        raise ValueError
    without, key, operator, value = found.groups()
    if (without and operator) or (value and not operator):
        raise ValueError
    return key, without or operator, value


def body(text: str) -> dict[str, Any]:
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


def header(text: str) -> tuple[str, str]:
    """Read ``NAME: VALUE``; the value may be secret, so no message holds it."""
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ValueError("must be NAME: VALUE, such as 'X-Title: my run'")
    return name, value


def text_or_file(text: str) -> str:
    """Read a text, or the file named after ``@``."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", exc)
        raise ValueError(f"cannot be read from {text[1:]}: {why}") from exc


def field(text: str) -> tuple[str, str]:
    """Read ``NAME`` or ``NAME:type`` of a JSON object's field."""
    from codesynth.operators.generic import TYPES

    name, _, kind = text.partition(":")
    if name and (not kind or kind in TYPES):
        return name, kind
    raise ValueError(f"must be NAME or NAME:type with a type of {', '.join(TYPES)}")


def statuses(text: str) -> frozenset[str]:
    """Read statuses of ``verify``, separated by commas."""
    if (found := frozenset(text.split(","))) <= set(status_names()):
        return found
    raise ValueError(f"must be one or more of {','.join(status_names())}")


def template_names() -> list[str]:
    """List the built-in templates."""
    from codesynth.operators import templates

    return templates.template_names()


def language_names() -> list[str]:
    """List the languages of ``--language``."""
    from codesynth.operators import languages

    return languages.language_names()


def status_names() -> list[str]:
    """List the statuses of ``verify``."""
    from codesynth.verify import STATUSES

    return list(STATUSES)
