"""The command among pipes, terminals and full disks: mostly processes, because those count."""

import json
import os
import re
import shlex
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.command import COMMAND, bare, codesynth, finished, instructions, lines, started
from support.endpoint import Endpoint
from support.faults import FAULTS
from support.replies import FOREVER, Received, Reply, completion, echo, healing, held
from support.terminal import on_a_terminal


def written(process: Any, data: bytes) -> None:
    process.stdin.write(data)
    process.stdin.flush()


def feed(process: Any, data: bytes) -> None:
    with suppress(BrokenPipeError):
        written(process, data)
        process.stdin.close()


# Standard input.


def test_an_idle_stdin_holds_back_no_finished_row(endpoint: Endpoint) -> None:
    with started("gen-code", endpoint=endpoint) as process:
        for text in ("a", "b"):
            written(process, instructions(text))
            assert json.loads(process.stdout.readline())["instruction"] == text
        written(process, b'{"instruction": ')
        assert process.poll() is None
        out, err = process.communicate(b'"c"}', timeout=300)
    assert json.loads(out)["instruction"] == "c"
    assert (process.returncode, b"3 in: 3 ok" in err) == (0, True)


@pytest.mark.parametrize("command", ["gen-code", "gen-instructions"])
def test_a_terminal_on_stdin_prints_the_usage(command: str, endpoint: Endpoint) -> None:
    done, _ = on_a_terminal(command, streams=("stdin",), endpoint=endpoint)
    assert (done.code, done.out, endpoint.connections) == (2, b"", 0)
    assert done.err.startswith("Usage: ")
    assert f"Try 'codesynth {command} -h' for help." in done.err
    assert "No INPUT, and standard input is a terminal." in done.err


@pytest.mark.parametrize(
    ("closed", "words"),
    [("<&-", b"is closed. Try /dev/null"), (">&-", b"is closed"), ("2>&-", b"")],
)
def test_a_closed_stream_is_refused(closed: str, words: bytes) -> None:
    shell = f"{shlex.join(COMMAND)} gen-code --offline {closed}"
    done = subprocess.run(["bash", "-c", shell], stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout, words in done.stderr) == (1, b"", True)


# Standard output.


def test_a_closed_pipe_exits_141_at_once_and_stops_asking(endpoint: Endpoint) -> None:
    gone = threading.Event()

    def plan(request: Received) -> Reply:
        if request.n > 24:
            return Reply(delay=FOREVER)
        return held(echo(request), lambda: request.n <= 20 or gone.is_set())

    endpoint.plan = plan
    rows = instructions(*map(str, range(1000)))
    with started("gen-code", "-j", 4, endpoint=endpoint) as process:
        feeder = threading.Thread(target=feed, args=(process, rows))
        feeder.start()
        assert process.stdout.readline()
        endpoint.wait_until(lambda e: len(e.times) == 24)
        process.stdout.close()
        gone.set()
        assert process.wait(timeout=300) == 141
        feeder.join()
        err = process.stderr.read().decode()
    assert "Traceback" not in err
    assert len(endpoint.received) <= 28


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_full_device_exits_1_with_one_line(options: tuple[str, ...], endpoint: Endpoint) -> None:
    stdin = instructions("a")
    with open("/dev/full", "wb") as full:
        done = finished("gen-code", "-q", *options, stdin=stdin, endpoint=endpoint, stdout=full)
    assert done.code == 1
    assert done.err == "codesynth gen-code: cannot write <stdout>: No space left on device\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize(
    ("stdout", "code", "words"),
    [
        (">/dev/full", 1, "cannot write <stdout>: No space left on device\n"),
        ("", 141, ""),  # a pipe that nobody reads
    ],
)
def test_words_that_cannot_be_written_are_told_on_one_line(
    option: str, stdout: str, code: int, words: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = f"{shlex.join([*COMMAND, option])} {stdout}"
    with open(writer, "wb") as pipe:
        done = subprocess.run(["bash", "-c", line], stdout=pipe, stderr=subprocess.PIPE)
    expected = words and f"codesynth {option}: {words}"
    assert (done.returncode, done.stderr.decode()) == (code, expected)


def test_a_slow_reader_slows_the_sending(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: completion("x" * 10_000)
    rows = instructions(*map(str, range(300)))
    with started("gen-code", "-j", 8, endpoint=endpoint) as process:
        feeder = threading.Thread(target=feed, args=(process, rows))
        feeder.start()
        assert process.stdout.readline()
        came = settled(endpoint)
        rest = sum(1 for _ in process.stdout)
        feeder.join()
        assert process.wait(timeout=300) == 0
    assert (came < 200, rest) == (True, 299)


def settled(endpoint: Endpoint) -> int:
    """Wait until no more requests come; tell how many came."""
    before = -1
    while before != len(endpoint.received):
        before = len(endpoint.received)
        time.sleep(0.3)
    return before


# Standard error.


@pytest.mark.parametrize("stderr", ["full", "closed pipe"])
def test_a_stderr_that_takes_nothing_ends_no_run(
    stderr: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out, rows = tmp_path / "out.jsonl", instructions("a") + b"bad\n"
    with open("/dev/full", "wb") as full, open(writer, "wb") as pipe:
        where = {"endpoint": endpoint, "stderr": full if stderr == "full" else pipe}
        done = finished("gen-code", "-o", out, stdin=rows, **where)
    assert (done.code, json.loads(out.read_bytes())["instruction"]) == (3, "a")


def test_a_terminal_sees_a_bar_and_a_summary_and_stdout_stays_clean(endpoint: Endpoint) -> None:
    screen = bytearray()
    endpoint.plan = lambda request: held(
        echo(request), lambda: request.n < 3 or b"2 ok, 0 failed" in screen
    )
    given = {"stdin": instructions(*"abcd"), "endpoint": endpoint, "env": {"TERM": "xterm"}}
    command = ("gen-code", "-j", 1)
    done, shown = on_a_terminal(*command, streams=("stderr",), screen=screen, **given)
    assert (done.code, len(done.rows), b"rows/s" in shown) == (0, 4, True)
    last = shown.decode().rstrip().splitlines()[-1]
    assert "codesynth gen-code: 4 in: 4 ok, 0 failed, 72 tokens, " in last


@pytest.mark.parametrize(
    ("streams", "options", "env"),
    [
        (("stdout", "stderr"), (), {}),
        (("stderr",), (), {"NO_COLOR": "1", "TERM": "xterm"}),
        (("stderr",), ("-q",), {"TERM": "xterm"}),
    ],
)
def test_a_terminal_for_rows_and_no_color_and_quiet_are_honoured(
    endpoint: Endpoint, streams: tuple[str, ...], options: tuple[str, ...], env: dict[str, str]
) -> None:
    endpoint.plan = lambda request: completion("x", delay=0.15)
    command = ("gen-code", "-j", 1, *options)
    stdin = instructions("a")
    done, shown = on_a_terminal(*command, streams=streams, stdin=stdin, endpoint=endpoint, env=env)
    assert (done.code, b"\x1b[3" in shown, shown == b"") == (0, False, bool(options))
    if "stdout" in streams:  # no bar tears the row
        row, summary = shown.splitlines()
        assert json.loads(row)["generated_code"] == "x"
        assert summary.startswith(b"codesynth gen-code: 1 in: 1 ok")


def test_v_tells_of_every_retry(endpoint: Endpoint) -> None:
    endpoint.plan = healing(FAULTS["retry_after_ms"].plan, times=2)
    done = codesynth("gen-code", "-v", stdin=instructions("a"), endpoint=endpoint)
    first, second, _ = done.err.splitlines()
    assert "<stdin>:1: rate_limited: status 429; attempt 2 of 6 in 0.2 s" in first
    assert "<stdin>:1: rate_limited: status 429; attempt 3 of 6 in 0.2 s" in second


# Memory.


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    peaks = []
    for count in (100, 700):
        row = {"instruction": "a", "more": "x" * 30_000}
        rows.write_bytes(lines(row) * count)
        with Endpoint(keep=False) as plain:
            peaks.append(peak_memory(rows, count, plain, bare(tmp_path)))
    assert peaks[1] - peaks[0] < 8 << 20


def peak_memory(rows: Path, count: int, endpoint: Endpoint, template: Path) -> int:
    """Run gen-code over a file; return the most bytes it has had in memory at the last row."""
    command = ("gen-code", rows, "-", "-t", template, "-q", "-j", 16)  # stdin keeps it running
    with started(*command, endpoint=endpoint) as process:
        for _ in range(count):
            assert process.stdout.readline()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.communicate(timeout=300)
    assert process.returncode == 0
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) << 10
