"""Kill runs of batch jobs at random moments, and see that no batch was lost or paid for twice.

    python tests/benchmarks/batch_crash.py

Each job has four batches. Its runs are killed while they upload, make batches, poll and download,
until one ends by itself. At the end the output is that of a run that was left alone, byte for byte,
and no request was answered by two batches.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parents[1]))

from support.batches import BatchServer, Fault
from support.command import COMMAND, bare, instructions

BATCHES = 4
OPTIONS = ("--batch", "--batch-size", "25", "--model", "test-model", "-q")


@dataclass
class Report:
    """What a ``BatchCrash`` found.

    Attributes:
        moments: the call that was under way at each kill; "no call" for none.
        other_bytes: jobs whose output is not that of the run that was left alone.
        doubled: requests that more than one batch has answered.
    """

    jobs: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    other_bytes: int = 0
    doubled: int = 0


class BatchCrash:
    """Jobs that are killed again and again.

    Args:
        longest: seconds that a run gets to live, at most.
        delays: seconds that the server takes for a call, drawn from these.
    """

    def __init__(
        self,
        folder: Path,
        *,
        longest: float,
        seed: int,
        delays: Sequence[float] = (0.02, 0.05, 0.1, 0.8),
    ) -> None:
        self.folder, self.longest, self.random = folder, longest, Random(seed)
        self.delays, self.report = delays, Report()
        self.input, self.template = folder / "rows.jsonl", bare(folder)
        self.input.write_bytes(instructions(*(f"task {i}" for i in range(25 * BATCHES))))

    def run(self, kills: int, seconds: float) -> Report:
        """Kill so many runs, or for so many seconds; each job is brought to its end."""
        end = time.monotonic() + seconds
        with BatchServer() as server:
            assert self.start(server, "whole").wait(600) == 0
        while self.report.moments.total() < kills and time.monotonic() < end:
            with BatchServer() as server:
                server.delay = lambda: self.random.choice(self.delays)
                server.faults = [self.fault() for _ in range(BATCHES)]
                self.run_job(server, kills)
        return self.report

    def run_job(self, server: BatchServer, kills: int) -> None:
        report, out = self.report, f"out{self.report.jobs}"
        code = -9
        while code == -9:
            process = self.start(server, out)
            may_kill = report.moments.total() < kills
            try:
                code = process.wait(self.random.uniform(0.1, self.longest) if may_kill else 600)
            except subprocess.TimeoutExpired:
                report.moments[server.now if server.in_flight else "no call"] += 1
                process.kill()
                code = process.wait()
                assert may_kill, "a run that is left alone does not end"
        assert code == 0
        report.jobs += 1
        report.other_bytes += self.output(out) != self.output("whole")
        report.doubled += sum(n > 1 for n in server.finished().values())

    def fault(self) -> Fault:
        """Draw what becomes of a batch: half of them expire in part."""
        answered = self.random.choice((1.0, 1.0, 0.5, 0.9))
        status = "completed" if answered == 1.0 else "expired"
        return Fault(status=status, polls=self.random.randrange(2), answered=answered)

    def start(self, server: BatchServer, out: str) -> "subprocess.Popen[bytes]":
        command = [*COMMAND, "gen-code", self.input, "-t", self.template, *OPTIONS]
        command += ["-o", self.folder / f"{out}.jsonl", "--base-url", server.base_url]
        return subprocess.Popen(command)

    def output(self, out: str) -> bytes:
        return (self.folder / f"{out}.jsonl").read_bytes()


def main() -> None:
    """Print the report; fail where anything was lost or paid for twice."""
    parser = argparse.ArgumentParser(description="Kill batch jobs at random moments.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds a run lives, at most")
    parser.add_argument("--seconds", type=float, default=600, help="no more kills after them")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codesynth-crash-") as folder:
        crash = BatchCrash(Path(folder), longest=options.longest, seed=options.seed)
        report = crash.run(options.kills, options.seconds)
    print(report)
    if report.other_bytes or report.doubled:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
