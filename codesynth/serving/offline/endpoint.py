"""The practice endpoint: an httpx transport that answers inside the process, also with faults."""

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

_NO_FAULTS = dict.fromkeys(
    ("429", "500", "cut", "wrong_code", "wrong_tests", "latency", "expired", "batch_limit"), 0.0
)
_CHARACTERS_PER_TOKEN = 4
_ON_DEMAND = "CODESYNTH_OFFLINE tells the practice endpoint to fail"
_HEADERS = httpx.Headers({"content-type": "application/json"})
_RETRY_HEADERS = httpx.Headers({**_HEADERS, "retry-after-ms": "50", "retry-after": "1"})
_MODELS = {"object": "list", "data": [{"id": "offline", "object": "model", "created": 0}]}


def read_faults(text: str) -> dict[str, float]:
    """Read the value of CODESYNTH_OFFLINE, such as ``429=0.1,latency=0.2``.

    ``429`` and ``500`` are shares of the attempts, ``cut`` (half of the answer is missing) and
    ``wrong_code`` of the answers, ``wrong_tests`` of the tests, ``expired`` of the requests in a
    batch. ``latency`` is in seconds for each answer. A batch with more than ``batch_limit``
    requests fails.

    Raises:
        ConfigError: an unknown name, or no number.
    """
    faults = dict(_NO_FAULTS)
    for pair in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(\w+) *= *(\d*\.?\d+)", pair)
        if match is None or match[1] not in faults:
            known = ", ".join(faults)
            raise ConfigError(
                f'CODESYNTH_OFFLINE: cannot use "{pair}". Known: {known}. '
                "Try CODESYNTH_OFFLINE=429=0.1,latency=0.2"
            )
        faults[match[1]] = float(match[2])
    return faults


class PracticeEndpoint(httpx.AsyncBaseTransport):
    """Answers requests. The answer depends on the body and on the extension ``key`` alone.

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
        method, path = request.method, request.url.path
        if method == "GET" and path.endswith("/models"):
            return _respond(200, _MODELS)
        if "/v1/files" in path or "/v1/batches" in path:
            status, value = await self._batches.respond(request)
            is_json = isinstance(value, dict)
            return _respond(status, value) if is_json else httpx.Response(status, content=value)
        if method != "POST" or not path.endswith("/chat/completions"):
            return _respond(404, _error(f"unknown request: {method} {path}", "unknown_url"))
        body = await request.aread()
        if self._faults["latency"]:
            await asyncio.sleep(self._faults["latency"])
        draw = self._rng.random() - self._faults["429"]
        if draw < 0:
            return _respond(429, _error(_ON_DEMAND, "rate_limit_exceeded", "requests"))
        if draw < self._faults["500"]:
            return _respond(500, _error(_ON_DEMAND, None, "server_error"))
        return _respond(*self._complete(body, request.extensions.get("key", b"")))

    def _complete(self, body: bytes, key: bytes) -> tuple[int, dict[str, Any]]:
        """Answer the body of a chat completion request; the answer depends on body and key."""
        digest = blake2b(body + key, digest_size=16).digest()
        try:
            return 200, self._answer(loads(body), digest)
        except (ValueError, TypeError, KeyError, IndexError) as exc:
            words = f"this is not the body of a chat completion request: {exc!r}"
            return 400, _error(words, None)

    def _answer(self, request: Any, digest: bytes) -> dict[str, Any]:
        faults, rng = self._faults, _rng(digest)
        messages = [(each["role"], each["content"]) for each in request["messages"]]
        system = [text for role, text in messages if role == "system"]
        prompt = "\n\n".join([*system, [text for role, text in messages if role == "user"][-1]])
        whole = answer(prompt, rng, faults["wrong_code"], faults["wrong_tests"])
        text = whole[: len(whole) // 2] if rng.random() < faults["cut"] else whole
        if (limit := request.get("max_tokens")) is not None:
            text = text[: limit * _CHARACTERS_PER_TOKEN]
        sent, got = sum(_count_tokens(text) for _, text in messages), _count_tokens(text)
        message = {"role": "assistant", "content": text}
        reason = "stop" if text == whole else "length"
        return {
            "id": f"chatcmpl-{digest.hex()}",
            "object": "chat.completion",
            "created": 0,
            "model": "offline",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {"prompt_tokens": sent, "completion_tokens": got, "total_tokens": sent + got},
        }


def _count_tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _rng(seed: bytes) -> Random:
    return Random(int.from_bytes(seed))  # noqa: S311 - guards no secret


def _respond(status: int, value: object) -> httpx.Response:
    headers = _RETRY_HEADERS if status == 429 else _HEADERS
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(dumps(value)))


def _error(message: str, code: str | None, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Make an error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
