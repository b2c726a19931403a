"""Files that are sent and received: as forms, in pieces, whole or not at all."""

import asyncio
import gzip
import io
import tempfile
from email import message_from_bytes, policy
from typing import BinaryIO

import pytest
from support.command import KEY
from support.endpoint import Endpoint, Reply

from codesynth import models
from codesynth.serving.http import EndpointClient, NoReplyError

LINES = b"".join(b'{"line": %d}\n' % number for number in range(20_000))


def client(endpoint: Endpoint) -> EndpointClient:
    where = models.Endpoint(endpoint.base_url, KEY)
    return EndpointClient(where, connect_timeout=60.0, streaming=True)


def upload(endpoint: Endpoint, form: dict[str, str], file: BinaryIO) -> int:
    endpoint.plan = lambda _: Reply(body={"id": "file-1"})

    async def send() -> int:
        sender = client(endpoint)
        reply = await sender.send_file("/files", form, file, timeout=60.0)
        await sender.aclose()
        return reply.status

    return asyncio.run(send())


def download(endpoint: Endpoint, file: io.BytesIO, path: str = "/files/a/content") -> int:
    async def receive() -> int:
        receiver = client(endpoint)
        try:
            return (await receiver.receive_file(path, file, timeout=60.0)).status
        finally:
            await receiver.aclose()

    return asyncio.run(receive())


def test_a_form_has_the_fields_and_the_file(endpoint: Endpoint) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(LINES)
        assert upload(endpoint, {"purpose": "batch"}, file) == 200
    [request] = endpoint.received
    head = f"content-type: {request.headers['content-type']}\n\n".encode()
    form = message_from_bytes(head + request.body, policy=policy.HTTP)
    parts = [*form.iter_parts()]  # type: ignore[attr-defined]  # of EmailMessage
    names = [dict(part["content-disposition"].params) for part in parts]
    assert names == [{"name": "purpose"}, {"name": "file", "filename": "requests.jsonl"}]
    assert [part.get_payload(decode=True) for part in parts] == [b"batch", LINES]
    assert request.headers["content-length"] == str(len(request.body))
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=LINES, framing="chunked"),
        Reply(body=gzip.compress(LINES), headers={"content-encoding": "gzip"}),
    ],
    ids=["chunked", "packed"],
)
def test_a_file_is_received_unpacked(endpoint: Endpoint, reply: Reply) -> None:
    endpoint.plan = lambda _: reply
    file = io.BytesIO()
    assert download(endpoint, file) == 200
    assert file.read() == LINES


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=LINES, cut=-10),
        Reply(body=LINES, framing="chunked", cut=-10),
        Reply(body=b"plain", headers={"content-encoding": "gzip"}),
    ],
    ids=["cut", "cut_chunks", "no_gzip"],
)
def test_a_file_whose_end_is_missing_is_an_error(endpoint: Endpoint, reply: Reply) -> None:
    endpoint.plan = lambda _: reply
    with pytest.raises(NoReplyError):
        download(endpoint, io.BytesIO())
