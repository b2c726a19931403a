"""``-j auto`` against the best fixed ``-j``, which is searched for, on endpoints of several kinds.

All start cold. Throughput is what was answered over the wall time, the last answers' time
included and start-up left out. The fixed value is the smallest that comes within 1 % of the best
in short runs; then it takes turns with auto in long ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from measure import Server, Table, gen_code, interleave, spend, tell, verdict, write_rows

ENDPOINTS = {
    "50 at a time, else 429": (50, "--latency 200 --concurrency-limit 50"),
    "6,000 a minute, else 429": (20, "--latency 200 --rate-limit 6000"),
    "60,000 a minute, else 429": (200, "--latency 200 --rate-limit 60000"),
    "queue, 16 servers of 50 ms": (16, "--servers 16 --service 50"),
    "fixed latency of 500 ms": (1024, "--latency 500"),
}
"""Name to the concurrency that should do, which the search looks at too, and the options."""
FASTEST = 4_000
"""Rows a second that no run exceeds."""
POWERS = (8, 16, 32, 64, 128, 256, 512, 1024)
GOAL, REFUSED = 0.95, 0.02


@dataclass(frozen=True, slots=True)
class Trial:
    """What a run reached: rows a second, the share of requests that was refused, rows failed."""

    rate: float
    refused: float
    failed: int


def run(rows: Path, options: str, concurrency: int | str, seconds: float, start: float) -> Trial:
    """Let it run for a time; ``start`` is the wall time of starting up."""
    with Server(*options.split()) as server:
        command = gen_code(rows, server.url, "-j", concurrency, "--max-time", seconds)
        used = spend(command, expect=(5,))
    failures = rows.with_name("out.failures.jsonl.partial")
    sent, refused = server.stats["requests"], server.stats["refused"]
    with failures.open("rb") as lines:
        failed = sum(1 for _ in lines)
    return Trial((sent - refused) / (used.wall - start), refused / sent, failed)


def start_up(folder: Path) -> float:
    """Measure the wall time of a run of one row that is answered at once."""
    row = write_rows(folder / "row.jsonl", 1)
    with Server() as server:
        return median(spend(gen_code(row, server.url)).wall for _ in range(3))


def search(probe: Callable[[int], Trial], likely: int) -> int:
    """Find the best fixed concurrency: in a coarse grid, then around the best there."""
    rates = {j: probe(j).rate for j in sorted({*POWERS, likely})}
    best = max(rates, key=rates.__getitem__)
    for concurrency in (best * 3 // 4, min(best * 3 // 2, POWERS[-1])):
        if concurrency not in rates:
            rates[concurrency] = probe(concurrency).rate
    return min(j for j, rate in rates.items() if rate >= 0.99 * max(rates.values()))


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure, one endpoint after the other."""
    short, seconds, runs = (3, 10, 1) if quick else (10, 60, 2)
    path = write_rows(folder / "rows.jsonl", FASTEST * seconds, 60)
    start = start_up(folder)
    header = ["best -j", "rows/s", "refused", "auto rows/s", "refused", "failed", "auto / best"]
    rows = [["endpoint", *header, "goal", "refused"]]
    for name, (likely, options) in ENDPOINTS.items():
        tell(f"auto: {name}: searching")
        best = search(partial(run, path, options, seconds=short, start=start), likely)
        trials = {j: partial(run, path, options, j, seconds, start) for j in (best, "auto")}
        got = interleave(trials, runs, f"auto: {name}")
        rows.append([name, *cells(best, got[best], got["auto"])])
    title = f"-j auto against the best fixed -j, {seconds} s from a cold start"
    yield Table(title, rows, ["the goal is one of 60 s and more"] if quick else [])


def cells(best: int, fixed: Sequence[Trial], auto: Sequence[Trial]) -> Iterator[str]:
    """Word a row of the table."""
    rates = [median(each.rate for each in runs) for runs in (fixed, auto)]
    refused = [median(each.refused for each in runs) for runs in (fixed, auto)]
    yield f"{best}"
    for rate, share in zip(rates, refused, strict=True):
        yield from (f"{rate:,.0f}", f"{share:.1%}")
    yield f"{sum(each.failed for each in auto)}"
    yield f"{rates[1] / rates[0]:.3f}"
    yield verdict(rates[1] / rates[0], GOAL, at_least=True)
    yield verdict(refused[1], REFUSED)
