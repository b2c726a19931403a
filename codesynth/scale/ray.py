"""``--ray N``: the parts of a job as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Any

from codesynth import asking
from codesynth.codec import loads
from codesynth.errors import CodesynthError, ConfigError, JournalError, RunError
from codesynth.journal import Journal, open_to_read
from codesynth.models import Usage
from codesynth.process import EXIT_FAILED_ROWS, EXIT_LIMIT, EXIT_OK
from codesynth.run import FIGURES, Run
from codesynth.scale.join import in_order, merge, read_part
from codesynth.scale.ray_data import when_free
from codesynth.settings import AskSettings, InstructionsSettings
from codesynth.storage import sibling_path

_RETRIES = 20  # how often a part is started again after its process or its node has died
_LOOK_SECONDS, _PROBE_SECONDS = 0.5, 10.0
_EXIT_SECONDS = 9.0  # after a signal; the parts have less
_ENVIRONMENT = ("OPENAI_API_KEY", "CODESYNTH_HEADERS", "CODESYNTH_OFFLINE")  # given to each part


def ask_in_parts(settings: AskSettings) -> int:
    """Run a command that asks a model as parts on a Ray cluster; join them; return the exit code.

    The error of a part is raised after all others were stopped.
    """
    with asking.open_run(settings) as (whole, _), connect() as ray:
        settings = settings.replace(model=whole.spec.identity["model"])
        if isinstance(settings, InstructionsSettings):
            settings = settings.replace(seed=whole.spec.identity["seed"])
        count, slots = settings.ray or 1, int(ray.cluster_resources().get("CPU", 0)) or 1
        # Without limits all parts are submitted at once: a cluster may grow while they wait.
        limited = settings.concurrency or settings.rpm or settings.tpm
        at_once = min(count, slots, settings.concurrency or slots) if limited else count
        parts = divide(settings, at_once, _other_journals(whole, settings))
        whole.say(f"{len(parts)} parts, {min(at_once, slots)} at a time")
        with whole.running(_EXIT_SECONDS):
            complete = _ask(ray, whole, parts, at_once)
        if complete == len(parts):
            finished = in_order(read_part(str(part.output)) for part in parts)
            whole.files.start()
            merge(finished, whole.files)
            whole.stats.requests, whole.stats.all_read = finished[0].job["INPUT"], True
        return whole.finish()


def _ask(ray: Any, whole: Run, parts: Sequence[AskSettings], at_once: int) -> int:
    """Run the parts until they end; return how many are complete."""
    environ = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    options = {"num_cpus": 1, "max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
    start = partial(ray.remote(run_part).options(**options).remote, environ, time.time())
    waiting, running, results = deque(parts), list[Any](), list[int | CodesynthError]()
    error: CodesynthError | None = None
    cancelled = False
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(start(waiting.popleft()))
        done, running = ray.wait(running, timeout=_LOOK_SECONDS)
        results += [_result(ray, each) for each in done]
        _add_up(whole, parts)
        whole.tick()
        if not cancelled:
            error = next((each for each in results if isinstance(each, CodesynthError)), None)
        if error is not None or whole.stop.triggered:
            waiting.clear()
        if not cancelled and (error is not None or whole.stop.signal is not None):
            cancelled = True
            for each in running:
                ray.cancel(each)
    if error is not None:
        raise error
    return sum(result in (EXIT_OK, EXIT_FAILED_ROWS) for result in results)


def _result(ray: Any, task: Any) -> int | CodesynthError:
    try:
        result: int | CodesynthError = ray.get(task)
        return result
    except ray.exceptions.RayError as exc:  # it was cancelled, or its process died too often
        return RunError(f"a part was ended by Ray: {exc}. Run the same command again to resume")


def _add_up(whole: Run, parts: Sequence[AskSettings]) -> None:
    """Set the counts of the whole run to the sums over the figures of the parts."""
    figures = []
    for path in (sibling_path(str(part.output), ".journal") for part in parts):
        if not Journal.exists(path):
            continue  # it has not begun
        try:
            with open_to_read(path) as journal:
                figures.append(loads(journal.get_note(FIGURES) or "{}"))
        except JournalError:  # it is being written; all are read again soon
            return
    figures = [each for each in figures if each]
    for name in ("rows", "answered", "ok", "from_journal", "attempts"):
        setattr(whole.stats, name, sum(each[name] for each in figures))
    for name, key in (("failures", "failed"), ("rejections", "rejected")):
        setattr(whole.stats, name, sum((Counter(each[key]) for each in figures), Counter()))
    for name in ("tokens", "tokens_from_journal"):
        setattr(whole.stats, name, sum((Usage(**each[name]) for each in figures), Usage()))
    if whole.budget is not None:
        whole.budget.spent = sum(each["cost"] or 0.0 for each in figures)


def divide(settings: AskSettings, at_once: int, also: Iterable[str]) -> Sequence[AskSettings]:
    """Make the settings of each part, for a process in any working directory.

    Args:
        at_once: how many parts run at the same time; they share the limits.
        also: further journals that the parts may take answers from.
    """
    count, template = settings.ray or 1, settings.prompt_template
    if template is not None and Path(template).exists():
        [template] = _absolute([template])
    [out] = _absolute([settings.output or ""])
    common = settings.replace(
        inputs=_absolute(settings.inputs),
        also_journal=_absolute([*settings.also_journal, *also]),
        decontaminate=_absolute(settings.decontaminate),
        prompt_template=template,
        concurrency=settings.concurrency // at_once,
        rpm=settings.rpm and settings.rpm / at_once,
        tpm=settings.tpm and settings.tpm / at_once,
        max_cost=settings.max_cost and settings.max_cost / count,
        quiet=True,
        **dict.fromkeys(("ray", "journal", "failures", "log_json")),
    )
    return [
        common.replace(shard=(i, count), output=sibling_path(out, f".{i}-of-{count}.jsonl"))
        for i in range(count)
    ]


def _absolute(paths: Iterable[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]


def _other_journals(whole: Run, settings: AskSettings) -> list[str]:
    """Find the journals of other divisions of the job, and of the undivided one."""
    stem = escape(str(Path(settings.output or "").absolute().with_suffix("")))
    found = glob(f"{stem}.*-of-*.journal")  # noqa: PTH207 - Path.glob takes no absolute pattern
    if whole.journal is not None and whole.journal.answers:
        found.append(whole.journal.path)
    return sorted(path for path in found if not path.endswith(f"-of-{settings.ray}.journal"))


def run_part(
    environ: dict[str, str], started: float, settings: AskSettings
) -> int | CodesynthError:
    """Run one part in a process of the cluster; return its exit code, or why it stopped.

    ``max_time`` counts from ``started``, in seconds since the epoch, when the whole job began.
    """
    os.environ.update(environ)
    if settings.max_time is not None:
        settings = settings.replace(max_time=max(0.0, started + settings.max_time - time.time()))
    try:
        return when_free(partial(asking.ask, settings))
    except CodesynthError as exc:
        return exc if exc.exit_code != EXIT_LIMIT else EXIT_LIMIT


@contextlib.contextmanager
def connect() -> Iterator[Any]:
    """Connect to the cluster at RAY_ADDRESS, or start one on this machine.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not address or host in ("127.0.0.1", "localhost"):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # or it takes another interface
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray

        if port.isdecimal():  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), _PROBE_SECONDS).close()
    except ImportError as exc:
        raise ConfigError("--ray needs Ray: pip install 'codesynth[ray]'") from exc
    except OSError as exc:
        raise ConfigError(f"no Ray cluster at RAY_ADDRESS={address}: {exc.strerror}") from exc
    own = {} if address else {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    try:
        with contextlib.redirect_stdout(None):  # Ray prints pages there when a node dies
            yield ray
    finally:
        ray.shutdown()
