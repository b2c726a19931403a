"""The Batch API as an LLMServing; and a serving that skips what running batches will answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from codesynth.errors import LimitReached
from codesynth.journal import BatchLog
from codesynth.models import Request, Response
from codesynth.serving import LLMServing, ResponseStream
from codesynth.serving.batch.client import BatchClient
from codesynth.serving.batch.engine import BatchEngine, BatchOptions
from codesynth.serving.stream import EngineStream


class BatchServing:
    """Answers requests through a Batch API, for half the price, within a day.

    It stands behind a ``JournaledServing`` with the same journal. It stores answers itself, because
    a batch may only be forgotten when all of it is stored. A stream takes over the batches that
    earlier runs have left open. Streams of one serving work one after the other.
    """

    def __init__(self, client: BatchClient, log: BatchLog, options: BatchOptions) -> None:
        self._client, self._log, self._options = client, log, options
        self._turn = threading.Lock()
        self._engine: BatchEngine | None = None

    def generate(self, requests: Iterable[Request | Response]) -> ResponseStream:
        """Answer each request, in any order; see ``LLMServing``.

        Raises:
            LimitReached: batches are still running, or the budget is used up.
        """
        return self._start(requests, self._options)

    def collect(self, *, cancel: bool = False) -> tuple[Callable[[bytes], bool], str]:
        """Store the answers of open batches, without asking for more; perhaps cancel the batches.

        Returns:
            a function that tells whether a key is in a batch that is still running, and words
            about these batches, empty if there are none.
        """
        words, wait = "", cancel and self._options.wait
        try:
            deque(self._start((), replace(self._options, wait=wait, cancel=cancel)), maxlen=0)
        except LimitReached as exc:
            words = str(exc)
        held = {key for batch in self._log.open() for key in self._log.keys(batch)}
        return held.__contains__, words

    def _start(self, requests: Iterable[Request | Response], options: BatchOptions) -> EngineStream:
        self._engine = BatchEngine(self._client, self._log, options, self._turn)
        return EngineStream(self._engine.respond(requests), self._engine, self._engine.channel)

    def status(self) -> str:
        """Words for the bar: how many batches and requests are done."""
        return self._engine.status() if self._engine is not None else ""


class SkippingServing:
    """Passes requests on to a serving, without those that open batches will answer.

    Args:
        skip: tells by a request's key whether to leave it out.
        words: the message of the LimitReached that is raised if a request was left out.
    """

    def __init__(self, serving: LLMServing, skip: Callable[[bytes], bool], words: str) -> None:
        self._serving, self._skip, self._words = serving, skip, words

    def generate(self, requests: Iterable[Request | Response]) -> ResponseStream:
        """Answer the other requests; raise LimitReached at the end if some were left out."""
        return self._serving.generate(self._without_skipped(requests))

    def _without_skipped(
        self, requests: Iterable[Request | Response]
    ) -> Iterator[Request | Response]:
        count = 0
        for item in requests:
            if isinstance(item, Request) and self._skip(item.key):
                count += 1
            else:
                yield item
        if count:
            raise LimitReached(f"{count} rows have no answer yet. {self._words}")
