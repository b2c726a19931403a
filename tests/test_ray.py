"""``--ray N``: a job in parts on a cluster, with dying nodes; and a command for ``ray.data``."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.command import KEY, bare, codesynth, finished, instructions, started
from support.endpoint import Endpoint
from support.parts import wait_for
from support.replies import Received, Reply, code_for, completion, echo, error, held, text_for

from codesynth.codec import dumps
from codesynth.errors import EndpointError
from codesynth.journal import Journal
from codesynth.models import Price, Stats, Usage
from codesynth.run import FIGURES
from codesynth.scale.ray import _add_up, divide
from codesynth.scale.ray_data import BatchCommand
from codesynth.serving.limits import Budget
from codesynth.settings import CodeSettings

# Ray leaves sockets, files and deprecated calls behind.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with one processor each, on the loopback interface."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # read when Ray is imported
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(**node)
        yield cluster
        cluster.shutdown()


def workers() -> list[int]:
    """List the processes that run a part."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if b"ray::run_part" in process.read_bytes():
                found.append(int(process.parent.name))
    return found


def numbers(folder: Path, count: int) -> tuple[object, ...]:
    """Write a job of so many rows; return its command without the output."""
    rows = folder / "rows.jsonl"
    rows.write_bytes(instructions(*(f"number {i}" for i in range(count))) + b"no json\n")
    return ("gen-code", rows, "-t", bare(folder))


def test_a_killed_worker_and_a_lost_node_change_nothing(
    cluster: Any, tmp_path: Path, endpoint: Endpoint
) -> None:
    count, flight = 1500, 12
    command = numbers(tmp_path, count)
    killed, lost = threading.Event(), threading.Event()

    def plan(request: Received) -> Reply:
        text = "" if request.prompt.endswith("7") else text_for(request.prompt)
        is_late = (request.n > count / 4, killed), (request.n > count / 2, lost)
        return held(
            completion(text), lambda: all(event.is_set() for late, event in is_late if late)
        )

    endpoint.plan = plan
    options = ("-o", tmp_path / "ray.jsonl", "--ray", 5, "-j", flight)
    where = {"RAY_ADDRESS": cluster.address}
    with started(*command, *options, endpoint=endpoint, env=where) as process:
        endpoint.wait_until(lambda e: len(e.times) > count / 4)
        os.kill(workers()[0], signal.SIGKILL)
        killed.set()
        endpoint.wait_until(lambda e: len(e.times) > count / 2)
        cluster.remove_node(list(cluster.worker_nodes)[-1], allow_graceful=False)
        lost.set()
        _, err = process.communicate(timeout=600)
        assert process.returncode == 3, err
    assert len(endpoint.counts) == count
    # in flight, or come and not yet in the journal, in two of three processes
    assert endpoint.counts.total() - count <= 100
    assert codesynth(*command, "-o", tmp_path / "one.jsonl", endpoint=endpoint).code == 3
    for suffix in (".jsonl", ".failures.jsonl"):
        ray, one = (tmp_path / f"{name}{suffix}" for name in ("ray", "one"))
        assert ray.read_bytes() == one.read_bytes()
    again = finished(*command, *options, endpoint=endpoint, env=where)
    assert (again.code, f"{count} from the journal" in again.err) == (3, True)
    session = Path("/tmp/ray/session_latest").resolve()
    assert not [f for f in session.rglob("*") if f.is_file() and KEY.encode() in f.read_bytes()]


def test_another_division_buys_nothing_again(
    cluster: Any, tmp_path: Path, endpoint: Endpoint
) -> None:
    command = numbers(tmp_path, 100)
    out = ("-o", tmp_path / "out.jsonl")
    assert codesynth(*command, *out, "--limit", 40, endpoint=endpoint).code == 0
    for parts in (3, 2):
        options = (*out, "--ray", parts, "--log-json", tmp_path / "log.jsonl")
        done = finished(*command, *options, endpoint=endpoint, env={"RAY_ADDRESS": cluster.address})
        assert done.code == 3, done.err
    assert len(endpoint.received) == 100
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (last["ok"], last["from_journal"], last["complete"]) == (100, 100, True)


def test_a_part_that_cannot_go_on_stops_all(
    cluster: Any, tmp_path: Path, endpoint: Endpoint
) -> None:
    endpoint.plan = lambda _: error(401, "no such key")
    options = ("-o", tmp_path / "out.jsonl", "--ray", 4)
    where = {"RAY_ADDRESS": cluster.address}
    done = finished(*numbers(tmp_path, 500), *options, endpoint=endpoint, env=where)
    assert (done.code, "refused the key" in done.err) == (1, True)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_parts_and_the_same_command_goes_on(
    cluster: Any, tmp_path: Path, endpoint: Endpoint, number: int
) -> None:
    endpoint.plan = lambda request: completion(
        text_for(request.prompt), delay=0.5 if request.n > 50 else 0
    )
    command = (*numbers(tmp_path, 400), "-o", tmp_path / "out.jsonl", "--ray", 6)
    where = {"RAY_ADDRESS": cluster.address}
    with started(*command, "-j", 4, endpoint=endpoint, env=where) as process:
        endpoint.wait_until(lambda e: len(e.counts) > 50)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert b"run the same command again to resume" in err
    wait_for(lambda: not workers())
    endpoint.plan = lambda request: completion(text_for(request.prompt))
    assert finished(*command, endpoint=endpoint, env=where).code == 3
    assert endpoint.counts.total() == 400


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    command = (*numbers(tmp_path, 3), "--offline", "-o", tmp_path / "out.jsonl", "--ray", 2)
    done = finished(*command, env={"RAY_ADDRESS": "127.0.0.1:9"})
    assert (done.code, "no Ray cluster at RAY_ADDRESS=127.0.0.1:9" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-o out.jsonl", "pip install 'codesynth[ray]'"),
        ("", "--ray needs --output"),
        ("-o out.jsonl --no-journal", "--ray and --no-journal exclude each other"),
        ("-o out.jsonl --unordered", "--ray and --unordered exclude each other"),
        ("-o out.jsonl --shard 0/2", "--ray and --shard exclude each other"),
        ("-o out.jsonl --estimate 3", "--ray and --estimate exclude each other"),
        ("-o out.jsonl --batch", "--ray and --batch exclude each other"),
    ],
)
def test_without_ray_or_where_a_job_cannot_be_divided_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    done = codesynth(*numbers(tmp_path, 3), "--offline", "--ray", 2, *options.split())
    assert (done.code, words in done.err) == (2, True)


def test_limits_are_divided_among_those_that_run_and_money_among_all() -> None:
    whole = CodeSettings(
        inputs=["rows.jsonl"], output="/shared/out.jsonl", rpm=60, tpm=900, concurrency=32
    ).replace(max_cost=8.0, ray=16)
    part = divide(whole, 4, ["old.journal"])[2]
    assert (part.rpm, part.tpm, part.concurrency, part.max_cost) == (15, 225, 8, 0.5)
    assert (part.shard, part.output, part.ray) == ((2, 16), "/shared/out.2-of-16.jsonl", None)
    assert part.inputs == [str(Path.cwd() / "rows.jsonl")]
    assert part.also_journal == [str(Path.cwd() / "old.journal")]
    assert divide(CodeSettings(output="/out", ray=2), 4, [])[0].rpm is None


def test_figures_that_earlier_runs_of_the_parts_noted_are_added_up(tmp_path: Path) -> None:
    part = CodeSettings(output=str(tmp_path / "part.jsonl"))
    counts = dict.fromkeys(("rows", "answered", "ok", "from_journal", "attempts"), 2)
    figures = {**counts, "tokens": {"prompt_tokens": 5}, "tokens_from_journal": {}, "cost": None}
    figures |= {"failed": {"empty": 1}, "rejected": {}}
    whole: Any = SimpleNamespace(stats=Stats(), budget=Budget(Price(1, 2), None))
    with Journal(tmp_path / "part.journal") as journal:
        journal.set_note(FIGURES, dumps(figures).decode())
    _add_up(whole, [part, part])
    assert (whole.stats.rows, whole.stats.tokens, whole.budget.spent) == (4, Usage(10), 0)
    assert whole.stats.failures == {"empty": 2}


class Column(list[Any]):
    """As much of a NumPy array as a batch needs."""

    def tolist(self) -> list[Any]:
        return list(self)


def test_a_batch_gets_new_columns_and_is_bought_once(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.plan = lambda r: completion("") if r.prompt == "nothing" else echo(r)
    settings = CodeSettings(
        base_urls=[endpoint.base_url], prompt_template=str(bare(tmp_path)), reasoning_key="thoughts"
    )
    columns = {"id": [1, 2, 3], "instruction": ["a", "nothing", "a"]}
    batch = {name: Column(values) for name, values in columns.items()}
    for _ in range(2):  # another process, as after the loss of a node
        found = BatchCommand(settings, str(tmp_path / "made"))(batch)
        code, nothing, same = found.pop("generated_code")
        assert (code, nothing, same) == (code_for("a"), None, code_for("a"))
        fine, error, also_fine = found.pop("error")
        assert (fine, also_fine) == (None, None)
        assert error.startswith("empty: the answer has no text")
        assert {name: list(column) for name, column in found.items()} == {
            **columns,
            "thoughts": [None, None, None],
        }
        assert len(endpoint.received) == 3
    other = {"id": Column([4]), "instruction": Column(["a"])}
    BatchCommand(settings, str(tmp_path / "made"))(other)
    assert len(endpoint.received) == 4


def test_a_batch_that_cannot_be_asked_fails(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.plan = lambda _: error(401, "no such key")
    settings = CodeSettings(base_urls=[endpoint.base_url])
    with pytest.raises(EndpointError):
        BatchCommand(settings, str(tmp_path))({"instruction": Column(["a"])})
    with pytest.raises(FileNotFoundError):
        BatchCommand(settings, str(tmp_path / "not" / "mounted"))
