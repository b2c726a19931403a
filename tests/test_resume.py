"""Running the same command again: it goes on, and pays for nothing twice."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from support.command import KEY, bare, codesynth, lines, run_out_of_time
from support.endpoint import Endpoint
from support.job import ABC, Job
from support.parts import wait_for
from support.replies import Received, Reply, completion, echo, error


@pytest.fixture
def job(tmp_path: Path, endpoint: Endpoint) -> Job:
    return Job(tmp_path, endpoint)


def fates(request: Received) -> Reply:
    """Answer, or fail in the way that the prompt names."""
    answers: dict[str, Reply] = {
        "truncated": completion("half", "length"),
        "refused": completion(None, refusal=f"no, {KEY}"),
        "filtered": completion("", "content_filter"),
        "empty": completion(" "),
        "rejected": error(400, f"too long for {KEY}"),
        "server_error": error(500, f"broken for {KEY}"),
    }
    return answers.get(request.prompt) or echo(request)


@pytest.mark.parametrize("options", [(), ("--meta",)])
def test_a_finished_run_sends_nothing_and_writes_the_same_bytes(
    job: Job, options: tuple[str, ...]
) -> None:
    job.endpoint.plan = fates
    job.write(["a", "truncated", "b", "refused", "a", "empty", "filtered", "c"])
    with job.rows.open("ab") as file:
        file.write(b"no json\n\n{}\n")
    first = job.run(*options, code=3)
    before, seen = job.files(), len(job.endpoint.others)
    assert "10 in: 4 ok, 6 failed" in first.err
    assert len(job.asked()) > 0
    job.endpoint.stop()
    again = job.run(*options, code=3)
    assert job.files() == before
    assert "10 in: 4 ok, 6 failed, 0 tokens" in again.err
    assert "8 from the journal" in again.err
    assert len(job.endpoint.others) == seen


def test_a_last_line_without_its_line_end_is_a_row(job: Job) -> None:
    job.rows.write_bytes(job.rows.read_bytes().rstrip(b"\n"))
    job.run()
    job.run()
    assert (job.asked(), job.texts()) == ("abc", ABC)


@pytest.mark.parametrize(
    "kind", ["truncated", "refused", "filtered", "empty", "rejected", "server_error"]
)
def test_what_was_paid_for_is_not_asked_again_and_what_was_not_is(job: Job, kind: str) -> None:
    job.endpoint.plan = fates
    job.write(["a", kind, "b"])
    job.run("--max-retries", 0, code=3)
    job.asked()
    job.run("--max-retries", 0, code=3)
    is_asked_again = kind in ("rejected", "server_error")
    assert (job.asked(), job.failures.exists()) == (kind if is_asked_again else "", True)
    job.endpoint.plan = echo
    job.run(code=0 if is_asked_again else 3)
    assert job.failures.exists() != is_asked_again
    assert job.texts() == (["a", kind, "b"] if is_asked_again else ["a", "b"])


@pytest.mark.parametrize(
    ("then", "new"),
    [("abcd", "d"), ("bc", ""), ("cdab", "d"), ("aabbc", "ab"), ("xyz", "xyz"), ("", "")],
)
def test_lines_may_be_added_removed_moved_and_doubled(job: Job, then: str, new: str) -> None:
    job.run()
    job.asked()
    job.write(list(then))
    job.run(*([] if len(then) >= len(ABC) else ["--overwrite"]))
    assert (job.asked(), job.texts()) == (new, list(then))


def test_limits_and_more_generations_go_on(tmp_path: Path, endpoint: Endpoint) -> None:
    pool, out = tmp_path / "pool.jsonl", tmp_path / "out.jsonl"
    pool.write_bytes(lines(*({"prompt": str(i)} for i in range(50))))

    def run(*options: object) -> list[bytes]:
        done = codesynth("gen-instructions", pool, "-o", out, *options, endpoint=endpoint)
        assert done.code == 0, done.err
        return out.read_bytes().splitlines()

    first = run("-n", 20, "--limit", 4)  # with a random seed, which the journal remembers
    assert (len(first), len(endpoint.received)) == (4, 4)
    all_of_it = run("-n", 20)
    assert (len(all_of_it), len(endpoint.received)) == (20, 20)
    twice = run("-n", 40, "--meta")
    assert (len(twice), len(endpoint.received)) == (40, 40)
    assert first == all_of_it[:4]
    seed = json.loads(twice[0])["_codesynth"]["seed"]
    assert run("-n", 40) == run("-n", 40, "--seed", seed)
    assert len(endpoint.received) == 40
    run("-n", 40, "--seed", seed + 1, "--overwrite")
    assert len(endpoint.received) > 60


def test_commands_that_share_a_journal_go_on_with_the_same_seed(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    pool, new, journal = (tmp_path / name for name in ("pool.jsonl", "new.jsonl", "both.journal"))
    pool.write_bytes(lines(*({"prompt": str(i)} for i in range(50))))
    first = ("gen-instructions", pool, "-o", new, "-n", 4, "--journal", journal)
    second = ("gen-code", new, "-o", tmp_path / "out.jsonl", "--journal", journal)
    for command in (first, second) * 2:
        done = codesynth(*command, endpoint=endpoint)
        assert done.code == 0, done.err
    assert len(endpoint.received) == 8


IRRELEVANT = '{"service_tier": "flex", "user": "u", "metadata": {"a": "b"}, "store": true}'


def test_another_url_key_or_patience_is_the_same_request(job: Job) -> None:
    job.run()
    job.asked()
    with Endpoint() as other:
        done = job.run(
            *("--base-url", other.base_url, "--timeout", 7, "--max-retries", 1, "-j", 3),
            *("--header", "X: y", "--extra-body", IRRELEVANT),
            OPENAI_API_KEY="another",
        )
        assert (job.asked(), other.received, other.others) == ("", [], [])
        assert "have changed" not in done.err


@pytest.mark.parametrize(
    "options",
    [
        ("--model", "another"),
        ("--system-prompt", "Be brief."),
        ("--temperature", 0.5),
        ("--max-tokens", 100),
        ("--extra-body", '{"top_k": 3}'),
    ],
)
def test_a_changed_request_is_told_and_asked(job: Job, options: tuple[object, ...]) -> None:
    job.run()
    job.asked()
    words = f"have changed since {job.journal} was written: its 3 answers are used where they fit"
    assert words in job.run(*options, "--overwrite").err
    assert job.asked() == "abc"
    job.write(["a", "d"])
    job.run("--model", "test-model", "--overwrite")
    assert job.asked() == "d"
    assert "have changed" not in job.run().err
    bare(job.folder, "Do: {instruction}")
    assert "have changed" in job.run("--overwrite").err


def test_a_model_that_was_swapped_is_told_before_the_first_new_request(job: Job) -> None:
    job.run()
    job.endpoint.models = ["swapped"]
    job.run()
    job.write(["a", "d", "e"])
    job.asked()
    told = job.run(code=2).err
    assert "lists the model swapped, but the last run asked test-model" in told
    assert job.asked() == ""
    assert job.texts() == ABC
    job.run("--model", "swapped", "--overwrite")
    assert job.asked() == "ade"


def test_practice_answers_do_not_pass_for_a_models(job: Job) -> None:
    job.run("--offline")
    assert "these differ: model" in job.run(code=2).err
    job.run("--overwrite")
    assert job.asked() == "".join(ABC)


def test_a_model_that_never_answered_is_not_assumed(job: Job) -> None:
    job.endpoint.plan = lambda _: error(404)
    job.run("--model", "mistyped", code=1)
    job.endpoint.plan = echo
    job.run()
    assert job.texts() == ABC


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.partial"])
def test_an_output_without_its_journal_is_refused(job: Job, name: str) -> None:
    (job.folder / name).write_text("precious\n")
    before = job.files()
    told = job.run(code=2).err
    assert f"{name} exists, but this run has no journal of it" in told
    assert "--overwrite" in told
    assert (job.files(), job.asked()) == (before, "")


def test_without_a_journal_an_output_is_replaced_on_demand_only(job: Job) -> None:
    job.run("--no-journal")
    assert not job.journal.exists()
    assert "exists" in job.run("--no-journal", code=2).err
    job.asked()
    job.run("--no-journal", "--overwrite")
    assert job.asked() == "abc"


def test_nothing_that_is_kept_holds_the_key(job: Job) -> None:
    job.endpoint.plan = fates
    job.write(["a", "refused", "rejected", "server_error", "truncated"])
    done = job.run("--meta", "--max-retries", 1, "-v", code=3)
    assert job.endpoint.authorizations == {f"Bearer {KEY}"}
    for path in job.folder.iterdir():
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.err


def test_max_time_stops_cleanly_and_a_rerun_goes_on(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [str(i) for i in range(40)]
    job.write(texts)
    job.endpoint.plan = lambda request: replace(echo(request), delay=1.0 * (request.n > 6))
    with monkeypatch.context() as patch:
        run_out_of_time(patch, lambda: len(job.endpoint.times) > 6)
        told = job.run("-j", 2, "--max-time", 1000, code=5).err
    assert "stopped by --max-time, run the same command again to resume" in told
    assert not job.out.exists()
    some = job.texts(job.partial)
    assert some == texts[: len(job.endpoint.times)]
    assert 6 < len(some) < len(texts)
    job.endpoint.plan = echo
    job.run("-j", 4)
    assert job.texts() == texts
    assert set(job.endpoint.counts.values()) == {1}


def test_kills_amid_requests_change_neither_the_output_nor_the_bill(job: Job) -> None:
    more = 0
    # Few are answered after the look, so that a late kill finds the job unfinished too.
    job.endpoint.plan = lambda request: replace(
        fates(request), delay=0.02 if request.n <= more + 2 else 3600
    )
    job.write([*map(str, range(30)), "truncated", "rejected", "empty", *map(str, range(30, 60))])
    random, written = Random(3), Counter[str]()
    for kills in range(4):
        more = len(job.endpoint.times) + random.randrange(5, 12)
        with job.started("-j", 4) as process:
            job.endpoint.wait_until(lambda endpoint, more=more: len(endpoint.times) >= more)
            wait_for(lambda kills=kills: kills < 3 or job.partial.stat().st_size > 0)
            time.sleep(random.uniform(0, 0.03))
            process.kill()
            process.wait()
        whole_lines = job.partial.read_bytes().split(b"\n")[:-1] if job.partial.exists() else []
        for text in (json.loads(line)["instruction"] for line in whole_lines):
            written[text] = job.endpoint.counts[text]
    job.endpoint.plan = fates
    job.run(code=3)
    assert written
    assert written == Counter({text: job.endpoint.counts[text] for text in written})
    killed = job.out.read_bytes(), job.failures.read_bytes()
    job.run("--no-journal", "--overwrite", code=3)
    assert (job.out.read_bytes(), job.failures.read_bytes()) == killed


def test_a_second_run_on_one_of_the_files_ends_at_once(job: Job) -> None:
    job.endpoint.plan = lambda request: (
        echo(request) if request.prompt == "a" else replace(echo(request), delay=3600)
    )
    with job.started() as process:
        job.endpoint.wait_until(lambda endpoint: endpoint.counts["c"] == 1)
        while job.partial.stat().st_size == 0:
            time.sleep(0.005)
        before = job.files()
        other = ("-o", job.folder / "other.jsonl")
        same_journal = (*other, "--journal", job.journal)
        for options in (
            *((), ("--overwrite",), ("--no-journal",), ("--journal", job.folder / "mine")),
            *(same_journal, (*same_journal, "--overwrite"), (*other, "--failures", job.failures)),
        ):
            done = codesynth(*job.args(*options), endpoint=job.endpoint)
            assert done.code == 4, done.err
            assert "another run holds" in done.err
        assert (job.files(), process.poll()) == (before, None)
        process.kill()
    job.endpoint.plan = echo
    job.run()
    assert job.texts() == ABC
    assert job.endpoint.counts == {"a": 1, "b": 2, "c": 2}
