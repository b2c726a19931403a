"""What the journal costs by itself: time a row, and bytes on the disk.

    python tests/benchmarks/journal.py

What it costs a whole run shows the case ``cpu``. Sizes are those of the file after a run; while one
lasts, up to 32 MB of log are beside it. TMPDIR chooses the disk.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from measure import Table, verdict
from server import completion

from codesynth.journal import Journal, StoredAnswer

BYTES = 1.3
SIZES = (300, 1_200, 2_100, 4_200, 8_400)


def store(folder: Path, count: int) -> Table:
    """Store answers that came in another order than they were asked for; read them all again."""
    path, body, random = str(folder / "store.journal"), completion().payload, Random(3)
    keys = [random.randbytes(16) for _ in range(count)]
    table = [["a row", "CPU", "wall"]]

    def measure(name: str, started: tuple[float, float]) -> None:
        cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
        table.append([name, f"{cpu / count * 1e6:.1f} us", f"{wall / count * 1e6:.1f} us"])

    def now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    for group in (8, 64, 512):
        Path(path).unlink(missing_ok=True)
        order = sorted(range(count), key=lambda i: i + random.uniform(0, 512))
        with Journal(path) as journal:
            started = now()
            for start in range(0, count, group):
                journal.put(StoredAnswer(keys[i], body) for i in order[start : start + group])
            measure(f"store, {group} in a commit", started)
    with Journal(path) as journal:
        started = now()
        journal.refresh()
        measure("find out where they are", started)
        started = now()
        for key in keys:
            assert journal.get(key)
        measure("read", started)
    return Table(f"The store alone, {count:,} answers of {len(body):,} bytes", table)


def file_bytes(folder: Path, sizes: list[int]) -> float:
    """Store answers of these sizes; return what a row takes on disk."""
    path = folder / "sizes.journal"
    random = Random(1)
    with Journal(str(path)) as journal:
        for start in range(0, len(sizes), 64):
            some = sizes[start : start + 64]
            journal.put(StoredAnswer(random.randbytes(16), b"x" * size) for size in some)
    size = path.stat().st_size
    path.unlink()
    return size / len(sizes)


def size(folder: Path, count: int) -> Table:
    """Compare the file with what it holds."""
    random = Random(2)
    mixed = [int(random.lognormvariate(7, 0.7)) for _ in range(count)]
    table = [["answers", "bytes", "in the journal", "ratio", "goal"]]

    def add(name: str, answer: float, kept: float) -> None:
        ratio = kept / answer
        table.append(
            [name, f"{answer:,.0f}", f"{kept:,.0f}", f"{ratio:.2f}", verdict(ratio, BYTES)]
        )

    for each in SIZES:
        add("all of one size", each, file_bytes(folder, [each] * count))
    add("lognormal", sum(mixed) / count, file_bytes(folder, mixed))
    return Table("Bytes a row", table)


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure all."""
    yield store(folder, 20_000 if quick else 100_000)
    yield size(folder, 2_000 if quick else 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the journal costs.")
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codesynth-journal-") as folder:
        for table in tables(Path(folder), options.quick):
            print(table, flush=True)


if __name__ == "__main__":
    main()
