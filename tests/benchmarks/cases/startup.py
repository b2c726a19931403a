"""Start-up over ``python -c pass``, with bytecode: help, version, a run of one row."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from measure import (
    CODESYNTH,
    Server,
    Table,
    gen_code,
    interleave,
    spend,
    spread,
    verdict,
    write_rows,
)

NOTHING = "python -c pass"
SCRIPT = Path(sys.executable).with_name("codesynth")
GOALS = {"codesynth --help": 3.2, "codesynth --version": 2.0}


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure the installed script, or ``python -m codesynth`` where there is none."""
    row = write_rows(folder / "row.jsonl", 1)
    command = [str(SCRIPT)] if SCRIPT.exists() else CODESYNTH
    with Server() as server:
        commands = {
            NOTHING: [sys.executable, "-c", "pass"],
            "codesynth --version": [*command, "--version"],
            "codesynth --help": [*command, "--help"],
            "codesynth gen-code --help": [*command, "gen-code", "--help"],
            "codesynth gen-code, one row": gen_code(row, server.url),
        }
        trials = {name: partial(spend, each) for name, each in commands.items()}
        for trial in trials.values():  # writes the bytecode
            trial()
        got = interleave(trials, 7 if quick else 25, "start-up")
    rows = [["start-up", "wall ms", "wall ratio", "CPU ms", "CPU ratio", "goal"]]
    for name, used in got.items():
        cells: list[str] = []
        ratios: list[float] = []
        for kind in ("wall", "cpu"):
            seconds = [getattr(each, kind) for each in used]
            ratios.append(median(seconds) / median(getattr(each, kind) for each in got[NOTHING]))
            cells += [f"{median(seconds) * 1e3:.0f} {spread(seconds)}", f"{ratios[-1]:.2f}"]
        goal = GOALS.get(name)
        rows.append([name, *cells, verdict(ratios[0], goal) if goal else ""])
    how = "the installed script" if SCRIPT.exists() else "python -m codesynth"
    yield Table("Start-up", rows, [f"codesynth is {how}; the goal is one of wall time"])
