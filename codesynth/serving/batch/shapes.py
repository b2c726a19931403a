"""How a provider's Batch API words its calls: OpenAI's way, and Together's. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote, urlsplit

from codesynth.codec import dumps

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""Raised where a provider's text is not as expected."""
_CHAT = "/v1/chat/completions"
_ENDS = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a provider says of a batch.

    Attributes:
        status: "completed", "failed", "expired", "cancelled", or "open" for all else.
        files: ids of the files with results.
        results: how many results these files hold; None if the provider does not count.
        error: why the batch has failed.
        uuid: our name of the batch, if the provider keeps it.
    """

    id: str
    status: str
    input_file: str
    files: tuple[str, ...]
    results: int | None
    error: str
    uuid: str


class BatchResult(NamedTuple):
    """One line of results. Status 0: the request was never sent, and ``error`` says why."""

    key: bytes
    status: int
    body: bytes = b""
    error: str = ""


class BatchShape:
    """OpenAI's calls, which most providers share; a subclass overrides what differs.

    The methods take parsed JSON and raise one of ``UNREADABLE`` where it is not as expected.

    Mistral's would have ``path`` "/batch/jobs"; to ``create``, ``input_files`` (a list), ``model``
    and ``timeout_hours``; in a ``state``, ``output_file``, ``error_file``, ``succeeded_requests``,
    and the ends SUCCESS, FAILED, TIMEOUT_EXCEEDED and CANCELLED.
    """

    path = "/batches"
    upload_path = "/files"
    form: ClassVar[Mapping[str, str]] = {"purpose": "batch"}
    """Fields that are sent with an uploaded file."""

    def line(self, key: bytes, body: bytes) -> bytes:
        """Write one request of a file."""
        text = b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}\n'
        return text % (key.hex().encode(), _CHAT.encode(), body)

    def create(self, file: str, uuid: str) -> dict[str, Any]:
        """Write the body that makes a batch of an uploaded file."""
        batch = {"input_file_id": file, "endpoint": _CHAT, "completion_window": "24h"}
        return {**batch, "metadata": {"codesynth": uuid}}

    def file(self, data: Any) -> str:
        """Read the id of an uploaded file."""
        if not (isinstance(data["id"], str) and data["id"]):
            raise ValueError("there is no id")
        return str(data["id"])

    def state(self, data: Any) -> BatchState:
        """Read a batch; Together's reply to ``create`` has it one level deeper."""
        batch = data.get("job", data)
        status = str(batch.get("status")).lower().replace("canceled", "cancelled")
        files = (batch.get("output_file_id"), batch.get("error_file_id"))  # "" is none, too
        counts = batch.get("request_counts") or {}
        counted = [n for n in (counts.get("completed"), counts.get("failed")) if n is not None]
        return BatchState(
            id=self.file(batch),
            status=status if status in _ENDS else "open",
            input_file=str(batch.get("input_file_id")),
            files=tuple(str(file) for file in files if file),
            results=sum(counted) if counted else None,
            error=_read_error(batch.get("errors") or batch.get("error")),
            uuid=str((batch.get("metadata") or {}).get("codesynth", "")),
        )

    def states(self, data: Any) -> tuple[list[BatchState], str]:
        """Read a page of the list of batches; and the query of the next page, empty at the end."""
        if isinstance(data, list):  # Together's has no pages
            return [self.state(each) for each in data], ""
        states = [self.state(each) for each in data["data"]]
        more = data.get("has_more") is True and states
        return states, f"?after={quote(states[-1].id, safe='')}" if more else ""

    def result(self, line: Any) -> BatchResult:
        """Read one line of results."""
        key, response = bytes.fromhex(line["custom_id"]), line.get("response")
        if not response:
            return BatchResult(key, 0, error=_read_error(line.get("error")) or "no response")
        return BatchResult(key, int(response.get("status_code", 200)), dumps(response["body"]))


class TogetherShape(BatchShape):
    """Together's calls: https://docs.together.ai/docs/inference/batch.

    It keeps no ``metadata``, so a batch is found again by its file.
    """

    upload_path = "/files/upload"
    form: ClassVar[Mapping[str, str]] = {
        "purpose": "batch-api",
        "file_name": "requests.jsonl",
        "file_type": "jsonl",
    }

    def line(self, key: bytes, body: bytes) -> bytes:
        """Write one request of a file."""
        return b'{"custom_id":"%b","body":%b}\n' % (key.hex().encode(), body)

    def create(self, file: str, uuid: str) -> dict[str, Any]:
        """Write the body that makes a batch of an uploaded file."""
        return {"input_file_id": file, "endpoint": _CHAT, "completion_window": "24h"}


def shape_for(url: str) -> BatchShape:
    """Choose the shape by the host of a base URL.

    >>> type(shape_for("https://api.together.xyz/v1")).__name__
    'TogetherShape'
    """
    host = f".{urlsplit(url).hostname}"
    return TogetherShape() if host.endswith((".together.xyz", ".together.ai")) else BatchShape()


def _read_error(data: Any) -> str:
    """Read why something failed: one or several reasons, as objects or plain text."""
    if isinstance(data, dict) and "data" not in data:
        return ": ".join(str(data[name]) for name in ("code", "message") if data.get(name))
    reasons = data["data"] if isinstance(data, dict) else data
    if isinstance(reasons, list):
        return "; ".join(map(_read_error, reasons))
    return str(reasons or "")
