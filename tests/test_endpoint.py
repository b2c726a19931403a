"""The test endpoint does to the byte what its plan says, and counts what came."""

import http.client
import json
import signal
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from support.endpoint import (
    Endpoint,
    Received,
    Reply,
    completion,
    error,
    in_order,
    spawned,
    text_for,
)
from support.faults import FAULTS, Mixed
from support.faults.content import CONTENT
from support.faults.status import STATUS
from support.faults.wire import WIRE


def wire_request(prompt: str) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x:1\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Authorization: Bearer k\r\n\r\n" + body


def connect(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection(("127.0.0.1", endpoint.port), timeout=60)


def read_all(endpoint: Endpoint, prompt: str = "p") -> bytes:
    """Ask, and read until the server ends the connection."""
    with connect(endpoint) as client, client.makefile("rb") as stream:
        client.sendall(wire_request(prompt))
        return stream.read()


def ask(endpoint: Endpoint, prompt: str) -> tuple[int, bytes]:
    """Ask over a connection of its own, as a plain client would."""
    client = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    body = json.dumps({"messages": [{"role": "user", "content": prompt}]})
    try:
        client.request("POST", "/v1/chat/completions", body)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def usable_text(answer: tuple[int, bytes]) -> str | None:
    """Find the text of a plain good answer; None for any other."""
    try:
        choice = json.loads(answer[1])["choices"][0]
    except (ValueError, LookupError):
        return None
    text = choice["message"].get("content")
    if isinstance(text, list):
        text = "".join(part.get("text", "") for part in text)
    good = answer[0] == 200 and choice.get("finish_reason") not in ("length", "content_filter")
    return text if good and text and text.strip() else None


def test_what_came_is_recorded(endpoint: Endpoint) -> None:
    for prompt in "aab":
        ask(endpoint, prompt)
    with connect(endpoint) as client:
        client.sendall(wire_request("c") * 2)
        endpoint.wait_until(lambda e: len(e.received) == 5)
    assert endpoint.counts == Counter(a=2, b=1, c=2)
    assert [request.attempt for request in endpoint.received] == [1, 2, 1, 1, 2]
    assert [request.on_connection for request in endpoint.received] == [1, 1, 1, 1, 2]
    assert [request.n for request in endpoint.received] == [1, 2, 3, 4, 5]
    assert endpoint.connections == 4
    assert endpoint.authorizations == {"Bearer k"}
    assert endpoint.times == sorted(endpoint.times)


def test_requests_at_the_same_time_are_counted(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: Reply(end="hang")
    clients = [connect(endpoint) for _ in range(50)]
    for client in clients:
        client.sendall(wire_request("x"))
    endpoint.wait_until(lambda e: e.in_flight == 50)
    for client in clients:
        client.close()
    endpoint.wait_until(lambda e: e.in_flight == 0)
    assert (endpoint.max_in_flight, endpoint.abandoned) == (50, 50)
    assert not any(request.finished for request in endpoint.received)


def test_cut_counts_bytes_from_either_end(endpoint: Endpoint) -> None:
    whole = replace(completion("hello"), end="close")
    endpoint.plan = lambda request: whole
    answer = read_all(endpoint)
    endpoint.plan = lambda request: replace(whole, cut=9)
    assert read_all(endpoint) == b"HTTP/1.1 "
    endpoint.plan = lambda request: replace(whole, cut=-7)
    assert read_all(endpoint) == answer[:-7]


@pytest.mark.parametrize("name", ["reset_before_head", "reset_mid_body"])
def test_reset_is_a_reset(endpoint: Endpoint, name: str) -> None:
    endpoint.plan = FAULTS[name].plan
    with pytest.raises(ConnectionResetError):
        read_all(endpoint)


def test_the_same_address_after_a_restart(endpoint: Endpoint) -> None:
    with connect(endpoint) as client:
        url = endpoint.base_url
        endpoint.stop()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        ask(endpoint, "a")
    endpoint.start()
    assert ask(endpoint, "a")[0] == 200
    assert endpoint.base_url == url


def test_a_failing_plan_fails_the_test() -> None:
    def plan(request: Received) -> Reply:
        raise LookupError(request.prompt)

    with pytest.raises(LookupError, match="why"), Endpoint(plan) as endpoint:
        assert ask(endpoint, "why")[0] == 599


def test_no_two_faults_share_a_name() -> None:
    assert len(FAULTS) == len(WIRE) + len(CONTENT) + len(STATUS)


def test_a_mixed_day_ends_as_expected(endpoint: Endpoint) -> None:
    day = endpoint.plan = Mixed(7, healing=0.3, lasting=0.2, stubborn=0.05, hanging=0, latency=0)
    prompts = [f"prompt {n}" for n in range(200)]

    def outcome(prompt: str) -> bool:
        for _ in range(3):
            try:
                text = usable_text(ask(endpoint, prompt))
            except (OSError, http.client.HTTPException):
                continue
            if text is not None:
                return text == text_for(prompt)
        return False

    assert {p for p in prompts if outcome(p)} == {p for p in prompts if day.expected(p) == "ok"}
    assert set(map(day.expected, prompts)) >= {"ok", "rejected", "truncated", "empty", "refused"}


def test_a_process_of_its_own_can_be_killed_and_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    options = ("--plan", "heal:status_500", "--log", str(log))
    statuses: list[int] = []
    port = "0"
    for _ in range(2):
        with spawned(*options, "--port", port) as (process, url):
            port = url.removesuffix("/v1").rpartition(":")[2]
            client = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
            for _ in range(2):
                client.request("POST", "/", wire_request("p").partition(b"\r\n\r\n")[2])
                statuses.append(client.getresponse().status)
                client.close()
            process.send_signal(signal.SIGKILL)
    assert statuses == [500, 200, 500, 200]
    assert [json.loads(line)["attempt"] for line in log.read_text().splitlines()] == [1, 2, 1, 2]


def test_replies_can_be_a_script(endpoint: Endpoint) -> None:
    endpoint.plan = in_order(error(500), completion("once"))
    answers = [ask(endpoint, "p") for _ in range(3)]
    assert [status for status, _ in answers] == [500, 200, 200]
    assert [usable_text(answer) for answer in answers] == [None, "once", text_for("p")]
