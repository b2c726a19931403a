"""The transport: an OpenAI-compatible endpoint inside the process, and its faults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from hashlib import blake2b
from random import Random
from typing import Any

import httpx

from codesynth.codec import dumps, loads
from codesynth.errors import ConfigError
from codesynth.serving.offline.answers import answer
from codesynth.serving.offline.batches import PracticeBatches

_SHARES = ("429", "500", "cut", "wrong_code", "wrong_tests", "expired")
_NO_FAULTS = dict.fromkeys((*_SHARES, "latency", "batch_limit"), 0.0)
_CHARACTERS_PER_TOKEN = 4
_HEADERS = httpx.Headers({"content-type": "application/json"})
_RETRY_HEADERS = httpx.Headers({**_HEADERS, "retry-after-ms": "50", "retry-after": "1"})
_MODELS = {"object": "list", "data": [{"id": "offline", "object": "model", "created": 0}]}


def read_faults(text: str) -> dict[str, float]:
    """Read the value of CODESYNTH_OFFLINE, such as ``429=0.1,latency=0.2``.

    Shares of the attempts: ``429``, ``500``. Of the answers: ``cut`` (half of it is missing),
    ``wrong_code``. Of the tests: ``wrong_tests``. Of the requests in a batch: ``expired``. Seconds
    an answer: ``latency``. Most requests in a batch, or it fails: ``batch_limit``.

    Raises:
        ConfigError: an unknown key, or a value out of its range.
    """
    faults = dict(_NO_FAULTS)
    for pair in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(\w+) *= *(\d*\.?\d+)", pair)
        key, value = (match[1], float(match[2])) if match else ("", 0.0)
        if key not in faults or (value > 1 and key in _SHARES):
            raise ConfigError(
                f'CODESYNTH_OFFLINE: cannot use "{pair}". Known: {", ".join(_SHARES)} '
                "(shares from 0 to 1), latency (seconds) and batch_limit (requests). "
                "Try CODESYNTH_OFFLINE=429=0.1,latency=0.2"
            )
        faults[key] = value
    return faults


class PracticeEndpoint(httpx.AsyncBaseTransport):
    """Answers by a request's body, and by ``extensions["key"]``, which tells equal ones apart.

    >>> client = httpx.AsyncClient(transport=PracticeEndpoint(), base_url="http://offline/v1")
    >>> asyncio.run(client.get("/models")).json()["data"][0]["id"]
    'offline'
    """

    def __init__(self, faults: Mapping[str, float] = _NO_FAULTS) -> None:
        self._faults = faults
        self._batches = PracticeBatches(self._complete, faults)
        self._rng = _rng(b"faults")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        call = f"{request.method} {request.url.path}"
        if call.startswith("GET ") and call.endswith("/models"):
            return _respond(200, _MODELS)
        if "/v1/files" in call or "/v1/batches" in call:
            status, value = await self._batches.respond(request)
            if isinstance(value, httpx.AsyncByteStream):
                return httpx.Response(status, stream=value)
            return _respond(status, value)
        if not (call.startswith("POST ") and call.endswith("/chat/completions")):
            return _refuse(404, f"unknown request: {call}")
        body = await request.aread()
        if self._faults["latency"]:
            await asyncio.sleep(self._faults["latency"])
        draw = self._rng.random() - self._faults["429"]
        if draw < self._faults["500"]:
            status = 429 if draw < 0 else 500
            return _refuse(status, "CODESYNTH_OFFLINE tells the practice endpoint to fail")
        return _respond(*self._complete(body, request.extensions.get("key", b"")))

    def _complete(self, body: bytes, key: bytes) -> tuple[int, dict[str, Any]]:
        digest = blake2b(body + key, digest_size=16).digest()
        try:
            return 200, complete(body, digest, self._faults)
        except (ValueError, TypeError, KeyError, IndexError) as exc:
            words = f"this is not the body of a chat completion request: {exc!r}"
            return 400, _error(400, words)


def complete(body: bytes, digest: bytes, faults: Mapping[str, float]) -> dict[str, Any]:
    """Answer the body of a chat completion request; the answer is drawn from ``digest``.

    Raises:
        ValueError, TypeError, KeyError, IndexError: it is no such body.
    """
    request = loads(body)
    messages = [(each["role"], each["content"]) for each in request["messages"]]
    system = [text for role, text in messages if role == "system"]
    prompt = "\n\n".join([*system, [text for role, text in messages if role == "user"][-1]])
    rng = _rng(digest)
    whole = answer(prompt, rng, wrong_code=faults["wrong_code"], wrong_tests=faults["wrong_tests"])
    text = whole[: len(whole) // 2] if rng.random() < faults["cut"] else whole
    limit = request.get("max_completion_tokens", request.get("max_tokens"))
    if limit is not None:
        text = text[: limit * _CHARACTERS_PER_TOKEN]
    reason = "stop" if text == whole else "length"
    sent = sum(-(-len(text) // _CHARACTERS_PER_TOKEN) for _, text in messages)
    got = -(-len(text) // _CHARACTERS_PER_TOKEN)
    message = {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{digest.hex()}",
        "object": "chat.completion",
        "created": 0,
        "model": "offline",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": sent, "completion_tokens": got, "total_tokens": sent + got},
    }


def _rng(seed: bytes) -> Random:
    return Random(int.from_bytes(seed))  # noqa: S311 - guards no secret


def _respond(status: int, value: object) -> httpx.Response:
    headers = _RETRY_HEADERS if status == 429 else _HEADERS
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(dumps(value)))


def _refuse(status: int, message: str) -> httpx.Response:
    return _respond(status, _error(status, message))


def _error(status: int, message: str) -> dict[str, Any]:
    """Fail in the shape of OpenAI's errors."""
    kind = {429: "requests", 500: "server_error"}.get(status, "invalid_request_error")
    code = {429: "rate_limit_exceeded", 404: "unknown_url"}.get(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
