"""Ask for one request until it has its answer: send, read the reply, wait, send again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_result
from tenacity.wait import wait_random_exponential

from codesynth.models import Failure, Request, Response
from codesynth.serving.answers import read_json
from codesynth.serving.diagnosis import confirm_model, explain, explain_outage
from codesynth.serving.http import EndpointClient, NoReplyError
from codesynth.serving.limits import Admission, Advice, AttemptResult
from codesynth.serving.outcomes import Outcome, read_no_reply, read_outcome

_log = logging.getLogger(__name__)
_BACKOFF = wait_random_exponential(multiplier=0.5, max=30)  # seconds, with full jitter
_DOWN = frozenset({"connection", "timeout", "server_error"})
"""Failures that stop the run before the first answer; see ``Asker._is_endpoint_down``."""


@dataclass(slots=True, eq=False)
class AskedRequest:
    """A request and the state of its attempts.

    Attributes:
        outcome: of the last attempt.
        attempts: how often it was sent.
        counted: attempts that use up retries. Not counted: attempts during an outage, attempts
            that another replica repeats, and those that failed for want of file descriptors.
        seconds: duration of the last attempt.
        sending: an attempt is being made.
        drained: there must be no further attempt.
        avoid: number of the replica that failed last.
        fresh: a kept connection was closed under it, so the next attempt opens a new one.
        outage: the endpoint is down: the next answer to any row ends the pause.
    """

    request: Request
    outcome: Outcome = field(default_factory=Outcome)
    attempts: int = 0
    counted: int = 0
    seconds: float = 0.0
    sending: bool = False
    drained: bool = False
    avoid: int | None = None
    fresh: bool = False
    outage: bool = False

    @property
    def model(self) -> str:
        """The model's name, for messages."""
        return str(read_json(self.request.body).get("model"))


class Drained(Exception):  # noqa: N818 - no error: the request just was not sent
    """The stream is drained, and the request would need another attempt."""


class Asker:
    """Answers requests with retries, within the limits; belongs to one event loop.

    Args:
        endpoints: replicas of one another.
        timeout: seconds for one attempt.
        max_retries: after the first attempt.
    """

    def __init__(
        self,
        endpoints: Sequence[EndpointClient],
        admission: Admission,
        timeout: float,
        max_retries: int,
    ) -> None:
        self._endpoints, self.admission = endpoints, admission
        self._timeout, self._max_retries = timeout, max_retries
        self._answered = False
        self._failing = 0  # requests whose first attempt failed
        self._model_check: asyncio.Task[None] | None = None

    async def ask(self, asked: AskedRequest) -> Response:
        """Answer a request.

        Raises:
            Drained: ``asked.drained`` was set, and another attempt would be needed.
            EndpointError: no request can succeed.
            LimitReached: the budget is used up.
        """
        outcome = await self._attempt(asked)
        if outcome.retry:  # tenacity takes time, so it is used for retries only
            outcome = await self._retry(asked)
        error = outcome.failure
        if error is not None:
            endpoint = self._endpoints[asked.avoid or 0]
            if self._is_endpoint_down(error):
                raise explain(endpoint, outcome, asked.model)
            if error.kind == "rejected" and not self._answered:
                await self._confirm_model(endpoint, asked)
            error = replace(error, attempts=asked.attempts)
        return Response(
            asked.request, outcome.body, outcome.answer, error, asked.attempts, asked.seconds
        )

    async def _retry(self, asked: AskedRequest) -> Outcome:
        """Repeat the attempt, with pauses, until it needs no retry or no retry is left."""
        first = [asked.outcome]

        async def attempt() -> Outcome:
            return first.pop() if first else await self._attempt(asked)

        def wait(state: RetryCallState) -> float:
            after = asked.outcome.retry_after
            return _BACKOFF(state) if after is None else after

        async def pause(seconds: float) -> None:
            if asked.drained:
                raise Drained
            if (failure := asked.outcome.failure) and _log.isEnabledFor(logging.INFO):
                number = f"attempt {asked.counted + 1} of {self._max_retries + 1}"
                where, words = asked.request.record.where, asked.outcome.words
                _log.info("%s: %s: %s; %s in %.1f s", where, failure.kind, words, number, seconds)
            await self.admission.pause(seconds, outage=asked.outage)

        return await AsyncRetrying(
            retry=retry_if_result(lambda outcome: outcome.retry),
            stop=lambda _: asked.counted > self._max_retries,
            wait=wait,
            sleep=pause,
            retry_error_callback=lambda _: asked.outcome,
        )(attempt)

    async def _attempt(self, asked: AskedRequest) -> Outcome:
        """Send a request once; ``asked.outcome`` is what came of it."""
        permit = await self.admission.admit(asked.request.body, avoid=asked.avoid)
        endpoint = self._endpoints[permit.replica]
        asked.attempts += 1
        asked.counted += 1
        asked.sending = True
        started = time.monotonic()
        result: AttemptResult | None = None
        try:
            outcome = await self._send(asked, endpoint)
            result = self._result_of(outcome, asked)
        finally:
            asked.seconds = time.monotonic() - started
            asked.sending = False
            advice = self.admission.settle(permit, result)
        if outcome.answer is not None:
            self._answered = True
            asked.avoid = None
        else:
            outcome = self._follow(advice, asked, outcome, permit.replica)
        asked.outcome = outcome
        return outcome

    def _follow(
        self, advice: Advice, asked: AskedRequest, outcome: Outcome, replica: int
    ) -> Outcome:
        """Do as the limits advise after an attempt without an answer."""
        endpoint = self._endpoints[replica]
        if advice.stop and not (outcome.denied or outcome.quota):
            raise explain_outage(endpoint, outcome)
        if advice.stop:
            raise explain(endpoint, outcome, asked.model)
        if asked.attempts == 1:
            self._failing += 1
        asked.avoid, asked.outage = replica, advice.is_outage
        if advice.elsewhere or advice.is_outage:
            asked.counted -= 1
        return replace(outcome, retry=True, retry_after=0.0) if advice.elsewhere else outcome

    async def _send(self, asked: AskedRequest, endpoint: EndpointClient) -> Outcome:
        request = asked.request
        try:
            reply = await endpoint.request(
                "POST",
                "/chat/completions",
                request.body,
                timeout=self._timeout,
                fresh=asked.fresh,
                key=request.key,
            )
        except NoReplyError as exc:
            if exc.cause == "busy":
                asked.counted -= 1
            asked.fresh = asked.fresh or exc.cause == "stale"
            return read_no_reply(exc)
        reply.body = endpoint.secrets.hide_in_body(reply.body)
        return read_outcome(reply.status, reply.headers, reply.body, endpoint.secrets.hide)

    def _result_of(self, outcome: Outcome, asked: AskedRequest) -> AttemptResult:
        """Tell the limits what an attempt has brought."""
        if outcome.answer is not None:
            usage, size = outcome.answer.usage, len(outcome.body)
            return AttemptResult("answered", usage=usage, answer_bytes=size)
        kind, after = outcome.result, outcome.retry_after
        is_last = not outcome.retry or asked.counted > self._max_retries
        if outcome.quota or (outcome.denied and is_last and kind != "hopeless"):
            kind = "denied"
        billed, quota = outcome.billed, outcome.quota
        return AttemptResult(kind, outcome.words, after, billed=billed, quota=quota)

    def _is_endpoint_down(self, failure: Failure) -> bool:
        """Tell whether no request can succeed, after one has used up its attempts.

        If only one request gets errors or times out, the reason may be that request itself.
        """
        if self._answered or failure.kind not in _DOWN:
            return False
        return failure.kind == "connection" or self._failing > 1

    async def _confirm_model(self, endpoint: EndpointClient, asked: AskedRequest) -> None:
        """Find out, once, whether a rejection before the first answer concerns all requests.

        LiteLLM answers 400 to an unknown model and Gemini to a wrong key, as to a bad row.
        """
        if self._model_check is None:
            check = confirm_model(endpoint, asked.model, asked.outcome, self._timeout)
            self._model_check = asyncio.create_task(check)
        await asyncio.shield(self._model_check)
