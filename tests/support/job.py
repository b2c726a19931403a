"""A ``gen-code`` job with its files, to be run again and again."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from support.command import Finished, bare, codesynth, instructions, started
from support.endpoint import Endpoint
from support.replies import code_for

ABC = ["a", "b", "c"]


class Job:
    """One command line; the prompts are the rows' instructions, at first those of ``ABC``."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.endpoint, self.folder = endpoint, folder
        self.rows, self.journal = folder / "rows.jsonl", folder / "out.journal"
        self.out, self.partial = folder / "out.jsonl", folder / "out.jsonl.partial"
        self.failures = folder / "out.failures.jsonl"
        self.failed = folder / "out.failures.jsonl.partial"
        self.template = bare(folder)
        self._seen: Counter[str] = Counter()
        self.write(ABC)

    def write(self, texts: list[str]) -> None:
        self.rows.write_bytes(instructions(*texts))

    def args(self, *options: object) -> tuple[object, ...]:
        """The command line without its first word; what comes later wins."""
        return ("gen-code", self.rows, "-o", self.out, "-t", self.template, *options)

    def run(self, *options: object, code: int = 0, **env: str) -> Finished:
        """Run it in this process and see its exit code."""
        done = codesynth(*self.args(*options), endpoint=self.endpoint, env=env)
        assert done.code == code, done.err
        return done

    def started(self, *options: object, **more: Any) -> Any:
        """Start it as a process; see ``command.started``."""
        return started(*self.args(*options), endpoint=self.endpoint, **more)

    def asked(self) -> str:
        """The prompts asked since the last look, in order, each as often as it was."""
        counts = self.endpoint.counts
        new, self._seen = counts - self._seen, counts
        return "".join(sorted(new.elements()))

    def files(self) -> dict[str, bytes]:
        """What a user finds when all is over, but for the journal."""
        return {
            path.name: path.read_bytes()
            for path in sorted(self.folder.iterdir())
            if not path.name.startswith("out.journal")
        }

    def texts(self, path: Path | None = None) -> list[str]:
        """The instructions in an output of whole lines, each seen to have its own code."""
        data = (path or self.out).read_bytes()
        assert data.endswith(b"\n") or not data
        rows = [json.loads(line) for line in data.splitlines()]
        assert all(row["generated_code"] == code_for(row["instruction"]) for row in rows)
        return [row["instruction"] for row in rows]
