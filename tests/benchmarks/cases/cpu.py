"""CPU a row of the whole command, beside what others use for the request alone; journal on and off.

User and system time of a process with its children, less that of the same with one row: start-up
is told apart. The endpoint answers at once, so wall time says little here but that it does.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from measure import (
    HERE,
    Server,
    Table,
    Used,
    gen_code,
    interleave,
    spend,
    spread,
    verdict,
    write_rows,
)
from peers import PEERS, is_there

CONCURRENCIES = (64, 256, 1024)
WHOLE, UNKEPT = "codesynth gen-code", "codesynth gen-code --no-journal"
GOALS = {"openai": (6, 10), "requests": (2, 3.5)}
FLAT = 1.25


@dataclass(frozen=True, slots=True)
class Client:
    """A command to measure: made of a URL, how many rows, how many at a time."""

    command: Callable[[str, int, int], list[str]]
    rows: int
    largest: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One run, and how busy the endpoint was meanwhile."""

    used: Used
    busy: float


def clients(folder: Path, quick: bool) -> dict[str, Client]:
    """Name the clients; the slow ones get fewer rows and no thousand at a time."""
    most = 8_000 if quick else 20_000
    many = write_rows(folder / "rows.jsonl", most)
    one = write_rows(folder / "row.jsonl", 1)

    def codesynth(*options: str) -> Callable[[str, int, int], list[str]]:
        return lambda url, rows, c: gen_code(one if rows == 1 else many, url, "-j", c, *options)

    def peer(name: str) -> Callable[[str, int, int], list[str]]:
        script = [sys.executable, str(HERE / "peers.py"), name]
        return lambda url, rows, c: [*script, url, str(rows), str(c)]

    found = {WHOLE: Client(codesynth(), most, 1024)}
    found[UNKEPT] = Client(codesynth("--no-journal"), most, 1024)
    sizes = {"floor": (4 * most, 1024), "openai": (most // 10, 256), "requests": (most // 4, 256)}
    for name in filter(is_there, PEERS):
        found[name] = Client(peer(name), *sizes[name])
    return found


def run(client: Client, concurrency: int, rows: int) -> Trial:
    """Run it against an endpoint of its own."""
    with Server() as server:
        used = spend(client.command(server.url, rows, concurrency))
    assert server.stats["requests"] == rows
    return Trial(used, server.busy)


Figures = Mapping[tuple[str, int], list[float]]


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure."""
    known, runs = clients(folder, quick), 3 if quick else 5
    ones = interleave(
        {name: partial(run, client, 1, 1) for name, client in known.items()}, runs, "cpu, start-up"
    )
    trials = {
        (name, c): partial(run, client, c, client.rows)
        for name, client in known.items()
        for c in CONCURRENCIES
        if c <= client.largest
    }
    many = interleave(trials, runs, "cpu")
    starts = {name: median(trial.used.cpu for trial in got) for name, got in ones.items()}
    costs = {
        (name, c): [(trial.used.cpu - starts[name]) / (known[name].rows - 1) * 1e6 for trial in got]
        for (name, c), got in many.items()
    }
    yield cost_table(costs, starts, many)
    yield ratio_table(costs)


def cost_table(
    costs: Figures, starts: Mapping[str, float], trials: Mapping[tuple[str, int], list[Trial]]
) -> Table:
    header = ["CPU us a row", *(f"c={c}" for c in CONCURRENCIES), "start-up ms", "endpoint busy"]
    rows = [header]
    for name, start in starts.items():
        cells = [
            f"{median(cost):,.0f} {spread(cost)}" if (cost := costs.get((name, c))) else "-"
            for c in CONCURRENCIES
        ]
        busy = median(
            trial.busy for (who, _), got in trials.items() if who == name for trial in got
        )
        rows.append([PEERS.get(name, name), *cells, f"{start * 1e3:.0f}", f"{busy:.0%}"])
    left_out = [f"{name} is left out: not installed" for name in PEERS if not is_there(name)]
    note = "start-up: CPU of a run of one row, and not in the columns before it"
    return Table("CPU of a request", rows, [note, *left_out])


def ratio_table(costs: Figures) -> Table:
    """Set the whole command against the others' requests alone, run by run."""
    rows = [["codesynth gen-code against", *(f"c={c}" for c in CONCURRENCIES), "goal"]]
    for name in (UNKEPT, *PEERS):
        ratios = [ratio(costs, (WHOLE, c), (name, c)) for c in CONCURRENCIES]
        known = [each for each in ratios if each is not None]
        if known:
            goals = [verdict(max(known), round(1 / part, 3)) for part in GOALS.get(name, ())]
            cells = ["-" if each is None else f"{each:.3f}" for each in ratios]
            rows.append([PEERS.get(name, name), *cells, ", then ".join(goals)])
    flat = [ratio(costs, (WHOLE, c), (WHOLE, CONCURRENCIES[0])) or 0.0 for c in CONCURRENCIES]
    goal = verdict(max(flat) / min(flat), FLAT)
    rows.append(["itself at c=64", *(f"{each:.3f}" for each in flat), goal])
    return Table("CPU of a row as a ratio", rows)


def ratio(costs: Figures, one: tuple[str, int], other: tuple[str, int]) -> float | None:
    """Take the median of the ratios of runs of the same turn; None where one was not measured."""
    if other not in costs:
        return None
    return median(a / b for a, b in zip(costs[one], costs[other], strict=True))
