"""The practice endpoint: speaks like an OpenAI-compatible server, is a grammar and no model."""

import ast
import asyncio
import re
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from random import Random
from typing import Any, Literal, Self, TypeAlias

from codesynth.codec import dumps, loads
from codesynth.errors import ConfigError
from codesynth.serving.grammar import solve, write_stub

Reply: TypeAlias = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""

VARIABLE = "CODESYNTH_OFFLINE"
"""Environment variable that tells the practice endpoint to misbehave."""

_FAULTS = {"429": "rate_limited", "500": "server_error", "cut": "cut", "latency": "latency"}
_MAX_LATENCY = 3600.0
_MAX_FAILING = 65_536
_CHARACTERS_PER_TOKEN = 4
_MODEL = {"id": "offline", "object": "model", "created": 0, "owned_by": "codesynth"}


@dataclass(frozen=True, slots=True)
class Faults:
    """How the practice endpoint misbehaves.

    Attributes:
        rate_limited: share of the attempts answered with 429.
        server_error: share of the attempts answered with 500.
        cut: share of the requests whose answer is cut, each time it is asked for.
        latency: seconds that each completion takes.

    >>> Faults.from_env({"CODESYNTH_OFFLINE": "429=0.1, latency=0.2"})
    Faults(rate_limited=0.1, server_error=0.0, cut=0.0, latency=0.2)
    """

    rate_limited: float = 0.0
    server_error: float = 0.0
    cut: float = 0.0
    latency: float = 0.0

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read ``CODESYNTH_OFFLINE``: ``key=value`` pairs with commas between them.

        Raises:
            ConfigError: an unknown key, one given twice, or a value out of its range.
        """
        text = env.get(VARIABLE, "").strip()
        found: dict[str, float] = {}
        for pair in text.split(",") if text else ():
            key, _, value = (part.strip() for part in pair.partition("="))
            number = _number(value)
            most = _MAX_LATENCY if key == "latency" else 1.0
            if key not in _FAULTS or _FAULTS[key] in found or not 0 <= number <= most:
                raise ConfigError(
                    f'{VARIABLE}: cannot use "{pair.strip()}"; known, once each: 429, 500, cut '
                    f"(shares from 0 to 1), latency (seconds up to {_MAX_LATENCY:g}). "
                    f"Try {VARIABLE}=429=0.1,latency=0.2"
                )
            found[_FAULTS[key]] = number
        faults = cls(**found)
        if faults.rate_limited + faults.server_error > 1:
            raise ConfigError(f'{VARIABLE}: the shares of 429 and 500 in "{text}" are over 1')
        return faults


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


class OfflineEndpoint:
    """An endpoint inside the process: no network, no key, the same answer to the same body.

    Args:
        task: ``instruction`` answers with a new function stub, whatever is asked; ``code``
            with code for the last stub of such a kind in the user's message, and with
            ``raise NotImplementedError`` where there is none.
        faults: how it misbehaves; None is not at all.

    >>> endpoint = OfflineEndpoint("code")
    >>> status, headers, body = asyncio.run(endpoint("GET", "/v1/models", b""))
    >>> status, loads(body)["data"][0]["id"]
    (200, 'offline')
    """

    def __init__(self, task: Literal["instruction", "code"], faults: Faults | None = None) -> None:
        self._task = task
        self._faults = faults or Faults()
        self._attempts: dict[bytes, int] = {}

    async def __call__(self, method: str, path: str, body: bytes) -> Reply:
        """Answer one HTTP request, given in plain values."""
        path = path.partition("?")[0]
        if method == "GET" and path.endswith("/models"):
            return _reply(200, {"object": "list", "data": [_MODEL]})
        if method != "POST" or not path.endswith("/chat/completions"):
            message = f"unknown request: {method} {path}"
            return _error(404, message, "invalid_request_error", "unknown_url")
        if self._faults.latency:
            await asyncio.sleep(self._faults.latency)
        digest = blake2b(body, digest_size=16).digest()
        if fault := self._fault(digest):
            return fault
        try:
            prompt, prompt_tokens, limit = _read(loads(body))
        except ValueError as exc:
            message = f"cannot use the request body: {exc}"
            return _error(400, message, "invalid_request_error", None)
        return _reply(200, _completion(digest, *self._answer(prompt, digest, limit), prompt_tokens))

    def _fault(self, digest: bytes) -> Reply | None:
        """Fail by the request and by how often it came since it last succeeded."""
        attempt = self._attempts.pop(digest, 0) + 1
        draw = _draw(digest, b"attempt %d" % attempt)
        if draw >= self._faults.rate_limited + self._faults.server_error:
            return None
        self._attempts[digest] = attempt
        if len(self._attempts) > _MAX_FAILING:
            del self._attempts[next(iter(self._attempts))]
        told = f"as {VARIABLE} tells the practice endpoint"
        if draw >= self._faults.rate_limited:
            return _error(500, f"server error, {told}", "server_error", None)
        reply = _error(429, f"rate limit reached, {told}", "requests", "rate_limit_exceeded")
        reply[1].update({"retry-after-ms": "50", "retry-after": "1"})
        return reply

    def _answer(self, prompt: str, digest: bytes, limit: int | None) -> tuple[str, str]:
        """Make the text and its finish_reason."""
        if self._task == "instruction":
            whole = write_stub(Random(int.from_bytes(digest)))  # noqa: S311 - guards no secret
        else:
            whole = _code_answer(prompt)
        is_cut = _draw(digest, b"cut") < self._faults.cut
        text = whole[: len(whole) // 2] if is_cut else whole
        if limit is not None:
            text = text[: limit * _CHARACTERS_PER_TOKEN]
        return text, "stop" if text == whole else "length"


def _draw(digest: bytes, what: bytes) -> float:
    """Draw from [0, 1) by a request and by what is drawn for."""
    return int.from_bytes(blake2b(digest + what, digest_size=6).digest()) / 2**48


def _read(request: Any) -> tuple[str, int, int | None]:
    """Take the last user message, the prompt's tokens and the limit on the answer's.

    Raises:
        ValueError: it is no chat completion request, or asks for what is not offered here.
    """
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise ValueError('"messages" must be a list of objects')
    contents = [message.get("content") for message in messages]
    if not all(isinstance(content, str) for content in contents):
        raise ValueError('"content" of each message must be a string')
    prompts = [message["content"] for message in messages if message.get("role") == "user"]
    if not prompts:
        raise ValueError('"messages" must have one of role "user"')
    if request.get("stream") or request.get("n") not in (None, 1):
        raise ValueError('"stream" and several answers ("n") are not offered here')
    limit = request.get("max_completion_tokens", request.get("max_tokens"))
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError('"max_tokens" must be a positive integer')
    return prompts[-1], _tokens("".join(contents)), limit


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _completion(digest: bytes, text: str, finish_reason: str, prompt_tokens: int) -> object:
    message = {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{digest.hex()}",
        "object": "chat.completion",
        "created": 0,
        "model": "offline",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": _tokens(text),
            "total_tokens": prompt_tokens + _tokens(text),
        },
    }


def _reply(status: int, value: object) -> Reply:
    return status, {"content-type": "application/json"}, dumps(value)


def _error(status: int, message: str, kind: str, code: str | None) -> Reply:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return _reply(status, {"error": error})


def _code_answer(prompt: str) -> str:
    if code := solve(prompt):
        before, after = "The steps of the docstring, one a line:", "It runs on its own."
    else:
        code = _found_stub(prompt) or _quoting_stub(prompt)
        before = "The practice endpoint has no code for this, so the body is left open:"
        after = "It raises NotImplementedError when called."
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{before}\n\n{fence}python\n{code}\n{fence}\n\n{after}"


_DEF = re.compile(r"\b(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(")
_IMPORT = re.compile(r"^[ \t]*((?:from[ \t]+\S+[ \t]+)?import[ \t][^\r\n]*)", re.MULTILINE)
_DOCSTRING = re.compile(
    r"""\s*+(?:\#[^\n]*+\s*+)*+([rRuU]?("{3}|'{3}|"|')(?:\\.|[^\\])*?\2)""", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_REACH = 20_000
"""Characters looked at around a ``def``; what lies further away belongs to something else."""


def _found_stub(prompt: str) -> str | None:
    """Leave open the body of the last function in a text that has a docstring, or else a name."""
    starts = deque((match.start() for match in _DEF.finditer(prompt)), maxlen=8)
    stubs = [
        (is_documented, start, stub)
        for start in starts
        for is_documented, stub in _stub_at(prompt[start : start + _REACH])
    ]
    if not stubs:
        return None
    _, start, stub = max(stubs)
    lines = _IMPORT.findall(prompt, max(0, start - _REACH), start)
    imports = [line for line in dict.fromkeys(lines) if _is_python(line)]
    return "\n".join([*imports, "", "", stub]) if imports else stub


def _stub_at(text: str) -> Iterator[tuple[bool, str]]:
    """Take signature and docstring from the start of a text, each as it stands there."""
    ends = (match.end() for match in islice(re.finditer(":", text), 64))
    signature = next((text[:end] for end in ends if _is_python(f"{text[:end]} pass")), None)
    if signature is None:
        return
    yield False, f"{signature}\n    raise NotImplementedError"
    if docstring := _DOCSTRING.match(text, len(signature)):
        stub = f"{signature}\n    {docstring[1]}\n    raise NotImplementedError"
        if _is_python(stub):
            yield True, stub


def _is_python(code: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):  # escapes like "\d" are the user's affair
            ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _quoting_stub(prompt: str) -> str:
    """Write a function whose docstring is a text, up to 4,000 characters of it."""
    text = prompt.replace("\r\n", "\n").strip("\n")
    text = text if len(text) <= 4_000 else f"{text[:4_000]} [...]"
    text = text.replace("\\", "\\\\").replace('"""', r"\"\"\"")
    text = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)
    docstring = re.sub(r"(?m)^(?=.)", "    ", f'"""\n{text}\n"""')
    return f"def solution():\n{docstring}\n    raise NotImplementedError"
