"""How the calls of a provider's Batch API look. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote, urlsplit

from codesynth.codec import dumps
from codesynth.serving.answers import read_json

_CHAT = "/v1/chat/completions"
_ENDS = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a provider says of a batch.

    Attributes:
        status: "completed", "failed", "expired", "cancelled", or "open" for all else.
        files: ids of the files with results.
        results: how many results these files hold; None if the provider does not count.
        uuid: our name of the batch, if the provider keeps it.
    """

    id: str
    status: str
    input_file: str
    files: tuple[str, ...]
    results: int | None
    errors: tuple[str, ...]
    uuid: str


class BatchResult(NamedTuple):
    """One line of results. Status 0: the request was never sent, and ``message`` says why."""

    key: bytes
    status: int
    body: bytes = b""
    message: str = ""


class BatchShape:
    """OpenAI's calls, which most providers share; a subclass overrides what differs.

    The methods that read raise ValueError if the provider's text is not as expected.

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

    def file(self, data: bytes) -> str:
        """Read the id of an uploaded file."""
        return _read_id(read_json(data))

    def state(self, data: bytes) -> BatchState:
        """Read a batch; Together's reply to ``create`` has it one level deeper."""
        found = read_json(data)
        batch = found.get("job", found) if isinstance(found, dict) else found
        name = _read_id(batch)
        status = str(batch.get("status")).lower().replace("canceled", "cancelled")
        files = (batch.get("output_file_id"), batch.get("error_file_id"))  # "" is none, too
        counts = [_get(batch, "request_counts", name) for name in ("completed", "failed")]
        counted = [count for count in counts if isinstance(count, int)]
        return BatchState(
            id=name,
            status=status if status in _ENDS else "open",
            input_file=str(batch.get("input_file_id")),
            files=tuple(str(file) for file in files if file),
            results=sum(counted) if counted else None,
            errors=tuple(_read_errors(batch.get("errors") or batch.get("error"))),
            uuid=str(_get(batch, "metadata", "codesynth") or ""),
        )

    def states(self, data: bytes) -> tuple[list[BatchState], str]:
        """Read a page of the list of batches; and the query of the next page, empty at the end."""
        match read_json(data):
            case {"data": list(entries), **page}:
                states = [self.state(dumps(each)) for each in entries]
                more = page.get("has_more") is True and states
                return states, f"?after={quote(states[-1].id, safe='')}" if more else ""
            case list(entries):  # Together's has no pages
                return [self.state(dumps(each)) for each in entries], ""
        raise ValueError(f"no list of batches: {data!r:.100}")

    def result(self, line: bytes) -> BatchResult:
        """Read one line of results."""
        match read_json(line):
            case {"custom_id": str(key), "response": {"body": dict(body), **response}}:
                status = int(str(response.get("status_code", 200)))
                return BatchResult(bytes.fromhex(key), status, dumps(body))
            case {"custom_id": str(key), **rest}:
                reasons = [*_read_errors(rest.get("error")), "no response"]
                return BatchResult(bytes.fromhex(key), 0, message=reasons[0])
        raise ValueError(f"no result: {line!r:.100}")


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


def _read_id(data: Any) -> str:
    match data:
        case {"id": str(name)} if name:
            return name
    raise ValueError(f"expected an object with an id, found {data!r:.100}")


def _get(data: dict[str, Any], name: str, inner: str) -> Any:
    found = data.get(name)
    return found.get(inner) if isinstance(found, dict) else None


def _read_errors(data: Any) -> list[str]:
    """Read why something failed: one or several reasons, as objects or plain text."""
    match data:
        case {"data": list(entries)} | list(entries):
            return [error for each in entries for error in _read_errors(each)]
        case dict():
            return [": ".join(str(data[name]) for name in ("code", "message") if data.get(name))]
    return [str(data)] if data else []
