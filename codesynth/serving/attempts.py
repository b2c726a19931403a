"""One request's way through its attempts: send, judge, wait, send again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_result
from tenacity.wait import wait_random_exponential

from codesynth.errors import EndpointError
from codesynth.models import Failure, Request, Response
from codesynth.serving.answers import read_json
from codesynth.serving.diagnosis import check_model, explain, explain_outage
from codesynth.serving.http import EndpointClient, NoReply
from codesynth.serving.limits import Admission, AttemptResult, Drained
from codesynth.serving.limits.admission import Kind
from codesynth.serving.outcomes import Outcome, read_outcome

_log = logging.getLogger(__name__)
_BACKOFF = wait_random_exponential(multiplier=0.5, max=30)
_LOAD: dict[int, Kind] = {
    429: "overload",
    503: "busy",
    529: "busy",
    500: "down",
    502: "down",
    504: "down",
}
"""What a status says of the endpoint's load."""
_NOBODY = frozenset({"connection", "timeout", "server_error"})
"""Before the first answer, a row that ends so stops the run; see ``Asker._is_nobody_there``."""


@dataclass(slots=True, eq=False)
class Row:
    """A request and what became of its attempts so far.

    Attributes:
        attempts: requests sent.
        counted: attempts that use up retries; those that nobody received do not.
        seconds: of the last attempt.
        sending: one is on its way.
        drained: it is the last one.
        avoid: number of the replica that failed last.
        fresh: send over a new connection.
        outage: the next answer to any row ends the pause.
        unsent: the last attempt found no free file descriptor, so it uses up no retry.
    """

    request: Request
    attempts: int = 0
    counted: int = 0
    seconds: float = 0.0
    sending: bool = False
    drained: bool = False
    avoid: int | None = None
    fresh: bool = False
    outage: bool = False
    unsent: bool = False


class Asker:
    """Answers requests with retries, within the limits; lives on one event loop.

    Args:
        endpoints: replicas of one another.
        timeout: seconds for one attempt.
        max_retries: after the first attempt.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        endpoints: Sequence[EndpointClient],
        admission: Admission,
        *,
        timeout: float,
        max_retries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints, self._admission = endpoints, admission
        self._timeout, self._max_retries, self._clock = timeout, max_retries, clock
        self._answered = False
        self._failing = 0  # rows whose first attempt failed
        self._suspicion = asyncio.Lock()
        self._looked_into = False
        self._fatal: EndpointError | None = None

    async def ask(self, row: Row) -> Response:
        """Answer a request.

        Raises:
            Drained: ``row.drained`` was set, and another attempt would be needed.
            EndpointError: no request can succeed.
            LimitReached: the budget is used up.
        """
        outcome = await self._attempt(row)
        if outcome.retry:  # tenacity costs nothing where all is well
            outcome = await self._retry(row, outcome)
        failure = outcome.failure
        if failure is not None and self._is_nobody_there(failure):
            raise explain(self._endpoints[row.avoid or 0], outcome, _model_of(row))
        error = failure and replace(failure, attempts=row.attempts)
        return Response(row.request, outcome.body, outcome.answer, error, row.attempts, row.seconds)

    def _is_nobody_there(self, failure: Failure) -> bool:
        """Tell whether a row that has used up its attempts shows that no other can succeed.

        A single row that gets errors or times out may be to blame itself.
        """
        if self._answered or failure.kind not in _NOBODY:
            return False
        return failure.kind == "connection" or self._failing > 1

    async def _retry(self, row: Row, outcome: Outcome) -> Outcome:
        first = [outcome]

        async def attempt() -> Outcome:
            return first.pop() if first else await self._attempt(row)

        async def pause(seconds: float) -> None:
            await self._admission.pause(seconds, outage=row.outage)

        def note(state: RetryCallState) -> None:
            if row.drained:
                raise Drained
            if _log.isEnabledFor(logging.INFO) and state.next_action is not None:
                failure, seconds = _outcome_of(state).failure, state.next_action.sleep
                words = failure.message if failure else ""
                number = f"attempt {row.counted + 1} of {self._max_retries + 1}"
                where = row.request.record.where
                _log.info("%s: %s; %s in %.1f s", where, words, number, seconds)

        retrying = AsyncRetrying(
            retry=retry_if_result(lambda outcome: outcome.retry),
            stop=lambda _: row.counted > self._max_retries,
            wait=_wait,
            sleep=pause,
            before_sleep=note,
            retry_error_callback=_outcome_of,
        )
        return await retrying(attempt)

    async def _attempt(self, row: Row) -> Outcome:
        permit = await self._admission.admit(row.request.body, avoid=row.avoid)
        endpoint = self._endpoints[permit.replica]
        row.sending = True
        row.attempts += 1
        row.counted += 1
        started = self._clock()
        result: AttemptResult | None = None
        try:
            outcome, result = await self._send(row, endpoint)
        finally:
            row.seconds = self._clock() - started
            row.sending = False
            advice = self._admission.settle(permit, result)
        if outcome.failure is None or outcome.answer is not None:
            self._answered = True
            row.avoid = None
            return outcome
        self._failing += row.attempts == 1
        if advice.stop and self._answered and not outcome.denied:
            raise explain_outage(outcome)
        if advice.stop or (outcome.quota and not advice.elsewhere):
            raise explain(endpoint, outcome, _model_of(row))
        row.avoid, row.outage = permit.replica, advice.is_outage
        if advice.elsewhere:
            outcome = replace(outcome, retry=True, retry_after=0.0)
        if advice.elsewhere or advice.is_outage or row.unsent:
            row.counted -= 1
        return outcome

    async def _send(self, row: Row, endpoint: EndpointClient) -> tuple[Outcome, AttemptResult]:
        request, fresh, row.fresh, row.unsent = row.request, row.fresh, False, False
        try:
            reply = await endpoint.request(
                "POST",
                "/chat/completions",
                request.body,
                timeout=self._timeout,
                fresh=fresh,
                key=request.key,
            )
        except NoReply as exc:
            row.fresh, row.unsent = exc.stale, exc.out_of_files
            return _read_no_reply(exc, answered=self._answered)
        body = endpoint.secrets.hide_in_body(reply.body)
        outcome = read_outcome(reply.status, reply.headers, body, endpoint.secrets.hide)
        denied = outcome.denied and not (outcome.retry and row.counted <= self._max_retries)
        failure = outcome.failure
        if failure is not None and failure.kind == "rejected" and not (denied or outcome.retry):
            await self._suspect(endpoint, row, outcome)
        kind = _LOAD.get(reply.status, "other")
        if outcome.answer is not None:
            kind = "answered"
        elif denied or outcome.quota:
            kind = "denied"
        return outcome, AttemptResult(
            kind,
            failure.message if failure else "",
            retry_after=outcome.retry_after,
            usage=outcome.answer.usage if outcome.answer else None,
            answer_bytes=len(outcome.body),
            billed=outcome.billed,
        )

    async def _suspect(self, endpoint: EndpointClient, row: Row, outcome: Outcome) -> None:
        """See whether a rejection before any answer is the row's fault or everybody's.

        Some gateways answer 400 for a wrong key or model, as for a bad row.
        """
        async with self._suspicion:
            if not self._answered and not self._looked_into:
                self._looked_into = True
                try:
                    await check_model(endpoint, _model_of(row), outcome, self._timeout)
                except EndpointError as exc:
                    self._fatal = exc
            if self._fatal is not None:
                raise self._fatal


def _model_of(row: Row) -> str:
    return str(read_json(row.request.body).get("model"))


def _read_no_reply(error: NoReply, *, answered: bool) -> tuple[Outcome, AttemptResult]:
    """Make an outcome of none; a connection that was not made has bought nothing.

    A host that is unknown after others have answered, or it has itself, may be known again.
    """
    kind: Kind = "down"
    if error.out_of_files:
        kind = "busy"
    elif error.permanent and not answered:
        kind = "hopeless"
    elif error.unreachable:
        kind = "unreachable"
    elif error.kind == "timeout":
        kind = "timeout"
    elif error.stale or error.kind == "bad_response":
        kind = "other"
    billed = not (error.unreachable or error.stale)
    failure = Failure(error.kind, error.message)
    outcome = Outcome(
        failure=failure,
        retry=True,
        retry_after=0.0 if error.stale else None,
        denied=error.permanent,
        billed=billed,
    )
    return outcome, AttemptResult(kind, error.message, billed=billed)


def _outcome_of(state: RetryCallState) -> Outcome:
    assert state.outcome is not None  # noqa: S101 - tenacity asks after an attempt only
    outcome: Outcome = state.outcome.result()
    return outcome


def _wait(state: RetryCallState) -> float:
    """Wait as long as the server said, else exponentially longer with full jitter."""
    wish = _outcome_of(state).retry_after
    return _BACKOFF(state) if wish is None else wish
