"""``--rpm``: how much of the rate is reached, and the busiest minute as the endpoint saw it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from measure import Server, Table, gen_code, spend, tell, verdict, write_rows

RATES = (60, 600, 6_000, 30_000)
GOAL = 0.98


def run(folder: Path, rate: int, seconds: float) -> tuple[int, int]:
    """Return the requests sent, and those in the busiest minute."""
    folder.mkdir()
    rows = write_rows(folder / "rows.jsonl", int(2 * rate / 60 * seconds), 100)
    with Server("--latency", "200") as server:
        spend(gen_code(rows, server.url, "--rpm", rate, "--max-time", seconds), expect=(5,))
    return server.stats["requests"], server.stats["busiest_minute"]


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure all rates at once: they leave the machine idle."""
    seconds = 75 if quick else 185
    tell(f"rates: {seconds} s")
    rows = [["--rpm", "share reached", "goal", "busiest minute", "share of rpm", "goal"]]
    with ThreadPoolExecutor(len(RATES)) as pool:
        trials = [partial(run, folder / str(rate), rate, seconds) for rate in RATES]
        for rate, (sent, busiest) in zip(RATES, pool.map(lambda one: one(), trials), strict=True):
            share, most = sent / (rate / 60 * seconds), busiest / rate
            rows.append(
                [
                    f"{rate:,}",
                    f"{share:.3f}",
                    verdict(share, GOAL, at_least=True),
                    f"{busiest:,}",
                    f"{most:.3f}",
                    verdict(most, 1.0),
                ]
            )
    yield Table(f"Rate limits, {seconds} s", rows, ["answers after 200 ms; -j auto"])
