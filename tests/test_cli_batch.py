"""Batches on the command line: what is said, asked and written, and the exit codes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.batches import BatchServer, Fault
from support.command import KEY, Finished, bare, codesynth, instructions, started
from support.files import rows_of
from support.parts import wait_for
from support.replies import USAGE, code_for

from codesynth.serving.batch import engine

TASKS = [f"task {i}" for i in range(6)]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MAX_PAUSE", "_LISTED_SECONDS"):
        monkeypatch.setattr(engine, name, 0.05)


class BatchJob:
    """One ``gen-code`` job at a server with batches."""

    def __init__(self, folder: Path, server: BatchServer) -> None:
        self.folder, self.server = folder, server
        self.rows, self.out = folder / "rows.jsonl", folder / "out.jsonl"
        self.template = bare(folder)
        self.env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
        self.write(TASKS)

    def write(self, texts: list[str]) -> None:
        self.rows.write_bytes(instructions(*texts))

    def args(self, *options: object) -> tuple[object, ...]:
        return ("gen-code", self.rows, "-o", self.out, "-t", self.template, *options)

    def run(self, *options: object, code: int = 0) -> Finished:
        done = codesynth(*self.args(*options), env=self.env)
        assert done.code == code, done.err
        return done

    def codes(self) -> list[str]:
        return [row["generated_code"] for row in rows_of(self.out)]

    def batches(self) -> list[list[str]]:
        """The prompts of each batch."""
        return [
            [body["messages"][0]["content"] for body in batch.requests.values()]
            for batch in self.server.batches
        ]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[BatchJob]:
    with BatchServer() as server:
        yield BatchJob(tmp_path, server)


def test_a_batch_writes_the_same_bytes_as_asking_online(job: BatchJob) -> None:
    job.run()
    online = job.out.read_bytes()
    for path in (job.out, job.folder / "out.journal"):
        path.unlink()
    job.run("--batch", "--batch-size", 4)
    assert job.out.read_bytes() == online
    assert job.batches() == [TASKS[:4], TASKS[4:]]
    assert len(job.server.chats) == len(TASKS)


def test_the_practice_endpoint_answers_the_same_in_batches(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(instructions(*TASKS, *TASKS))
    env = {"TMPDIR": str(tmp_path), "CODESYNTH_OFFLINE": "expired=0.2,cut=0.1"}
    outputs = []
    for options in ((), ("--batch", "--batch-size", 5)):
        out = tmp_path / f"out{len(outputs)}.jsonl"
        done = codesynth("gen-code", rows, "--offline", "-o", out, "--meta", *options, env=env)
        assert done.code in (0, 3), done.err
        outputs.append(rows_of(out))
        for row in outputs[-1]:
            del row["_codesynth"]["attempts"]
    assert outputs[0] == outputs[1] != []


def test_a_row_is_asked_online_or_in_a_batch_and_never_in_both(job: BatchJob) -> None:
    job.write(TASKS[:2])
    job.run()
    job.write(TASKS[:4])
    assert "2 from the journal" in job.run("--batch").err
    assert job.batches() == [TASKS[2:4]]
    job.write(TASKS)
    job.run()
    assert sorted(job.server.chats) == TASKS[:2] + TASKS[4:]
    assert job.codes() == [code_for(task) for task in TASKS]


def test_a_dry_run_prints_what_is_uploaded(job: BatchJob) -> None:
    printed = job.run("--dry-run", "--model", "test-model").out
    job.run("--batch")
    assert job.server.files["file-1"] == printed


def test_without_waiting_the_ids_are_told_and_cron_runs_the_same_line_again(job: BatchJob) -> None:
    job.server.faults = [Fault(polls=1)]
    line = ("--batch", "--no-wait")
    ids = "6 requests are in open batches: batch_0. Run the same command again to collect them"
    assert job.run(*line, code=5).err == f"codesynth gen-code: {ids}\n"
    assert job.run(*line, "-q", code=5).err == ""  # cron sends no mail while it waits
    assert not job.out.exists()
    assert job.run(*line, "-q").err == ""
    assert job.codes() == [code_for(task) for task in TASKS]


def test_without_batch_the_rows_of_open_batches_are_left_to_them(job: BatchJob) -> None:
    job.write(TASKS[:4])
    job.run("--batch", "--batch-size", 2, "--no-wait", code=5)
    job.server.batches[1].fault = Fault(polls=2)
    job.write(TASKS)
    done = job.run(code=5)
    assert "2 rows have no answer yet. 2 requests are in open batches: batch_1" in done.err
    assert sorted(job.server.chats) == TASKS[4:]
    assert "2 rows have no answer yet" in job.run(code=5).err
    job.run()
    assert sorted(job.server.chats) == TASKS[4:]
    assert job.codes() == [code_for(task) for task in TASKS]


def test_cancelled_rows_are_asked_online_afterwards(job: BatchJob) -> None:
    job.server.faults = [Fault(polls=9, answered=0.5)]
    job.run("--batch", "--no-wait", code=5)
    done = job.run("--cancel", code=5)
    assert "3 rows have no answer yet. batches cancelled: 1" in done.err
    assert (job.server.batches[0].status, job.server.chats) == ("cancelled", [])
    job.run()
    assert sorted(job.server.chats) == TASKS[3:]
    assert job.codes() == [code_for(task) for task in TASKS]


def test_ctrl_c_leaves_the_batches_to_a_later_run(job: BatchJob) -> None:
    job.server.faults = [Fault(polls=10**9)]
    with started(*job.args("--batch"), env=job.env) as process:
        wait_for(lambda: job.server.calls["GET /batches/*"] > 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
    job.server.batches[0].fault = Fault()
    job.run("--batch")
    assert job.batches() == [TASKS]


@pytest.mark.parametrize(
    "call", ["POST /files", "POST /batches", "GET /batches/*", "GET /files/*/content"]
)
def test_a_kill_during_any_call_loses_no_batch_and_doubles_none(job: BatchJob, call: str) -> None:
    options = ("--batch", "--batch-size", 4)
    job.server.delay = lambda: 0.5 if job.server.now == call else 0.0
    with started(*job.args(*options), env=job.env) as process:
        wait_for(lambda: job.server.calls[call] > 0)
        process.kill()
    job.server.delay = lambda: 0.0
    job.run(*options)
    assert job.codes() == [code_for(task) for task in TASKS]
    assert job.batches() == [TASKS[:4], TASKS[4:]]


PRICED = ("--price", "1000000,1000000", "--max-tokens", USAGE["completion_tokens"])


def test_a_batch_is_only_as_large_as_the_budget_allows(job: BatchJob) -> None:
    done = job.run("--batch", *PRICED, "--max-cost", 100, code=5)
    assert "--max-cost is reached" in done.err
    spent = sum(map(len, job.batches())) * USAGE["total_tokens"]
    assert 0 < spent <= 100
    assert len(job.batches()[0]) < len(TASKS)
    job.run("--batch", *PRICED, "--max-cost", 10_000)
    assert sorted(task for batch in job.batches() for task in batch) == TASKS


def test_an_open_batch_counts_against_the_budget(job: BatchJob) -> None:
    job.run("--batch", "--no-wait", *PRICED, "--max-cost", 10_000, code=5)
    job.server.batches[0].fault = Fault(polls=10**9)
    job.write([*TASKS, "another"])
    job.run("--batch", "--no-wait", *PRICED, "--max-cost", 150, code=5)
    assert job.batches() == [TASKS]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--no-journal --batch", "--batch and --no-journal exclude each other"),
        ("--no-journal --cancel", "--cancel and --no-journal exclude each other"),
        ("--no-wait", "--no-wait needs --batch or --cancel"),
        ("--batch --estimate 2", "--estimate and --batch exclude each other"),
        ("--batch --base-url http://a/v1 --base-url http://b/v1", "give one --base-u"),
        ("--batch --price 1,1 --max-cost 1", "need --max-tokens"),
    ],
)
def test_what_does_not_go_together_is_told(job: BatchJob, options: str, words: str) -> None:
    assert words in job.run(*options.split(), code=2).err
    assert not job.server.calls
