"""Everything that can end a run early: rows are whole, answers are kept, the exit code tells."""

import contextlib
import ctypes
import json
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.command import COMMAND, Finished, environment, finished, instructions, started
from support.endpoint import Endpoint
from support.files import rows_of
from support.job import Job
from support.parts import wait_for
from support.replies import Plan, Received, Reply, completion, echo, error, held

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


SMALL_DISK = """
mount -t tmpfs -o size={size} tmpfs {folder} && "$@"
code=$?
cp -a {folder}/. {kept}
exit $code
"""


def on_a_small_disk(job: Job, size: int, *options: object) -> Finished:
    """Run the job where ``disk`` is a file system of ``size`` bytes; copy what is there then."""
    folder = job.folder / "disk"
    script = SMALL_DISK.format(size=size, folder=folder, kept=job.folder / "kept")
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
            command = [*unshare, *COMMAND, *map(str, job.args(*options))]
            done = subprocess.run(command, env=environment(job.endpoint), capture_output=True)
            return Finished(done.returncode, done.stdout, done.stderr.decode())
    pytest.skip("no file system can be mounted here")


@pytest.fixture
def disk(job: Job) -> Path:
    (job.folder / "kept").mkdir()
    disk = job.folder / "disk"
    disk.mkdir()
    return disk


def whole_lines(path: Path) -> list[Any]:
    assert path.read_bytes()[-1:] in (b"\n", b"")
    return rows_of(path)


def long(request: Received) -> Reply:
    text = request.prompt.zfill(9_000)
    return completion(text, "length" if request.prompt.endswith("7") else "stop")


def test_a_full_disk_under_the_output_loses_no_answer(job: Job, disk: Path) -> None:
    job.endpoint.plan = late(0.02, long)
    done = on_a_small_disk(job, 128 << 10, "-o", disk / "o.jsonl", "--journal", job.journal)
    assert done.code == 1
    full = rf"cannot write {disk}/o(\.failures)?\.jsonl: No space left on device"  # as it happens
    assert re.search(full, done.err)
    assert 10 < len(whole_lines(job.folder / "kept/o.jsonl.partial")) < 20
    job.run("--journal", job.journal, code=3)
    assert set(job.endpoint.counts.values()) == {1}


def asks_only_what_was_not_written(job: Job, *options: object) -> None:
    """Run to the end; what was handed on before is not asked again."""
    files = [path for path in (job.partial, job.failed) if path.exists()]  # not if it is empty
    written, asked = sum(len(whole_lines(path)) for path in files), len(job.endpoint.received)
    job.run(*options, code=3)
    assert len(job.endpoint.received) - asked <= len(MANY) - written


def test_a_full_disk_under_the_journal_ends_the_run_and_spoils_nothing(
    job: Job, disk: Path
) -> None:
    job.endpoint.plan = late(0.02, long)
    done = on_a_small_disk(job, 512 << 10, "--journal", disk / "j", "-j", 4)
    assert done.code == 1
    assert f"cannot use {disk}/j: database or disk is full" in done.err
    shutil.copytree(job.folder / "kept", job.folder, dirs_exist_ok=True)
    asks_only_what_was_not_written(job, "--journal", job.folder / "j")


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


def powerless() -> None:
    """Be bound by file modes even as root: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_what_cannot_be_written_is_told(job: Job) -> None:
    job.run()
    job.asked()
    closed, secret = job.folder / "closed", job.folder / "secret"
    closed.mkdir(0o500)
    secret.mkdir(0o000)
    job.journal.chmod(0o400)
    for options, path in (
        (("-o", closed / "out.jsonl"), closed / "out.jsonl"),
        ((), job.journal),
        (("--journal", secret / "j"), secret / "j"),
    ):
        done = finished(*job.args(*options), endpoint=job.endpoint, preexec_fn=powerless)
        assert (done.code, job.asked()) == (1, "")
        assert re.fullmatch(
            f"codesynth gen-code: (cannot open )?{path}: Permission denied\n", done.err
        )


def test_too_few_file_descriptors_make_it_slower_and_fail_no_row(job: Job) -> None:
    job.endpoint.plan = late(0.1)
    done = finished(
        *job.args("-j", 64, "--max-retries", 0),
        endpoint=job.endpoint,
        preexec_fn=limited(resource.RLIMIT_NOFILE, 24),
    )
    assert done.code == 0, done.err
    assert job.texts() == MANY
    assert set(job.endpoint.counts.values()) == {1}


def test_what_has_its_line_end_is_valid_at_every_moment(job: Job) -> None:
    """A line is written in one piece, but a reader may look while the kernel copies it."""
    seen = 0
    job.endpoint.plan = lambda request: held(
        long(request), lambda: request.prompt != MANY[-1] or seen > 5
    )
    with job.started("-j", 4) as process:
        while process.poll() is None:
            for path in (job.partial, job.failed):
                with contextlib.suppress(FileNotFoundError):
                    *whole, _ = path.read_bytes().split(b"\n")
                    seen += len([json.loads(line) for line in whole]) > 0
        assert process.returncode == 3


def test_a_restart_of_the_endpoint_loses_no_row(job: Job) -> None:
    job.endpoint.plan = lambda request: late(3600 if request.n > 16 else 0)(request)
    options = ("-j", 8, "--max-retries", 1, "-v")
    with job.started(*options) as process:
        job.endpoint.wait_until(has_come(24))
        job.endpoint.stop()
        while b"connection refused" not in process.stderr.readline():  # a retry has failed
            assert process.poll() is None
        job.endpoint.plan = echo
        job.endpoint.start()
        assert ended(process)[0] == 0
    assert job.texts() == MANY


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


def test_an_endpoint_that_refuses_everything_ends_the_run(job: Job) -> None:
    job.endpoint.plan = late(0.02, lambda request: error(503, "overloaded"))
    job.write([str(i) for i in range(10_000)])
    done = job.run("--max-outage", 0.5, "-j", 4, code=1)
    assert "answers 503: overloaded. No request has succeeded for --max-outage" in done.err
    assert len(job.endpoint.times) < 200


def test_what_is_in_flight_when_the_quota_ends_is_kept(job: Job) -> None:
    def plan(request: Received) -> Reply:
        if request.prompt == "20":
            return error(429, "no money", code="insufficient_quota", kind="insufficient_quota")
        return replace(echo(request), delay=0.1 if request.n > 16 else 0)

    job.endpoint.plan = plan
    assert "quota is exhausted" in job.run("-j", 4, code=1).err
    asked = set(job.endpoint.counts) - {"20"}
    job.endpoint.plan = echo
    job.run()
    assert {job.endpoint.counts[prompt] for prompt in asked} == {1}
