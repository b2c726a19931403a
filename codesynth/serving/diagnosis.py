"""Find out why no request can succeed, such as a wrong key, URL or model, and say it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from codesynth.errors import ConfigError, EndpointError, one_line
from codesynth.serving.answers import read_json
from codesynth.serving.http import EndpointClient, NoReply, Reply
from codesynth.serving.outcomes import Outcome, read_outcome

_log = logging.getLogger(__name__)
_UNLISTED = frozenset({404, 405, 501})
"""Statuses of endpoints that do not list models at all."""
_CAUSES = {
    401: "endpoint refused the key (401): {words}. Set OPENAI_API_KEY for {name}",
    402: "{name}: the quota is exhausted (402): {words}",
    403: "endpoint denies access (403): {words}. Is OPENAI_API_KEY right for {name}?",
    404: "endpoint does not know the model or the path (404): {words}. "
    "Check --model {model} and --base-url {name}{hint}",
    407: "the proxy refuses (407): {words}. Name user and password in HTTP_PROXY or ALL_PROXY: "
    "http://USER:PASSWORD@HOST:PORT",
}


class _NotYet(EndpointError):  # noqa: N818 - no error if it succeeds later
    """The endpoint may list its models later: it may be just starting.

    Attributes:
        retry_after: seconds that the server asks us to wait.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


async def discover_model(
    endpoints: Sequence[EndpointClient], timeout: float, max_retries: int, max_outage: float
) -> str:
    """Return the only model that the first endpoint that answers ``GET /models`` lists.

    Raises:
        ConfigError: the endpoint lists no model, or several.
        EndpointError: no endpoint can be asked, or they refuse the key.
    """
    end = asyncio.get_running_loop().time() + max_outage
    errors = dict[EndpointClient, EndpointError]()
    left = list(endpoints)
    for attempt in range(max_retries + 1):
        pause = min(0.5 * 2**attempt, 8)  # seconds
        for endpoint in [*left]:
            try:
                return _choose_model(endpoint, await _list_models(endpoint, timeout))
            except _NotYet as exc:
                errors[endpoint] = exc
                pause = max(pause, exc.retry_after or 0)
            except EndpointError as exc:
                errors[endpoint] = exc
                left.remove(endpoint)
        is_last = not left or attempt == max_retries
        if is_last or asyncio.get_running_loop().time() + pause > end:
            break
        for error in errors.values():
            _log.info("%s; asking for the model again in %.1f s", error, pause)
        await asyncio.sleep(pause)
    raise errors[endpoints[0]]


def _choose_model(endpoint: EndpointClient, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    listed = f"{len(names)} models: {one_line(', '.join(names))}" if names else "no model"
    hint = "" if names else _hint(endpoint)
    fix = f"Choose one with --model or CODESYNTH_MODEL{hint}"
    raise ConfigError(f"{endpoint.name} lists {listed}. {fix}")


async def _list_models(endpoint: EndpointClient, timeout: float) -> list[str]:
    try:
        reply = await endpoint.request("GET", "/models", b"", timeout=timeout)
    except NoReply as exc:
        error = EndpointError if exc.cause == "hopeless" else _NotYet
        raise error(exc.message) from exc
    fix = "Are OPENAI_API_KEY and --base-url right? With --model, no list is needed"
    return _read_names(endpoint, reply, fix)


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
        reply = await endpoint.request("GET", "/models", b"", timeout=timeout)
    except NoReply:
        return
    if reply.status not in (200, 400, 401):  # it does not say; Gemini answers 400 to a wrong key
        return
    names = _read_names(endpoint, reply, "Are OPENAI_API_KEY and --base-url right?")
    asked = model.casefold()
    if names and not any(asked in name.casefold() or name.casefold() in asked for name in names):
        raise EndpointError(
            f"endpoint rejects the first request ({rejection.status}): {rejection.words}. It does "
            f"not list the model {model}, but {one_line(', '.join(names))}. Choose with --model"
        )


def _read_names(endpoint: EndpointClient, reply: Reply, fix: str) -> list[str]:
    """Read the names of the models; empty if the endpoint does not list them."""
    if reply.status in _UNLISTED:
        return []
    if 200 <= reply.status < 300:
        try:
            return [str(entry["id"]) for entry in read_json(reply.body)["data"]]
        except (ValueError, TypeError, KeyError):
            return []
    outcome = read_outcome(reply.status, reply.headers, reply.body, endpoint.secrets.hide)
    if outcome.denied or outcome.quota:
        raise explain(endpoint, outcome)
    said = f"answers {reply.status}: {outcome.words}".removesuffix(f": status {reply.status}")
    text = f"{endpoint.name}/models {said}. {fix}"
    raise _NotYet(text, outcome.retry_after) if outcome.retry else EndpointError(text)


def _hint(endpoint: EndpointClient) -> str:
    """Name the likely mistake if a base URL has no path."""
    return "" if urlsplit(endpoint.name).path.strip("/") else ". Most base URLs end in /v1"


def explain(endpoint: EndpointClient, outcome: Outcome, model: str = "") -> EndpointError:
    """Say why no request can succeed, and what to do."""
    status, words, name = outcome.status, outcome.words, endpoint.name
    if outcome.quota:
        text = f"{name}: the quota is exhausted ({status}): {words}"
    elif status in _CAUSES:
        hint = _hint(endpoint)
        text = _CAUSES[status].format(words=words, name=name, model=model, hint=hint)
    elif status:
        text = f"{name} answers {status}: {words}{'. Is --base-url right?' if status < 500 else ''}"
    else:
        fix = "" if outcome.denied else ". Is the endpoint running, and is --base-url right?"
        text = f"{words}{fix}"
    return EndpointError(text)


def explain_outage(endpoint: EndpointClient, outcome: Outcome) -> EndpointError:
    """Say that there has been no answer for too long."""
    where = f"{endpoint.name} answers {outcome.status}: " if outcome.status else ""
    words = f"{where}{outcome.words}. No request has succeeded for --max-outage seconds"
    return EndpointError(f"{words}. Run again to resume")
