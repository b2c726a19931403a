"""``--ray N``: the parts of a job as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Any

from codesynth import asking, commands, run
from codesynth.codec import loads
from codesynth.errors import CodesynthError, ConfigError, JournalError, RunError
from codesynth.journal import Journal, open_to_read
from codesynth.notes import FIGURES
from codesynth.process import EXIT_FAILED_ROWS, EXIT_LIMIT, EXIT_OK, stop_on_signal
from codesynth.ray_data import when_free
from codesynth.scale.join import in_order, merge, read_part
from codesynth.settings import AskSettings, InstructionsSettings
from codesynth.storage import sibling_path

_RETRIES = 20  # how often a part is started again after its process or its node has died
_LOOK_SECONDS, _PROBE_SECONDS = 0.5, 10.0
_EXIT_SECONDS = 9.0  # after a signal; the parts have less
_ENVIRONMENT = ("OPENAI_API_KEY", "CODESYNTH_HEADERS", "CODESYNTH_OFFLINE")  # given to each part


def run_parts(whole: run.Run, settings: AskSettings, spec: commands.CommandSpec) -> int:
    """Run a command as parts on a Ray cluster and join them; see ``asking.Divide``.

    Raises:
        CodesynthError: there is no cluster, or a part failed and all others were stopped.
    """
    with connect() as ray:
        slots = int(ray.cluster_resources().get("CPU", 0)) or 1
        parts, at_once = divide(whole, settings, spec, slots)
        whole.say(f"{len(parts)} parts, {min(at_once, slots)} at a time")
        with whole.progress, stop_on_signal(whole.stop, _EXIT_SECONDS):
            complete = _ask(ray, whole, parts, at_once)
        if complete == len(parts):
            finished = in_order(read_part(str(part.output)) for part in parts)
            whole.files.start()
            merge(finished, whole.files)
            whole.stats.requests, whole.stats.all_read = finished[0].rows["requests"], True
        return whole.finish()


def _ask(ray: Any, whole: run.Run, parts: Sequence[AskSettings], at_once: int) -> int:
    """Run the parts until they end; return how many are complete."""
    environ = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    options = {"num_cpus": 1, "max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
    start = partial(ray.remote(run_part).options(**options).remote, environ, time.time())
    before = figures = _read_figures(parts, {})
    waiting, running, results, stopping = deque(parts), list[Any](), list[Any](), False
    error: CodesynthError | None = None
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(start(waiting.popleft()))
        done, running = ray.wait(running, timeout=_LOOK_SECONDS)
        results += [_result(ray, each) for each in done]
        figures = _read_figures(parts, figures)
        whole.notes.add_up(loads(new) for new in figures.values() if new not in before.values())
        whole.tick()
        if not stopping:
            error = next((each for each in results if isinstance(each, CodesynthError)), None)
        if error is not None or whole.stop.triggered:
            waiting.clear()
        if not stopping and (error is not None or whole.stop.signal is not None):
            stopping = True
            for each in running:
                ray.cancel(each)
    if error is not None:
        raise error
    return sum(result in (EXIT_OK, EXIT_FAILED_ROWS) for result in results)


def _result(ray: Any, task: Any) -> int | CodesynthError:
    try:
        return ray.get(task)  # type: ignore[no-any-return]  # what run_part returned
    except ray.exceptions.RayError as exc:  # it was cancelled, or its process died too often
        return RunError(f"a part was ended by Ray: {exc}. Run the same command again to resume")


def _read_figures(parts: Sequence[AskSettings], known: Mapping[str, str]) -> Mapping[str, str]:
    """Read the figures in the journal of each part; keep the old ones if there are no new ones."""
    found = dict(known)
    paths = [sibling_path(str(part.output), ".journal") for part in parts]
    for path in filter(Journal.exists, paths):  # not those of parts that have not begun
        # A journal that is being written may look damaged; it is read again soon.
        with contextlib.suppress(JournalError), open_to_read(path) as journal:
            if (note := journal.get_note(FIGURES)) is not None:
                found[path] = note
    return found


def divide(
    whole: run.Run, settings: AskSettings, spec: commands.CommandSpec, slots: int
) -> tuple[Sequence[AskSettings], int]:
    """Make the settings of each part; also return how many parts may run at the same time.

    Args:
        slots: how many parts the cluster has processors for.
    """
    count, out = settings.ray or 1, str(Path(settings.output or "").absolute())
    if isinstance(settings, InstructionsSettings):
        settings = settings.replace(seed=spec.seed)
    # Without limits all parts are submitted at once: a cluster may grow while they wait.
    limited = settings.concurrency or settings.rpm or settings.tpm
    at_once = min(count, slots, settings.concurrency or slots) if limited else count
    settings = settings.share(at_once)
    outputs = [sibling_path(out, f".{i}-of-{count}.jsonl") for i in range(count)]
    # Answers may come from other divisions of the job, and from the undivided one.
    pattern = escape(str(Path(out).with_suffix(""))) + ".*-of-*.journal"
    also = set(glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
    also -= {sibling_path(path, ".journal") for path in outputs}
    if whole.notes.journal is not None and whole.notes.journal.answers:
        also.add(whole.notes.journal.path)
    return [settings.part(i, count, path, sorted(also)) for i, path in enumerate(outputs)], at_once


def run_part(
    environ: dict[str, str], started: float, settings: AskSettings
) -> int | CodesynthError:
    """Run one part in a process of the cluster; return its exit code, or why it stopped.

    Args:
        started: when the whole job began, in seconds since the epoch; ``max_time`` counts from it.
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
