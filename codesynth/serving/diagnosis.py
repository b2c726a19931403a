"""Why nobody gets an answer: a wrong key, URL or model, found out and put in words."""

from __future__ import annotations

import asyncio

from codesynth.codec import loads
from codesynth.errors import ConfigError, EndpointError
from codesynth.serving.answers import Answer, clean, read_answer, wording
from codesynth.serving.site import NoReply, Reply, Site

_UNLISTED = frozenset({404, 405, 501})
"""Answers of endpoints that do not list models at all."""


async def discover(site: Site, timeout: float, max_retries: int) -> str:
    """Name the only model that ``GET /models`` lists; waits for one that is being loaded.

    Raises:
        ConfigError: it lists none, or several.
        EndpointError: it cannot be asked, or refuses the key.
    """
    try:
        for retry in range(max_retries + 1):
            if retry:
                await asyncio.sleep(min(0.25 * 2**retry, 8))
            last = retry == max_retries
            try:
                reply = await site.request("GET", "/models", b"", timeout=timeout, fresh=False)
            except NoReply as exc:
                if last:
                    raise EndpointError(str(exc)) from exc
                continue
            if reply.status < 500 or last:
                break
    finally:
        await site.aclose()
    names = _names(site, reply)
    if len(names) == 1:
        return names[0]
    listed = f"lists {len(names)} models: {clean(', '.join(names))}" if names else "lists no model"
    raise ConfigError(f"{site.name} {listed}. Choose one with --model or CODESYNTH_MODEL")


def _names(site: Site, reply: Reply) -> list[str]:
    """Read the models' names; none where the endpoint does not list them."""
    if reply.status in _UNLISTED:
        return []
    answer = read_answer(reply.status, reply.headers, reply.body)
    if answer.denied or answer.quota:
        raise denial(site, answer, None)
    if not 200 <= reply.status < 300:
        words = site.without_secrets(wording(reply.body)).rstrip(".")
        raise EndpointError(
            f"{site.name}/models answers {reply.status}: {words}. "
            "Are OPENAI_API_KEY and --base-url right? Naming the --model asks for no list"
        )
    try:
        return [str(entry["id"]) for entry in loads(reply.body)["data"]]
    except (ValueError, TypeError, KeyError):
        return []


async def check_model(site: Site, model: str, rejection: Answer, timeout: float) -> None:
    """Ask the endpoint whether it knows the model, and us; silent where it does not say.

    A listed name that holds the model's, or is held in it, will do, as ``llama3:latest`` does for
    ``llama3``.

    Raises:
        EndpointError: it does not list the model, or refuses to list any.
    """
    try:
        reply = await site.request("GET", "/models", b"", timeout=timeout, fresh=False)
    except NoReply:
        return
    if reply.status >= 500:  # listing is broken, answering may not be
        return
    names = _names(site, reply)
    asked = model.casefold()
    if names and not any(asked in name.casefold() or name.casefold() in asked for name in names):
        words = site.without_secrets(rejection.message).rstrip(".")
        raise EndpointError(
            f"endpoint rejects the first request ({rejection.status}): {words}. It does not list "
            f"the model {model}, but {clean(', '.join(names))}. Choose with --model"
        )


def denial(site: Site, answer: Answer, model: str | None) -> EndpointError:
    """Word why nobody gets an answer: where, what, the fix."""
    words = site.without_secrets(answer.message).rstrip(".")
    if answer.quota or answer.status == 402:
        return EndpointError(f"{site.name}: the quota is exhausted ({answer.status}): {words}")
    if answer.status == 401:
        fix = f"Set OPENAI_API_KEY for {site.name}"
        return EndpointError(f"endpoint refused the key (401): {words}. {fix}")
    if answer.status == 403:
        fix = f"Is OPENAI_API_KEY right for {site.name}?"
        return EndpointError(f"endpoint denies access (403): {words}. {fix}")
    if answer.status == 404:
        fix = f"Check --model {model} and --base-url {site.name}"
        return EndpointError(f"endpoint does not know the model or the path (404): {words}. {fix}")
    return EndpointError(f"{site.name} {words} ({answer.status}). Is --base-url right?")
