"""The command among pipes, terminals and full disks: processes, because those are the point."""

import errno
import json
import os
import pty
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import pytest
from support.command import COMMAND, bare, finished, instructions, lines, started
from support.endpoint import Endpoint
from support.replies import FOREVER, Received, Reply, completion, echo, held


def written(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    stdin = cast("IO[bytes]", process.stdin)
    stdin.write(data)
    stdin.flush()


def read_line(process: "subprocess.Popen[bytes]") -> bytes:
    return cast("IO[bytes]", process.stdout).readline()


# Standard input.


def test_an_idle_stdin_holds_back_no_finished_row(endpoint: Endpoint) -> None:
    with started("gen-code", endpoint=endpoint) as process:
        for text in ("a", "b"):
            written(process, instructions(text))
            assert json.loads(read_line(process))["instruction"] == text
        written(process, b'{"instruction": ')
        assert process.poll() is None
        out, err = process.communicate(b'"c"}', timeout=300)
    assert json.loads(out)["instruction"] == "c"
    assert (process.returncode, b"3 in: 3 ok" in err) == (0, True)


def test_limit_waits_for_no_more_than_its_rows(endpoint: Endpoint) -> None:
    with started("gen-code", "--limit", 2, endpoint=endpoint) as process:
        written(process, instructions("a", "b"))
        assert process.wait(timeout=300) == 0


def test_an_endpoint_that_refuses_everyone_ends_a_run_on_an_idle_stdin(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: Reply(401)
    with started("gen-code", endpoint=endpoint) as process:
        written(process, instructions("a"))
        assert process.wait(timeout=300) == 1
        assert cast("IO[bytes]", process.stderr).read().count(b"\n") == 1


def test_a_terminal_on_stdin_prints_the_usage(endpoint: Endpoint) -> None:
    with terminal() as (_, tty):
        for command in ("gen-code", "gen-instructions"):
            done = finished(command, endpoint=endpoint, stdin=tty)
            assert (done.code, done.out, endpoint.connections) == (2, b"", 0)
            assert done.err.startswith("Usage: ")
            assert f"Try 'codesynth {command} -h' for help." in done.err
            assert "No INPUT, and standard input is a terminal." in done.err


@pytest.mark.parametrize(
    ("closed", "code", "words"),
    [
        ("<&-", 1, "cannot read <stdin>: Bad file descriptor"),
        (">&-", 1, "cannot write <stdout>: Bad file descriptor"),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
def test_a_closed_stream_is_no_file_that_was_opened_later(
    closed: str, code: int, words: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(instructions("a"))
    shell = f'"$@" gen-code --offline --failures {tmp_path}/failed.jsonl {closed}'
    with rows.open("rb") as stdin:
        done = subprocess.run(
            ["bash", "-c", shell, "-", *COMMAND], stdin=stdin, capture_output=True, timeout=300
        )
    assert done.returncode == code
    assert words in done.stderr.decode()
    assert done.stdout.count(b"\n") == (code == 0)
    for path in tmp_path.iterdir():
        assert path == rows or path.read_bytes() == b""


# Standard output.


def test_a_closed_pipe_exits_141_at_once_and_stops_asking(endpoint: Endpoint) -> None:
    gone = threading.Event()

    def plan(request: Received) -> Reply:
        if request.n > 24:
            return Reply(delay=FOREVER)
        return held(echo(request), lambda: request.n <= 20 or gone.is_set())

    endpoint.plan = plan
    rows = instructions(*map(str, range(5000)))
    with started("gen-code", "-j", 4, endpoint=endpoint) as process:
        feeder = threading.Thread(target=feed, args=(process, rows))
        feeder.start()
        assert read_line(process)
        endpoint.wait_until(lambda e: len(e.times) == 24)
        cast("IO[bytes]", process.stdout).close()
        gone.set()
        assert process.wait(timeout=300) == 141
        feeder.join()
        err = cast("IO[bytes]", process.stderr).read().decode()
    assert "Traceback" not in err
    assert len(endpoint.received) <= 28


def feed(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    with suppress(BrokenPipeError):
        written(process, data)
        cast("IO[bytes]", process.stdin).close()


def test_a_reader_that_goes_while_nothing_is_answered_ends_the_run(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: (
        echo(request) if request.n == 1 else Reply(raw=(), end="hang", delay=FOREVER)
    )
    with started("gen-code", endpoint=endpoint) as process:
        written(process, instructions("a", "b", "c"))
        assert read_line(process)
        cast("IO[bytes]", process.stdout).close()
        assert process.wait(timeout=300) == 141


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_full_device_exits_1_with_one_line(options: tuple[str, ...], endpoint: Endpoint) -> None:
    with open("/dev/full", "wb") as full:
        done = finished(
            "gen-code", "-q", *options, stdin=instructions("a"), endpoint=endpoint, stdout=full
        )
    assert done.code == 1
    assert done.err == "codesynth: cannot write <stdout>: No space left on device\n"


@pytest.mark.parametrize("stdout", ["full", "closed pipe"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_words_that_cannot_be_written_are_told_on_one_line(stdout: str, option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    fd = os.open("/dev/full", os.O_WRONLY) if stdout == "full" else writer
    done = finished(option, stdout=fd)
    words = "codesynth: cannot write <stdout>: No space left on device\n"
    assert (done.code, done.err) == ((1, words) if stdout == "full" else (141, ""))
    for each in {fd, writer}:
        os.close(each)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_closed_stdout_is_told_on_one_line(option: str) -> None:
    line = f"exec {shlex.join([*COMMAND, option])} >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, check=False)
    words = b"codesynth: cannot write <stdout>: Bad file descriptor\n"
    assert (done.returncode, done.stderr) == (1, words)


def test_a_slow_reader_slows_the_sending(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: completion("x" * 10_000)
    rows = instructions(*map(str, range(1000)))
    with started("gen-code", "-j", 8, endpoint=endpoint) as process:
        feeder = threading.Thread(target=feed, args=(process, rows))
        feeder.start()
        assert read_line(process)
        came = settled(endpoint)
        rest = sum(1 for _ in cast("IO[bytes]", process.stdout))
        feeder.join()
        assert process.wait(timeout=300) == 0
    assert (came < 400, rest) == (True, 999)


def settled(endpoint: Endpoint) -> int:
    """Wait until no more requests come; tell how many came."""
    before = -1
    while before != len(endpoint.received):
        before = len(endpoint.received)
        time.sleep(0.3)
    return before


def test_a_non_blocking_stdout_gets_every_byte(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: completion("x" * 200_000)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with started("gen-code", endpoint=endpoint, stdout=writer) as process:
        os.close(writer)
        written(process, instructions("a", "b"))
        cast("IO[bytes]", process.stdin).close()
        with open(reader, "rb") as out:
            rows = [json.loads(line) for line in out]
        assert process.wait(timeout=300) == 0
    assert [len(row["generated_code"]) for row in rows] == [200_000] * 2


# Standard error.


@pytest.mark.parametrize("stderr", ["full", "closed pipe"])
def test_a_stderr_that_takes_nothing_ends_no_run(
    stderr: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    fd = os.open("/dev/full", os.O_WRONLY) if stderr == "full" else writer
    out = tmp_path / "out.jsonl"
    rows = instructions("a") + b"bad\n"
    done = finished("gen-code", "-o", out, stdin=rows, endpoint=endpoint, stderr=fd)
    assert (done.code, json.loads(out.read_bytes())["instruction"]) == (3, "a")
    if stderr == "full":
        os.close(fd)
    os.close(writer)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal: yields (what a person sees and types at, what a program has)."""
    person, program = pty.openpty()
    try:
        yield person, program
    finally:
        for fd in (person, program):
            with suppress(OSError):
                os.close(fd)


def seen(person: int) -> str:
    """Read all that was written to a terminal whose other end is closed."""
    data = b""
    while True:
        try:
            block = os.read(person, 65536)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            break
        if not block:
            break
        data += block
    return data.decode()


def test_a_terminal_sees_a_bar_and_a_summary_and_stdout_stays_clean(endpoint: Endpoint) -> None:
    shown = threading.Event()
    endpoint.plan = lambda request: held(echo(request), lambda: request.n < 3 or shown.is_set())
    env = {"TERM": "xterm"}
    with (
        terminal() as (person, tty),
        started("gen-code", "-j", 1, endpoint=endpoint, stderr=tty, env=env) as process,
    ):
        os.close(tty)
        written(process, instructions(*"abcd"))
        text = b""
        while b"2 ok, 0 failed" not in text:
            text += os.read(person, 65536)
        shown.set()
        out, _ = process.communicate(timeout=300)
        rest = seen(person)
    assert (process.returncode, out.count(b"\n")) == (0, 4)
    assert b"rows/s" in text
    last = rest.rstrip().splitlines()[-1]
    assert "codesynth gen-code: 4 in: 4 ok, 0 failed, 72 tokens, " in last


def test_rows_on_a_terminal_are_torn_by_no_bar(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: Reply(body=completion("x").body, delay=0.15)
    with terminal() as (person, tty):
        done = finished(
            *("gen-code", "-j", 1),
            stdin=instructions("a"),
            endpoint=endpoint,
            stdout=tty,
            stderr=tty,
        )
        os.close(tty)
        row, summary = seen(person).splitlines()
    assert (done.code, json.loads(row)["generated_code"]) == (0, "x")
    assert summary.startswith("codesynth gen-code: 1 in: 1 ok")


def test_no_color_and_quiet_are_honoured_on_a_terminal(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: Reply(body=completion("x").body, delay=0.15)
    for options, env in (((), {"NO_COLOR": "1", "TERM": "xterm"}), (("-q",), {"TERM": "xterm"})):
        with terminal() as (person, tty):
            done = finished(
                *("gen-code", "-j", 1, *options),
                stdin=instructions("a", "b"),
                endpoint=endpoint,
                stderr=tty,
                env=env,
            )
            os.close(tty)
            text = seen(person)
        assert done.code == 0
        assert "\x1b[3" not in text
        assert (text == "") == bool(options)


def test_v_tells_of_every_retry(endpoint: Endpoint) -> None:
    attempts: list[Received] = []

    def plan(request: Received) -> Reply:
        attempts.append(request)
        return echo(request) if len(attempts) > 2 else Reply(503)

    endpoint.plan = plan
    done = finished("gen-code", "-v", stdin=instructions("a"), endpoint=endpoint)
    assert (done.code, len(done.err.splitlines())) == (0, 3)
    assert done.err.count("503") == 2


# Memory.


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    peaks = []
    for count in (100, 1500):
        row = {"instruction": "a", "more": "x" * 30_000}
        rows.write_bytes(lines(row) * count)
        with Endpoint(keep=False) as plain:
            peaks.append(peak_memory(rows, plain, bare(tmp_path)))
    assert peaks[1] - peaks[0] < 15 << 20


def peak_memory(rows: Path, endpoint: Endpoint, template: Path) -> int:
    """Run gen-code over a file; return the most bytes it had in memory."""
    options = ("-t", template, "-q", "-j", 16)
    with (
        open(os.devnull, "wb") as nowhere,
        started("gen-code", rows, *options, endpoint=endpoint, stdout=nowhere) as process,
    ):
        peak = 0
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                peak = int(found[1]) << 10
            time.sleep(0.01)
    assert process.returncode == 0
    return peak
