"""An OpenAI-compatible endpoint as an LLMServing: window, retries, POST."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence

from codesynth.codec import dumps
from codesynth.errors import ConfigError, EndpointError
from codesynth.models import Endpoint, Record, Request, SamplingParams
from codesynth.serving.budget import Budget
from codesynth.serving.diagnosis import discover
from codesynth.serving.session import Session
from codesynth.serving.site import App, Site
from codesynth.serving.window import Window


class APILLMServing:
    """Answers from one or several OpenAI-compatible endpoints, as many at a time as they take.

    Each call of ``generate`` runs on an event loop of its own, in a thread of its own, so it
    works inside a running loop (a notebook) too.

    Args:
        endpoints: one, or replicas that share the load.
        model: None asks ``GET /models`` for the only one there is.
        params: OpenAI's request parameters.
        concurrency: most requests in flight; None finds out what the endpoint takes.
        rpm: cap on requests a minute.
        tpm: cap on tokens a minute.
        timeout: seconds for one attempt, from send to last byte.
        connect_timeout: seconds.
        max_retries: retries after the first attempt.
        max_outage: seconds without any answer after which the run stops.
        budget: what the run may cost.
        app: answers in the network's place.

    Raises:
        ConfigError: no usable URL or key.

    >>> from codesynth.serving.offline import OfflineEndpoint
    >>> serving = APILLMServing(Endpoint("http://offline/v1"), app=OfflineEndpoint("code"))
    >>> serving.model
    'offline'
    >>> [answer] = serving.generate_from_input(["Write a haiku."])
    >>> "NotImplementedError" in answer
    True
    """

    def __init__(
        self,
        endpoints: Endpoint | Sequence[Endpoint],
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
        app: App | None = None,
    ) -> None:
        several = [endpoints] if isinstance(endpoints, Endpoint) else endpoints
        self._sites = [Site(each, connect_timeout=connect_timeout, app=app) for each in several]
        self._model = model
        self._assumed: str | None = None
        self.params = params or SamplingParams()
        self.concurrency, self.rpm, self.tpm = concurrency, rpm, tpm
        self.timeout, self.max_retries, self.max_outage = timeout, max_retries, max_outage
        self.budget = budget

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

    def assume_model(self, name: str) -> None:
        """Take the model of an earlier run, unless one was named; see ``check_model``."""
        if self._model is None:
            self._model = self._assumed = name

    def check_model(self) -> None:
        """See that an assumed model is still the one the endpoint lists.

        Raises:
            ConfigError: it is not.
            EndpointError: the endpoint cannot be asked.
        """
        if self._assumed is not None and (found := self._discover()) != self._assumed:
            raise ConfigError(
                f"{self._sites[0].name} lists the model {found}, but the journal has answers of "
                f"{self._assumed}. Choose with --model"
            )

    def _discover(self) -> str:
        """Ask in a thread of its own: asyncio.run would not run inside a notebook's loop."""
        found: list[str | Exception] = []

        def ask() -> None:
            try:
                found.append(asyncio.run(discover(self._sites[0], self.timeout, self.max_retries)))
            except (ConfigError, EndpointError) as exc:
                found.append(exc)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join()
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    def body(self, request: Request) -> bytes:
        """Write a request's body as it is sent: JSON with sorted keys."""
        return dumps(self.params.body(self.model, request.messages), sort_keys=True)

    def generate(self, requests: Iterable[Request]) -> Window:
        """Answer each request, in any order; see ``LLMServing``."""
        return Window(
            requests,
            Session(
                self._sites,
                self.body,
                model=self.model,
                concurrency=self.concurrency,
                rpm=self.rpm,
                tpm=self.tpm,
                timeout=self.timeout,
                max_retries=self.max_retries,
                max_outage=self.max_outage,
                budget=self.budget,
            ),
        )

    def generate_from_input(
        self, user_inputs: list[str], system_prompt: str | None = None
    ) -> list[str | None]:
        """Answer each prompt; None where one failed. DataFlow's shape, for its operators."""
        system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        requests = (
            Request(
                custom_id=f"prompt-{i}",
                messages=[*system, {"role": "user", "content": text}],
                record=Record(i, b"{}", {}),
                position=i,
            )
            for i, text in enumerate(user_inputs)
        )
        answers: list[str | None] = [None] * len(user_inputs)
        for response in self.generate(requests):
            if response.error is None:
                answers[response.request.position] = response.text
        return answers
