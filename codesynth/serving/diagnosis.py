"""Find out why no request can succeed, such as a wrong key, URL or model, and say it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from codesynth.errors import ConfigError, EndpointError, one_line
from codesynth.serving.answers import read_json
from codesynth.serving.http import EndpointClient, NoReply, Reply
from codesynth.serving.outcomes import Outcome, read_outcome

_UNLISTED = frozenset({404, 405, 501})
"""Statuses of endpoints that do not list models at all."""


async def discover_model(
    endpoints: Sequence[EndpointClient], timeout: float, max_retries: int
) -> str:
    """Return the only model that the first endpoint that answers ``GET /models`` lists.

    Raises:
        ConfigError: the endpoint lists no model, or several.
        EndpointError: no endpoint can be asked, or they refuse the key.
    """
    errors: list[EndpointError] = []
    for endpoint in endpoints:
        try:
            names = await _list_models(endpoint, timeout, max_retries)
        except EndpointError as exc:
            errors.append(exc)
            continue
        if len(names) == 1:
            return names[0]
        listed = f"{len(names)} models: {one_line(', '.join(names))}" if names else "no model"
        fix = "Choose one with --model or CODESYNTH_MODEL"
        hint = "" if names else _hint(endpoint)
        raise ConfigError(f"{endpoint.name} lists {listed}. {fix}{hint}")
    raise errors[0]


async def _list_models(endpoint: EndpointClient, timeout: float, max_retries: int) -> list[str]:
    """List the models of an endpoint, with retries: it may be just starting."""
    for retry in range(max_retries + 1):
        if retry:
            await asyncio.sleep(min(0.25 * 2**retry, 8))
        last = retry == max_retries
        try:
            reply = await endpoint.request("GET", "/models", b"", timeout=timeout)
        except NoReply as exc:
            if last or exc.permanent:
                raise EndpointError(exc.message) from exc
            continue
        if last or (reply.status < 500 and reply.status != 429) or _is_quota(endpoint, reply):
            break
    return _read_names(endpoint, reply, " With --model NAME the list is not asked for")


async def check_model(
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
    if reply.status >= 500:  # listing is broken, answering may not be
        return
    names = _read_names(endpoint, reply)
    asked = model.casefold()
    if names and not any(asked in name.casefold() or name.casefold() in asked for name in names):
        status, words = _words_of(rejection)
        raise EndpointError(
            f"endpoint rejects the first request ({status}): {words}. It does not list "
            f"the model {model}, but {one_line(', '.join(names))}. Choose with --model"
        )


def _is_quota(endpoint: EndpointClient, reply: Reply) -> bool:
    return read_outcome(reply.status, reply.headers, reply.body, endpoint.secrets.hide).quota


def _read_names(endpoint: EndpointClient, reply: Reply, hint: str = "") -> list[str]:
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
    _, words = _words_of(outcome)
    said = f"answers {reply.status}: {words}".removesuffix(f": status {reply.status}")
    fix = f"Are OPENAI_API_KEY and --base-url right?{hint}"
    raise EndpointError(f"{endpoint.name}/models {said}. {fix}")


def _hint(endpoint: EndpointClient) -> str:
    """Word the likely mistake where a base URL has no path."""
    return "" if urlsplit(endpoint.name).path.strip("/") else ". Most base URLs end in /v1"


def _words_of(outcome: Outcome) -> tuple[int | None, str]:
    failure = outcome.failure
    return (failure.status, failure.message.rstrip(".")) if failure else (None, "")


def explain(endpoint: EndpointClient, outcome: Outcome, model: str = "") -> EndpointError:
    """Say why no request can succeed, and what to do."""
    status, words = _words_of(outcome)
    name = endpoint.name
    if outcome.quota or status == 402:
        text = f"{name}: the quota is exhausted ({status}): {words}"
    elif status is None:
        fix = "" if outcome.denied else ". Is the endpoint running, and is --base-url right?"
        text = f"{words}{fix}"
    elif status == 401:
        text = f"endpoint refused the key (401): {words}. Set OPENAI_API_KEY for {name}"
    elif status == 403:
        text = f"endpoint denies access (403): {words}. Is OPENAI_API_KEY right for {name}?"
    elif status == 404:
        fix = f"Check --model {model} and --base-url {name}{_hint(endpoint)}"
        text = f"endpoint does not know the model or the path (404): {words}. {fix}"
    else:
        fix = ". Is --base-url right?" if status < 500 else ""
        text = f"{name} answers {status}: {words}{fix}"
    return EndpointError(text)


def explain_outage(outcome: Outcome) -> EndpointError:
    """Say that the answers have stopped for too long."""
    _, words = _words_of(outcome)
    return EndpointError(
        f"{words}. No request has succeeded for --max-outage seconds. Run again to resume"
    )
