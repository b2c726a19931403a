"""Kill a run at random moments until it is through, and see that nothing was lost or paid twice.

    python tests/benchmarks/crash.py

The endpoint fails in every way that passes and in some that last. At the end the output is the
same, byte for byte, as that of a run that was left alone, and so are the failures (but for their
number of attempts: whether a kept connection has gone stale is chance). No row that was in the
output at a kill was asked again. Answers that the server had sent to their end at a kill and was
asked for again are counted: they were on their way to the journal's disk. Such can only be those
of the requests in flight and of what came in while the journal synced.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parents[1]))

from support.command import COMMAND, bare, environment, instructions
from support.endpoint import Endpoint
from support.faults import Mixed
from support.replies import Received

from codesynth.models import UNUSABLE_ANSWERS


@dataclass
class Report:
    """What a ``Crash`` found.

    Attributes:
        same: the output and the failures are those of the run that was left alone.
        rewritten: prompts that were asked again though their rows were written.
        again: answers that were sent whole and asked for again, by the number of the kill.
    """

    rows: int
    in_flight: int
    kills: int = 0
    seconds: float = 0.0
    same: bool = False
    rewritten: list[str] = field(default_factory=list)
    again: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        mean, most = self.again.total() / max(1, self.kills), max(self.again.values(), default=0)
        return (
            f"{self.kills} kills over {self.rows} rows in {self.seconds:.0f} s: "
            f"{'the same bytes' if self.same else 'OTHER BYTES'}; "
            f"asked again: {len(self.rewritten)} rows that were written, "
            f"{self.again.total()} answers that were sent ({mean:.1f} a kill, at most {most}; "
            f"{self.in_flight} in flight)"
        )


class Crash:
    """One job, run to its end first, and then killed again and again.

    Args:
        longest: seconds that a run gets to live, at most.
    """

    def __init__(
        self, folder: Path, *, rows: int, in_flight: int, longest: float, seed: int
    ) -> None:
        self.folder, self.in_flight, self.longest = folder, in_flight, longest
        self.random = Random(seed)
        self.plan = Mixed(seed, stubborn=0, hanging=0, latency=0.02)
        self.input, self.template = folder / "rows.jsonl", bare(folder)
        self.input.write_bytes(instructions(*(f"task {i}" for i in range(rows))))
        self.report = Report(rows, in_flight)

    def run(self, kills: int, seconds: float) -> Report:
        """Kill so many runs, or for so many seconds; then let one end."""
        started, moments = time.monotonic(), list[float]()
        written: dict[str, int] = {}
        with Endpoint(self.plan, keep=False) as endpoint:
            assert self.start(endpoint, "whole").wait() == 3
        with Endpoint(self.plan) as endpoint:
            while len(moments) < kills and time.monotonic() - started < seconds:
                process = self.start(endpoint, "out")
                time.sleep(self.random.uniform(0.0, self.longest))
                process.kill()
                process.wait()
                moments.append(time.monotonic())
                for text in self.written():
                    written.setdefault(text, len(moments) - 1)
            assert self.start(endpoint, "out").wait() == 3
        self.judge(endpoint.received, moments, written)
        self.report.same = self.result("out") == self.result("whole")
        self.report.kills, self.report.seconds = len(moments), time.monotonic() - started
        return self.report

    def start(self, endpoint: Endpoint, out: str) -> "subprocess.Popen[bytes]":
        command = [*COMMAND, "gen-code", self.input, "-t", self.template, "-q"]
        command += ["-o", self.folder / f"{out}.jsonl", "-j", str(self.in_flight)]
        return subprocess.Popen(command, env=environment(endpoint))

    def written(self) -> list[str]:
        """The rows that are in the output now, finished or not; a torn last line is none."""
        for name in ("out.jsonl.partial", "out.jsonl"):
            path = self.folder / name
            if path.exists():
                lines = path.read_bytes().split(b"\n")[:-1]
                return [json.loads(line)["instruction"] for line in lines]
        return []

    def judge(
        self, received: list[Received], moments: list[float], written: dict[str, int]
    ) -> None:
        by_prompt: defaultdict[str, list[Received]] = defaultdict(list)
        for request in received:
            by_prompt[request.prompt].append(request)
        for prompt, asked in by_prompt.items():
            if prompt in written and asked[-1].time > moments[written[prompt]]:
                self.report.rewritten.append(prompt)
            paid = [request.finished for request in asked if self.is_paid(request)]
            answered = min((end for end in paid if end is not None), default=float("inf"))
            for request in asked:
                if request.time > answered:
                    self.report.again[bisect(moments, request.time)] += 1

    def is_paid(self, request: Received) -> bool:
        """Tell whether the plan answered it, usably or not."""
        fault, failures = self.plan.fate(request.prompt)
        if fault is None or request.attempt > failures:
            return True
        return bool({"ok", *UNUSABLE_ANSWERS} & set(fault.kinds))

    def result(self, out: str) -> tuple[bytes, bytes]:
        failures = (self.folder / f"{out}.failures.jsonl").read_bytes()
        failures = re.sub(rb'"attempts":\d+', b"", failures)
        return (self.folder / f"{out}.jsonl").read_bytes(), failures


def main() -> None:
    """Print the report; fail where anything was lost or a written row was asked again."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("-j", type=int, default=8, help="requests in flight")
    parser.add_argument("--longest", type=float, default=1.2, help="seconds a run lives, at most")
    parser.add_argument("--seconds", type=float, default=300, help="no more kills after them")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codesynth-crash-") as folder:
        crash = Crash(
            Path(folder),
            rows=options.rows,
            in_flight=options.j,
            longest=options.longest,
            seed=options.seed,
        )
        report = crash.run(options.kills, options.seconds)
    print(report)
    if report.rewritten or not report.same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
