"""The Batch API of the practice endpoint. Its files are on the disk: a later run finds them again.

A batch ends at the second look at it; its results are worked out while they are downloaded.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from codesynth.codec import dumps, loads
from codesynth.errors import ConfigError

_KEPT_SECONDS = 24 * 3600
_PIECE = 100
_EXPIRED = {"code": "batch_expired", "message": "CODESYNTH_OFFLINE lets this request expire"}
_TOO_LARGE = {
    "code": "token_limit_exceeded",
    "message": "Enqueued token limit reached: CODESYNTH_OFFLINE allows smaller batches only",
}
_UNKNOWN = 404, {"error": {"message": "the practice endpoint has no such file or batch"}}


class PracticeBatches:
    """Files and batches in a folder of this user's own, each kept for a day.

    Args:
        answer: makes a status and a response of a request's body and key.
        faults: ``expired``, the share of the requests that expire; ``batch_limit``, the most
            requests that a batch may have.
    """

    def __init__(
        self, answer: Callable[[bytes, bytes], tuple[int, Any]], faults: Mapping[str, float]
    ) -> None:
        self._answer, self._faults = answer, faults
        self._folder = Path(tempfile.gettempdir(), f"codesynth-offline-{os.getuid()}")

    async def respond(self, request: httpx.Request) -> tuple[int, Any]:
        """Respond to a call with a status and a JSON value, or the stream of a file."""
        self._make_folder()
        match request.method, request.url.path.partition("/v1/")[2].split("/"):
            case "POST", ["files"]:
                return 200, await self._upload(request)
            case "POST", ["batches"]:
                return self._create(loads(await request.aread()))
            case "GET", ["batches"]:
                return 200, {"data": [loads(p.read_bytes()) for p in self._folder.glob("batch_*")]}
            case "GET", ["batches", name] if (self._folder / name).is_file():
                return 200, self._look(name)
            case "POST", ["batches", name, "cancel"] if (self._folder / name).is_file():
                return 200, self._cancel(name)
            case "GET", ["files", name, "content"]:
                name, _, kind = name.partition("-")
                if (self._folder / name).is_file() and kind in ("output", "error"):
                    return 200, _Results(self._results(name, kind))
        return _UNKNOWN

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise ConfigError(f"{self._folder} belongs to somebody else. Set TMPDIR")

    async def _upload(self, request: httpx.Request) -> dict[str, Any]:
        """Keep a form as it is: lines that begin with a brace are the requests in it."""
        for path in self._folder.iterdir():
            if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)
        name = f"file_{uuid4().hex}"
        with (self._folder / name).open("wb") as file:
            async for piece in request.stream:  # type: ignore[union-attr]  # it is an async one
                file.write(piece)
        return {"id": name, "object": "file", "purpose": "batch"}

    def _create(self, about: dict[str, Any]) -> tuple[int, Any]:
        source = str(about.get("input_file_id"))
        if not (self._folder / source).is_file():
            return _UNKNOWN
        counts = {"total": sum(1 for _ in self._requests(source)), "completed": 0, "failed": 0}
        named = {key: about.get(key) for key in ("input_file_id", "endpoint", "metadata")}
        batch = {"id": f"batch_{uuid4().hex}", "object": "batch", **named, "request_counts": counts}
        return 200, self._write({**batch, "status": "validating"})

    def _write(self, batch: dict[str, Any]) -> dict[str, Any]:
        (self._folder / batch["id"]).write_bytes(dumps(batch))
        return batch

    def _look(self, name: str) -> dict[str, Any]:
        batch: dict[str, Any] = loads((self._folder / name).read_bytes())
        counts = batch["request_counts"]
        if batch["status"] == "validating" and 0 < self._faults["batch_limit"] < counts["total"]:
            batch |= {"status": "failed", "errors": {"data": [_TOO_LARGE]}}
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        elif batch["status"] == "in_progress":
            requests = self._requests(batch["input_file_id"])
            failed = sum(self._expires(name, key) for key, _ in requests)
            counts |= {"completed": counts["total"] - failed, "failed": failed}
            files = {"output_file_id": f"{name}-output", "error_file_id": f"{name}-error"}
            batch |= {"status": "expired" if failed else "completed", **files}
        return self._write(batch)

    def _cancel(self, name: str) -> dict[str, Any]:
        batch: dict[str, Any] = loads((self._folder / name).read_bytes())
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "cancelled"
        return self._write(batch)

    def _requests(self, source: str) -> Iterator[tuple[bytes, bytes]]:
        """Read the key and the body of each request in a file."""
        with (self._folder / source).open("rb") as file:
            for line in file:
                if line.startswith(b"{"):
                    request = loads(line)
                    yield bytes.fromhex(request["custom_id"]), dumps(request["body"])

    def _expires(self, name: str, key: bytes) -> bool:
        draw = blake2b(name.encode() + key, digest_size=4).digest()
        return int.from_bytes(draw) < self._faults["expired"] * (1 << 32)

    def _results(self, name: str, kind: str) -> Iterator[bytes]:
        """Write the lines of a file of results."""
        batch = loads((self._folder / name).read_bytes())
        for key, body in self._requests(batch["input_file_id"]):
            expired = self._expires(name, key)
            if expired != (kind == "error"):
                continue
            response = None
            if not expired:
                status, value = self._answer(body, key)
                response = {"status_code": status, "body": value}
            error = _EXPIRED if expired else None
            line = {"custom_id": key.hex(), "response": response, "error": error}
            yield dumps(line) + b"\n"


class _Results(httpx.AsyncByteStream):
    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, line in enumerate(self._lines):
            yield line
            if number % _PIECE == 0:
                await asyncio.sleep(0)
