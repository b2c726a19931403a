"""How a provider's Batch API words its calls: OpenAI's way, and Together's. No I/O.

Functions that read take parsed JSON and raise one of ``UNREADABLE`` if it is not as expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from codesynth.codec import dumps

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""Raised where a provider's text is not as expected."""
_CHAT = "/v1/chat/completions"
_ENDS = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What a provider wants to be sent; the default is OpenAI's way.

    Attributes:
        upload_path: follows the base URL.
        form: fields that are sent with an uploaded file.
        is_bare: requests hold no method and URL, and batches no metadata.
    """

    upload_path: str = "/files"
    form: Mapping[str, str] = field(default_factory=lambda: {"purpose": "batch"})
    is_bare: bool = False

    def line(self, key: bytes, body: bytes) -> bytes:
        """Write one request of a file."""
        target = b"" if self.is_bare else b'"method":"POST","url":"%b",' % _CHAT.encode()
        return b'{"custom_id":"%b",%b"body":%b}\n' % (key.hex().encode(), target, body)

    def create(self, file: str, uuid: str) -> dict[str, Any]:
        """Write the body that makes a batch of an uploaded file."""
        batch = {"input_file_id": file, "endpoint": _CHAT, "completion_window": "24h"}
        return batch if self.is_bare else {**batch, "metadata": {"codesynth": uuid}}


OPENAI = BatchShape()
# https://docs.together.ai/docs/inference/batch
_TOGETHER_FORM = {"purpose": "batch-api", "file_name": "requests.jsonl", "file_type": "jsonl"}
TOGETHER = BatchShape("/files/upload", _TOGETHER_FORM, is_bare=True)


def shape_for(url: str) -> BatchShape:
    """Choose the shape by the host of a base URL.

    >>> shape_for("https://api.together.xyz/v1") is TOGETHER
    True
    """
    host = f".{urlsplit(url).hostname}"
    return TOGETHER if host.endswith((".together.xyz", ".together.ai")) else OPENAI


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


def read_id(data: Any) -> str:
    """Read the id of an uploaded file, or of a batch."""
    if not (isinstance(data["id"], str) and data["id"]):
        raise ValueError("there is no id")
    return str(data["id"])


def read_state(data: Any) -> BatchState:
    """Read a batch; Together's reply to ``create`` has it one level deeper."""
    batch = data.get("job", data)
    status = str(batch.get("status")).lower().replace("canceled", "cancelled")
    files = (batch.get("output_file_id"), batch.get("error_file_id"))  # "" is none, too
    counts = [_get(batch, "request_counts", name) for name in ("completed", "failed")]
    counted = [count for count in counts if isinstance(count, int)]
    return BatchState(
        id=read_id(batch),
        status=status if status in _ENDS else "open",
        input_file=str(batch.get("input_file_id")),
        files=tuple(str(file) for file in files if file),
        results=sum(counted) if counted else None,
        error=_read_error(batch.get("errors") or batch.get("error")),
        uuid=str(_get(batch, "metadata", "codesynth") or ""),
    )


def read_states(data: Any) -> tuple[list[BatchState], str]:
    """Read a page of the list of batches; and the query of the next page, empty at the end."""
    if isinstance(data, list):  # Together's has no pages
        return [read_state(each) for each in data], ""
    states = [read_state(each) for each in data["data"]]
    more = data.get("has_more") is True and states
    return states, f"?after={quote(states[-1].id, safe='')}" if more else ""


def read_result(line: Any) -> BatchResult:
    """Read one line of results."""
    key, body = bytes.fromhex(line["custom_id"]), _get(line, "response", "body")
    if not isinstance(body, dict):
        return BatchResult(key, 0, error=_read_error(line.get("error")) or "no response")
    return BatchResult(key, int(line["response"].get("status_code", 200)), dumps(body))


def _get(data: dict[str, Any], name: str, inner: str) -> Any:
    """Read a field of a field that may be missing, or no object."""
    found = data.get(name)
    return found.get(inner) if isinstance(found, dict) else None


def _read_error(data: Any) -> str:
    """Read why something failed: one or several reasons, as objects or plain text."""
    if isinstance(data, dict) and "data" not in data:
        return ": ".join(str(data[name]) for name in ("code", "message") if data.get(name))
    reasons = data["data"] if isinstance(data, dict) else data
    if isinstance(reasons, list):
        return "; ".join(map(_read_error, reasons))
    return str(reasons or "")
