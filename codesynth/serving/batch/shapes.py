"""How a provider words the calls: upload, create, status, list, results, cancel. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from codesynth.codec import dumps, loads

T = TypeVar("T")

_CHAT = "/v1/chat/completions"
_ENDS = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchError(NamedTuple):
    """Why a batch failed; ``line`` counts from 1 in the file that was uploaded."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a provider says of a batch.

    Attributes:
        status: "completed", "failed", "expired", "cancelled", or "open" for all else.
        files: ids of the files with results, as far as there are any.
        results: results in these files when they are whole; None where nobody counts them.
        uuid: that of ``create``, where the provider keeps it.
    """

    id: str
    status: str
    input_file: str
    files: tuple[str, ...] = ()
    results: int | None = None
    errors: tuple[BatchError, ...] = ()
    uuid: str = ""


class BatchResult(NamedTuple):
    """One line of a file with results.

    Attributes:
        status: of the one request; 0 where it was never sent, which ``message`` explains.
        body: what was answered to it.
    """

    key: bytes
    status: int
    body: bytes = b""
    message: str = ""


class BatchShape:
    """OpenAI's wording, which most providers have taken over; others override what differs.

    Common to all: ``{batches}/{id}`` is the status, a POST to ``{batches}/{id}/cancel`` cancels,
    and ``/files/{id}/content`` is a file. ValueError is raised for what is none of the above.

    Mistral's would have: ``batches`` "/batch/jobs"; to ``create``, ``input_files`` (a list),
    ``model``, ``endpoint``, ``timeout_hours`` and ``metadata``; in a state, ``output_file``,
    ``error_file``, ``succeeded_requests`` and ``failed_requests``, and the ends SUCCESS, FAILED,
    TIMEOUT_EXCEEDED and CANCELLED; a list in pages by ``page`` and ``page_size``.
    """

    batches = "/batches"
    """Path of the list of batches; a POST to it makes one."""

    def upload(self, name: str) -> tuple[str, dict[str, str]]:
        """Give the path for an upload, and the fields of its form beside the file."""
        return "/files", {"purpose": "batch"}

    def file(self, data: bytes) -> str:
        """Read the id of an uploaded file."""
        return _typed(str, _typed(dict, loads(data)).get("id"))

    def line(self, key: bytes, body: bytes) -> bytes:
        """Write one request, without the newline."""
        head = b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}'
        return head % (key.hex().encode(), _CHAT.encode(), body)

    def create(self, file: str, uuid: str) -> dict[str, Any]:
        """Write the body that makes a batch of an uploaded file."""
        batch = {"input_file_id": file, "endpoint": _CHAT, "completion_window": "24h"}
        return {**batch, "metadata": {"codesynth": uuid}}

    def state(self, data: bytes) -> BatchState:
        """Read a batch."""
        return self._state(loads(data))

    def _state(self, data: Any) -> BatchState:
        batch = _typed(dict, data)
        status = str(batch.get("status")).lower().replace("canceled", "cancelled")
        counts, metadata = batch.get("request_counts"), batch.get("metadata")
        files = (batch.get("output_file_id"), batch.get("error_file_id"))  # "" is none, too
        return BatchState(
            id=_typed(str, batch.get("id")),
            status=status if status in _ENDS else "open",
            input_file=str(batch.get("input_file_id")),
            files=tuple(str(file) for file in files if file),
            results=_sum(counts, "completed", "failed"),
            errors=tuple(_errors(batch.get("errors") or batch.get("error"))),
            uuid=str(metadata.get("codesynth", "")) if isinstance(metadata, dict) else "",
        )

    def states(self, data: bytes) -> tuple[list[BatchState], str]:
        """Read a page of the list of batches; and the query of the next page, empty at the end."""
        page = _typed(dict, loads(data))
        states = [self._state(batch) for batch in _typed(list, page.get("data"))]
        more = page.get("has_more") is True and states
        return states, f"?after={quote(states[-1].id, safe='')}" if more else ""

    def result(self, line: bytes) -> BatchResult:
        """Read one line of results."""
        data = _typed(dict, loads(line))
        key, response = bytes.fromhex(_typed(str, data.get("custom_id"))), data.get("response")
        if isinstance(response, dict) and isinstance(response.get("body"), dict):
            return BatchResult(key, int(response.get("status_code", 200)), dumps(response["body"]))
        reasons = [": ".join(filter(None, error[:2])) for error in _errors(data.get("error"))]
        return BatchResult(key, 0, message=reasons[0] if reasons else "no response")


class TogetherShape(BatchShape):
    """Together's wording: https://docs.together.ai/docs/inference/batch.

    It keeps no ``metadata``, so a batch is found again by the file that it was made of. The list
    has no pages, and requests are not counted.
    """

    def upload(self, name: str) -> tuple[str, dict[str, str]]:
        """Give the path for an upload, and the fields of its form beside the file."""
        return "/files/upload", {"purpose": "batch-api", "file_name": name, "file_type": "jsonl"}

    def line(self, key: bytes, body: bytes) -> bytes:
        """Write one request, without the newline."""
        return b'{"custom_id":"%b","body":%b}' % (key.hex().encode(), body)

    def create(self, file: str, uuid: str) -> dict[str, Any]:
        """Write the body that makes a batch of an uploaded file."""
        return {"input_file_id": file, "endpoint": _CHAT, "completion_window": "24h"}

    def states(self, data: bytes) -> tuple[list[BatchState], str]:
        """Read the list of batches."""
        return [self._state(batch) for batch in _typed(list, loads(data))], ""

    def _state(self, data: Any) -> BatchState:
        """Read a batch; the answer to ``create`` has it one level deeper."""
        return super()._state(_typed(dict, data).get("job", data))


def shape_for(url: str) -> BatchShape:
    """Choose the wording by the host of a base URL.

    >>> type(shape_for("https://api.together.xyz/v1")).__name__
    'TogetherShape'
    """
    host = f".{urlsplit(url).hostname}"
    return TogetherShape() if host.endswith((".together.xyz", ".together.ai")) else BatchShape()


def _typed(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind) or value == "":
        raise ValueError(f"{kind.__name__} expected, found {value!r:.100}")
    return value


def _sum(counts: Any, *names: str) -> int | None:
    numbers = [counts.get(name) for name in names] if isinstance(counts, dict) else []
    known = [number for number in numbers if isinstance(number, int)]
    return sum(known) if known else None


def _errors(data: Any) -> list[BatchError]:
    """Read errors: one or several, objects or plain words."""
    entries = data.get("data", [data]) if isinstance(data, dict) else data
    errors = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if isinstance(entry, dict):
            code, words = (str(entry.get(name) or "") for name in ("code", "message"))
            errors.append(BatchError(code, words, entry.get("line")))
        elif entry:
            errors.append(BatchError("", str(entry)))
    return errors
