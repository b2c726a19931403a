"""The Batch API of the practice endpoint. Its files are on the disk, so later runs find them.

A batch ends as soon as it is made. Its results are made during the download.
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
_EXPIRED = {"code": "batch_expired", "message": "CODESYNTH_OFFLINE lets this request expire"}
_TOO_LARGE = {
    "code": "token_limit_exceeded",
    "message": "Enqueued token limit reached: CODESYNTH_OFFLINE allows smaller batches only",
}
_UNKNOWN = {"error": {"message": "the practice endpoint has no such file or batch"}}


class PracticeBatches:
    """Files and batches in a folder of this user's own, each kept for a day.

    Args:
        answer: returns the status and the response for a request's body and key.
        faults: ``expired``, the share of the requests that expire; ``batch_limit``, the most
            requests that a batch may have.
    """

    def __init__(
        self, answer: Callable[[bytes, bytes], tuple[int, Any]], faults: Mapping[str, float]
    ) -> None:
        self._answer, self._faults = answer, faults
        self._folder = Path(tempfile.gettempdir(), f"codesynth-offline-{os.getuid()}")

    async def respond(self, request: httpx.Request) -> tuple[int, Any]:
        """Respond to a call with a status and a JSON object, or the pieces of a file."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise ConfigError(f"{self._folder} belongs to somebody else. Set TMPDIR")
        try:
            match request.method, request.url.path.partition("/v1/")[2].split("/"):
                case "POST", ["files"]:
                    return 200, await self._upload(request)
                case "POST", ["batches"]:
                    return 200, self._create(loads(await request.aread()))
                case "GET", ["batches"]:
                    names = [path.name for path in self._folder.glob("batch_*")]
                    return 200, {"data": [self._read(name) for name in names]}
                case "GET", ["batches", name]:
                    return 200, self._read(name)
                case "GET", ["files", name, "content"]:
                    return 200, self._results(self._read(name))
        except FileNotFoundError:
            pass
        return 404, _UNKNOWN

    async def _upload(self, request: httpx.Request) -> dict[str, Any]:
        """Keep a form as it is: lines that begin with a brace are the requests in it."""
        for path in self._folder.iterdir():
            if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)
        name = f"file_{uuid4().hex}"
        with (self._folder / name).open("wb") as file:
            async for piece in request.stream:  # type: ignore[union-attr]  # it is an async one
                file.write(piece)
        return {"id": name}

    def _create(self, about: dict[str, Any]) -> dict[str, Any]:
        name, total = f"batch_{uuid4().hex}", sum(1 for _ in self._requests(about))
        if 0 < self._faults["batch_limit"] < total:
            end: dict[str, Any] = {"status": "failed", "errors": {"data": [_TOO_LARGE]}}
        else:
            status = "expired" if self._faults["expired"] else "completed"
            end = {"status": status, "output_file_id": name}
        batch = {**about, "id": name, "request_counts": {"total": total, "completed": total}, **end}
        (self._folder / name).write_bytes(dumps(batch))
        return batch

    def _read(self, name: str) -> dict[str, Any]:
        batch: dict[str, Any] = loads((self._folder / name).read_bytes())
        return batch

    def _requests(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        with (self._folder / batch["input_file_id"]).open("rb") as file:
            yield from (loads(line) for line in file if line.startswith(b"{"))

    async def _results(self, batch: dict[str, Any]) -> AsyncIterator[bytes]:
        """Write the results of a batch line by line."""
        for request in self._requests(batch):
            name = request["custom_id"]
            draw = blake2b((batch["id"] + name).encode(), digest_size=4).digest()
            if int.from_bytes(draw) < self._faults["expired"] * (1 << 32):
                result: dict[str, Any] = {"response": None, "error": _EXPIRED}
            else:
                status, body = self._answer(dumps(request["body"]), bytes.fromhex(name))
                result = {"response": {"status_code": status, "body": body}, "error": None}
            yield dumps({"custom_id": name, **result}) + b"\n"
            await asyncio.sleep(0)
