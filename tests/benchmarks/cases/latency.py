"""Wall time against the ideal, where the endpoint's answers take their time.

The ideal is a client that takes no time itself: with the answers' times as the endpoint draws
them, each request is sent the moment another is answered. Start-up is left out: it is the wall
time of a run of one row, less its answer's.
"""

import heapq
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from measure import HERE, Server, Table, gen_code, interleave, spend, spread, verdict, write_rows
from peers import PEERS
from server import Limits, Options

URL = "(the base URL)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How long answers take, in ms, and how much is asked."""

    latency: float
    sigma: float
    concurrency: int
    rows: int
    goal: float

    @property
    def options(self) -> list[str]:
        return ["--latency", str(self.latency), "--sigma", str(self.sigma)]

    def ideal(self) -> float:
        """Simulate the seconds of the ideal client."""
        limits = Limits(Options(latency=self.latency, sigma=self.sigma), lambda: 0.0)
        ends = [0.0] * self.concurrency
        for _ in range(self.rows):
            heapq.heapreplace(ends, ends[0] + limits.draw(self.latency))
        return max(ends)


def endpoints(quick: bool) -> dict[str, Endpoint]:
    rows = (2_560, 4_000) if quick else (5_120, 10_000)
    return {
        f"200 ms, c=256, {rows[0]:,} rows": Endpoint(200, 0, 256, rows[0], 1.08),
        f"lognormal, mean 2 s, c=1000, {rows[1]:,} rows": Endpoint(2000, 0.5, 1000, rows[1], 1.10),
    }


def run(command: Sequence[object], end: Endpoint) -> tuple[float, float]:
    """Return the wall time, and all answers' times together; ``URL`` stands for the base URL."""
    with Server(*end.options) as server:
        used = spend([server.url if word is URL else str(word) for word in command])
    return used.wall, float(server.stats["latency_s"])


def commands(folder: Path, end: Endpoint) -> dict[str, list[object]]:
    """Name what is run: each client with one row, and with all."""
    one = write_rows(folder / "row.jsonl", 1)
    many = write_rows(folder / "rows.jsonl", end.rows)
    floor = [sys.executable, HERE / "peers.py", "floor", URL]
    return {
        "start-up": [*gen_code(one, URL, "-j", 1)],
        "gen-code": [*gen_code(many, URL, "-j", end.concurrency)],
        "floor's start-up": [*floor, 1, 1],
        "floor": [*floor, end.rows, end.concurrency],
    }


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure; the bare loop shows what of the time is the machine's."""
    rows = [["wall / ideal", "ideal s", "codesynth gen-code", PEERS["floor"], "goal"]]
    for name, end in endpoints(quick).items():
        trials = {key: partial(run, each, end) for key, each in commands(folder, end).items()}
        got = interleave(trials, 3 if quick else 5, name)
        ratios = [
            over_ideal(got[who], got[start], end.ideal())
            for who, start in (("gen-code", "start-up"), ("floor", "floor's start-up"))
        ]
        cells = [f"{median(each):.3f} {spread(each)}" for each in ratios]
        goal = verdict(median(ratios[0]), end.goal)
        rows.append([name, f"{end.ideal():.2f}", *cells, goal])
    yield Table("Wall time against the ideal", rows)


def over_ideal(
    runs: Sequence[tuple[float, float]], starts: Sequence[tuple[float, float]], ideal: float
) -> list[float]:
    """Divide by the ideal what is left of each run without its start-up."""
    start = median(wall - answer for wall, answer in starts)
    return [(wall - start) / ideal for wall, _ in runs]
