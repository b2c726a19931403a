"""Ask the other process to do something, and do what it asks: calls with values on two pipes.

What a callee does to a list it was given is done to the caller's list, as in any Python call.
What cannot go by value goes by reference: ["mine", n, ...] is an object of the sender's, a
``remote`` stand-in at the receiver's; ["yours", n] is one of the receiver's own.
"""

import builtins
import json
import os
import sys
import types
from _thread import RLock  # threading itself would make every fork dearer
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .values import (
    CONTAINERS,
    PLAIN_PARTS,
    Decoder,
    Description,
    Encoder,
    refill,
    shallow,
    unchanged,
)

MAX_SHARED = 64
"""Containers that are watched for changes since they were read as an attribute."""
MAX_FRAME = 64 << 20
"""Bytes of one message; more is taken for an attack."""

LIBRARY_ERRORS = frozenset(
    {"json.decoder", "decimal", "asyncio.exceptions", "dataclasses", "re", "_queue", "statistics"}
)
"""Modules whose exceptions keep their class. Not unittest: there an exception can mean "skip"."""


class BrokenPeerError(BaseException):
    """The other side is gone or talks nonsense. A BaseException: few tests swallow those."""


class Peer:
    """Talk with the process at the other end.

    Args:
        reader: descriptor to read frames from.
        writer: descriptor to write frames to.
        perform: does what the other side asks: ``perform(verb, *args, **kwargs)``.
        stand_in: makes the stand-in for a foreign object.
        trusting: False in the judge: the guest may only work on what it was given.

    Attributes:
        take_output: gives what was printed since the last answer.
        before_request: says what has to be said before each request.
        may_stop: False takes a StopIteration out of a call for a mistake, not for a ``map``'s end.
        broken: the other side is gone, or talks nonsense.
    """

    def __init__(
        self,
        reader: int,
        writer: int,
        *,
        perform: Callable[..., Any],
        stand_in: Callable[["Peer", Description], Any],
        trusting: bool,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._perform, self._stand_in, self._trusting = perform, stand_in, trusting
        self._own: list[Any] = []
        self._own_numbers: dict[int, int] = {}
        self._foreign: dict[int, Any] = {}
        self._foreign_numbers: dict[int, int] = {}
        self._shared: deque[tuple[Any, str, Any, list[Any]]] = deque(maxlen=MAX_SHARED)
        self._turn = RLock()
        self.take_output: Callable[[], str] = str
        self.before_request: Callable[[], None] = lambda: None
        self.may_stop = True
        self.broken = False

    def request(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask for one thing; return what comes back, or raise what was raised over there."""
        self.before_request()
        for place, (owner, name, container, parts) in enumerate(self._shared):
            if not unchanged(container, parts):
                self._shared[place] = (owner, name, container, shallow(container))
                self.ask("refill", owner, name, container)
        return self.ask(verb, *args, **kwargs)

    def share(self, owner: Any, name: str, container: Any) -> None:
        """Pass on later what is done here to a container that is an attribute over there."""
        if type(container) in CONTAINERS:
            self._shared.append((owner, name, container, shallow(container)))

    def ask(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask for one thing, whatever may have changed here since the last."""
        encoder = Encoder(self._refer)
        named = {name: encoder.encode(value) for name, value in kwargs.items()}
        frame = {"do": verb, "named": named, "args": [encoder.encode(arg) for arg in args]}
        with self._turn:
            self._send(frame)
            while "do" in (reply := self._receive()):
                self._answer(reply)
        decoder = Decoder(self._resolve, encoder.containers)
        with self._sense():
            value = decoder.decode(reply["value"])
            for number, parts in reply["back"]:
                refill(encoder.containers[number], [decoder.decode(part) for part in parts])
            raised = reply["raised"] is True and isinstance(value, BaseException)
        if raised:
            raise value
        return value

    def serve(self) -> None:
        """Do what is asked until the other side is gone."""
        while True:
            self._answer(self._receive())

    def note(self, stand_in: object, number: int) -> None:
        """Let an object, which must live on, stand for the other side's object of that number."""
        self._foreign_numbers[id(stand_in)] = number

    def number_of(self, stand_in: object) -> int | None:
        """Look up the other side's number for what a stand-in stands for."""
        return self._foreign_numbers.get(id(stand_in))

    def _answer(self, frame: dict[str, Any]) -> None:
        decoder = Decoder(self._resolve)
        with self._sense():
            verb, first = frame["do"], frame["args"][0]
            if not (self._trusting or (isinstance(first, list) and first[0] == "yours")):
                raise ValueError("a foreign hand on an object that was not given")
            kwargs = {name: decoder.decode(value) for name, value in frame["named"].items()}
            args = [decoder.decode(arg) for arg in frame["args"]]
        before = [shallow(one) for one in decoder.containers]
        encoder = Encoder(self._refer, decoder.containers)
        raised = False
        try:
            value = encoder.encode(self._perform(verb, *args, **kwargs))
        except BrokenPeerError:
            raise
        except BaseException as exc:
            encoder = Encoder(self._refer, decoder.containers)
            value, raised = encoder.encode(exc), True
        back = [
            [number, [encoder.encode(part) for part in shallow(one)]]
            for number, (one, parts) in enumerate(zip(decoder.containers, before, strict=True))
            if not unchanged(one, parts)
        ]
        self._send({"value": value, "raised": raised, "back": back})

    def _send(self, frame: dict[str, Any]) -> None:
        frame["out"] = self.take_output()
        data = json.dumps(frame, separators=(",", ":")).encode("ascii")
        if len(data) > MAX_FRAME:
            raise ValueError(f"a value of {len(data) >> 20} MiB is too large to be passed")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        try:
            while view:
                view = view[os.write(self._writer, view) :]
        except OSError as exc:
            self.broken = True
            raise BrokenPeerError("the code ended its process") from exc

    def _receive(self) -> dict[str, Any]:
        size = int.from_bytes(self._read(4), "big")
        with self._sense():
            if size > MAX_FRAME:
                raise ValueError("too large")
            frame: dict[str, Any] = json.loads(self._read(size))
            sys.stdout.write(frame["out"])
        return frame

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = os.read(self._reader, min(size - len(data), 1 << 20))
            if not part:
                self.broken = True
                raise BrokenPeerError("the code ended its process")
            data += part
        return bytes(data)

    @contextmanager
    def _sense(self) -> Iterator[None]:
        """Take any exception for the other side's nonsense."""
        try:
            yield
        except Exception as exc:
            self.broken = True
            raise BrokenPeerError("the code broke the channel to its judge") from exc

    def _refer(self, value: Any, encoder: Encoder) -> list[Any]:
        number = self._foreign_numbers.get(id(value))
        if number is not None:
            return ["yours", number]
        if isinstance(value, BaseException):
            return self._exception(value, encoder)
        name = value.__name__ if isinstance(value, type) else ""
        if name and getattr(builtins, name, None) is value:
            return ["builtin", name]
        for plain, part in PLAIN_PARTS.items():
            if isinstance(value, plain):
                return ["value", self._describe(value, encoder), encoder.encode(part(value))]
        return self._describe(value, encoder)

    def _describe(self, value: Any, encoder: Encoder) -> list[Any]:
        """Describe an own object: "mine", its number, then as in Description."""
        number = self._own_numbers.get(id(value))
        if number is None:
            if not self._trusting and isinstance(value, types.ModuleType):
                raise TypeError("a test cannot pass a module to the code")
            number = self._own_numbers[id(value)] = len(self._own)
            self._own.append(value)
        if not isinstance(value, type):
            owner = self._describe(type(value), encoder)
            return ["mine", number, _kind(value), owner[3], owner[1], []]
        if not issubclass(value, BaseException):
            return ["mine", number, "class", value.__name__, None, []]
        bases = [kind for kind in value.__bases__ if issubclass(kind, BaseException)]
        refs = [self._refer(kind, encoder) for kind in bases]
        return ["mine", number, "error", value.__name__, None, refs]

    def _exception(self, value: BaseException, encoder: Encoder) -> list[Any]:
        kind = type(value)
        try:
            args = [encoder.encode(arg) for arg in value.args]
        except (TypeError, ValueError, RecursionError):
            args = [str(value)]
        if kind.__module__ in LIBRARY_ERRORS:
            return ["exception", ["library", kind.__module__, kind.__qualname__], args]
        which = self._refer(kind, encoder)
        if which[0] != "mine":
            return ["exception", which, args]
        return ["exception", which, args, str(value), self._describe(value, encoder)]

    def _resolve(self, data: list[Any], decoder: Decoder) -> Any:
        tag = data[0]
        if tag == "yours":
            return self._own[data[1]]
        if tag == "mine":
            return self._foreigner(data, decoder)
        if tag == "value":
            return self._foreigner([*data[1], data[2]], decoder)
        if tag == "builtin":
            return _a_type(getattr(builtins, data[1]))
        if tag == "library" and data[1] in LIBRARY_ERRORS:
            return _a_type(getattr(sys.modules[data[1]], data[2]))
        if tag == "exception":
            return self._error(data, decoder)
        raise ValueError(f"unknown tag {tag}")

    def _foreigner(self, data: list[Any], decoder: Decoder) -> Any:
        number = data[1]
        if number not in self._foreign:
            kind, name, owner, bases, *plain = data[2:]
            told = [[decoder.decode(one) for one in many] for many in (bases, plain)]
            stand_in = self._stand_in(self, Description(number, kind, name, owner, *told))
            self._foreign[number] = stand_in
            self.note(stand_in, number)
        return self._foreign[number]

    def _error(self, data: list[Any], decoder: Decoder) -> BaseException:
        kind: type[BaseException] = decoder.decode(data[1])
        args = [decoder.decode(arg) for arg in data[2]]
        if not issubclass(kind, BaseException):
            raise TypeError("no exception")
        try:
            error = kind(*args)
        except Exception:  # a signature of its own: its args alone must do
            error = kind.__new__(kind)
            error.args = tuple(args)
        if data[3:]:
            error.__dict__.update(told_text=str(data[3]), told_by=decoder.decode(data[4]))
        return error


def _kind(value: object) -> str:
    if isinstance(value, types.GeneratorType):
        return "generator"
    if isinstance(value, types.CoroutineType):
        return "coroutine"
    return "container" if isinstance(value, CONTAINERS) else "object"


def _a_type(found: Any) -> Any:
    """Let types pass, never a function such as ``exec``."""
    if not isinstance(found, type):
        raise TypeError("no type")
    return found
