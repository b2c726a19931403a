"""Streams of one serving: lazy, bounded, several at a time, and gone when they are dropped."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.endpoint import Endpoint, completion
from support.parts import wait_for

from codesynth.errors import EndpointError, InputError
from codesynth.models import Record, Request, Response
from codesynth.serving import online
from codesynth.serving.client import APILLMServing
from codesynth.serving.stream import EngineStream


def request(position: int) -> Request:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": str(position)}]})
    return Request(Record(position, b"{}", {}), position, body.encode())


def requests(count: int) -> Iterator[Request]:
    return map(request, range(count))


def ready(position: int) -> Response:
    return Response(request(position), cached=True)


def prompt_of(request: httpx.Request) -> int:
    return int(json.loads(request.content)["messages"][-1]["content"])


ANSWER = completion("x").payload


class Server:
    """A transport that answers after some time, fails or hangs where it is told to."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.hang: set[int] = set()
        self.statuses: dict[int, int] = {}
        self.asked: list[int] = []
        self.in_flight = self.most = self.cancelled = self.closed = 0
        self.held: asyncio.Event | None = None

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        self.loop = asyncio.get_running_loop()
        position = prompt_of(request)
        self.asked.append(position)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(3600 if position in self.hang else self.seconds)
            if self.held is not None:
                await self.held.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        return httpx.Response(self.statuses.get(position, 200), content=ANSWER)

    def release(self) -> None:
        """Answer what is held, after what the loop has to do already."""
        assert self.held is not None
        self.loop.call_soon_threadsafe(self.held.set)

    def serving(self, concurrency: int = 4, **options: object) -> APILLMServing:
        transport = httpx.MockTransport(self.handle)
        options = {"transport": transport, "concurrency": concurrency, "max_retries": 0, **options}
        return APILLMServing("http://host/v1", "m", **options)  # type: ignore[arg-type]  # of several types


def positions(stream: Iterable[Response]) -> list[int]:
    return [response.request.position for response in stream]


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("codesynth")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    wait_for(lambda: not threads(), 60.0)


# One stream.


@given(st.integers(0, 60), st.integers(1, 9), st.sets(st.integers(0, 59)))
@settings(max_examples=30)
def test_each_item_has_one_response(count: int, concurrency: int, known: set[int]) -> None:
    server = Server()
    items = (ready(i) if i in known else request(i) for i in range(count))
    responses = {r.request.position: r for r in server.serving(concurrency).generate(items)}
    assert {i: r.cached for i, r in responses.items()} == {i: i in known for i in range(count)}
    assert sorted(server.asked) == [i for i in range(count) if i not in known]
    assert server.most <= concurrency


def test_a_slow_source_holds_back_no_answer() -> None:
    more = threading.Event()

    def source() -> Iterator[Request]:
        yield request(0)
        more.wait(300)
        yield request(1)

    stream = Server().serving().generate(source())
    assert positions([next(stream)]) == [0]
    assert not stream.wait(0.01)
    more.set()
    assert positions(stream) == [1]


def test_it_works_inside_a_running_loop() -> None:
    async def notebook() -> list[int]:
        serving = Server().serving()
        assert serving.model == "m"
        return sorted(positions(serving.generate(requests(5))))

    assert asyncio.run(notebook()) == [0, 1, 2, 3, 4]


def test_requests_are_pulled_no_faster_than_responses_are_taken() -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Request]:
        for i in itertools.count():
            pulled.append(i)
            yield request(i)

    with Server().serving(4).generate(endless()) as stream:
        time.sleep(0.05)  # for one that pulls too many
        for taken in range(300):
            assert len(pulled) <= taken + 200
            next(stream)
        wait_for(lambda: len(pulled) >= 300)


def test_a_source_that_fails_is_heard_after_what_it_gave() -> None:
    def source() -> Iterator[Request]:
        yield from requests(3)
        raise InputError("a cut gzip stream")

    stream = Server(seconds=0.02).serving().generate(source())
    assert sorted(positions(itertools.islice(stream, 3))) == [0, 1, 2]
    with pytest.raises(InputError, match="a cut gzip stream"):
        next(stream)
    assert list(stream) == []


# The end of a stream.


def leave_by_break(stream: EngineStream) -> None:
    for _ in stream:
        break


def leave_by_close(stream: EngineStream) -> None:
    next(stream)
    stream.close()


def leave_by_error(stream: EngineStream) -> None:
    with contextlib.suppress(KeyError), stream:
        raise KeyError(next(stream))


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_close, leave_by_error])
def test_nothing_is_sent_once_a_stream_is_left(leave: Callable[[EngineStream], None]) -> None:
    with Endpoint(lambda request: completion("x", delay=0.002)) as endpoint:
        serving = APILLMServing(endpoint.base_url, "m", concurrency=8)
        leave(serving.generate(map(request, itertools.count())))
        sent = len(endpoint.received)
        time.sleep(0.05)  # for one that goes on sending
        assert len(endpoint.received) <= sent + 8  # what the network held when it was left


def test_close_cancels_what_is_in_flight() -> None:
    server = Server()
    server.hang = {0, 1, 2}
    stream = server.serving(3).generate(requests(50))
    wait_for(lambda: server.in_flight == 3)
    stream.close()
    assert (server.cancelled, server.in_flight) == (3, 0)
    stream.close()


def test_drain_lets_arrive_what_is_in_flight_and_sends_no_more() -> None:
    server = Server()
    server.held = asyncio.Event()
    stream = server.serving(3).generate(requests(1000))
    wait_for(lambda: server.in_flight == 3)
    stream.drain(None)
    server.release()
    assert sorted(positions(stream)) == [0, 1, 2]
    assert (server.asked, server.cancelled) == ([0, 1, 2], 0)


def test_drain_ends_whatever_the_feeder_is_about_to_do() -> None:
    for i in range(40):
        stream = Server(seconds=0.0005 * (i % 7)).serving(3).generate(requests(100_000))
        time.sleep(0.0003 * (i % 11))
        stream.drain(None)
        ended = threading.Thread(target=positions, args=(stream,))
        ended.start()
        ended.join(300)
        assert not ended.is_alive()


def test_drain_gives_up_requests_that_would_be_sent_again() -> None:
    server = Server()
    server.held = asyncio.Event()
    server.statuses = {0: 503, 1: 200}
    stream = server.serving(2, max_retries=5).generate(requests(2))
    wait_for(lambda: server.in_flight == 2)
    stream.drain(None)
    server.release()
    assert positions(stream) == [1]
    assert sorted(server.asked) == [0, 1]


# What stops a run.


def test_what_is_in_flight_arrives_before_the_run_stops() -> None:
    asked: list[int] = []
    all_asked, refused = asyncio.Event(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        position = prompt_of(request)
        asked.append(position)
        if len(asked) == 4:
            all_asked.set()
        await all_asked.wait()
        if position == 3:
            refused.set()
            return httpx.Response(401, json={"error": {"message": "wrong key"}})
        await refused.wait()
        for _ in range(200):  # turns of the loop, in which the refusal is read
            await asyncio.sleep(0)
        return httpx.Response(200, content=ANSWER)

    stream = Server().serving(4, transport=httpx.MockTransport(handle)).generate(requests(1000))
    assert sorted(positions(itertools.islice(stream, 3))) == [0, 1, 2]
    with pytest.raises(EndpointError, match="refused the key"):
        next(stream)
    assert sorted(asked) == [0, 1, 2, 3]


def test_what_hangs_does_not_keep_a_refused_run_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "GRACE_SECONDS", 0.05)
    server = Server()
    server.statuses, server.hang = {0: 401}, {1}
    with pytest.raises(EndpointError):
        list(server.serving(2).generate(requests(9)))
    assert (server.cancelled, server.in_flight) == (server.asked.count(1), 0)


def test_a_mistake_in_the_transport_is_raised_and_not_waited_for() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError("a mistake")

    serving = APILLMServing("http://host/v1", "m", transport=httpx.MockTransport(broken))
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        list(serving.generate(requests(2)))


# Several streams.


def test_streams_in_many_threads_each_get_their_own_answers() -> None:
    server = Server(seconds=0.001)
    serving = server.serving(5)
    got: dict[int, list[int]] = {}

    def use(number: int) -> None:
        for _ in range(3):  # the loop ends and starts meanwhile
            mine = (request(1000 * number + i) for i in range(30))
            got.setdefault(number, []).extend(positions(serving.generate(mine)))

    users = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join(300)
    assert got.keys() == set(range(6))
    for number, mine in got.items():
        assert sorted(mine) == sorted(3 * [1000 * number + i for i in range(30)])
    assert server.most <= 5


def test_closing_one_stream_leaves_the_other() -> None:
    server = Server(seconds=0.01)
    serving = server.serving(4)
    one = serving.generate(map(request, itertools.count()))
    other = serving.generate(requests(30))
    next(one)
    one.close()
    assert sorted(positions(other)) == list(range(30))


# Leaving Python.

LEFT = """
import asyncio, httpx
from codesynth.models import Record, Request
from codesynth.serving.client import APILLMServing

async def handle(request):
    if request.content != b'{"first":1}':
        await asyncio.sleep(3600)
    message = {"content": "x"}
    return httpx.Response(200, json={"choices": [{"message": message, "finish_reason": "stop"}]})

def rows():
    bodies = [b'{"first":1}', *[b'{"model":"m"}'] * 9]
    requests = (Request(Record(i, b"{}", {}), i, body) for i, body in enumerate(bodies))
    serving = APILLMServing("http://host/v1", "m", transport=httpx.MockTransport(handle))
    with serving.generate(requests) as stream:
        yield from stream

left = rows()
next(left)
"""


def test_a_stream_that_was_left_open_does_not_keep_python_from_ending() -> None:
    subprocess.run([sys.executable, "-c", LEFT], timeout=300, check=True)
