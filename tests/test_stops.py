"""Everything that can end a run early: rows are whole, answers are kept, the exit code tells."""

import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.command import finished, instructions, started
from support.endpoint import Endpoint
from support.files import rows_of
from support.job import Job
from support.parts import wait_for
from support.replies import Plan, Received, Reply, completion, echo, held

MANY = [str(i) for i in range(40)]


def late(seconds: float, plan: Plan = echo) -> Plan:
    return lambda request: replace(plan(request), delay=seconds)


@pytest.fixture
def job(tmp_path: Path, endpoint: Endpoint) -> Job:
    job = Job(tmp_path, endpoint)
    job.write(MANY)
    return job


def has_come(count: int) -> Callable[[Endpoint], bool]:
    return lambda endpoint: len(endpoint.times) >= count


HANG = 300
"""Seconds that nothing takes, not even on a slow machine."""


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """See the process end without a traceback; return its code and its words."""
    _, err = process.communicate(timeout=HANG)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, err.decode()


def handled(process: "subprocess.Popen[bytes]") -> Callable[[], bool]:
    """Watch for the handling of a signal that comes later: it starts a thread with a timer."""
    threads = Path(f"/proc/{process.pid}/task")
    before = set(threads.iterdir())
    return lambda: not set(threads.iterdir()) <= before


def goes_on(job: Job, *options: object) -> None:
    """See that a rerun ends well and that no answer was asked for twice in all."""
    job.endpoint.plan = echo
    job.run(*options)
    assert job.texts() == MANY
    assert set(job.endpoint.counts.values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_sending_and_keeps_what_is_in_flight(
    job: Job, number: signal.Signals
) -> None:
    signalled = threading.Event()

    def plan(request: Received) -> Reply:
        if 8 < request.n <= 12:
            return held(echo(request), signalled.is_set)
        # Those behind them are asked only between the signal and the next look at it.
        return replace(echo(request), delay=0.4 if request.n > 12 else 0)

    job.endpoint.plan = plan
    with job.started("-j", 4) as process:
        job.endpoint.wait_until(has_come(12))
        is_noticed = handled(process)
        process.send_signal(number)
        wait_for(is_noticed)
        signalled.set()
        code, err = ended(process)
    assert code == 128 + number
    assert len(err.splitlines()) == 1
    assert 12 <= len(job.endpoint.times) < len(MANY)
    assert job.texts(job.partial) == MANY[: len(job.endpoint.times)]
    goes_on(job)


def test_a_second_signal_ends_it_at_once(job: Job) -> None:
    job.endpoint.plan = late(3600)
    with job.started("-j", 4) as process:
        job.endpoint.wait_until(has_come(4))
        is_noticed = handled(process)
        process.send_signal(signal.SIGTERM)
        wait_for(is_noticed)
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130


def test_an_interrupt_while_modules_are_loaded_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    done = finished("gen-code", "--offline", env={"PYTHONPATH": str(tmp_path)})
    assert (done.code, done.out, done.err) == (130, b"", "")


def test_neither_a_hanging_endpoint_nor_a_stuck_reader_outlasts_a_signal(job: Job) -> None:
    """The one that takes seconds: what is in flight gets three, the process five."""
    job.endpoint.plan = lambda request: (
        completion("x" * 10_000) if request.prompt < "3" else replace(echo(request), delay=3600)
    )
    writing = ("gen-code", job.rows, "-t", job.template, "-j", 40)
    with job.started("-j", 40) as hanging, started(*writing, endpoint=job.endpoint) as stuck:
        job.endpoint.wait_until(has_come(80))
        wait_for(lambda: job.partial.read_bytes().count(b"\n") >= 3)
        hanging.send_signal(signal.SIGTERM)
        stuck.send_signal(signal.SIGTERM)
        assert hanging.wait(HANG) == 143
        assert stuck.wait(HANG) == 143
    assert len(whole_lines(job.partial)) == 23  # those behind the hanging ones too
    job.endpoint.plan = echo
    job.asked()
    job.run()
    assert job.asked() == "".join(sorted(text for text in MANY if text >= "3"))


def test_a_signal_ends_a_run_that_waits_for_its_input(endpoint: Endpoint) -> None:
    with started("gen-code", endpoint=endpoint) as process:
        process.stdin.write(instructions("a"))
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG) == 143


def test_a_signal_that_was_ignored_from_the_start_stays_ignored(job: Job) -> None:
    def nohup() -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    signalled = threading.Event()
    job.endpoint.plan = lambda request: held(
        echo(request), lambda: request.n < 9 or signalled.is_set()
    )
    with job.started("-j", 4, preexec_fn=nohup) as process:
        job.endpoint.wait_until(has_come(9))
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        signalled.set()
        assert ended(process)[0] == 0
    assert job.texts() == MANY


def test_a_reader_that_goes_loses_no_answer_that_is_in_flight(job: Job) -> None:
    gone = threading.Event()
    job.endpoint.plan = lambda request: held(echo(request), lambda: request.n < 9 or gone.is_set())
    args = ("gen-code", job.rows, "-t", job.template, "--journal", job.journal, "-j", 4)
    with started(*args, endpoint=job.endpoint) as process:
        process.stdout.readline()
        job.endpoint.wait_until(has_come(12))
        process.stdout.close()
        gone.set()
        assert process.wait(HANG) == 141
        assert process.stderr.read() == b""
    goes_on(job, "--journal", job.journal)


def whole_lines(path: Path) -> list[Any]:
    assert path.read_bytes()[-1:] in (b"\n", b"")
    return rows_of(path)


def long(request: Received) -> Reply:
    text = request.prompt.zfill(9_000)
    return completion(text, "length" if request.prompt.endswith("7") else "stop")


def asks_only_what_was_not_written(job: Job, *options: object) -> None:
    """Run to the end; what was handed on before is not asked again."""
    files = [path for path in (job.partial, job.failed) if path.exists()]  # not if it is empty
    written, asked = sum(len(whole_lines(path)) for path in files), len(job.endpoint.received)
    job.run(*options, code=3)
    assert len(job.endpoint.received) - asked <= len(MANY) - written


def limited(which: int, number: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (number, number))


@pytest.mark.parametrize("options", [("--no-journal",), ()])
def test_a_limit_on_the_size_of_files_ends_it_with_whole_lines(
    job: Job, options: tuple[str, ...]
) -> None:
    def has_begun() -> bool:
        return job.partial.exists() and job.partial.stat().st_size > 0

    # All answers at once would be too much for the journal, and no row would be written.
    job.endpoint.plan = lambda request: held(long(request), lambda: request.n <= 4 or has_begun())
    with job.started(
        "-j", 4, *options, preexec_fn=limited(resource.RLIMIT_FSIZE, 300_000)
    ) as process:
        code, err = ended(process)
    assert (code, "cannot" in err.splitlines()[-1]) == (1, True)
    assert whole_lines(job.partial)
    if not options:
        asks_only_what_was_not_written(job)


def test_an_endpoint_that_does_not_come_back_ends_the_run(job: Job) -> None:
    job.endpoint.plan = lambda request: late(3600 if request.n > 20 else 0)(request)

    def stop() -> None:
        job.endpoint.wait_until(has_come(24))
        job.endpoint.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    told = job.run("-j", 4, "--max-outage", 0.5, code=1).err
    stopper.join()
    assert "No request has succeeded for --max-outage seconds. Run again to resume" in told
    assert "0 failed" in told
    kept = job.texts(job.partial)
    assert len(kept) == 20
    assert kept == [text for text in MANY if text in kept]
    job.endpoint.plan = echo
    job.endpoint.start()
    before = job.endpoint.counts
    job.run()
    assert job.texts() == MANY
    assert not set(job.endpoint.counts - before) & set(kept)
