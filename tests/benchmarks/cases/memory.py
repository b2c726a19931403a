"""Peak memory of the command over how many rows there are, through a pipe, with a journal.

The rows have 1 KB and come as fast as they are taken. "Stalled" is a first row that is answered
after all others, so that all wait for it; "slow" a reader that takes 2,000 rows a second.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from measure import PIPE, Process, Server, Table, Used, gen_code_pipe, row, tell, verdict

SIZE, BLOCK = 1_000, 1 << 16
SLOW = 2_000
MOST, GROWTH = 120, 20


@dataclass(frozen=True, slots=True)
class Shape:
    """How many rows, and what is in their way."""

    rows: int
    stalled: bool = False
    slow: bool = False

    def __str__(self) -> str:
        what = ", first row stalled" * self.stalled + ", slow reader" * self.slow
        return f"{self.rows:,} rows{what}"


def feed(pipe: IO[bytes], shape: Shape) -> None:
    """Write the rows, and close."""
    with pipe:
        for number in range(shape.rows):
            line = row(number, SIZE)
            stalled = shape.stalled and number == 0
            pipe.write(line.replace(b'"0 ', b'"0 stalled ') if stalled else line)


def drain(pipe: IO[bytes], shape: Shape) -> int:
    """Read to the end, slowly or not; return the lines."""
    lines, started = 0, time.monotonic()
    while block := pipe.read(BLOCK):
        lines += block.count(b"\n")
        if shape.slow:
            time.sleep(max(0.0, started + lines / SLOW - time.monotonic()))
    return lines


def run(folder: Path, shape: Shape) -> Used:
    """Run it; see that every row came out."""
    tell(f"memory: {shape}")
    with Server(*(["--stall", str(shape.rows)] if shape.stalled else [])) as server:
        options = ("-j", 256, "--journal", folder / "journal", "--overwrite")
        process = Process(gen_code_pipe(server.url, *options), stdin=PIPE, stdout=PIPE)
        into, out = process.popen.stdin, process.popen.stdout
        assert into is not None
        assert out is not None
        feeder = threading.Thread(target=feed, args=(into, shape), daemon=True)
        feeder.start()
        lines = drain(out, shape)
        used = process.wait()
        feeder.join()
        out.close()
    assert lines == shape.rows
    return used


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure."""
    few, many = 10_000, 100_000
    shapes = [Shape(few), Shape(few, stalled=True), Shape(few, slow=True), Shape(many)]
    if not quick:
        shapes += [Shape(many, stalled=True), Shape(many, slow=True), Shape(1_000_000)]
    rows = [["c=256", "peak MB", "rows/s", "goal", "over 10,000 rows", "goal"]]
    least = 0.0
    for shape in shapes:
        used = run(folder, shape)
        least = least or used.peak
        more = used.peak - least
        cells = [f"{used.peak:.0f}", f"{shape.rows / used.wall:,.0f}", verdict(used.peak, MOST)]
        rows.append([str(shape), *cells, f"{more:+.0f} MB", verdict(more, GROWTH)])
    yield Table("Peak memory", rows)
