"""How an option is declared, read and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from inspect import get_annotations
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, dataclass_transform

from codesynth.codec import loads
from codesynth.errors import ConfigError
from codesynth.models import Price

_REFUSED_IN_BODY = ("messages", "model", "n", "stream")


class Option(NamedTuple):
    """How a field is given on the command line.

    Attributes:
        names: ``-o`` and ``--output``; none for the positional INPUT.
        metavar: the name of the value in the help; empty for a flag.
        read: turns the text into the value, or raises ValueError. Without ``form``, the message
            of the error must be able to follow "it".
        form: what the text must be; shown after "it must be".
        least: the smallest number allowed.
        complete: lists the values that a shell offers.
        env: the environment variable that is read if the option is not given.
        needs: one of these options must be given too.
        excludes: none of these options may be given too.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    read: Callable[[str], Any] | None = None
    form: str | None = None
    least: float | None = None
    complete: Callable[[], list[str]] | None = None
    env: str | None = None
    needs: str = ""
    excludes: str = ""


def option(usage: str, text: str, *, default: Any = None, **more: Any) -> Any:
    """Declare a field that is given as an option.

    Args:
        usage: names and metavar, such as ``-o, --output PATH``; without a metavar it is a flag.
        text: the help. A default that is a number or a name is added to it.
        default: the value if the option is not given. A flag is then False, a list empty.
        more: further attributes of ``Option``.
    """
    words = usage.replace(",", " ").split()
    names = tuple(word for word in words if word.startswith("-"))
    metavar = usage[usage.rfind(names[-1]) + len(names[-1]) :].strip() if names else usage
    if default and isinstance(default, (int, float, str)) and "Default:" not in text:
        text += f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."
    metadata = {"option": Option(names, metavar, text, **more)}
    return field(default=default if metavar else False, metadata=metadata)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Settings:
    """The base of all settings. Each subclass becomes a frozen dataclass; its fields are options.

    A subclass with a ``command`` is that command; its docstring is the help text and the examples.
    The other subclasses hold options that several commands share.

    Attributes:
        heading: the title, in the help, of the options that the class declares.
    """

    command: ClassVar[str] = ""
    heading: ClassVar[str]
    inputs: list[str]

    def __init_subclass__(cls, heading: str = "", command: str = "") -> None:
        cls.command, cls.heading = command, heading or f"Options of {command}"
        for name, kind in get_annotations(cls).items():
            if kind.startswith("list"):
                metadata = vars(cls)[name].metadata
                setattr(cls, name, field(default_factory=list, metadata=metadata))
        dataclass(init=False, frozen=True, kw_only=True, eq=False, repr=False)(cls)

    def __init__(self, **values: Any) -> None:
        # One method for all: dataclasses that make their own would add 13 ms to each start.
        for each in fields(self):  # type: ignore[arg-type]  # __init_subclass__ makes it a dataclass
            default = [] if each.default_factory is list else each.default
            object.__setattr__(self, each.name, values.pop(each.name, default))
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    @classmethod
    def options(cls) -> dict[str, dict[str, Option]]:
        """Return the options by heading and field; those of the command alone come first."""
        left = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]  # __init_subclass__ makes it a dataclass
        groups: dict[str, dict[str, Option]] = {}
        for part in cls.__mro__[: cls.__mro__.index(Settings)]:
            own = {name: left.pop(name).metadata for name in get_annotations(part) if name in left}
            new = {name: own[name]["option"] for name in own if "option" in own[name]}
            heading: str = vars(part)["heading"]
            # Within a group, what more commands share comes first: INPUT, then -o.
            groups[heading] = new | groups.get(heading, {})
        return groups

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            ConfigError: they do not.
        """
        given = {}
        for name, declared in (each for group in self.options().values() for each in group.items()):
            if declared.names and getattr(self, name) != getattr(type(self), name, []):
                given[declared.names[-1]] = declared
        for flag, declared in given.items():
            needed = declared.needs.split()
            if needed and not given.keys() & needed:
                raise ConfigError(f"{flag} needs {' or '.join(needed)}")
            for other in declared.excludes.split():
                if other in given:
                    raise ConfigError(f"{flag} and {other} exclude each other")


def read_concurrency(text: str) -> int:
    """Read ``auto`` (0) or a number from 1."""
    if text == "auto":
        return 0
    if int(text) < 1:
        raise ValueError
    return int(text)


def read_mix(text: str) -> tuple[int, int]:
    """Read ``H:M``."""
    human, generated = map(int, text.split(":"))
    if min(human, generated) < 0 or human + generated == 0:
        raise ValueError
    return human, generated


def read_shard(text: str) -> tuple[int, int]:
    """Read ``I/N``."""
    part, parts = map(int, text.split("/"))
    if not 0 <= part < parts:
        raise ValueError
    return part, parts


def read_price(text: str) -> Price:
    """Read ``IN,OUT``."""
    prompt, completion = map(float, text.split(","))
    if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
        raise ValueError
    return Price(prompt, completion)


def read_condition(text: str) -> tuple[str, str, str]:
    """Read ``KEY=VALUE``, ``KEY!=VALUE``, ``KEY`` or ``!KEY`` as (key, operator, value)."""
    found = re.fullmatch("(!?)([^=!]+)(!?=|)(.*)", text, re.DOTALL)
    if found is None:
        raise ValueError
    without, key, operator, value = found.groups()
    if (without and operator) or (value and not operator):
        raise ValueError
    return key, without or operator, value


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


def read_header(text: str) -> tuple[str, str]:
    """Read ``NAME: VALUE``; the value may be secret, so no message holds it."""
    name, colon, value = (part.strip() for part in text.partition(":"))
    if not colon or not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ValueError("must be NAME: VALUE, such as 'X-Title: my run'")
    if not value.isprintable() or not value.isascii():
        raise ValueError("has a character that a header cannot carry")
    return name, value


def read_text_or_file(text: str) -> str:
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
    """Read statuses of ``verify``, separated by commas."""
    if (names := frozenset(text.split(","))) <= set(complete_statuses()):
        return names
    raise ValueError(f"must be one or more of {','.join(complete_statuses())}")


def read_language(text: str) -> str:
    """Check the name of a programming language."""
    from codesynth.operators.languages import find_language

    try:
        return find_language(text).name
    except ConfigError as exc:
        raise ValueError(f"cannot be used: {exc}") from exc


def complete_templates() -> list[str]:
    """List the built-in templates."""
    from codesynth.operators.templates import template_names

    return template_names()


def complete_languages() -> list[str]:
    """List the languages of ``--language``."""
    from codesynth.operators.languages import language_names

    return language_names()


def complete_statuses() -> list[str]:
    """List the statuses of ``verify``."""
    from codesynth.verify import STATUSES

    return list(STATUSES)
