"""The judge: holds the tests, has them run against the guest's code, and decides."""

import ast
import builtins
import json
import os
import re
import sys
import unittest
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from . import plan
from .examples import docstring_examples, instruction_examples
from .peer import BrokenPeerError, Peer
from .remote import Remote, StandIns, perform_guarded
from .scene import SIGNS, Scene
from .trials import Trials, describe, relay

MAX_MESSAGE = 200


class Namespace(dict[str, Any]):
    """Hold the names a test sees: its own, what the judge can run itself, then the code's.

    A builtin stays what it is, unless it is the name of what is being tested.
    """

    def __init__(
        self,
        trusted: Mapping[str, ast.stmt],
        foreign: frozenset[str],
        ask: Callable[[str], Any],
    ) -> None:
        super().__init__(__name__="__main__")
        self._trusted, self.foreign, self._ask = dict(trusted), foreign, ask

    def __missing__(self, name: str) -> Any:
        statement = self._trusted.pop(name, None)
        if statement is not None:
            module = ast.fix_missing_locations(ast.Module([statement], []))
            exec(compile(module, "<instruction>", "exec", dont_inherit=True), self)  # noqa: S102
            return self[name]
        if name not in self.foreign:
            raise KeyError(name)
        value = self._ask(name)
        if isinstance(value, Remote | type):
            self[name] = value
        return value

    def copy(self) -> "Namespace":
        """Copy, for a docstring of its own."""
        new = Namespace(self._trusted, self.foreign, self._ask)
        new.update(self)
        return new


class Judge:
    """Judge one row.

    Args:
        row: ``code``; and ``instruction``, ``test``, ``entry_point``, each of which may be None.
        reader: descriptor to hear the guest from.
        writer: descriptor to speak to the guest.
    """

    def __init__(self, row: Mapping[str, Any], reader: int, writer: int) -> None:
        self._row = row
        self._instruction = plan.parse(row["instruction"])
        self._candidate = plan.entry_point(row["entry_point"], self._instruction)
        self._entry = plan.root(self._candidate) if self._candidate else None
        self._known: set[int] = set()
        self._trials = Trials()
        self._peer = Peer(
            reader,
            writer,
            perform=perform_guarded,
            stand_in=StandIns(self._known),
            trusting=False,
        )
        self._peer.may_stop = "StopIteration" in f"{row['test']} {row['instruction']}"

    def verdict(self) -> dict[str, Any]:
        """Run what tests there are and say what came of it."""
        try:
            status, message = self._judge()
        except BaseException as exc:
            status, message = "error", describe(exc)
        if self._peer.broken:
            status, message = "error", "the code ended its process or broke the channel"
        return {
            "status": status,
            "tests_run": self._trials.run,
            "tests_passed": self._trials.passed,
            "message": _on_one_line(message),
        }

    def _judge(self) -> tuple[str, str]:
        try:
            source, code = plan.program(self._row["code"], self._row["instruction"], self._entry)
        except SyntaxError as exc:
            return "syntax_error", f"line {exc.lineno}: {exc.msg}" if exc.lineno else exc.msg
        try:
            loaded = self._peer.request("load", source)
        except BrokenPeerError:
            raise
        except BaseException as exc:
            return "error", f"on import: {describe(exc)}"
        if self._row["test"] is None:
            self._run_doctests(code, loaded)
        else:
            self._run_test(code, loaded)
        trials = self._trials
        if trials.problems:
            return trials.problems[0]
        if trials.run == 0:
            return "no_tests", ""
        return ("passed", "") if trials.run == trials.passed else ("failed", "not all passed")

    def _run_test(self, code: ast.Module, loaded: dict[str, Any]) -> None:
        text = self._row["test"]
        test = [tree] if (tree := plan.parse(text)) else []
        candidate = self._candidate or next((one.name for one in plan.functions(code)[::-1]), None)
        names = self._namespace(test, code, loaded)
        if any(sign in text for sign in SIGNS):
            self._peer.before_request = Scene(self._peer.ask).show
        self._trials.run_test(text, names, names.foreign, candidate)

    def _run_doctests(self, code: ast.Module, loaded: dict[str, Any]) -> None:
        """Run the instruction's doctests here; then have the guest run those the code adds."""
        asked = instruction_examples(self._row["instruction"], self._instruction)
        told = {(one.source, one.want) for _, examples in asked for one in examples}
        trees = [tree for source, _ in told if (tree := plan.parse(source))]
        names = self._namespace(trees, code, loaded)
        for name, examples in asked:
            self._trials.run_examples(name, examples, names)
        for scope, (name, examples) in enumerate(docstring_examples(code)):
            if not {(one.source, one.want) for one in examples} <= told:
                run = partial(self._peer.request, "example", scope)
                self._trials.run_examples(
                    name, [relay(one, "run") for one in examples], {"run": run}
                )

    def _namespace(
        self, tests: Sequence[ast.AST], code: ast.Module, loaded: dict[str, Any]
    ) -> Namespace:
        """Make the names for tests to use; note the classes they are about."""
        wanted = plan.names_wanted(tests)
        given = plan.defined(self._instruction) | {self._entry}
        names = map(str, loaded["names"])
        foreign = {name for name in names if name in given or not hasattr(builtins, name)}
        stated = {one.name for one in plan.classes(self._instruction)}
        meant = plan.modules_meant(tests, wanted - given)
        trusted = meant | plan.trusted(self._instruction, code, self._entry)
        for name, kind in loaded["classes"].items():
            free = name in foreign & wanted and name not in trusted
            if free and (name in stated or re.match("_*[A-Z]", name)):
                number = self._peer.number_of(kind)
                self._known.update(() if number is None else (number,))
        return Namespace(trusted, frozenset(foreign), partial(self._peer.request, "name"))


def _on_one_line(message: str) -> str:
    """Cut a message to a line; escape what a terminal would obey or not show as it is."""
    line = " ".join(message.split())[:MAX_MESSAGE]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _refuse_pickled_code(event: str, _args: tuple[Any, ...]) -> None:
    """Let a test read a pickle that the code wrote, but no classes and functions in it."""
    if event == "pickle.find_class":
        raise PermissionError("a pickle of the code's must hold plain values only")


def judge(row: Mapping[str, Any], reader: int, writer: int, verdict: int) -> None:
    """Judge one row and write the verdict, a line of JSON, to the descriptor ``verdict``."""
    warnings.simplefilter("ignore")
    sys.addaudithook(_refuse_pickled_code)
    unittest.main = lambda *_args, **_kwargs: None  # type: ignore[assignment]
    data = json.dumps(Judge(row, reader, writer).verdict()).encode("ascii") + b"\n"
    os.write(verdict, data)
