"""Running ``codesynth``: inside this process where the process is not the point, else as one.

done = codesynth("gen-code", "--offline", stdin=b'{"instruction": "Add."}\\n')
assert (done.code, len(done.rows)) == (0, 1)
"""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codesynth import run
from codesynth.__main__ import main
from support.endpoint import Endpoint

KEY = "sk-secret-key"
COMMAND = [sys.executable, "-m", "codesynth"]


@dataclass(frozen=True)
class Finished:
    """What a run of the command left behind."""

    code: int
    out: bytes
    err: str

    @property
    def rows(self) -> list[Any]:
        """The lines of stdout, each parsed by itself."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(endpoint: Endpoint | None, **more: str) -> dict[str, str]:
    """Name the endpoint and the key in an environment that is this process's otherwise."""
    where = {"OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": KEY} if endpoint else {}
    own = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**own, **where, **more}


def codesynth(
    *args: object,
    stdin: bytes | int = b"",
    stdout: int | None = None,
    stderr: int | None = None,
    endpoint: Endpoint | None = None,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run the command line in this process, with files or these descriptors for its streams."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin if isinstance(stdin, bytes) else b"")
        files[0].seek(0)
        given = (stdin if isinstance(stdin, int) else None, stdout, stderr)
        fds = [file.fileno() if fd is None else fd for file, fd in zip(files, given, strict=True)]
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "argv", ["codesynth", *map(str, args)])
        for name, value in environment(endpoint, **(env or {})).items():
            patch.setenv(name, value)
        # a pager is started with Ctrl-C ignored, which would last
        stack.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        with _streams(*fds):
            code = _exit_code()
            # a late feeder would read the standard input of the next run
            for thread in threading.enumerate():
                if thread.name.startswith("codesynth"):
                    thread.join(300)
        for file in files:
            file.seek(0)
        return Finished(code, files[1].read(), files[2].read().decode())


def _exit_code() -> int:
    try:
        main()
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


@contextmanager
def _streams(*fds: int) -> Iterator[None]:
    """Put descriptors in the place of 0, 1 and 2."""
    saved = [os.dup(number) for number in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        try:
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
            for number, name in ((1, "stdout"), (2, "stderr")):
                binary = open(number, "wb", closefd=False)
                text = io.TextIOWrapper(binary, "utf-8", "backslashreplace", line_buffering=True)
                patch.setattr(sys, name, text)
            yield
            sys.stdout.flush()
        finally:
            for number, fd in enumerate(saved):
                os.dup2(fd, number)
                os.close(fd)


def run_out_of_time(patch: pytest.MonkeyPatch, when: Callable[[], bool]) -> None:
    """Let ``--max-time`` be over as soon as ``when()`` is true."""
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 1e6 * when(), time=time.time)
    patch.setattr(run, "time", clock)


@contextmanager
def started(
    *args: object,
    endpoint: Endpoint | None = None,
    env: Mapping[str, str] | None = None,
    **pipes: Any,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the command as a process, with pipes for its streams; kill what is left of it."""
    streams = {name: pipes.pop(name, subprocess.PIPE) for name in ("stdin", "stdout", "stderr")}
    command = [*COMMAND, *map(str, args)]
    with subprocess.Popen(
        command, env=environment(endpoint, **(env or {})), **streams, **pipes
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(*args: object, stdin: bytes | int = b"", **more: Any) -> Finished:
    """Run the command as a process to its end; ``stdin`` is what it reads, or a descriptor."""
    data = stdin if isinstance(stdin, bytes) else None
    if data is None:
        more["stdin"] = stdin
    with started(*args, **more) as process:
        out, err = process.communicate(data, timeout=600)
        return Finished(process.returncode, out or b"", (err or b"").decode())


def lines(*rows: Any) -> bytes:
    """Write rows as JSONL."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def instructions(*texts: str) -> bytes:
    """Write rows with an ``instruction`` each."""
    return lines(*({"instruction": text} for text in texts))


def bare(folder: Path, text: str = "{instruction}") -> Path:
    """Write a template that asks a row's instruction and nothing else."""
    path = folder / "bare.txt"
    path.write_text(text)
    return path


ONE = instructions("a")
POOL = lines(*({"prompt": f"prompt {i}"} for i in range(10)))


def gen_code(endpoint: Endpoint | None, *options: object, stdin: bytes = ONE) -> Finished:
    """Run ``gen-code`` in this process."""
    return codesynth("gen-code", *options, stdin=stdin, endpoint=endpoint)


def gen_instructions(endpoint: Endpoint | None, *options: object, stdin: bytes = POOL) -> Finished:
    """Run ``gen-instructions`` in this process."""
    return codesynth("gen-instructions", *options, stdin=stdin, endpoint=endpoint)
