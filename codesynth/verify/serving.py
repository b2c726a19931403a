"""A pool of sandboxes as a serving: a request is a trial, the response is its verdict."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from codesynth.models import Request, Response
from codesynth.serving.stream import Channel, EngineStream
from codesynth.verify.sandbox import Sandbox, SandboxSettings

_ROWS_AHEAD = 32
"""Rows held for each sandbox, so that a slow row does not stop the others."""
_BROKEN = (
    b'{"status":"error","tests_run":0,"tests_passed":0,"message":"the sandbox broke down",'
    b'"results":"","seconds":0.0}'
)


class SandboxServing:
    """Runs each request in one of ``jobs`` sandboxes; by default one for each core.

    Raises:
        ConfigError: no sandbox can be made here.
    """

    def __init__(self, settings: SandboxSettings, jobs: int | None = None) -> None:
        self._settings, self._jobs = settings, jobs or len(os.sched_getaffinity(0))
        Sandbox(settings).close()

    def generate(self, requests: Iterable[Request | Response]) -> EngineStream:
        """Run each request; see ``LLMServing``."""
        channel = Channel()
        return EngineStream(requests, _Pool(self._settings, self._jobs, channel), channel)


class _Pool:
    """Runs the requests of one stream in threads, each with a sandbox; see ``stream.Engine``."""

    def __init__(self, settings: SandboxSettings, jobs: int, channel: Channel) -> None:
        self._settings, self._channel = settings, channel
        self._executor = ThreadPoolExecutor(jobs, "codesynth-verify")
        self._sandboxes = set[Sandbox]()
        self._own = threading.local()  # a sandbox ends with the thread that made it
        self._error: BaseException | None = None
        self._closed = False
        self.max_unfinished = _ROWS_AHEAD * jobs

    def submit(self, request: Request) -> None:
        """Take a request; called from the feeder's thread."""
        with suppress(RuntimeError):  # the pool accepts no more rows after ``drain``
            self._executor.submit(self._run, request)

    def end_requests(self, error: BaseException | None) -> None:
        """Wait until all rows have run, then end the sandboxes and the stream."""
        self._executor.shutdown()
        while self._sandboxes:
            with suppress(KeyError):  # after a signal two threads come here
                self._sandboxes.pop().close()
        self._channel.finish(self._error or error)

    def drain(self, grace: float | None) -> None:
        """Start no more rows; those that run get ``grace`` seconds, or the time that they need."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        threading.Thread(target=self.end_requests, args=(None,), daemon=True).start()
        if grace is not None:
            timer = threading.Timer(grace, self.close)
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """Kill the sandboxes; what runs in them is not answered."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        for sandbox in list(self._sandboxes):
            sandbox.kill()

    def _run(self, request: Request) -> None:
        try:
            sandbox = getattr(self._own, "sandbox", None) or Sandbox(self._settings)
            self._sandboxes.add(sandbox)
            verdict = None if self._closed else sandbox.run(request.body)
            if verdict is None:
                self._sandboxes.discard(sandbox)
                sandbox.close()
            self._own.sandbox = sandbox if verdict else None
            if not self._closed:
                self._channel.put(Response(request, verdict or _BROKEN))
        except BaseException as exc:  # it is raised in the caller's thread
            self._error = self._error or exc
            self.drain(None)
