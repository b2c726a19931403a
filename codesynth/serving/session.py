"""One run against the endpoints: asks, asks again, and stops when nobody is answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_result
from tenacity.wait import wait_random_exponential

from codesynth.errors import EndpointError
from codesynth.models import Failure, Request, Response
from codesynth.serving.answers import Answer, RetryDecision, read_answer
from codesynth.serving.budget import Budget
from codesynth.serving.diagnosis import check_model, denial
from codesynth.serving.gate import Drained, Gate
from codesynth.serving.limiter import Outcome, Verdict
from codesynth.serving.pace import read_limits
from codesynth.serving.replicas import OutageGuard, Replicas
from codesynth.serving.site import NoReply, Reply, Site

DENIALS_IN_A_ROW = 10
"""401, 403 or 404 that many times in a row is the key's or the model's fault, not a row's."""

_log = logging.getLogger(__name__)
_BACKOFF = wait_random_exponential(multiplier=0.5, max=30)
_VERDICTS: dict[int, Verdict] = {
    429: "overload",
    **dict.fromkeys((503, 529), "busy"),
    **dict.fromkeys((500, 502, 504), "down"),
}
"""What a status says of the endpoint's load."""


@dataclass(slots=True)
class _Row:
    """One request's way through its attempts.

    Attributes:
        tried_at: when its last attempt ended without an answer, or when it came.
        counted: attempts that use up retries; see ``Session._unanswered``.
        why: what the last attempt failed of.
        is_outage: nobody is there, it seems; the next answer to any row ends its pause.
    """

    custom_id: str
    body: bytes
    site: Site
    tried_at: float
    attempts: int = 0
    counted: int = 0
    is_outage: bool = False
    avoid: int | None = None
    fresh: bool = False
    why: str = ""


class Session:
    """Answers requests within the limits; lives on one event loop.

    Args:
        sites: the endpoints.
        body: writes a request's body.
        clock: seconds, never going back.
        others: see ``APILLMServing``.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        body: Callable[[Request], bytes],
        *,
        model: str,
        concurrency: int | None,
        rpm: float | None,
        tpm: float | None,
        timeout: float,
        max_retries: int,
        max_outage: float,
        budget: Budget | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sites = sites
        self._body = body
        self._model = model
        self._timeout = timeout
        self._max_retries = max_retries
        self._clock = clock
        self._replicas = Replicas(len(sites), concurrency=concurrency, rpm=rpm, tpm=tpm)
        self._gate = Gate(self._replicas, clock, budget, self._resize)
        self._guard = OutageGuard(max_outage)
        self._answered_at: float | None = None
        self._denials = 0
        self._suspicion = asyncio.Lock()
        self._looked_into = False
        self._verdict: EndpointError | None = None
        self.on_room: Callable[[], None] = lambda: None
        self.workers = self.bound = 0
        self._resize()

    def _resize(self) -> None:
        """Work out anew how much to hold: those in a pause hold no permit, others take it."""
        self._limit = limit = self._replicas.limit
        paused = min(self._gate.paused, 2 * limit + 64)
        has_grown = limit + paused > self.workers
        self.workers = limit + paused
        self.bound = 2 * limit + 64 + paused  # some wait for the caller, some for a permit
        if has_grown:
            self.on_room()

    def drain(self) -> None:
        """Send no more."""
        self._gate.drain()

    async def aclose(self) -> None:
        """Close all connections."""
        for site in self._sites:
            await site.aclose()

    async def ask(self, request: Request) -> Response | None:
        """Answer a request, with retries; None where ``drain`` came before the last word.

        Raises:
            EndpointError: no request can succeed.
        """
        row = _Row(request.custom_id, self._body(request), self._sites[0], self._clock())
        try:
            answer = await self._attempt(row)
            if answer.decision.retry:
                answer = await self._retry(row, answer)
        except Drained:
            return None
        return self._response(request, row, answer)

    async def _retry(self, row: _Row, answer: Answer) -> Answer:
        """Go on after a first attempt that failed: tenacity costs nothing where all is well."""
        first = [answer]

        async def attempt() -> Answer:
            return first.pop() if first else await self._attempt(row)

        async def pause(seconds: float) -> None:
            if _log.isEnabledFor(logging.INFO):
                self._tell(row, seconds)
            await self._gate.pause(seconds, outage=row.is_outage)

        def is_last(_: RetryCallState) -> bool:
            return row.counted > self._max_retries

        retrying = AsyncRetrying(
            retry=retry_if_result(_wants_retry),
            stop=is_last,
            wait=_wait,
            sleep=pause,
            retry_error_callback=_result,
        )
        return await retrying(attempt)

    def _tell(self, row: _Row, seconds: float) -> None:
        words = row.site.without_secrets(row.why)
        attempts = f"attempt {row.attempts + 1} of {self._max_retries + 1}"
        _log.info("%s: %s; %s in %.1f s", row.custom_id, words, attempts, seconds)

    async def _attempt(self, row: _Row) -> Answer:
        reserved = await self._gate.set_aside(row.body)
        billed, usage = False, None
        try:
            number = await self._gate.enter(len(row.body) // 4, row.avoid)
            billed = True  # until the answer says otherwise
            answer = await self._send(row, number)
            billed, usage = answer.billed, answer.usage
        finally:
            self._gate.settle(reserved, row.body, usage, billed=billed)
        row.avoid = None if answer.kind is None else number
        row.why = answer.message
        return answer

    async def _send(self, row: _Row, number: int) -> Answer:
        row.site = self._sites[number]
        row.attempts += 1
        row.counted += 1
        row.is_outage = False
        started = self._clock()
        outcome: Outcome | None = None
        try:
            answer, outcome = await self._exchange(row, started)
        finally:
            self._gate.leave(number, outcome)
            if self._replicas.limit != self._limit:
                self._resize()
        return answer

    async def _exchange(self, row: _Row, started: float) -> tuple[Answer, Outcome]:
        try:
            reply = await row.site.request(
                "POST", "/chat/completions", row.body, timeout=self._timeout, fresh=row.fresh
            )
        except NoReply as exc:
            answer = self._unanswered(row, exc)
            verdict: Verdict = "timeout" if exc.kind == "timeout" else "down"
            if exc.out_of_files:
                verdict = "busy"
            return answer, Outcome(self._clock() - started, verdict)
        answer = read_answer(reply.status, reply.headers, reply.body)
        if answer.kind == "rejected" and self._answered_at is None:
            await self._suspect(row.site, answer)
        self._judge(row.site, answer)
        return answer, _outcome(reply, answer, self._clock() - started)

    async def _suspect(self, site: Site, answer: Answer) -> None:
        """See whether a rejection before any answer is the row's fault or everybody's.

        Some gateways answer 400 for a wrong key or model, as for a bad row.
        """
        async with self._suspicion:
            if not self._looked_into and not answer.denied:
                self._looked_into = True
                try:
                    await check_model(site, self._model, answer, self._timeout)
                except EndpointError as exc:
                    self._verdict = exc
            if self._verdict is not None:
                raise self._verdict

    def _unanswered(self, row: _Row, exc: NoReply) -> Answer:
        """Make an answer of none, and see whether this is one row's bad luck or an outage.

        A connection that is not made sends nothing and buys nothing. Before the first answer of
        the run that is a wrong URL or a dead endpoint; later it may be a restart, so the row
        keeps its retries until somebody is answered or the outage has lasted too long. Where
        this process may open no more files, it waits for those it has.
        """
        now = self._clock()
        before, row.tried_at = row.tried_at, now
        self._guard.record(now, ok=False)
        if self._guard.expired(now):
            raise EndpointError(f"{exc}; nothing was answered for too long. Run again to go on")
        if exc.unreachable:
            row.is_outage = self._answered_at is not None and self._answered_at < before
            if row.is_outage or exc.out_of_files:
                row.counted -= 1
            elif self._answered_at is None and row.counted > self._max_retries:
                raise EndpointError(f"{exc}. Is --base-url right and the server up?")
        row.fresh = exc.stale
        decision = RetryDecision(retry=True, retry_after=0.0 if exc.stale else None)
        return Answer(
            kind=exc.kind, message=str(exc), decision=decision, billed=not exc.unreachable
        )

    def _judge(self, site: Site, answer: Answer) -> None:
        """Stop the run where the answer says that no other request can succeed."""
        now = self._clock()
        if answer.denied:
            self._denials += 1
        elif answer.kind is None or answer.text is not None:
            self._denials = 0
            self._answered_at = now
            self._guard.record(now, ok=True)
            self._gate.end_outage()
            return
        self._guard.record(now, ok=False)
        in_a_row = self._answered_at is None or self._denials >= DENIALS_IN_A_ROW
        if answer.quota or (answer.denied and in_a_row):
            raise denial(site, answer, self._model)
        if self._guard.expired(now):
            words = site.without_secrets(answer.message)
            raise EndpointError(
                f"{site.name} answers nothing but errors ({answer.status}): {words}. "
                "Run again to go on"
            )

    def _response(self, request: Request, row: _Row, answer: Answer) -> Response:
        error = None
        if answer.kind is not None:
            words = row.site.without_secrets(answer.message)
            error = Failure(answer.kind, words, answer.status, row.attempts)
        return Response(
            request=request,
            text=answer.text,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            model=answer.model,
            attempts=row.attempts,
            error=error,
        )


def _result(state: RetryCallState) -> Answer:
    assert state.outcome is not None  # noqa: S101 - tenacity asks after an attempt only
    answer: Answer = state.outcome.result()
    return answer


def _wants_retry(answer: Answer) -> bool:
    return answer.decision.retry


def _wait(state: RetryCallState) -> float:
    """Wait as long as the server said, else exponentially longer with full jitter."""
    wish = _result(state).decision.retry_after
    return _BACKOFF(state) if wish is None else wish


def _outcome(reply: Reply, answer: Answer, latency: float) -> Outcome:
    used = answer.usage
    served: Verdict = "ok" if answer.text is not None else "error"
    return Outcome(
        latency,
        _VERDICTS.get(reply.status, served),
        retry_after=answer.decision.retry_after,
        tokens=used.prompt_tokens + used.completion_tokens if used else None,
        limits=read_limits(reply.headers),
    )
