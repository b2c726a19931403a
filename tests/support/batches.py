"""A loopback endpoint with OpenAI's Batch API, which can go wrong in every way that is known.

    with BatchServer() as server:
        server.faults = [Fault(status="expired", answered=0.5), Fault()]
        ...
    assert [batch.status for batch in server.batches] == ["expired", "completed"]

The n-th batch has the n-th fault; those after the last have none. It answers chat requests too,
with the same words.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.endpoint import Endpoint, Received, Reply, completion, text_for

ENDS = {"completed", "failed", "expired", "cancelled"}


@dataclass(frozen=True)
class Fault:
    """What becomes of one batch.

    Attributes:
        polls: states that say "in_progress" before its end.
        missing: states that say 404 before these.
        answered: share of the requests in the output file; the others are in the error file...
        code: ... with this error; None leaves them out of it.
        status_code: the error file has a response with this status in place of an error.
        shuffled: the lines of the files come twice, in any order.
        late: states that name no file though the batch has ended.
        errors: of the batch itself: codes and messages.
        unwritten: downloads of its files that say 404.
        torn: downloads of its output file that end in the middle of a line.
    """

    status: str = "completed"
    polls: int = 0
    missing: int = 0
    answered: float = 1.0
    code: str | None = "batch_expired"
    status_code: int | None = None
    shuffled: bool = False
    late: int = 0
    errors: tuple[tuple[str, str], ...] = ()
    unwritten: int = 0
    torn: int = 0


@dataclass
class Batch:
    """A batch as the server knows it."""

    id: str
    input_file: str
    metadata: Any
    requests: dict[str, Any]
    fault: Fault
    status: str = "validating"
    polls: int = 0
    seen: int = 1
    answered: list[str] = field(default_factory=list)
    output: str | None = None
    error: str | None = None


class BatchServer(Endpoint):
    """Files, batches and chat completions on a free port.

    Attributes:
        faults: of the batches, in the order in which they are made.
        refuse: asked before each call (method, path, how often it came): a status, or None.
            A negative status does what is asked, but says that it went wrong.
        calls: method and path of each call so far; ids are left out.
        chats: prompts that were asked for online.
        delay: seconds until a call is answered; ``now`` is the call that came last.
    """

    def __init__(self) -> None:
        super().__init__(self._reply)
        self.faults: list[Fault] = []
        self.refuse: Callable[[str, str, int], int | None] = lambda method, path, n: None
        self.files: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.calls: Counter[str] = Counter()
        self.chats: list[str] = []
        self.delay: Callable[[], float] = lambda: 0.0
        self.now = ""
        self.id_of: Callable[[int], str] = lambda n: f"batch_{n}"
        self._downloads: Counter[str] = Counter()

    def finished(self) -> Counter[str]:
        """Count the batches that have answered each custom id."""
        return Counter(key for batch in self.batches for key in batch.answered)

    def _reply(self, request: Received) -> Reply:
        path = urlsplit(request.path).path.removeprefix("/v1")
        call = re.sub(r"/(batches|files)/[^/]+", r"/\1/*", path)
        self.now = f"{request.method} {call}"
        self.calls[self.now] += 1
        wrong = self.refuse(request.method, call, self.calls[self.now])
        if wrong is not None and wrong > 0:
            return Reply(wrong, {"error": {"message": "refused by the test"}})
        status, body = self._answer(request, [unquote(part) for part in path[1:].split("/")])
        return Reply(-wrong if wrong else status, body, delay=self.delay())

    def _answer(self, request: Received, parts: list[str]) -> tuple[int, Any]:
        match request.method, parts:
            case "POST", ["chat", "completions"]:
                self.chats.append(request.prompt)
                return 200, completion(text_for(request.prompt)).body
            case "POST", ["files"]:
                return self._upload(request)
            case "GET", ["files", name, "content"] if name in self.files:
                return self._download(name)
            case "POST", ["batches"]:
                return self.create(request.json)
            case "GET", ["batches"]:
                return self._list(urlsplit(request.path).query)
            case _, ["batches", name, *_] if all(batch.id != name for batch in self.batches):
                return 404, {"error": {"message": f"no such batch: {name}"}}
            case method, ["batches", name, *_]:
                batch = next(batch for batch in self.batches if batch.id == name)
                return self._cancel(batch) if method == "POST" else self._state(batch)
        return 404, {"error": {"message": f"no such path: {parts}"}}

    def _upload(self, request: Received) -> tuple[int, Any]:
        boundary = request.headers["content-type"].split("boundary=")[1].encode()
        parts = {}
        for part in request.body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name = re.search(rb'name="(\w+)"', head)
            assert name is not None
            parts[name[1]] = content[:-2]
        assert parts[b"purpose"] == b"batch"
        return 200, {"id": self._store(parts[b"file"]), "object": "file", "purpose": "batch"}

    def _store(self, content: bytes) -> str:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return name

    def _download(self, name: str) -> tuple[int, Any]:
        owner = next(batch for batch in self.batches if name in (batch.output, batch.error))
        self._downloads[name] += 1
        count, content = self._downloads[name] - owner.fault.unwritten, self.files[name]
        if count <= 0:
            return 404, {"error": {"message": "not written yet"}}
        is_torn = count <= owner.fault.torn and name == owner.output
        return 200, content[: len(content) * 2 // 3] if is_torn else content

    def create(self, about: Any) -> tuple[int, Any]:
        assert (about["endpoint"], about["completion_window"]) == ("/v1/chat/completions", "24h")
        lines = [json.loads(line) for line in self.files[about["input_file_id"]].splitlines()]
        requests = {line["custom_id"]: line["body"] for line in lines}
        assert len(requests) == len(lines)
        assert all(line["method"] == "POST" for line in lines)
        number = len(self.batches)
        fault = self.faults[number] if number < len(self.faults) else Fault()
        source, metadata = about["input_file_id"], about["metadata"]
        self.batches.append(Batch(self.id_of(number), source, metadata, requests, fault))
        return 200, _describe(self.batches[-1])

    def _list(self, query: str) -> tuple[int, Any]:
        newest = self.batches[::-1]
        after = parse_qs(query).get("after")
        start = [batch.id for batch in newest].index(after[0]) + 1 if after else 0
        page = [_describe(batch) for batch in newest[start : start + 2]]
        return 200, {"data": page, "has_more": start + 2 < len(newest)}

    def _state(self, batch: Batch) -> tuple[int, Any]:
        batch.polls += 1
        if batch.polls <= batch.fault.missing:
            return 404, {"error": {"message": "not there yet"}}
        if batch.status in ENDS:
            batch.seen += 1
        elif batch.status == "cancelling":
            self._end(batch, "cancelled")
        elif batch.polls > batch.fault.missing + batch.fault.polls:
            self._end(batch, batch.fault.status)
        else:
            batch.status = "in_progress"
        return 200, _describe(batch)

    def _end(self, batch: Batch, status: str) -> None:
        fault, keys, batch.status = batch.fault, list(batch.requests), status
        if status == "failed":
            return
        count = int(fault.answered * len(keys) + 1e-9)
        batch.answered, rest = keys[:count], keys[count:]
        answers = [_line(key, 200, _completion(batch.requests[key])) for key in batch.answered]
        about: dict[str, Any] = {"code": fault.code, "message": "refused by the test"}
        if fault.status_code is not None:
            about = {"error": about}
        is_told = fault.status_code is not None or fault.code is not None
        errors = [_line(key, fault.status_code, about) for key in rest if is_told]
        batch.output, batch.error = self._write(fault, answers), self._write(fault, errors)

    def _write(self, fault: Fault, lines: list[bytes]) -> str | None:
        if fault.shuffled:
            lines = Random(1).sample(lines * 2, len(lines) * 2)
        return self._store(b"".join(lines)) if lines else None

    def _cancel(self, batch: Batch) -> tuple[int, Any]:
        if batch.status in ENDS:
            return 400, {"error": {"message": "cannot be cancelled"}}
        batch.status = "cancelling"
        return 200, _describe(batch)


def _describe(batch: Batch) -> dict[str, Any]:
    fault, total = batch.fault, len(batch.requests)
    errors = [{"code": code, "message": message, "line": None} for code, message in fault.errors]
    is_late = batch.status in ENDS and batch.seen <= fault.late
    failed = total - len(batch.answered) if batch.error else 0
    described = {
        "id": batch.id,
        "errors": {"object": "list", "data": errors} if batch.status == "failed" else None,
        "input_file_id": batch.input_file,
        "status": batch.status,
        "output_file_id": None if is_late else batch.output,
        "error_file_id": "" if is_late else batch.error or "",
        "metadata": batch.metadata,
    }
    counts = {"total": total, "completed": len(batch.answered), "failed": failed}
    return {**described, "request_counts": counts}


def _line(key: str, status: int | None, body: Any) -> bytes:
    response = None if status is None else {"status_code": status, "body": body}
    line = {"custom_id": key, "response": response, "error": None if response else body}
    return json.dumps(line).encode() + b"\n"


def _completion(body: Any) -> Any:
    return completion(text_for(str(body["messages"][-1]["content"]))).body
