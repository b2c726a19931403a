"""Write values as JSON and read them back; the reader may distrust the writer, so no pickle.

Plain values go by value. A list, dict, set or the like is numbered, so that both sides can say
"the same list as before": shared and cyclic structures survive. The rest is the peer's to refer to.
"""

import importlib
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

LEAVES: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: (lambda value: value.decode("latin-1"), lambda text: text.encode("latin-1")),
    complex: (repr, complex),
    Decimal: (str, Decimal),
    Fraction: (str, Fraction),
    date: (date.isoformat, date.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    timedelta: (
        lambda value: f"{value.days} {value.seconds} {value.microseconds}",
        lambda text: timedelta(*map(int, text.split())),
    ),
    UUID: (str, UUID),
    range: (
        lambda value: f"{value.start} {value.stop} {value.step}",
        lambda text: range(*map(int, text.split())),
    ),
    type(...): (lambda _: "", lambda _: ...),
    type(NotImplemented): (lambda _: "", lambda _: NotImplemented),
}
CONTAINERS = (list, dict, set, bytearray, deque, Counter, OrderedDict, defaultdict)
FROZEN = (tuple, frozenset)
PLAIN_PARTS: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    tuple: lambda value: tuple(tuple.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}
"""What an instance of a subclass of a plain type is to ``==``: the plain value in it."""

PLAIN_DTYPE = re.compile(r"[<>|](?:[biufc][1-9]\d?|[SU][1-9]\d*|[mM]8(?:\[\w+\])?)")
"""Types of numpy's whose bytes are all there is of a value; no objects."""

_BY_NAME: dict[str, Any] = {kind.__name__: kind for kind in (*LEAVES, *CONTAINERS, *FROZEN)}


class Description(NamedTuple):
    """What is told of an object that goes by reference.

    Attributes:
        number: the sender's number for it.
        kind: "object", "class", "error" (an exception class), "container", "generator", ...
        name: of the object's class, or of the class it is.
        owner: the number of its class; None for a class.
        bases: of an exception class: the exception classes it derives from.
        plain: of an instance of a subclass of a plain type: that plain value, in a list.
    """

    number: int
    kind: str
    name: str
    owner: int | None
    bases: list[Any]
    plain: list[Any]


def shallow(container: Any) -> list[Any]:
    """List what a container holds: items, or keys and values in turn."""
    if isinstance(container, dict):
        return [part for pair in container.items() for part in pair]
    return list(container)


def refill(container: Any, parts: list[Any]) -> None:
    """Make a container hold just these parts, in place."""
    container.clear()
    if isinstance(container, dict):
        for key, value in zip(parts[::2], parts[1::2], strict=True):
            container[key] = value
    elif isinstance(container, set):
        container.update(parts)
    else:
        container.extend(parts)


def unchanged(container: Any, parts: list[Any]) -> bool:
    """Tell whether a container still holds the very objects it held."""
    now = shallow(container)
    return len(now) == len(parts) and all(a is b for a, b in zip(now, parts, strict=True))


class Encoder:
    """Turn the values of one message into JSON; ``containers`` are those both sides number."""

    def __init__(self, refer: Callable[[Any, "Encoder"], Any], containers: Iterable[Any] = ()):
        self._refer = refer
        self.containers = list(containers)
        self._numbers = {id(one): number for number, one in enumerate(self.containers)}

    def encode(self, value: Any) -> Any:
        """Encode one value: as JSON where JSON has it, else as a list that starts with a tag."""
        kind = type(value)
        if value is None or kind in (bool, str, float):
            return value
        if kind is int:
            return value if -(1 << 53) < value < 1 << 53 else ["int", hex(value)]
        if kind in CONTAINERS:
            return self._container(value)
        if kind in FROZEN:
            return [kind.__name__, *map(self.encode, value)]
        if kind in LEAVES and _in_a_fixed_zone(value):
            return [kind.__name__, LEAVES[kind][0](value)]
        return _numpy_parts(value) or self._refer(value, self)

    def _container(self, value: Any) -> list[Any]:
        number = self._numbers.get(id(value))
        if number is not None:
            return ["same", number]
        self._numbers[id(value)] = len(self.containers)
        self.containers.append(value)
        made_with = getattr(value, "default_factory", None) or getattr(value, "maxlen", None)
        return [type(value).__name__, self.encode(made_with), *map(self.encode, shallow(value))]


def _in_a_fixed_zone(value: Any) -> bool:
    zone = getattr(value, "tzinfo", None)
    return zone is None or type(zone) is timezone


def _numpy_parts(value: Any) -> list[Any] | None:
    """Write an array or a scalar of numpy's as its type, its shape and its bytes."""
    numpy: Any = sys.modules.get("numpy")
    kind = type(value)
    if numpy is None or not (kind is numpy.ndarray or issubclass(kind, numpy.generic)):
        return None
    if not PLAIN_DTYPE.fullmatch(value.dtype.str):
        return None
    shape = list(value.shape) if kind is numpy.ndarray else None
    return ["numpy", value.dtype.str, shape, value.tobytes().decode("latin-1")]


def _numpy_value(dtype: str, shape: list[int] | None, text: str) -> Any:
    if not PLAIN_DTYPE.fullmatch(dtype):
        raise ValueError("no plain values")
    array = importlib.import_module("numpy").frombuffer(text.encode("latin-1"), dtype)
    return array[0] if shape is None else array.reshape(shape).copy()


class Decoder:
    """Turn JSON back into values, numbering containers as the Encoder did."""

    def __init__(
        self,
        resolve: Callable[[list[Any], "Decoder"], Any],
        containers: Iterable[Any] = (),
    ) -> None:
        self._resolve = resolve
        self.containers = list(containers)

    def decode(self, data: Any) -> Any:
        """Decode one value; any exception means that the sender is broken."""
        if not isinstance(data, list):
            if isinstance(data, dict):
                raise TypeError("an object where a value was expected")
            return data
        tag = data[0]
        if tag == "int":
            return int(data[1], 16)
        if tag == "same":
            return self.containers[data[1]]
        if tag == "numpy":
            return _numpy_value(*data[1:])
        kind = _BY_NAME.get(tag)
        if kind in CONTAINERS:
            return self._container(kind, data)
        if kind in FROZEN:
            return kind(map(self.decode, data[1:]))
        if kind in LEAVES:
            return LEAVES[kind][1](data[1])
        return self._resolve(data, self)

    def _container(self, kind: Any, data: list[Any]) -> Any:
        number = len(self.containers)
        self.containers.append(None)
        made_with = self.decode(data[1])
        new: Any = deque(maxlen=made_with) if kind is deque else kind()
        if kind is defaultdict:
            new.default_factory = made_with
        self.containers[number] = new
        refill(new, [self.decode(part) for part in data[2:]])
        return new
