"""What the journal costs: rows a second with it and without, and its bytes to those of answers.

    python tests/benchmarks/journal.py

The endpoint answers at once, so nothing hides behind its latency: with a real one the journal's
share is smaller by as much as that is slower. Sizes are those of the file after a run; while one
lasts, up to 8 MB of log are beside it. It takes about two minutes. TMPDIR chooses the disk.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from statistics import median

from measure import Server, Table, gen_code, interleave, spend, spread, verdict, write_rows
from server import completion

from codesynth.models import Usage
from codesynth.serving.journal import Journal

THROUGHPUT, BYTES = 0.9, 1.3
CONCURRENCIES = (64, 256)
SIZES = (300, 1_200, 2_100, 4_200, 8_400)


def speed(folder: Path, count: int, runs: int) -> Table:
    """Compare the whole command, start-up and all, with and without a journal."""
    rows = write_rows(folder / "rows.jsonl", count)
    table = [["", "rows/s", "without", "ratio", "goal", "CPU ratio"]]
    with Server() as server:
        for most in CONCURRENCIES:
            with_it = gen_code(rows, server.url, "-j", most)
            trials = {"with": with_it, "without": [*with_it, "--no-journal"]}
            found = interleave(
                {name: partial(spend, command) for name, command in trials.items()},
                runs,
                f"-j {most}",
            )
            speeds = {name: [count / used.wall for used in each] for name, each in found.items()}
            ratio = median(speeds["with"]) / median(speeds["without"])
            cpu = median(used.cpu for used in found["with"])
            cpu /= median(used.cpu for used in found["without"])
            cells = [f"{median(each):,.0f} {spread(each)}" for each in speeds.values()]
            goal = verdict(ratio, THROUGHPUT, at_least=True)
            table.append([f"-j {most}", *cells, f"{ratio:.2f}", goal, f"{cpu:.2f}"])
    return Table(f"Throughput with a journal, {count:,} rows", table)


def command_bytes(folder: Path) -> tuple[float, float]:
    """Weigh the journal that the last run left: bytes of an answer, bytes for it."""
    out = folder / "out.jsonl"
    rows = out.read_bytes().count(b"\n")
    answer = json.loads(completion().payload)["choices"][0]["message"]["content"]
    return len(answer.encode()), out.with_suffix(".journal").stat().st_size / rows


def file_bytes(folder: Path, sizes: list[int]) -> float:
    """Store answers of these sizes; return what a row takes on disk."""
    path = folder / "sizes.journal"
    random = Random(1)
    with Journal(str(path)) as journal:
        for start in range(0, len(sizes), 64):
            some = sizes[start : start + 64]
            answers = [["x" * size, "stop", "test-model", 1, [100, 300], None] for size in some]
            journal.put((random.randbytes(16), answer, Usage(100, 300)) for answer in answers)
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

    add("of the run above", *command_bytes(folder))
    for each in SIZES:
        add("all of one size", each, file_bytes(folder, [each] * count))
    add("lognormal", sum(mixed) / count, file_bytes(folder, mixed))
    return Table("Bytes a row", table)


def tables(folder: Path, quick: bool) -> Iterator[Table]:
    """Measure both."""
    yield speed(folder, 5_000 if quick else 20_000, 3 if quick else 5)
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
