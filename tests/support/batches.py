"""A loopback server with OpenAI's Batch API, which can go wrong in every way that is known.

    with BatchServer() as server:
        server.faults = [Fault(status="expired", answered=0.5), Fault()]
        ...
    assert [batch.status for batch in server.batches] == ["expired", "completed"]

The n-th batch has the n-th fault; those after the last have none. It answers chat requests too,
with the same words.
"""

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from support.replies import completion, text_for


@dataclass(frozen=True)
class Fault:
    """What becomes of one batch.

    Attributes:
        polls: states that say "in_progress" before its end.
        missing: states that say 404 before these.
        answered: share of the requests in the output file; the others are in the error file...
        code: ... with this error; None leaves them out of it.
        status_code: the error file has a response with this status in place of an error.
        shuffled, doubled: the lines of the files.
        late: states that name no file though the batch has ended.
        errors: of the batch itself.
        upper: words the status in upper case.
        counted: there are ``request_counts``.
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
    doubled: bool = False
    late: int = 0
    errors: Sequence[tuple[str, str, int | None]] = ()
    upper: bool = False
    counted: bool = True
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
    cancelled: bool = False

    def is_over(self) -> bool:
        return self.status in {"completed", "failed", "expired", "cancelled"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that was killed
            super().handle_error(*_)


class BatchServer:
    """Files, batches and chat completions on a free port.

    Attributes:
        faults: of the batches, in the order in which they are made.
        refuse: asked before each call (method, path, how often it came): a status, or None.
            A negative status does what is asked, but says that it went wrong.
        calls: method and path of each call so far; ids are left out.
        chats: prompts that were asked for online.
        delay: seconds before a call is looked at; ``now`` is the call that came last, if it is not
            answered.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.refuse: Callable[[str, str, int], int | None] = lambda method, path, n: None
        self.files: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self.calls: Counter[str] = Counter()
        self.chats: list[str] = []
        self.delay: Callable[[], float] = lambda: 0.0
        self.now = ""
        self.errors: list[Exception] = []
        self.id_of: Callable[[int], str] = lambda n: f"batch_{n}"
        self.lock = threading.RLock()
        self._downloads: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._serve(self, b"")

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) == length:  # else the client was killed
                    server._serve(self, body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    @property
    def base_url(self) -> str:
        """Where to send requests, with ``/v1``."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        if self.errors and error is None:
            raise self.errors[0]

    def finished(self) -> Counter[str]:
        """Count the batches that have answered each custom id."""
        with self.lock:
            return Counter(key for batch in self.batches for key in batch.answered)

    def _serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = urlsplit(handler.path)
        place = path.path.removeprefix("/v1")
        call = re.sub(r"/(batches|files)/[^/]+", r"/\1/*", place)
        self.now = f"{handler.command} {call}"
        time.sleep(self.delay())
        with self.lock:
            self.calls[f"{handler.command} {call}"] += 1
            status = self.refuse(handler.command, call, self.calls[f"{handler.command} {call}"])
            if status is not None and status > 0:
                reply: Any = {"error": {"message": "refused by the test"}}
            else:
                try:
                    wrong, (status, reply) = status, self._answer(handler, place, path.query, body)
                except Exception as exc:
                    self.errors.append(exc)
                    raise
                status = -wrong if wrong else status
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        self.now = ""

    def _answer(
        self, handler: BaseHTTPRequestHandler, place: str, query: str, body: bytes
    ) -> tuple[int, Any]:
        parts = [unquote(part) for part in place.strip("/").split("/")]
        match handler.command, parts:
            case "GET", ["models"]:
                return 200, {"data": [{"id": "test-model"}]}
            case "POST", ["chat", "completions"]:
                self.chats.append(_prompt(json.loads(body)))
                return 200, completion(text_for(self.chats[-1])).body
            case "POST", ["files"]:
                return self._upload(handler.headers["content-type"], body)
            case "GET", ["files", name, "content"]:
                return self._download(name)
            case "POST", ["batches"]:
                return self.create(json.loads(body))
            case "GET", ["batches"]:
                return self._list(query)
            case "GET", ["batches", name]:
                return self._state(name)
            case "POST", ["batches", name, "cancel"]:
                return self._cancel(name)
        return 404, {"error": {"message": f"no such path: {place}"}}

    def _upload(self, content_type: str, body: bytes) -> tuple[int, Any]:
        boundary = content_type.split("boundary=")[1].encode()
        parts = {}
        for part in body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name = re.search(rb'name="(\w+)"', head)
            assert name is not None
            parts[name[1].decode()] = content[:-2]
        assert parts["purpose"] == b"batch"
        name = self._store(parts["file"])
        return 200, {"id": name, "object": "file", "bytes": len(parts["file"]), "purpose": "batch"}

    def _store(self, content: bytes) -> str:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return name

    def _download(self, name: str) -> tuple[int, Any]:
        owner = next((b for b in self.batches if name in (b.output, b.error)), None)
        if name not in self.files or owner is None:
            return 404, {"error": {"message": f"no such file: {name}"}}
        self._downloads[name] += 1
        count, content = self._downloads[name], self.files[name]
        if count <= owner.fault.unwritten:
            return 404, {"error": {"message": "not written yet"}}
        if count <= owner.fault.unwritten + owner.fault.torn and name == owner.output:
            return 200, content[: len(content) * 2 // 3]
        return 200, content

    def create(self, about: Any) -> tuple[int, Any]:
        assert about["endpoint"] == "/v1/chat/completions"
        assert about["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[about["input_file_id"]].splitlines()]
        requests = {line["custom_id"]: line["body"] for line in lines}
        assert len(requests) == len(lines)
        assert all(line["method"] == "POST" for line in lines)
        number = len(self.batches)
        fault = self.faults[number] if number < len(self.faults) else Fault()
        batch = Batch(
            self.id_of(number), about["input_file_id"], about["metadata"], requests, fault
        )
        self.batches.append(batch)
        return 200, self._describe(batch)

    def _list(self, query: str) -> tuple[int, Any]:
        newest = self.batches[::-1]
        ids = [batch.id for batch in newest]
        asked = parse_qs(query)
        start = ids.index(asked["after"][0]) + 1 if "after" in asked else 0
        page = newest[start : start + 2]
        more = start + 2 < len(newest)
        return 200, {"data": [self._describe(batch) for batch in page], "has_more": more}

    def _state(self, name: str) -> tuple[int, Any]:
        batch = next((batch for batch in self.batches if batch.id == name), None)
        if batch is None:
            return 404, {"error": {"message": f"no such batch: {name}"}}
        batch.polls += 1
        if batch.polls <= batch.fault.missing:
            return 404, {"error": {"message": "not there yet"}}
        if batch.is_over():
            batch.seen += 1
        else:
            if batch.cancelled:
                self._end(batch, "cancelled")
            elif batch.polls > batch.fault.missing + batch.fault.polls:
                self._end(batch, batch.fault.status)
            else:
                batch.status = "in_progress"
        return 200, self._describe(batch)

    def _end(self, batch: Batch, status: str) -> None:
        fault = batch.fault
        batch.status = status
        keys = list(batch.requests)
        if status == "failed":
            return
        count = int(fault.answered * len(keys) + 1e-9)
        batch.answered, rest = keys[:count], keys[count:]
        answers = [_line(key, 200, _completion(batch.requests[key])) for key in batch.answered]
        errors = []
        if fault.status_code is not None:
            about = {"error": {"message": "refused by the test", "type": "x", "code": None}}
            errors = [_line(key, fault.status_code, about) for key in rest]
        elif fault.code is not None:
            errors = [_line(key, None, {"code": fault.code, "message": "no"}) for key in rest]
        batch.output = self._write(fault, answers)
        batch.error = self._write(fault, errors)

    def _write(self, fault: Fault, lines: list[bytes]) -> str | None:
        if fault.doubled:
            lines = lines * 2
        if fault.shuffled:
            Random(1).shuffle(lines)
        return self._store(b"\n".join(lines) + b"\n") if lines else None

    def _cancel(self, name: str) -> tuple[int, Any]:
        batch = next((batch for batch in self.batches if batch.id == name), None)
        if batch is None or batch.is_over():
            return 404 if batch is None else 400, {"error": {"message": "cannot be cancelled"}}
        batch.cancelled, batch.status = True, "cancelling"
        return 200, self._describe(batch)

    def _describe(self, batch: Batch) -> dict[str, Any]:
        fault, total = batch.fault, len(batch.requests)
        errors = [{"code": c, "message": m, "line": n} for c, m, n in fault.errors]
        is_late = batch.is_over() and batch.seen <= fault.late
        failed = total - len(batch.answered) if batch.error else 0
        described = {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": {"object": "list", "data": errors} if batch.status == "failed" else None,
            "input_file_id": batch.input_file,
            "completion_window": "24h",
            "status": batch.status.upper() if fault.upper else batch.status,
            "output_file_id": None if is_late else batch.output,
            "error_file_id": "" if is_late else batch.error or "",
            "created_at": 1711471533,
            "metadata": batch.metadata,
        }
        counts = {"total": total, "completed": len(batch.answered), "failed": failed}
        return {**described, "request_counts": counts} if fault.counted else described


def _line(key: str, status: int | None, body: Any) -> bytes:
    response = {"status_code": status, "request_id": "req_1", "body": body}
    has_response = status is not None
    line = {
        "id": "batch_req_1",
        "custom_id": key,
        "response": response if has_response else None,
        "error": None if has_response else body,
    }
    return json.dumps(line).encode()


def _prompt(body: Any) -> str:
    return str(body["messages"][-1]["content"])


def _completion(body: Any) -> Any:
    return completion(text_for(_prompt(body))).body
