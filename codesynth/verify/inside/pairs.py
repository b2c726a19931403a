"""Run a program on inputs and compare its outputs; or call a function of it."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from types import ModuleType
from typing import Any

from .results import Results


def run_pairs(code: Any, pairs: list[Any], function: str | None, results: Results) -> None:
    """Run compiled code once for each pair, each time in a process of its own.

    Args:
        pairs: of input and expected output: texts; with ``function`` arguments and a value.
        function: what to call, a function or a method of the class ``Solution``.
    """
    results.expect(len(pairs))
    for given, wanted in pairs:
        results.run(
            lambda given=given, wanted=wanted: _run_pair(code, given, wanted, function, results)
        )


def _run_pair(code: Any, given: Any, wanted: Any, function: str | None, results: Results) -> None:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as problem:
        pid = os.fork()
        if pid == 0:
            _run_child(code, given, function, output.fileno(), problem, results)
        status = os.waitpid(pid, 0)[1]
        output.seek(0)
        problem.seek(0)
        got = output.read().decode("utf-8", "replace")
        trouble = problem.read().decode("utf-8", "replace")
    if trouble or status:
        raise RuntimeError(trouble or f"the program ended with status {status}")
    if not (_same_value(got, wanted) if function else _same_text(got, str(wanted))):
        raise AssertionError(f"input {given!r:.80}: expected {wanted!r:.80}, got {got!r:.80}")


def _run_child(
    code: Any, given: Any, function: str | None, output: int, problem: Any, results: Results
) -> None:
    """Be the process of one pair; never returns."""
    module = ModuleType("__main__" if function is None else "solution")
    space = vars(module)
    sys.modules["__main__"] = sys.modules["solution"] = module
    try:
        if function is None:
            with tempfile.TemporaryFile() as file:
                file.write(str(given).encode("utf-8", "surrogatepass"))
                file.seek(0)
                os.dup2(file.fileno(), 0)
            os.dup2(output, 1)
        exec(code, space)
        if function is not None:
            owner = space["Solution"]() if "Solution" in space and function not in space else module
            os.write(output, json.dumps(getattr(owner, function)(*given)).encode("ascii"))
    except BaseException as exc:
        if function is not None or not isinstance(exc, SystemExit) or exc.code not in (None, 0):
            problem.write(results.describe(exc).encode("utf-8", "replace"))
    finally:
        problem.flush()
        for file in (sys.stdout, sys.__stdout__):
            file.flush()
        os._exit(0)


def _same_text(got: str, wanted: str) -> bool:
    """Compare outputs as judges do: white space at the ends is free, numbers are numbers."""
    lines, others = ([one.split() for one in text.strip().split("\n")] for text in (got, wanted))
    return len(lines) == len(others) and all(
        len(line) == len(other) and all(map(_same_word, line, other))
        for line, other in zip(lines, others)
    )


def _same_word(got: str, wanted: str) -> bool:
    try:
        return got == wanted or math.isclose(float(got), float(wanted), rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return False


def _same_value(got: str, wanted: Any) -> bool:
    """Compare a value, written as JSON, with what is wanted; APPS puts that in a list of one."""
    value, wanted = json.loads(got), json.loads(json.dumps(wanted))
    return bool(value == wanted or (isinstance(wanted, list) and wanted and value == wanted[0]))
