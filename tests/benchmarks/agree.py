"""How often ``verify --agree --best`` keeps a right answer, and how often by other rules.

    python tests/benchmarks/agree.py ANSWERS.jsonl [DRAWS]

ANSWERS has several answers of a real model to each question: ``instruction``, ``answer`` (text) and
``test`` (functions of pytest). Each function is split into one test per assert, and each test gets
a wrong twin that expects another value. All run once. An answer is right if it passes all tests.
Then, DRAWS (100) times, a random third of each question's tests is the wrong twin, and each rule
chooses an answer. Goals of best_group, of the questions with a right answer: 100 % with the tests
as they are and 90 % with a third of them wrong.

Needs bubblewrap, and pytest beside codesynth.
"""

import ast
import copy
import json
import math
import random
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from codesynth.filters.choice import Passed, best_group, passed_tests
from codesynth.operators.extract import ExtractedCode, extract_code

Rule: TypeAlias = Callable[[int, int, int], tuple[float, ...]]
"""Weighs a group by its answers, the tests that they passed, and the number of all tests."""

OTHER_RULES: Mapping[str, Rule] = {
    "answers x tests": lambda answers, tests, _: (answers * tests, tests),
    "sqrt(answers) x tests": lambda answers, tests, _: (math.sqrt(answers) * tests, tests),
    "answers, then tests": lambda answers, tests, _: (answers, tests),
    "tests, then answers": lambda answers, tests, _: (tests, answers),
}
VERIFY = [sys.executable, "-m", "codesynth", "verify", "--timeout", "60", "--overwrite"]


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
    """Write another value, of the same type where that is a number or a text."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        value = node
    if isinstance(value, bool) or value is None:
        return ast.Constant(not value)
    if isinstance(value, int | float):
        return ast.Constant(value + 1)
    if isinstance(value, str):
        return ast.Constant(value + "x")
    return ast.Tuple([ast.Constant("not"), node], ast.Load())


def make_wrong(test: str) -> str:
    """Make a test wrong."""
    return ast.unparse(Wrong().visit(ast.parse(test))).replace("def test_", "def test_wrong_")


# Running them.


def rows_of(path: Path) -> list[Any]:
    """Read JSONL."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def with_twins(rows: Sequence[Any]) -> Iterator[Any]:
    """Extract the code of each answer, and split its tests."""
    for row in rows:
        code = extract_code(row["answer"], row["instruction"], None)
        setup, tests = split(row["test"])
        yield {
            "instruction": row["instruction"],
            "generated_code": code.code if isinstance(code, ExtractedCode) else "",
            "test_setup_code": setup,
            "test": [*tests, *map(make_wrong, tests)],
        }


def verified(rows: Sequence[Any], folder: Path) -> dict[str, list[tuple[Passed, int]]]:
    """Run all tests; return of each question what its answers passed, and the number of tests."""
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in with_twins(rows)))
    subprocess.run([*VERIFY, source, "--test-key", "test", "-o", target], check=False)
    groups: dict[str, list[tuple[Passed, int]]] = defaultdict(list)
    for row in rows_of(target):
        found = passed_tests(row["verification"]), len(row["test"]) // 2
        groups[row["instruction"]].append(found)
    return groups


def drawn(passed: Passed, count: int, rng: random.Random, share: float) -> Passed:
    """Take of each test and its wrong twin the one that is drawn."""
    wrong = set(rng.sample(range(1, count + 1), round(count * share)))
    return frozenset(i for i in range(1, count + 1) if (i + count if i in wrong else i) in passed)


def choose(passed: Sequence[Passed], count: int, rule: Rule | None) -> Passed | None:
    """Choose a group of answers; without a rule as codesynth does."""
    if rule is None:
        return best_group(passed, count)
    sizes = Counter(passed)
    return max(sizes, key=lambda each: rule(sizes[each], len(each), count))


def main(path: str, draws: int) -> None:
    """Print for each rule how often it keeps a right answer."""
    rows = [row for row in rows_of(Path(path)) if row.get("test") and "instruction" in row]
    with tempfile.TemporaryDirectory() as folder:
        groups = verified(rows, Path(folder))
    found = {
        text: group
        for text, group in groups.items()
        if any(passed >= {*range(1, count + 1)} for passed, count in group)
    }
    print(f"{len(groups)} questions, {len(found)} with a right answer, {draws} draws")
    for name, rule in {"best_group": None, **OTHER_RULES}.items():
        for share in (0.0, 1 / 3):
            kept = 0
            for draw in range(draws):
                for text, group in found.items():
                    passed = [drawn(p, n, random.Random(f"{draw}{text}"), share) for p, n in group]
                    best = choose(passed, group[0][1], rule)
                    first, count = group[passed.index(best)] if best else (frozenset(), 1)
                    kept += first >= {*range(1, count + 1)}
            print(f"  {name:22} {share:4.0%} wrong: {kept / draws / len(found):.2%} right")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
