"""A pool of sandboxes as a serving: a request is a trial, its response a verdict."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable

from codesynth.errors import ConfigError
from codesynth.models import Request, Response
from codesynth.serving.stream import Channel, EngineStream
from codesynth.verify.sandbox import Sandbox, SandboxSettings

BROKEN = (
    b'{"status":"error","tests_run":0,"tests_passed":0,"message":"the sandbox broke down",'
    b'"results":"","seconds":0.0}'
)
ROWS_AHEAD = 32
"""Rows held for each sandbox, so that a slow row does not stop the others."""


class SandboxServing:
    """Runs each request in one of ``jobs`` sandboxes, by default one for each core.

    Raises:
        ConfigError: no sandbox can be made here.
    """

    def __init__(self, settings: SandboxSettings, jobs: int | None = None) -> None:
        self._settings = settings
        self._jobs = jobs or len(os.sched_getaffinity(0))
        Sandbox(settings).close()

    def generate(self, requests: Iterable[Request | Response]) -> EngineStream:
        """Run each request; see ``LLMServing``."""
        channel = Channel()
        return EngineStream(requests, _Pool(self._settings, self._jobs, channel), channel)


class _Pool:
    """The engine: one thread for each sandbox, started when there is work for it."""

    def __init__(self, settings: SandboxSettings, jobs: int, channel: Channel) -> None:
        self._settings, self._jobs, self._channel = settings, jobs, channel
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._sandboxes: set[Sandbox] = set()
        self._threads = self._idle = 0
        self._error: BaseException | None = None
        self._draining = self._closed = False
        self.max_unfinished = ROWS_AHEAD * jobs
