"""The ``LLMServing`` that asks OpenAI-compatible endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from codesynth.codec import dumps
from codesynth.errors import ConfigError, one_line
from codesynth.models import Endpoint, Record, Request, Response, SamplingParams
from codesynth.serving.attempts import Asker
from codesynth.serving.diagnosis import discover_model
from codesynth.serving.http import AsyncBaseTransport, EndpointClient
from codesynth.serving.limits import Admission, Budget
from codesynth.serving.online import LoopThread, OnlineEngine
from codesynth.serving.stream import Channel, EngineStream


class APILLMServing:
    """Answers from one or several OpenAI-compatible endpoints, as many at a time as they take.

    Streams that are open at the same time share the limits. They run on an event loop in a thread
    of its own, so they work inside a running event loop (a notebook) too.

    Args:
        endpoint: a base URL, an ``Endpoint``, or several of them: replicas that share the load.
        model: None asks ``GET /models`` for the only one there is.
        params: OpenAI's request parameters.
        concurrency: most requests in flight; None finds out what the endpoints take.
        rpm: most requests a minute.
        tpm: most tokens a minute.
        timeout: seconds for one attempt, from send to last byte.
        connect_timeout: seconds.
        max_retries: retries after the first attempt.
        max_outage: seconds without any answer after which the run stops.
        budget: what the run may cost.
        transport: sends the requests, in place of connections of our own.

    Raises:
        ConfigError: no usable URL, key or header.

    >>> from codesynth.serving.offline import PracticeEndpoint
    >>> serving = APILLMServing("http://offline/v1", transport=PracticeEndpoint())
    >>> serving.model
    'offline'
    >>> [answer] = serving.generate_from_input(["Write a haiku."])
    >>> answer is None
    False
    """

    def __init__(
        self,
        endpoint: str | Endpoint | Sequence[str | Endpoint],
        model: str | None = None,
        *,
        params: SamplingParams | None = None,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        timeout: float = 600.0,
        connect_timeout: float = 10.0,
        max_retries: int = 5,
        max_outage: float = 300.0,
        budget: Budget | None = None,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        several = [endpoint] if isinstance(endpoint, (str, Endpoint)) else endpoint
        self._endpoints = [
            EndpointClient(each, connect_timeout=connect_timeout, transport=transport)
            for each in several
        ]
        if not self._endpoints:
            raise ConfigError("no endpoint is given. Example: http://localhost:8000/v1")
        self._model, self._assumed = model, False
        self.params = params or SamplingParams()
        self._timeout, self._max_retries, self._max_outage = timeout, max_retries, max_outage
        new_admission = partial(
            Admission,
            [each.name for each in self._endpoints],
            concurrency=concurrency,
            rpm=rpm,
            tpm=tpm,
            max_outage=max_outage,
            budget=budget,
        )
        self._thread = LoopThread(
            self._endpoints,
            lambda: Asker(self._endpoints, new_admission(), timeout, max_retries),
        )

    @property
    def model(self) -> str:
        """The model's name, asked from the endpoint the first time it is needed.

        Raises:
            ConfigError: the endpoint lists none or several.
            EndpointError: it cannot be asked.
        """
        if self._model is None:
            self._model = self._discover()
        return self._model

    def load(self) -> tuple[int, int]:
        """Count the requests in flight, and how many may be."""
        status = self._thread.asker.admission.status
        return status.in_flight, status.limit

    def status(self) -> str:
        """Say for the bar how many requests are in flight, and the error if none succeeds."""
        status = self._thread.asker.admission.status
        error = f", no answer: {one_line(status.last_error, 60)}" if status.last_error else ""
        return f"{status.in_flight} of {status.limit} in flight{error}"

    def assume_model(self, name: str) -> None:
        """Use the model of an earlier run if the user named none; see ``check_model``."""
        if self._model is None:
            self._model, self._assumed = name, True

    def check_model(self) -> None:
        """Make sure that an assumed model is still the only one that the endpoint lists.

        Raises:
            ConfigError: the endpoint lists another one.
            EndpointError: the endpoint cannot be asked.
        """
        if self._assumed and (found := self._discover()) != self._model:
            raise ConfigError(
                f"{self._endpoints[0].name} lists the model {found}, but the last run asked "
                f"{self._model}. Choose with --model"
            )

    def generate(self, requests: Iterable[Request | Response]) -> EngineStream:
        """Answer each request, in any order; see ``LLMServing``."""
        channel = Channel()
        return EngineStream(requests, OnlineEngine(self._thread, channel), channel)

    def generate_from_input(
        self,
        user_inputs: list[str],
        system_prompt: str | None = None,
        json_schema: dict[str, Any] | None = None,
    ) -> list[str | None]:
        """Answer each prompt; None where one failed. DataFlow's shape, for its operators."""
        system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        params = self.params if json_schema is None else self.params.with_schema(json_schema)
        requests = []
        for i, text in enumerate(user_inputs):
            messages = [*system, {"role": "user", "content": text}]
            body = dumps(params.body(self.model, messages), sort_keys=True)
            requests.append(Request(Record(i, b"{}", {}), i, body, b"%d" % i, messages))
        answers: list[str | None] = [None] * len(requests)
        for response in self.generate(requests):
            if response.error is None and response.answer is not None:
                answers[response.request.position] = response.answer.text
        return answers

    def _discover(self) -> str:
        """Ask for the only model; on the event loop, because the connections belong to it."""
        self._thread.enter()

        async def discover() -> str:
            try:
                return await discover_model(
                    self._endpoints, self._timeout, self._max_retries, self._max_outage
                )
            finally:
                self._thread.leave()

        return asyncio.run_coroutine_threadsafe(discover(), self._thread.loop).result()
