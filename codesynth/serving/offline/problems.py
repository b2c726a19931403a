"""Small Python problems, chosen at random; each can be solved from its words alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

_T = TypeVar("_T")

_WORDS = re.compile(
    r"(?s)(?=Take\s+([^,]{1,99}),\s+(.{1,500}?),\s+and\s+return\s+(.{1,200}?)\.(?!\d))"
)
"""What ``Problem`` writes, with the white space of any layout."""
_LONGEST = 100_000
"""Only the last characters of a text, this many, are searched for problems."""


class Clause(NamedTuple):
    """One part of a problem: a line of ``phrases.txt`` with ``{k}`` filled in."""

    takes: str
    gives: str
    slug: str
    phrase: str
    code: str
    apply: Callable[[Any], Any]


class Problem(NamedTuple):
    """A function to be written."""

    source: Clause
    steps: tuple[Clause, ...]
    result: Clause

    @property
    def name(self) -> str:
        """Name the function: ``sum_of_squared_even_numbers``."""
        return "_".join(each.slug for each in (self.result, *self.steps[::-1], self.source))

    @property
    def signature(self) -> str:
        """Write the first line without its ``:``."""
        return f"def {self.name}({self.source.takes}) -> {self.result.gives}"

    @property
    def words(self) -> str:
        """Say what the function does."""
        steps = ",\n".join(step.phrase for step in self.steps)
        return f"Take {self.source.phrase},\n{steps},\nand return {self.result.phrase}."

    def stub(self, rng: Random) -> str:
        """Write signature and docstring with correct doctests; the last is an edge case."""
        name, lines = self.name, self.words.split("\n")
        for argument in self.arguments(rng, 3):
            lines += [f">>> {name}({argument!r})", repr(self.run(argument))]
        return "\n    ".join([f'{self.signature}:\n    """{lines[0]}', *lines[1:], '"""'])

    def plain(self) -> str:
        """Write the problem in plain words."""
        words = self.words.replace("\n", " ")
        return f"Write a Python function `{self.signature.removeprefix('def ')}`. {words}"

    def statements(self) -> str:
        """Write the body of the function."""
        lines = [f"values = {each.code}" for each in (self.source, *self.steps)]
        return "".join(f"    {line}\n" for line in (*lines, f"return {self.result.code}"))

    def arguments(self, rng: Random, count: int) -> list[Any]:
        """Draw arguments, the last one of which is empty or 0."""
        usual = [_ARGUMENTS[self.source.takes](rng) for _ in range(count)]
        return [*usual[1:], type(usual[0])()]

    def run(self, argument: Any) -> Any:
        """Compute what the function returns."""
        values = self.source.apply(argument)
        for step in self.steps:
            values = step.apply(values)
        return self.result.apply(values)

    def misread(self, rng: Random) -> Problem:
        """Replace one step by another, as if the problem was misread."""
        old = rng.choice(self.steps)
        others = [c for c in _STEPS[old.takes] if c.gives == old.gives and c.slug != old.slug]
        new = rng.choice(others)
        return self._replace(steps=tuple(new if step is old else step for step in self.steps))


def draw(rng: Random) -> Problem:
    """Draw a problem that has different results for different arguments."""
    while True:
        source = rng.choice(_SOURCES)
        steps: list[Clause] = []
        for _ in range(rng.choice((3, 3, 4))):
            steps.append(rng.choice(_STEPS[steps[-1].gives if steps else source.gives]))
        problem = Problem(source, tuple(steps), rng.choice(_RESULTS[steps[-1].gives]))
        one, other, _ = problem.arguments(rng, 3)
        is_varied = len({step.slug for step in steps}) == len(steps)
        if is_varied and problem.run(one) != problem.run(other):
            return problem


def read(text: str) -> Iterator[Problem]:
    """Yield the problems that are described in a text, the last one first."""
    for match in [*_WORDS.finditer(text[-_LONGEST:])][::-1]:
        source, steps, result = (" ".join(each.split()) for each in match.groups())
        try:
            found = [_NAMED["", source]]
            for phrase in steps.split(", "):
                found.append(_NAMED[found[-1].gives, phrase])
            yield Problem(found[0], tuple(found[1:]), _NAMED[found[-1].gives, result])
        except KeyError:
            continue


_TEXT = """apple Berlin kayak noon x42 sky noon Mississippi ox tree Rust banana R2D2 eye umbrella
eye Zoo level go night Oslo go Ada igloo ten10 pepper queue radar queue GNU stats a river echo"""
_STRINGS = _TEXT.split()
_NUMBERS = [i * i * 7 % 41 - 9 for i in range(40)]


def _some(rng: Random, items: Sequence[_T]) -> list[_T]:
    """Choose three to seven neighbours: this takes two random numbers instead of seven."""
    start = int(rng.random() * (len(items) - 7))
    return [*items[start : start + 3 + int(rng.random() * 5)]]


_ARGUMENTS: Mapping[str, Callable[[Random], Any]] = {
    "numbers: list[int]": lambda rng: _some(rng, _NUMBERS),
    "scores: dict[str, int]": lambda rng: {
        each: len(each) * 7 % 10 - 3 for each in _some(rng, _STRINGS)
    },
    "words: list[str]": lambda rng: _some(rng, _STRINGS),
    "text: str": lambda rng: " ".join(_some(rng, _STRINGS)),
    "line: str": lambda rng: ",".join(_some(rng, _STRINGS)),
    "n: int": lambda rng: 5 + int(rng.random() * 20),
    "number: int": lambda rng: int(rng.random() * 9_999_999),
}
_ITEMS = {"ints": "int", "strs": "str"}


def _load() -> Iterator[Clause]:
    """Yield the clauses of ``phrases.txt``: one for each line and each value of ``{k}``."""
    for line in Path(__file__).with_name("phrases.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        takes, gives, slug, phrase, code, *choices = re.split(" {2,}", line)
        for kind in _ITEMS if takes == "any" else (takes,):
            given = kind if gives == "any" else gives.replace("item", _ITEMS.get(kind, ""))
            name = "values" if kind in _ITEMS else kind.partition(":")[0]
            for k in choices[0].split() if choices else ("",):
                filled = code.replace("{k}", k)
                # S307: the code is from phrases.txt, never from a request
                function = eval(f"lambda {name}: {filled}")  # noqa: S307
                yield Clause(kind, given, slug, phrase.replace("{k}", k), filled, function)


CLAUSES = [*_load()]
_SOURCES = [c for c in CLAUSES if c.takes in _ARGUMENTS]
_STEPS = {kind: [c for c in CLAUSES if c.takes == kind and c.gives in _ITEMS] for kind in _ITEMS}
_RESULTS = {
    kind: [c for c in CLAUSES if c.takes == kind and c.gives not in _ITEMS] for kind in _ITEMS
}
_NAMED = {("" if c.takes in _ARGUMENTS else c.takes, c.phrase): c for c in CLAUSES}
