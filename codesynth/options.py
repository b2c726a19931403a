"""How settings declare the options of a command."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import get_annotations
from typing import Any, ClassVar, Self, dataclass_transform

from codesynth.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class Option:
    """How a field is given on the command line.

    Without a default a flag is False, a list empty, and the positional INPUT standard input.
    """

    default: Any = None
    read: Callable[[str], Any] | None = None  # its ValueError says what is wrong, after "it"
    form: str | None = None  # what the text must be; shown after "it must be"
    least: float | None = None  # the smallest number allowed; 0 if it is not given
    complete: Callable[[], list[str]] | None = None  # lists the values that a shell offers
    env: str | None = None  # the environment variable that is read if the option is not given
    needs: str = ""  # one of these options must be given too
    excludes: str = ""  # none of these options may be given too
    names: tuple[str, ...] = ()  # none for the positional INPUT
    metavar: str = ""  # the name of the value in the help; empty for a flag
    help: str = ""
    multiple: bool = False  # it may be given several times
    heading: str = ""  # the title of its group in the help

    def describe(self, text: str, kind: str) -> None:
        """Set the help and what the type of the field implies.

        A default that is a number or a name is added to the help.
        """
        self.help, self.multiple, value = text, kind.startswith("list"), self.default
        if self.multiple:
            self.default = [] if self.names else ["-"]
            self.help += " May be repeated." if self.names else ""
        elif not self.metavar:
            self.default = False
        elif value and isinstance(value, (int, float, str)) and "Default:" not in text:
            self.help += (
                f" Default: {value:g}." if isinstance(value, float) else f" Default: {value}."
            )
        if self.read is None and kind.startswith(("int", "float")):
            self.read = int if kind.startswith("int") else _read_number
            self.form = "a whole number" if self.read is int else "a number"
            self.least = self.least or 0

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


def option(default: Any = None, **more: Any) -> Any:
    """Declare a field whose option needs more than a default; ``more`` are fields of ``Option``."""
    return Option(default=default, **more)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Settings:
    """The base of all settings. The fields of a subclass are options; do not change them.

    ``usage`` describes the options as the help does: names and metavar, two spaces or more, what
    the option means. A line without two spaces continues the line before, or if it ends with a
    colon, it is the title of a group. The option ``--base-url`` is the field ``base_url``, or
    ``base_urls`` if it is a list.

    A subclass with a ``command`` is that command; its docstring is the help text and the examples.
    The other subclasses hold options that several commands share.

    It is no dataclass: making so many would add 15 ms to each start.
    """

    command: ClassVar[str] = ""
    usage: ClassVar[str] = ""
    inputs: list[str]

    def __init_subclass__(cls, command: str = "") -> None:
        cls.command = command
        kinds = get_annotations(cls)
        usage = f"Options of {command}:\n{vars(cls).get('usage', '')}"
        for heading, names, metavar, text in _read_usage(usage):
            field = names[-1].strip("-").replace("-", "_") if names else "inputs"
            field = field if field in kinds else f"{field}s"
            declared = vars(cls)[field]
            each = declared if isinstance(declared, Option) else Option(default=declared)
            each.names, each.metavar, each.heading = names, metavar, heading
            each.describe(text, kinds[field])
            setattr(cls, field, each)

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


def _read_usage(usage: str) -> Iterator[tuple[str, tuple[str, ...], str, str]]:
    """Read the group, the names, the metavar and the meaning of each option of a usage text."""
    entries: list[list[str]] = []
    heading = ""
    for line in filter(None, map(str.strip, usage.split("\n"))):
        before, gap, text = line.partition("  ")
        if gap:
            entries.append([heading, before, text.strip()])
        elif line.endswith(":"):
            heading = line.removesuffix(":")
        else:
            entries[-1].append(line)
    for heading, before, *lines in entries:
        names = tuple(word for word in before.replace(",", " ").split() if word.startswith("-"))
        metavar = before.rpartition(names[-1])[2].strip() if names else before
        yield heading, names, metavar, " ".join(lines)


def _read_number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number
