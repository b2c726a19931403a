"""Find out why no request can succeed, such as a wrong key, URL or model, and say it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from codesynth.errors import ConfigError, EndpointError, one_line
from codesynth.serving.answers import read_json
from codesynth.serving.http import EndpointClient, NoReplyError
from codesynth.serving.outcomes import Outcome, read_no_reply, read_outcome

_log = logging.getLogger(__name__)
_UNLISTED = frozenset({404, 405, 501})
"""Statuses of endpoints that do not list models at all."""
_CAUSES = {
    401: "endpoint refused the key (401): {words}. Set OPENAI_API_KEY for {name}",
    403: "endpoint denies access (403): {words}. Is OPENAI_API_KEY right for {name}?",
    404: "endpoint does not know the model or the path (404): {words}. "
    "Check --model {model} and --base-url {name}{hint}",
    407: "the proxy refuses (407): {words}. Name user and password in HTTP_PROXY or ALL_PROXY: "
    "http://USER:PASSWORD@HOST:PORT",
}


class NotListedError(EndpointError):
    """The models cannot be listed.

    Attributes:
        outcome: what came instead.
    """

    def __init__(self, endpoint: EndpointClient, outcome: Outcome) -> None:
        if outcome.denied or outcome.quota or not outcome.status:
            words = str(explain(endpoint, outcome))
        else:
            fix = "Are OPENAI_API_KEY and --base-url right?"
            if outcome.status >= 500:
                fix = "With --model, the list of models is not needed"
            words = f"{_quote(f'{endpoint.name}/models', outcome)}. {fix}"
        super().__init__(words)
        self.outcome = outcome


async def discover_model(
    endpoints: Sequence[EndpointClient], timeout: float, max_retries: int, max_outage: float
) -> str:
    """Return the only model that the first endpoint that answers ``GET /models`` lists.

    Args:
        max_outage: seconds after which no further attempt is made.

    Raises:
        ConfigError: the endpoint lists no model, or several.
        EndpointError: no endpoint can be asked, or they refuse the key.
    """
    end = asyncio.get_running_loop().time() + max_outage
    for attempt in range(max_retries + 1):
        errors = list[NotListedError]()
        for endpoint in endpoints:
            try:
                return _choose_model(endpoint, await list_models(endpoint, timeout))
            except NotListedError as exc:
                errors.append(exc)
        may_heal = [e.outcome for e in errors if e.outcome.retry and not e.outcome.denied]
        if attempt == max_retries or not may_heal:
            break
        pause = max(min(0.5 * 2**attempt, 8), *(each.retry_after or 0 for each in may_heal))
        if asyncio.get_running_loop().time() + pause > end:
            break
        _log.info("%s; asking for the model again in %.1f s", errors[0], pause)
        await asyncio.sleep(pause)
    raise errors[0]


def _choose_model(endpoint: EndpointClient, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    listed = f"{len(names)} models: {one_line(', '.join(names))}" if names else "no model"
    hint = "" if names else _hint(endpoint)
    fix = f"Choose one with --model or CODESYNTH_MODEL{hint}"
    raise ConfigError(f"{endpoint.name} lists {listed}. {fix}")


async def list_models(endpoint: EndpointClient, timeout: float) -> list[str]:
    """Return the names that ``GET /models`` lists; none if the endpoint does not list models.

    Raises:
        NotListedError: the endpoint cannot be reached, or refuses.
    """
    try:
        reply = await endpoint.request("GET", "/models", b"", timeout=timeout)
    except NoReplyError as exc:
        raise NotListedError(endpoint, read_no_reply(exc)) from exc
    if reply.status in _UNLISTED:
        return []
    if not 200 <= reply.status < 300:
        hide = endpoint.secrets.hide
        outcome = read_outcome(reply.status, reply.headers, reply.body, hide)
        raise NotListedError(endpoint, outcome)
    try:
        return [str(entry["id"]) for entry in read_json(reply.body)["data"]]
    except (ValueError, TypeError, KeyError):
        return []


async def confirm_model(
    endpoint: EndpointClient, model: str, rejection: Outcome, timeout: float
) -> None:
    """Ask the endpoint whether it knows the model and the key; no error if it does not say.

    It is enough that a listed name contains the model's name, or the other way round:
    ``llama3:latest`` is accepted for ``llama3``.

    Raises:
        EndpointError: it does not list the model, or refuses to list models.
    """
    try:
        names = await list_models(endpoint, timeout)
    except NotListedError as exc:
        if exc.outcome.status in (400, 401):  # Gemini answers 400 to a wrong key
            raise
        return
    asked = model.casefold()
    if names and not any(asked in name.casefold() or name.casefold() in asked for name in names):
        raise EndpointError(
            f"endpoint rejects the first request ({rejection.status}): {rejection.words}. It does "
            f"not list the model {model}, but {one_line(', '.join(names))}. Choose with --model"
        )


def _hint(endpoint: EndpointClient) -> str:
    """Name the likely mistake if a base URL has no path."""
    return "" if urlsplit(endpoint.name).path.strip("/") else ". Most base URLs end in /v1"


def explain(endpoint: EndpointClient, outcome: Outcome, model: str = "") -> EndpointError:
    """Say why no request can succeed, and what to do."""
    status, words, name = outcome.status, outcome.words, endpoint.name
    if outcome.quota or status == 402:
        text = f"{name}: the quota is exhausted ({status}): {words}"
    elif status in _CAUSES:
        hint = _hint(endpoint)
        text = _CAUSES[status].format(words=words, name=name, model=model, hint=hint)
    elif status:
        text = f"{_quote(name, outcome)}{'. Is --base-url right?' if status < 500 else ''}"
    else:
        fix = "" if outcome.denied else ". Is the endpoint running, and is --base-url right?"
        text = f"{words}{fix}"
    return EndpointError(text)


def explain_outage(endpoint: EndpointClient, outcome: Outcome) -> EndpointError:
    """Say that there has been no answer for too long."""
    words = _quote(endpoint.name, outcome) if outcome.status else outcome.words
    fix = "No request has succeeded for --max-outage seconds. Run again to resume"
    return EndpointError(f"{words}. {fix}")


def _quote(url: str, outcome: Outcome) -> str:
    """Say what an endpoint answers, with its words if it has some."""
    text = f"{url} answers {outcome.status}: {outcome.words}"
    return text.removesuffix(f": status {outcome.status}")
