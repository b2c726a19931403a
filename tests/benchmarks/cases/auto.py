"""``-j auto`` against the best fixed ``-j``, which is searched for, on endpoints of several kinds.

All start cold. Throughput is what was answered in the time that ``--max-time`` gives, start-up
left out. The fixed value is the smallest that comes within 1 % of the best in short runs; then
it takes turns with auto in long ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from measure import Server, Table, gen_code, interleave, spend, tell, verdict, write_rows

ENDPOINTS = {
    "50 at a time, else 429": ("--latency", "200", "--concurrency-limit", "50"),
    "6,000 a minute, else 429": ("--latency", "200", "--rate-limit", "6000"),
    "queue, 16 servers of 50 ms": ("--servers", "16", "--service", "50"),
    "fixed latency of 500 ms": ("--latency", "500"),
}
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


def run(rows: Path, options: tuple[str, ...], concurrency: int | str, seconds: float) -> Trial:
    """Let it run for a time."""
    with Server(*options) as server:
        command = gen_code(rows, server.url, "-j", concurrency, "--max-time", seconds)
        spend(command, expect=(5,))
    failures = rows.with_name("out.failures.jsonl.partial")
    sent, refused = server.stats["requests"], server.stats["refused"]
    with failures.open("rb") as lines:
        failed = sum(1 for _ in lines)
    return Trial((sent - refused) / seconds, refused / sent, failed)


def search(rows: Path, options: tuple[str, ...], seconds: float) -> int:
    """Find the best fixed concurrency: among powers of two, then between the best's neighbours."""
    rates: dict[int, float] = {}

    def probe(concurrency: int) -> None:
        tell(f"auto: {' '.join(options)}: -j {concurrency}")
        rates[concurrency] = run(rows, options, concurrency, seconds).rate

    for concurrency in POWERS:
        probe(concurrency)
    best = max(rates, key=rates.__getitem__)
    for concurrency in (best * 3 // 4, min(best * 3 // 2, POWERS[-1])):
        if concurrency not in rates:
            probe(concurrency)
    return min(j for j, rate in rates.items() if rate >= 0.99 * max(rates.values()))


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure, one endpoint after the other."""
    probe, seconds, runs = (3, 10, 1) if quick else (10, 60, 2)
    path = write_rows(folder / "rows.jsonl", FASTEST * seconds, 60)
    header = ["best -j", "rows/s", "refused", "auto rows/s", "refused", "failed", "auto / best"]
    rows = [["endpoint", *header, "goal", "refused"]]
    for name, options in ENDPOINTS.items():
        best = search(path, options, probe)
        trials = {j: partial(run, path, options, j, seconds) for j in (best, "auto")}
        got = interleave(trials, runs, f"auto: {name}")
        fixed, auto = (median(each.rate for each in got[j]) for j in (best, "auto"))
        refused = [median(each.refused for each in got[j]) for j in (best, "auto")]
        failed = sum(each.failed for each in got["auto"])
        cells = [f"{best}", f"{fixed:,.0f}", f"{refused[0]:.1%}", f"{auto:,.0f}"]
        cells += [f"{refused[1]:.1%}", f"{failed}", f"{auto / fixed:.3f}"]
        goals = [verdict(auto / fixed, GOAL, at_least=True), verdict(refused[1], REFUSED)]
        rows.append([name, *cells, *goals])
    yield Table(f"-j auto against the best fixed -j, {seconds} s from a cold start", rows)
