"""How often ``verify --agree --best`` keeps a right answer: with right tests, with wrong ones.

    python tests/benchmarks/agree.py ANSWERS.jsonl [SEEDS]
    python tests/benchmarks/agree.py --offline [INSTRUCTIONS]

ANSWERS has several answers of a real model to each question: ``instruction``, ``trial``, ``answer``
(text) and ``test`` (functions of pytest). They are given back by a loopback endpoint to
``gen-code --samples``. An answer is right if it passes all tests. Each function is then split into
one test per assert, and a random third of each question's tests is made wrong: the assert expects
another value. Goals: of the questions with a right answer, one is kept for 100 % with the tests as
they are and for 90 % with a third of them wrong. Also printed: the same for other ways to weigh a
group, over SEEDS (100) draws of the wrong third, computed from one run of all tests.

With --offline: the recipe for plain words on INSTRUCTIONS (500) with 20 % wrong answers and 20 %
wrong tests. Goal: 95 % of the kept rows are right by the grammar's own solution.

Needs bubblewrap, and pytest beside codesynth.
"""

import ast
import copy
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.endpoint import Endpoint
from support.replies import Received, Reply, completion

from codesynth.filters.choice import passed_tests
from codesynth.serving.offline.problems import read

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "codesynth"]
SEEDS = ROOT / "samples" / "seeds.jsonl"
WAYS: Mapping[str, Callable[[int, int, int], tuple[float, ...]]] = {
    "answers x tests": lambda answers, tests, _: (answers * tests, tests),
    "sqrt(answers) x tests": lambda answers, tests, _: (math.sqrt(answers) * tests, tests),
    "answers, then tests": lambda answers, tests, _: (answers, tests),
    "tests, then answers": lambda answers, tests, _: (tests, answers),
    "all tests, then answers x tests": lambda answers, tests, count: (
        tests == count,
        answers * tests,
    ),
    "all tests, then sqrt(answers) x tests": lambda answers, tests, count: (
        tests == count,
        math.sqrt(answers) * tests,
    ),
}
"""Ways to weigh a group: by its answers, the tests that they passed, and all tests."""


def run(*args: object, env: Mapping[str, str] | None = None) -> None:
    """Run a command; its words for people are shown."""
    done = subprocess.run([*COMMAND, *map(str, args)], env={**os.environ, **(env or {})}, cwd=ROOT)
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)


def rows_of(path: Path) -> list[Any]:
    """Read JSONL."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def write(path: Path, rows: Sequence[Any]) -> None:
    """Write JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# Splitting tests, and making them wrong.


def split(text: str) -> tuple[str, list[str]]:
    """Split a text of test functions into what stands before them, and one test per assert.

    What stands before an assert in its function is kept, but asserts nothing.
    """
    setup: list[ast.stmt] = []
    tests: list[str] = []
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test"):
            is_main = isinstance(node, ast.If) and "__name__" in ast.dump(node.test)
            setup += [] if is_main or isinstance(node, ast.Expr) else [node]
            continue
        before: list[ast.stmt] = []
        for statement in node.body:
            if not asserts(statement):
                before.append(statement)
                continue
            one = copy.copy(node)
            one.name, one.body = f"test_{len(tests)}", [*before, statement]
            tests.append(ast.unparse(one))
            before.append(Lenient().visit(copy.deepcopy(statement)))
    return "\n".join(map(ast.unparse, setup)), tests or [text]


def asserts(node: ast.AST) -> bool:
    """Tell whether a statement can fail a test."""
    raises = ("raises", "fail")
    return any(
        isinstance(each, ast.Assert) or (isinstance(each, ast.Attribute) and each.attr in raises)
        for each in ast.walk(node)
    )


class Lenient(ast.NodeTransformer):
    """Leaves of an assert only what it computes."""

    def visit_Assert(self, node: ast.Assert) -> ast.Expr:
        """Keep the expression: it may change the state that later asserts look at."""
        return ast.copy_location(ast.Expr(node.test), node)


class Wrong(ast.NodeTransformer):
    """Makes the asserts of a test expect another value."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        """Change the value on the right of ``==``; negate what is no comparison with a value."""
        test = node.test
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.Is):
            test.comparators[0] = other_value(test.comparators[0])
        else:
            node.test = ast.UnaryOp(ast.Not(), test)
        return ast.fix_missing_locations(node)

    def visit_With(self, node: ast.With) -> Any:
        """Expect a value where an exception is right."""
        if "raises" not in ast.dump(node.items[0]):
            return self.generic_visit(node)
        return node.body


def other_value(node: ast.expr) -> ast.expr:
    """Write another value of the same type, where it is known."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return ast.Tuple([ast.Constant("not"), node], ast.Load())
    if isinstance(value, bool) or value is None:
        return ast.Constant(not value)
    if isinstance(value, int | float):
        return ast.Constant(value + 1)
    if isinstance(value, str):
        return ast.Constant(value + "x")
    more = [*value, 0] if isinstance(value, list | tuple | set) else None
    return ast.Tuple([ast.Constant("not"), node], ast.Load()) if more is None else literal(more)


def literal(value: Any) -> ast.expr:
    """Write a value as Python."""
    return ast.parse(repr(value), mode="eval").body


def make_wrong(test: str) -> str:
    """Make a test wrong."""
    return ast.unparse(Wrong().visit(ast.parse(test)))


# Real answers.


def answered(path: str, folder: Path) -> list[Any]:
    """Let ``gen-code`` make rows of the recorded answers; return them."""
    by: dict[str, list[Any]] = defaultdict(list)
    for row in rows_of(Path(path)):
        if "trial" in row and "instruction" in row and row.get("test"):
            by[row["instruction"]].append(row)
    trials = {text: sorted(found, key=lambda row: row["trial"]) for text, found in by.items()}
    samples = Counter(map(len, trials.values())).most_common(1)[0][0]
    longest = sorted(trials, key=len, reverse=True)

    def plan(request: Received) -> Reply:
        text = next(each for each in longest if each in request.prompt)
        return completion(trials[text][(request.attempt - 1) % len(trials[text])]["answer"])

    questions = [{"instruction": text, "test": found[0]["test"]} for text, found in trials.items()]
    write(folder / "questions.jsonl", questions)
    with Endpoint(plan) as endpoint:
        env = {"OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": "none"}
        asked = [folder / "questions.jsonl", "--samples", samples, "-o", folder / "code.jsonl"]
        run("gen-code", *asked, "-j", 4, "--no-journal", env=env)
    return rows_of(folder / "code.jsonl")


def verified(rows: Sequence[Any], folder: Path, *options: object) -> list[Any]:
    """Run ``verify`` on rows; return what it writes."""
    write(folder / "in.jsonl", rows)
    target = folder / "out.jsonl"
    target.unlink(missing_ok=True)
    more = ["--overwrite", "--timeout", 60, *options]
    run("verify", folder / "in.jsonl", "--test-key", "test", "-o", target, *more)
    return rows_of(target)


def kept_right(kept: Sequence[Any], right: set[tuple[str, str]]) -> str:
    """Count the questions with a right answer for which a right one was kept."""
    questions = {instruction for instruction, _ in right}
    good = sum((row["instruction"], row["generated_code"]) in right for row in kept)
    return f"{good} of {len(questions)} ({good / len(questions):.1%}); kept in all: {len(kept)}"


def real(path: str, seeds: int, folder: Path) -> None:
    """Measure on the answers of a real model."""
    rows = answered(path, folder)
    plain = verified(rows, folder)
    status = [row["verification"]["status"] for row in plain]
    right = {
        (row["instruction"], row["generated_code"])
        for row, told in zip(rows, status, strict=True)
        if told == "passed"
    }
    print("answers:", len(rows), dict(Counter(status)))
    print("tests as they are:", kept_right(verified(rows, folder, "--agree", "--best"), right))
    parts = {row["instruction"]: split(row["test"]) for row in rows}
    for wrong, label in ((0.0, "split, all right"), (1 / 3, "split, a third wrong")):
        chosen = random.Random("agree")
        made = {text: mixed(tests, wrong, chosen) for text, (_, tests) in parts.items()}
        split_rows = [
            row
            | {"test": made[row["instruction"]], "test_setup_code": parts[row["instruction"]][0]}
            for row in rows
        ]
        kept = verified(split_rows, folder, "--agree", "--best")
        print(f"{label}:", kept_right(kept, right))
    compare_ways(rows, parts, right, seeds, folder)


def mixed(tests: Sequence[str], share: float, rng: random.Random) -> list[str]:
    """Make a random share of tests wrong."""
    wrong = set(rng.sample(range(len(tests)), round(len(tests) * share)))
    return [make_wrong(test) if i in wrong else test for i, test in enumerate(tests)]


def compare_ways(
    rows: Sequence[Any],
    parts: Mapping[str, tuple[str, list[str]]],
    right: set[tuple[str, str]],
    seeds: int,
    folder: Path,
) -> None:
    """Print how often each way of weighing keeps a right answer, over many draws."""
    both = []
    for row in rows:
        setup, tests = parts[row["instruction"]]
        renamed = [make_wrong(test).replace("def test_", "def test_wrong_") for test in tests]
        both.append(row | {"test": [*tests, *renamed], "test_setup_code": setup})
    groups: dict[str, list[tuple[frozenset[int], bool]]] = defaultdict(list)
    for row in verified(both, folder):
        is_right = (row["instruction"], row["generated_code"]) in right
        groups[row["instruction"]].append((passed_tests(row["verification"]), is_right))
    print(f"of questions with a right answer, {seeds} draws of a third of the tests made wrong:")
    found = {
        text: group for text, group in groups.items() if any(is_right for _, is_right in group)
    }
    for name, way in WAYS.items():
        kept = total = 0
        for seed in range(seeds):
            for text, group in found.items():
                count = len(parts[text][1])
                passed = [drawn(each, count, random.Random(f"{seed}{text}")) for each, _ in group]
                kept += group[choose(passed, count, way)][1]
                total += 1
        print(f"  {name:38} {kept / total:.2%}")


def choose(
    passed: Sequence[frozenset[int]], count: int, way: Callable[[int, int, int], Any]
) -> int:
    """Choose an answer by the tests that each passed; return its index."""
    sizes = Counter(passed)
    return passed.index(max(sizes, key=lambda each: way(sizes[each], len(each), count)))


def drawn(passed: frozenset[int], count: int, rng: random.Random) -> frozenset[int]:
    """Take of the right and the wrong version of each test the one that is drawn."""
    wrong = set(rng.sample(range(1, count + 1), round(count / 3)))
    return frozenset(i for i in range(1, count + 1) if (i + count if i in wrong else i) in passed)


# The practice endpoint.


def offline(instructions: int, folder: Path) -> None:
    """Measure the recipe for plain words."""
    env = {"CODESYNTH_OFFLINE": "wrong_code=0.2,wrong_tests=0.2"}
    names = [folder / name for name in ("new.jsonl", "tests.jsonl", "code.jsonl", "best.jsonl")]
    asked = ["--offline", "--no-journal", "-o"]
    run("gen-instructions", SEEDS, "-n", instructions, "--seed", 1, *asked, names[0], env=env)
    run("gen-tests", names[0], *asked, names[1], env=env)
    run("gen-code", names[1], "--samples", 4, *asked, names[2], env=env)
    run("verify", names[2], "--agree", "--best", "-o", names[3])
    kept = rows_of(names[3])
    good = sum(map(is_solved, kept))
    first = rows_of(names[2])[::4]
    run("verify", names[2], "--agree", "-o", folder / "all.jsonl")
    groups: dict[str, list[Any]] = defaultdict(list)
    for row in rows_of(folder / "all.jsonl"):
        groups[row["generated_instruction"]].append(row)
    for name, way in WAYS.items():
        right = 0
        for group in groups.values():
            passed = [passed_tests(row["verification"]) for row in group]
            right += is_solved(group[choose(passed, len(group[0]["generated_tests"]), way)])
        print(f"  {name:38} {right / len(groups):.2%}")
    print(f"right among the first answers: {sum(map(is_solved, first)) / len(first):.1%}")
    print(f"right among the kept rows: {good} of {len(kept)} ({good / len(kept):.1%})")


def is_solved(row: Any) -> bool:
    """Tell whether a row's code is the grammar's own solution."""
    problem = next(iter(read(row["generated_instruction"])))
    return f"{problem.signature}:\n{problem.statements()}".strip() == row["generated_code"].strip()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        if sys.argv[1] == "--offline":
            offline(int(sys.argv[2]) if len(sys.argv) > 2 else 500, Path(name))
        else:
            real(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100, Path(name))
