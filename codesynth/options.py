"""How an option is declared, and settings are made of options."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from inspect import get_annotations
from typing import Any, ClassVar, Self, dataclass_transform

from codesynth.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class Option:
    """How a field is given on the command line.

    Attributes:
        names: ``-o`` and ``--output``; none for the positional INPUT.
        metavar: the name of the value in the help; empty for a flag.
        read: turns the text into the value, or raises ValueError. Without ``form``, the message
            of the error must be able to follow "it".
        form: what the text must be; shown after "it must be".
        least: the smallest number allowed; 0 if it is not given.
        complete: lists the values that a shell offers.
        env: the environment variable that is read if the option is not given.
        needs: one of these options must be given too.
        excludes: none of these options may be given too.
        multiple: it may be given several times.
        heading: the title of its group in the help.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    default: Any = None
    read: Callable[[str], Any] | None = None
    form: str | None = None
    least: float | None = None
    complete: Callable[[], list[str]] | None = None
    env: str | None = None
    needs: str = ""
    excludes: str = ""
    multiple: bool = False
    heading: str = ""

    def parse(self, text: str) -> Any:
        """Turn text into a value.

        Raises:
            ValueError: it is wrong; the message can follow "it".
        """
        try:
            value: Any = text if self.read is None else self.read(text)
        except ValueError as exc:
            raise ValueError(f"must be {self.form}" if self.form is not None else exc) from exc
        if self.least is not None and value < self.least:
            raise ValueError(f"must be at least {self.least:g}")
        return value


def option(usage: str, text: str, *, default: Any = None, **more: Any) -> Any:
    """Declare a field that is given as an option.

    Args:
        usage: names and metavar, such as ``-o, --output PATH``; without a metavar it is a flag.
        text: the help. A default that is a number or a name is added to it, and for a list that
            the option may be repeated.
        default: the value if the option is not given. A flag is then False, a list empty, and the
            positional INPUT standard input.
        more: further attributes of ``Option``.
    """
    words = usage.replace(",", " ").split()
    names = tuple(word for word in words if word.startswith("-"))
    metavar = usage[usage.rfind(names[-1]) + len(names[-1]) :].strip() if names else usage
    if default and isinstance(default, (int, float, str)) and "Default:" not in text:
        text += f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."
    default = (default if names else ["-"]) if metavar else False
    return Option(names=names, metavar=metavar, help=text, default=default, **more)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Settings:
    """The base of all settings. The fields of a subclass are options; do not change them.

    A subclass with a ``command`` is that command; its docstring is the help text and the examples.
    The other subclasses hold options that several commands share.

    It is no dataclass: making so many would add 15 ms to each start.
    """

    command: ClassVar[str] = ""
    inputs: list[str]

    def __init_subclass__(cls, heading: str = "", command: str = "") -> None:
        cls.command = command
        for name, kind in get_annotations(cls).items():
            declared = vars(cls)[name]
            if not isinstance(declared, Option):
                continue
            declared.heading = heading or f"Options of {command}"
            if kind.startswith("list"):
                declared.multiple, declared.default = True, declared.default or []
                declared.help += " May be repeated." if declared.names else ""
            if declared.read is None and kind.startswith(("int", "float")):
                declared.read = int if kind.startswith("int") else _read_number
                declared.form = "a whole number" if declared.read is int else "a number"
                declared.least = declared.least or 0

    def __init__(self, **values: Any) -> None:
        options = self.options()
        if unknown := values.keys() - options:
            raise TypeError(f"{type(self).__name__} has no {', '.join(unknown)}")
        for name, declared in options.items():
            default = list(declared.default) if declared.multiple else declared.default
            vars(self)[name] = values.get(name, default)

    def replace(self, **changes: Any) -> Self:
        """Make settings that differ in these fields."""
        return type(self)(**{**vars(self), **changes})

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Return the options by field; those of the command alone come last."""
        found: dict[str, Option] = {}
        for part in reversed(cls.__mro__):
            found |= {name: each for name, each in vars(part).items() if isinstance(each, Option)}
        return found

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            ConfigError: they do not.
        """
        given = {
            declared.names[-1]: declared
            for name, declared in self.options().items()
            if declared.names and getattr(self, name) != declared.default
        }
        for flag, declared in given.items():
            needed = declared.needs.split()
            if needed and not given.keys() & needed:
                raise ConfigError(f"{flag} needs {' or '.join(needed)}")
            for other in declared.excludes.split():
                if other in given:
                    raise ConfigError(f"{flag} and {other} exclude each other")


def _read_number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number
