import ast
import doctest
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parent.parent / "samples"
SEEDS = [json.loads(line) for line in (SAMPLES / "seeds.jsonl").read_text("utf-8").splitlines()]
INSTRUCTIONS = [
    json.loads(line) for line in (SAMPLES / "instructions.jsonl").read_text("utf-8").splitlines()
]


def metres_climbed(heights: list[int]) -> int:
    return sum(max(0, b - a) for a, b in itertools.pairwise(heights))


def redact(text: str, names: list[str]) -> str:
    known = {name.lower() for name in names}
    return re.sub(r"\w+", lambda m: "#" * len(m[0]) if m[0].lower() in known else m[0], text)


def next_departure(departures: list[str], now: str) -> str | None:
    today = [each for each in departures if each >= now]
    return min(today or departures, default=None)


def parse_duration(text: str) -> int:
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or not match:
        raise ValueError(f"not a duration: {text}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def largest_party(row: str) -> int:
    return max(map(len, re.findall(r"\.+", row)), default=0)


def settle(payments: list[tuple[str, float]]) -> list[tuple[str, float]]:
    paid: dict[str, float] = {}
    for name, amount in payments:
        paid[name] = paid.get(name, 0.0) + amount
    return [(n, round(paid[n] - sum(paid.values()) / len(paid), 2)) for n in sorted(paid)]


def knight_moves(square: str) -> list[str]:
    column, row = "abcdefgh".index(square[0]), int(square[1])
    return [
        f"{'abcdefgh'[x]}{y}"
        for x in range(8)
        for y in range(1, 9)
        if {abs(x - column), abs(y - row)} == {1, 2}
    ]


def page_ranges(pages: list[int]) -> str:
    runs: list[list[int]] = []
    for page in sorted(set(pages)):
        if runs and runs[-1][-1] == page - 1:
            runs[-1].append(page)
        else:
            runs.append([page])
    return ", ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def moving_median(values: list[float], window: int) -> list[float]:
    starts = range(len(values) - window + 1)
    return [statistics.median(values[i : i + window]) for i in starts]


def fewest_transfers(lines: dict[str, list[str]], start: str, goal: str) -> int | None:
    reached, buses = {start}, 0
    while goal not in reached:
        served = [set(stops) for stops in lines.values() if reached & set(stops)]
        more = reached.union(*served)
        if more == reached:
            return None
        reached, buses = more, buses + 1
    return max(0, buses - 1)


def is_valid_barcode(code: str) -> bool:
    if not re.fullmatch("[0-9]{13}", code):
        return False
    return sum(int(digit) * (1, 3)[i % 2] for i, digit in enumerate(code)) % 10 == 0


def changed_keys(old: dict[str, object], new: dict[str, object]) -> dict[str, list[str]]:
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(key for key in old.keys() & new.keys() if old[key] != new[key]),
    }


def lake_size(chart: list[str], row: int, column: int) -> int:
    lake: set[tuple[int, int]] = set()
    ahead = [(row, column)]
    while ahead:
        r, c = ahead.pop()
        is_on_chart = 0 <= r < len(chart) and 0 <= c < len(chart[0])
        if is_on_chart and chart[r][c] == "~" and (r, c) not in lake:
            lake.add((r, c))
            ahead += [(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)]
    return len(lake)


def break_lines(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def polynomial_text(coefficients: list[int]) -> str:
    text = ""
    for power, factor in zip(range(len(coefficients) - 1, -1, -1), coefficients, strict=True):
        if factor:
            number = "" if abs(factor) == 1 and power else str(abs(factor))
            sign = (" - " if factor < 0 else " + ") if text else "-" * (factor < 0)
            text += sign + number + ("", "x")[power > 0] + (f"^{power}" if power > 1 else "")
    return text or "0"


def nearest_fraction(x: float, limit: int) -> tuple[int, int]:
    candidates = {
        Fraction(numerator, denominator)
        for denominator in range(1, limit + 1)
        for numerator in (math.floor(x * denominator), math.ceil(x * denominator))
    }
    exact = Fraction(x)
    best = min(candidates, key=lambda f: (abs(f - exact), f.denominator, f.numerator))
    return best.numerator, best.denominator


SOLUTIONS: list[Callable[..., Any]] = [
    metres_climbed,
    redact,
    next_departure,
    parse_duration,
    largest_party,
    settle,
    knight_moves,
    page_ranges,
    moving_median,
    fewest_transfers,
    is_valid_barcode,
    changed_keys,
    lake_size,
    break_lines,
    polynomial_text,
    nearest_fraction,
]


@pytest.mark.parametrize(("seed", "solution"), [*zip(SEEDS, SOLUTIONS, strict=True)])
def test_doctests_of_a_seed_hold_under_a_solution(
    seed: dict[str, str], solution: Callable[..., Any]
) -> None:
    module = ast.parse(f"{seed['prompt']}    pass\n")
    function = module.body[-1]
    assert isinstance(function, ast.FunctionDef)
    assert function.name == solution.__name__
    names: dict[str, Any] = {}
    exec(compile(module, "seed", "exec"), names)
    docstring = ast.get_docstring(function) or ""
    names[function.name] = solution
    test = doctest.DocTestParser().get_doctest(docstring, names, function.name, None, None)
    failed, attempted = doctest.DocTestRunner().run(test)
    assert not failed
    assert attempted >= 2


def test_seeds_are_numbered_like_a_benchmark() -> None:
    assert [seed["task_id"] for seed in SEEDS] == [f"samples/{i}" for i in range(len(SEEDS))]
    assert all(seed.keys() == {"task_id", "prompt"} for seed in SEEDS)


def test_instructions_are_in_several_languages() -> None:
    assert all(row.keys() == {"id", "language", "instruction"} for row in INSTRUCTIONS)
    assert len({row["id"] for row in INSTRUCTIONS}) == len(INSTRUCTIONS) >= 10
    assert len({row["language"] for row in INSTRUCTIONS}) >= 6
    assert any(not row["instruction"].isascii() for row in INSTRUCTIONS)
