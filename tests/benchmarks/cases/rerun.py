"""A finished job run again: every answer comes from the journal, nothing is sent."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from measure import Server, Table, gen_code, interleave, spend, spread, verdict, write_rows

GOAL = 15_000


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure; start-up is part of it."""
    count = 10_000 if quick else 100_000
    rows = write_rows(folder / "rows.jsonl", count)
    with Server() as server:
        command = gen_code(rows, server.url, "-j", 256)
        first = spend(command)
        out = rows.with_name("out.jsonl")
        before = out.read_bytes()
        command.remove("--overwrite")
        again = interleave({"rerun": partial(spend, command)}, 3 if quick else 5, "rerun")["rerun"]
        same = out.read_bytes() == before
    assert same, "the rerun wrote other bytes"
    assert server.stats["requests"] == count, "the rerun has sent requests"
    speeds = [count / used.wall for used in again]
    efforts = [count / used.cpu for used in again]
    first_cells = [f"{count / first.wall:,.0f}", f"{count / first.cpu:,.0f}", ""]
    cells = [f"{median(each):,.0f} {spread(each)}" for each in (speeds, efforts)]
    rows_of_table = [
        ["", "rows/s", "rows per CPU second", "goal"],
        ["first run", *first_cells],
        ["rerun", *cells, verdict(median(speeds), GOAL, at_least=True)],
    ]
    yield Table(f"Rerun of a finished job of {count:,} rows", rows_of_table)
