"""A ``gen-code`` job of all kinds of rows, whole and in parts."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support.command import bare, codesynth, instructions, lines
from support.endpoint import Endpoint
from support.replies import Received, Reply, completion, echo, error

BENCHMARK = "sort the numbers of the benchmark by their last digit and give them all back in order"


def fates(request: Received) -> Reply:
    """Answer, or fail in the way that the prompt says."""
    fate = request.prompt.split()[-1]
    return {"empty": completion(""), "refused": error(400, "no")}.get(fate) or echo(request)


class Parts:
    """One job and its parts; equal rows, bad rows, failed rows and rejected rows are in it."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.folder, self.endpoint = folder, endpoint
        endpoint.plan = fates
        self.template = bare(folder)
        self.benchmark = folder / "benchmark.txt"
        self.benchmark.write_text(BENCHMARK + "\n")
        self.rows = folder / "rows.jsonl"
        texts = [f"row {i % 19} {('ok', 'empty', 'ok', 'refused', 'ok')[i % 5]}" for i in range(30)]
        texts[7:7] = [BENCHMARK, BENCHMARK]
        self.rows.write_bytes(
            b"no json\n" + instructions(*texts) + lines({"other": 1}) + instructions("last")
        )

    def run(self, name: str, *options: object, code: int | None = None) -> str:
        """Run the job, to its end if no code is given, into ``name``; return what it says."""
        usual = ("-t", self.template, "--decontaminate", self.benchmark, "--max-retries", 0)
        command = ("gen-code", self.rows, *usual, "-o", self.folder / name)
        done = codesynth(*command, *options, endpoint=self.endpoint)
        assert done.code == code or (code is None and done.code in (0, 3)), done.err
        return done.err

    def divide(self, count: int, *options: object, name: str = "part") -> Sequence[Path]:
        """Run it in parts; return their outputs."""
        names = [f"{name}.{i}-of-{count}.jsonl" for i in range(count)]
        for i, each in enumerate(names):
            self.run(each, "--shard", f"{i}/{count}", *options)
        return [self.folder / each for each in names]

    def bytes_of(self, name: str) -> tuple[bytes, bytes]:
        """Read an output and its failures file."""
        output = self.folder / name
        return output.read_bytes(), output.with_suffix(".failures.jsonl").read_bytes()


def wait_for(condition: Callable[[], bool], timeout: float = 300.0) -> None:
    """Wait until a condition holds; TimeoutError when it does not come to that."""
    give_up = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not after {timeout} s")
        time.sleep(0.02)
