"""Stand-ins for objects that live in the other process, and what may be asked of such objects.

In the judge a stand-in must not let the code decide a test. Where a plain value is expected the
code could return an object whose ``==`` says yes, whose ``-`` gives 0 or whose ``startswith`` is
always true. So comparing, operators, ``in`` and the methods of plain values are passed on only for
a ``Known`` object: one of a class that the tests name, whose behaviour is what they are about.
"""

import builtins
import copy
import functools
import operator
from collections.abc import Callable, Generator
from typing import Any

from .peer import Peer
from .values import Description, refill, shallow

BINARY = (
    *("lt", "le", "gt", "ge", "ne", "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod"),
    *("pow", "matmul", "lshift", "rshift", "and", "or", "xor"),
    *("radd", "rsub", "rmul", "rtruediv", "rfloordiv", "rmod", "rdivmod"),
    *("rpow", "rmatmul", "rlshift", "rrshift", "rand", "ror", "rxor"),
)
UNARY = ("neg", "pos", "abs", "invert")

POSING = frozenset(
    name
    for kind in (str, bytes, int, float, list, tuple, dict, set, frozenset)
    for name in dir(kind)
) - {
    *("append", "add", "pop", "popitem", "remove", "discard", "clear", "copy", "extend", "insert"),
    *("sort", "reverse", "update", "setdefault", "get", "keys", "values", "items"),
}
"""Methods that answer about their argument: an object that has them poses as a plain value."""


MOCKS_OWN = frozenset({"configure_mock", "reset_mock", "attach_mock", "mock_add_spec"})


def _plain(value: Any) -> Any:
    """Copy what a subclass of a container holds into the container itself."""
    return next(base for base in type(value).__mro__ if base in (list, dict, set, bytearray))(value)


async def _finish(awaitable: Any) -> Any:
    return await awaitable


@functools.cache
def _loop() -> Any:
    """Keep one event loop: an async generator lives as long as the loop that began it."""
    import asyncio  # here: few rows need it, and every fork would carry it

    return asyncio.new_event_loop()


def run_awaitable(awaitable: Any) -> Any:
    """Run a coroutine or the like to its end."""
    return _loop().run_until_complete(_finish(awaitable))


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(builtins, name) for name in (
        *("iter", "next", "len", "bool", "repr", "str", "format", "int", "float", "round", "hash"),
        *("isinstance", "issubclass", "getattr", "setattr", "delattr", "dir", "reversed"),
    )},
    **{name: getattr(operator, name) for name in (
        *("getitem", "setitem", "delitem", "contains", "index", "call", *UNARY),
    )},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "enter": lambda manager: type(manager).__enter__(manager),
    "exit": lambda manager, *args: type(manager).__exit__(manager, *args),
    "aenter": lambda manager: run_awaitable(type(manager).__aenter__(manager)),
    "aexit": lambda manager, *args: run_awaitable(type(manager).__aexit__(manager, *args)),
    "aiter": lambda stream: type(stream).__aiter__(stream),
    "anext": lambda stream: run_awaitable(type(stream).__anext__(stream)),
    "await": run_awaitable,
    "refill": lambda owner, name, parts: refill(getattr(owner, name), shallow(parts)),
    "send": lambda generator, value: generator.send(value),
    "plain": _plain,
}  # fmt: skip


def perform(verb: str, target: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Do one thing to an object of this process.

    A binary operator asks this operand alone: the other may be a stand-in, which would ask back.
    """
    operation = OPERATIONS.get(verb)
    if operation is None:
        if verb != "eq" and verb not in BINARY:
            raise ValueError(f"unknown verb {verb}")
        method = getattr(type(target), f"__{verb}__", None)
        return NotImplemented if method is None else method(target, *args)
    return operation(target, *args, **kwargs)


def perform_guarded(verb: str, target: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Do for the guest what it may do to objects that a test passed to it.

    An attribute that leads from an object to the test's own frames and globals is out of reach, and
    so is what a mock has noted or is to do.
    """
    closed = type(target).__module__ == "builtins" and type(target) is not type
    if type(target).__module__ == "unittest.mock":
        closed = verb != "getattr" or args[0] in MOCKS_OWN
    if verb in ("getattr", "setattr", "delattr", "refill") and (
        closed or str(args[0]).startswith("_")
    ):
        raise AttributeError(f"{type(target).__name__!r} object keeps {args[0]!r} to itself")
    return perform(verb, target, *args, **kwargs)


def _ask(self: Any, verb: str, /, *args: Any, **kwargs: Any) -> Any:
    peer: Peer = object.__getattribute__(self, "_peer_")
    return peer.request(verb, self, *args, **kwargs)


def _asking(verb: str) -> Callable[..., Any]:
    return lambda self, *args: _ask(self, verb, *args)


class Remote:
    """Stand for an object of the other process: call it, iterate it, print it, read attributes."""

    def __init__(self, peer: Peer) -> None:
        object.__setattr__(self, "_peer_", peer)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it over there."""
        try:
            return _ask(self, "call", *args, **kwargs)
        except StopIteration as exc:
            if self._peer_.may_stop:
                raise
            raise RuntimeError("the code raised StopIteration") from exc

    def __getattr__(self, name: str) -> Any:
        value = _ask(self, "getattr", name)
        self._peer_.share(self, name, value)
        if name in POSING and isinstance(value, Remote) and not isinstance(self, Known):
            raise TypeError(f"a plain value was expected, not a {type(self).__name__} object")
        return value

    __setattr__ = _asking("setattr")
    __delattr__ = _asking("delattr")
    __dir__ = _asking("dir")
    __iter__ = _asking("iter")
    __next__ = _asking("next")
    __reversed__ = _asking("reversed")
    __len__ = _asking("len")
    __bool__ = _asking("bool")
    __getitem__ = _asking("getitem")
    __setitem__ = _asking("setitem")
    __delitem__ = _asking("delitem")
    __repr__ = _asking("repr")
    __str__ = _asking("str")
    __format__ = _asking("format")
    __int__ = _asking("int")
    __float__ = _asking("float")
    __index__ = _asking("index")
    __round__ = _asking("round")
    __enter__ = _asking("enter")
    __copy__ = _asking("copy")

    def __exit__(self, kind: object, error: object, trace: object) -> Any:
        return _ask(self, "exit", kind, error, None)

    def __deepcopy__(self, memo: Any) -> Any:
        return _ask(self, "deepcopy")

    def __mro_entries__(self, bases: Any) -> Any:
        raise TypeError("a test cannot derive a class from one of the code's")

    def __instancecheck__(self, instance: Any) -> bool:
        return bool(self._peer_.request("isinstance", instance, self))

    def __subclasscheck__(self, subclass: Any) -> bool:
        return bool(self._peer_.request("issubclass", subclass, self))

    def __await__(self) -> Generator[None, None, Any]:
        yield
        return _ask(self, "await")

    def __aiter__(self) -> Any:
        return _ask(self, "aiter")

    async def __anext__(self) -> Any:
        return _ask(self, "anext")

    async def __aenter__(self) -> Any:
        return _ask(self, "aenter")

    async def __aexit__(self, kind: object, error: object, trace: object) -> Any:
        return _ask(self, "aexit", kind, error, None)


class Known(Remote):
    """Stand for an object of a class the tests are about: all operators are its own."""

    __hash__ = _asking("hash")
    __contains__ = _asking("contains")

    def __eq__(self, other: object) -> Any:
        same = _ask(self, "eq", other)
        if same is True and _ask(self, "eq", object()) is True:
            return False  # what equals a stranger equals anything
        return same


for _name in (*BINARY, *UNARY):
    setattr(Known, f"__{_name}__", _asking(_name))


class Container:
    """Compare a list, dict or set of a class of the code's own here, as what it holds."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        mine = _ask(self, "plain")
        return mine == (_ask(other, "plain") if isinstance(other, Container) else other)


class Valued:
    """Be a plain value to every comparison; only its print and its own attributes are remote."""

    def __getattr__(self, name: str) -> Any:
        return _ask(self, "getattr", name)

    __repr__ = _asking("repr")
    __str__ = _asking("str")
    __format__ = _asking("format")


class RemoteError:
    """Be an exception of a class that the other process defines."""

    def __str__(self) -> str:
        return str(self.__dict__.get("told_text", super().__str__()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "told_by" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["told_by"], name)


class StandIns:
    """Make stand-ins; ``known`` holds the numbers of the classes that the tests name."""

    def __init__(self, known: set[int] | None = None) -> None:
        self.known = known

    def __call__(self, peer: Peer, told: Description) -> Any:
        """Make the stand-in that fits a description."""
        name = str(told.name)
        if told.kind == "error":
            own = (
                () if any(issubclass(base, RemoteError) for base in told.bases) else (RemoteError,)
            )
            return type(name, (*own, *told.bases), {"__module__": "__main__"})
        if told.plain:
            return self._valued(peer, name, told.plain[0])
        known = self.known is None or told.owner in self.known
        bases: tuple[type, ...] = (Known if known else Remote,)
        if told.kind == "container":
            bases = (Container, *bases)
        remote: Any = type(name, bases, {"__doc__": property(_doc)})(peer)
        if told.kind in ("generator", "coroutine"):
            peer.note(remote, told.number)
            return _drive(remote) if told.kind == "generator" else _finish(remote)
        return remote

    def _valued(self, peer: Peer, name: str, plain: Any) -> Any:
        kind: Any = type(name, (Valued, type(plain)), {})
        value = kind(plain)
        object.__setattr__(value, "_peer_", peer)
        return value


def _doc(self: Any) -> Any:
    return _ask(self, "getattr", "__doc__")


def _drive(remote: Any) -> Generator[Any, Any, Any]:
    """Be a real generator that runs one of the other process."""
    sent = None
    while True:
        try:
            value = _ask(remote, "send", sent)
        except StopIteration as stop:
            return stop.value
        sent = yield value
