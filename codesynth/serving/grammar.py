"""Small Python problems: a source, one to three steps and a fold; written as stubs, solved again.

A stub says all of its problem in words, so another process can solve it from them alone.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, TypeVar

from codesynth.serving.phrases import FOLDS, PARAMETERS, SOURCES, STEPS, Clause, Group

_T = TypeVar("_T")

_FRAMES = (
    ("Take {source}, {steps}, and return {fold}.", ", "),
    ("Start with {source}: {steps}. Return {fold}.", ", then "),
    ("Given {source}, {steps}; finally return {fold}.", "; then "),
    ("Return {fold} after these steps:\n- take {source}\n- {steps}", "\n- "),
)
"""Ways to word a problem, each with what stands between two steps in it."""

_STUB = re.compile(
    r"\bdef\s{1,9}(\w{1,200})\((\w{1,40}): ([^()\n]{1,80})\) -> ([^:\n]{1,80}):\s{1,99}"
    r'"""([^"\\]{1,2000})"""'
)
"""Name, parameter, annotation, result, docstring; bounded so that no text makes it slow."""

_WIDTH = 92


@dataclass(frozen=True, slots=True)
class Problem:
    """A function of one parameter to be written."""

    source: Clause
    steps: tuple[Clause, ...]
    fold: Clause

    def name(self) -> str:
        """Name the function after its clauses, the last first: ``sum_of_squared_even_digits``."""
        clauses = (self.fold, *reversed(self.steps), self.source)
        return "_".join(clause.slug for clause in clauses)

    def signature(self, name: str) -> str:
        """Write the ``def`` line."""
        parameter = self.source.takes
        return f"def {name}({parameter}: {PARAMETERS[parameter][0]}) -> {self.fold.gives}:"

    def describe(self, form: str, joint: str) -> str:
        """Say in words what the function returns."""
        steps = joint.join(step.phrase for step in self.steps)
        return form.format(source=self.source.phrase, steps=steps, fold=self.fold.phrase)

    def body(self) -> list[str]:
        """Write the statements of the function."""
        codes = [self.source.code, *(step.code for step in self.steps)]
        if codes[0] == self.source.takes:
            codes[:2] = [re.sub(r"\bvalues\b", codes[0], codes[1])]
        return [*(f"values = {code}" for code in codes), f"return {self.fold.code}"]

    def run(self, argument: Any, *, without: Clause | None = None) -> Any:
        """Compute what the function returns, or would return with a step left out."""
        values = _function(self.source.takes, self.source.code)(argument)
        for step in self.steps:
            if step is not without:
                values = _function("values", step.code)(values)
        return _function("values", self.fold.code)(values)


@cache
def _function(parameter: str, code: str) -> Callable[[Any], Any]:
    names = {"itertools": itertools, "math": math}
    # S307: the code comes from the tables in phrases.py, never from a request
    function: Callable[[Any], Any] = eval(f"lambda {parameter}: {code}", names)  # noqa: S307
    return function


def write_stub(rng: Random) -> str:
    """Write a new problem as a function stub: signature, docstring and true doctests.

    >>> write_stub(Random(0)).splitlines()[0]
    'def list_of_unique_lower_cased_characters(text: str) -> list[str]:'
    """
    while True:
        problem = _draw(rng)
        _, usual, edge = PARAMETERS[problem.source.takes]
        arguments = [usual(rng) for _ in range(_pick(rng, (2, 3)))]
        if _is_told(problem, arguments):
            break
    name = problem.name()
    lines = [problem.signature(name)]
    for line in f'"""{problem.describe(*_pick(rng, _FRAMES))}'.split("\n"):
        lines += _wrapped(line)
    for argument in (*arguments, edge):
        lines += [f"    >>> {name}({argument!r})", f"    {problem.run(argument)!r}"]
    return "\n".join([*lines, '    """'])


def _draw(rng: Random) -> Problem:
    source = _pick(rng, _pick(rng, SOURCES))
    kind, steps = source.gives, []
    for _ in range(_pick(rng, (1, 2, 2, 3, 3))):
        steps.append(_pick(rng, _pick(rng, _STEPS_OF[kind])))
        kind = steps[-1].gives
    return Problem(source, tuple(steps), _pick(rng, _pick(rng, _FOLDS_OF[kind])))


def _pick(rng: Random, items: Sequence[_T]) -> _T:
    return items[int(rng.random() * len(items))]  # a tenth of the time of rng.choice


def _wrapped(text: str) -> Iterator[str]:
    line = "   "
    for word in text.split(" "):
        if len(line) + len(word) >= _WIDTH:
            yield line
            line = "   "
        line += f" {word}"
    yield line


def _is_told(problem: Problem, arguments: list[Any]) -> bool:
    """Whether results on ``arguments`` are short, differ, and would differ without any step."""
    if len({step.slug for step in problem.steps}) < len(problem.steps):
        return False
    results = [problem.run(argument) for argument in arguments]
    texts = {repr(result) for result in results}
    if len(texts) < len(results) or max(map(len, texts)) > 60:
        return False
    return all(
        any(problem.run(a, without=step) != r for a, r in zip(arguments, results, strict=True))
        for step in problem.steps
        if step.takes == step.gives
    )


def solve(text: str) -> str | None:
    """Write the code for the last stub of ``write_stub`` in a text; None where there is none.

    The words of its docstring and its types are what counts; the function may be renamed.
    """
    for stub in reversed(list(_STUB.finditer(text))):
        name, parameter, annotation, result, docstring = stub.groups()
        signature = f"def {name}({parameter}: {annotation}) -> {result}:"
        problem = _read(" ".join(docstring.partition(">>>")[0].split()))
        if problem is None or problem.signature(name) != signature:
            continue
        body = "".join(f"\n    {line}" for line in problem.body())
        words = re.findall(r"\w+", body)
        if name not in words:
            imports = "".join(f"import {each}\n" for each in ("itertools", "math") if each in words)
            blank = "\n\n" if imports else ""
            return f'{imports}{blank}{signature}\n    """{docstring}"""{body}'
    return None


def _read(description: str) -> Problem | None:
    """Read the problem from its words; None where any of them is not the grammar's."""
    for form, joint in _FRAMES:
        if match := _pattern(form).fullmatch(description):
            phrases = match["steps"].split(joint.replace("\n", " "))
            try:
                source = _SOURCE_CALLED[match["source"]]
                kind, steps = source.gives, []
                for phrase in phrases:
                    steps.append(_STEP_CALLED[kind, phrase])
                    kind = steps[-1].gives
                return Problem(source, tuple(steps), _FOLD_CALLED[kind, match["fold"]])
            except KeyError:
                return None
    return None


@cache
def _pattern(form: str) -> re.Pattern[str]:
    words = re.escape(" ".join(form.split()))
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", words))


def _by_kind(groups: Iterable[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group[0].takes, []).append(group)
    return found


def _by_words(groups: Iterable[Group]) -> dict[tuple[str, str], Clause]:
    return {(clause.takes, clause.phrase): clause for group in groups for clause in group}


_STEPS_OF, _FOLDS_OF = _by_kind(STEPS), _by_kind(FOLDS)
_STEP_CALLED, _FOLD_CALLED = _by_words(STEPS), _by_words(FOLDS)
_SOURCE_CALLED = {phrase: source for (_, phrase), source in _by_words(SOURCES).items()}
