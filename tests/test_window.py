"""The window: lazy, bounded, concurrent, and gone without a trace when it is closed."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesynth.errors import EndpointError, InputError, LimitReached
from codesynth.models import Record, Request, Response
from codesynth.serving.window import Window


def request(i: int, known: str | None = None) -> Request:
    plain = Request(f"row-{i}", [], Record(i, b"{}", {}), i)
    if known is None:
        return plain
    return Request(plain.custom_id, [], plain.record, i, Response(plain, known))


def requests(count: int) -> Iterator[Request]:
    return map(request, range(count))


class Asker:
    """Answers after some time, fails or hangs where it is told to; counts what is under way."""

    on_room: Callable[[], None]

    def __init__(self, workers: int = 4, *, seconds: float = 0.0) -> None:
        self.workers = workers
        self.bound = 4 * workers
        self.seconds = seconds
        self.hang: set[int] = set()
        self.errors: dict[int, BaseException] = {}
        self.asked: list[int] = []
        self.under_way = self.most = self.cancelled = self.closed = 0
        self.drained: asyncio.Event | None = None

    async def ask(self, request: Request) -> Response | None:
        self.drained = self.drained or asyncio.Event()
        if self.drained.is_set():
            return None
        self.asked.append(request.position)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self._seconds(request.position))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        if request.position in self.errors:
            raise self.errors[request.position]
        return Response(request, f"answer {request.position}")

    def _seconds(self, position: int) -> float:
        if position in self.hang:
            return 3600
        return 0.02 if position in self.errors else self.seconds

    def drain(self) -> None:
        self.drained = self.drained or asyncio.Event()
        self.drained.set()

    async def aclose(self) -> None:
        self.closed += 1


def positions(window: Iterable[Response]) -> list[int]:
    return [response.request.position for response in window]


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("codesynth")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not threads())


@given(st.integers(0, 60), st.integers(1, 9), st.sets(st.integers(0, 59)))
@settings(deadline=None, max_examples=40)
def test_each_request_has_one_response(count: int, workers: int, known: set[int]) -> None:
    asker = Asker(workers)
    window = Window((request(i, "known" if i in known else None) for i in range(count)), asker)
    texts = {response.request.position: response.text for response in window}
    assert texts == {i: "known" if i in known else f"answer {i}" for i in range(count)}
    assert sorted(asker.asked) == [i for i in range(count) if i not in known]
    assert asker.most <= workers
    assert asker.closed == 1


def test_the_end_stays_the_end() -> None:
    window = Window(requests(1), Asker())
    assert len(list(window)) == 1
    assert list(window) == []
    window.close()
    assert list(window) == []


def test_as_many_are_under_way_as_there_are_workers() -> None:
    asker = Asker(workers=7, seconds=0.01)
    assert len(list(Window(requests(50), asker))) == 50
    assert asker.most == 7


def test_more_are_under_way_when_there_is_room_for_more() -> None:
    asker = Asker(workers=1, seconds=0.02)
    asker.bound = 40
    window = Window(requests(40), asker)
    next(window)
    assert asker.most == 1
    asker.workers = 10
    window._call(asker.on_room)
    assert len(list(window)) == 39
    assert asker.most == 10


def test_a_slow_answer_holds_back_no_other() -> None:
    asker = Asker(workers=2)
    asker.hang = {0}
    window = Window(requests(7), asker)
    assert sorted(positions(itertools.islice(window, 6))) == [1, 2, 3, 4, 5, 6]
    window.close()


def test_a_slow_source_holds_back_no_answer() -> None:
    more = threading.Event()

    def source() -> Iterator[Request]:
        yield request(0)
        more.wait(5)
        yield request(1)

    window = Window(source(), Asker())
    assert positions([next(window)]) == [0]
    assert not window.wait(0.01)
    more.set()
    assert positions(window) == [1]


def test_it_works_inside_a_running_loop() -> None:
    async def notebook() -> list[int]:
        return sorted(positions(Window(requests(5), Asker())))

    assert asyncio.run(notebook()) == [0, 1, 2, 3, 4]


def test_wait_tells_whether_next_would_block() -> None:
    asker = Asker()
    asker.hang = {0}
    window = Window(requests(1), asker)
    assert not window.wait(0)
    assert not window.wait(0.01)
    window.close()
    assert window.wait(0)
    assert list(window) == []


def test_requests_are_pulled_no_faster_than_responses_are_taken() -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Request]:
        for i in itertools.count():
            pulled.append(i)
            yield request(i)

    asker = Asker(workers=4)
    window = Window(endless(), asker)
    wait_until(lambda: len(pulled) == asker.bound)
    time.sleep(0.15)
    assert len(pulled) == asker.bound
    for taken in range(1, 200):
        next(window)
        assert len(pulled) <= asker.bound + taken
    wait_until(lambda: len(pulled) >= 200)
    window.close()
    pulled_at_close = len(pulled)
    time.sleep(0.05)
    assert len(pulled) <= pulled_at_close + 1


def test_a_bound_that_grows_is_used() -> None:
    pulled: list[int] = []
    asker = Asker(workers=2)
    asker.hang = set(range(100))
    window = Window((pulled.append(i) or request(i) for i in itertools.count()), asker)  # type: ignore[func-returns-value]
    wait_until(lambda: len(pulled) == 8)
    asker.bound = 60
    wait_until(lambda: len(pulled) >= 50)
    window.close()


def test_close_cancels_what_is_in_flight() -> None:
    asker = Asker(workers=3)
    asker.hang = {0, 1, 2}
    window = Window(requests(50), asker)
    wait_until(lambda: asker.under_way == 3)
    window.close()
    assert (asker.cancelled, asker.under_way, asker.closed) == (3, 0, 1)
    assert "codesynth-loop" not in threads()
    window.close()


def test_close_does_not_wait_for_a_source_that_blocks() -> None:
    blocked = threading.Event()

    def source() -> Iterator[Request]:
        yield request(0)
        blocked.wait(5)

    window = Window(source(), Asker())
    next(window)
    started = time.monotonic()
    window.close()
    assert time.monotonic() - started < 1
    blocked.set()


def test_drain_lets_land_what_is_in_flight_and_sends_no_more() -> None:
    asker = Asker(workers=3, seconds=0.05)
    window = Window(requests(1000), asker)
    wait_until(lambda: asker.under_way == 3)
    window.drain(None)
    assert sorted(positions(window)) == [0, 1, 2]
    assert (asker.asked, asker.cancelled) == ([0, 1, 2], 0)


def test_drain_ends_whatever_the_feeder_is_about_to_do() -> None:
    for i in range(150):
        asker = Asker(workers=3, seconds=0.0005 * (i % 7))
        window = Window(requests(100_000), asker)
        time.sleep(0.0003 * (i % 11))
        window.drain(None)
        ended = threading.Thread(target=positions, args=(window,))
        ended.start()
        ended.join(5)
        hangs = ended.is_alive()
        window.close()
        assert not hangs


def test_drain_ends_after_its_grace() -> None:
    asker = Asker(workers=2)
    asker.hang = {1}
    window = Window(requests(1000), asker)
    wait_until(lambda: asker.under_way == 2 or 1 in asker.asked)
    window.drain(0.05)
    started = time.monotonic()
    landed = positions(window)
    assert time.monotonic() - started < 1
    assert 1 not in landed
    assert asker.cancelled == 1


def test_drain_with_nothing_in_flight_ends_at_once() -> None:
    blocked = threading.Event()

    def source() -> Iterator[Request]:
        blocked.wait(5)
        yield request(0)

    window = Window(source(), Asker())
    window.drain(None)
    assert list(window) == []
    blocked.set()


def test_a_source_that_fails_is_heard_after_what_it_gave() -> None:
    def source() -> Iterator[Request]:
        yield from requests(3)
        raise InputError("a cut gzip stream")

    window = Window(source(), Asker(seconds=0.02))
    assert sorted(positions(itertools.islice(window, 3))) == [0, 1, 2]
    with pytest.raises(InputError, match="a cut gzip stream"):
        next(window)
    assert list(window) == []


@pytest.mark.parametrize("error", [EndpointError("a wrong key"), LimitReached("no money")])
def test_what_is_in_flight_lands_before_the_run_ends(error: Exception) -> None:
    asker = Asker(workers=4, seconds=0.2)
    asker.errors = {0: error}
    window = Window(requests(1000), asker)
    assert sorted(positions(itertools.islice(window, 3))) == [1, 2, 3]
    with pytest.raises(type(error)):
        next(window)
    assert sorted(asker.asked) == [0, 1, 2, 3]


def test_what_hangs_does_not_keep_a_refused_run_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Window, "GRACE", 0.05)
    asker = Asker(workers=2)
    asker.errors, asker.hang = {0: EndpointError("a wrong key")}, {1}
    with pytest.raises(EndpointError):
        list(Window(requests(9), asker))
    assert asker.cancelled == 1


def test_any_other_error_ends_it_at_once() -> None:
    asker = Asker(workers=2)
    asker.errors, asker.hang = {0: MemoryError()}, {1}
    with pytest.raises(MemoryError):
        list(Window(requests(9), asker))
    assert asker.cancelled == 1


def test_an_error_while_closing_is_raised_not_waited_for() -> None:
    class Clumsy(Asker):
        async def aclose(self) -> None:
            raise OSError("cannot close")

    with pytest.raises(OSError, match="cannot close"):
        list(Window(requests(2), Clumsy()))


LEFT = """
from test_window import Asker, Window, requests

def rows():
    asker = Asker(workers=2)
    asker.hang = {1, 2, 3}
    window = Window(requests(9), asker)
    try:
        yield from window
    finally:
        window.close()

left = rows()
next(left)
"""


def test_a_window_that_was_left_open_does_not_keep_python_from_ending() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", LEFT], env=env, timeout=10, check=True)
