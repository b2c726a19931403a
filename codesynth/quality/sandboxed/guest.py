"""The guest: holds the code, does what the judge asks of it, and is believed in nothing."""

import importlib
import io
import linecache
import sys
import types
import warnings
from contextlib import suppress
from typing import Any

from .peer import BrokenPeerError, Peer
from .remote import StandIns, perform
from .stage import Stage

FILE_NAME = "solution.py"
MAX_OUTPUT = 1 << 20
"""Characters printed between two answers that are kept; the rest is dropped."""


class Captured(io.BytesIO):
    """Keep the beginning of what is printed, at most ``MAX_OUTPUT`` bytes."""

    def write(self, data: Any, /) -> int:
        """Take bytes while there is room; claim to have taken all."""
        super().write(data[: max(0, MAX_OUTPUT - self.tell())])
        return len(data)

    def take(self) -> str:
        """Return what was printed since the last time."""
        text = self.getvalue().decode("utf-8", "replace")
        self.seek(0)
        self.truncate()
        return text


class Guest:
    """Load one piece of code and act on it."""

    def __init__(self) -> None:
        self._module = types.ModuleType("solution")
        self._scopes: dict[int, dict[str, Any]] = {}
        self._stage = Stage()

    def perform(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        """Do one thing for the judge: load, look up a name, run an example, or an operation."""
        if verb == "load":
            return self._load(*args)
        if verb == "name":
            return vars(self._module)[args[0]]
        if verb == "example":
            return self._example(*args)
        if verb == "seed":
            return importlib.import_module("random").seed(*args, **kwargs)
        if verb == "restore":
            return self._stage.restore(*args)
        return perform(verb, *args, **kwargs)

    def _load(self, source: str) -> dict[str, Any]:
        """Run the code; return the ``names`` it defines and, by name, the ``classes``."""
        sys.modules["solution"] = self._module
        linecache.cache[FILE_NAME] = (len(source), None, source.splitlines(True), FILE_NAME)
        code = compile(source, FILE_NAME, "exec", dont_inherit=True)
        exec(code, vars(self._module))  # noqa: S102  in a sandbox, for this
        found = {name: value for name, value in vars(self._module).items() if name[:2] != "__"}
        classes = {name: value for name, value in found.items() if isinstance(value, type)}
        return {"names": list(found), "classes": classes}

    def _example(self, scope: int, source: str) -> None:
        """Run a doctest example in the scope of its docstring."""
        names = self._scopes.setdefault(scope, dict(vars(self._module)))
        exec(compile(source, "<example>", "single", dont_inherit=True), names)  # noqa: S102


def serve(reader: int, writer: int) -> None:
    """Be a guest until the judge is gone."""
    warnings.simplefilter("ignore")
    printed = Captured()
    sys.stdout = screen = io.TextIOWrapper(printed, "utf-8", errors="replace")
    sys.argv = [FILE_NAME]
    guest = Guest()
    peer = Peer(reader, writer, perform=guest.perform, stand_in=StandIns(), trusting=True)

    def take_output() -> str:
        with suppress(ValueError):  # the code closed it
            screen.flush()
        return printed.take()

    peer.take_output = take_output
    try:
        peer.serve()
    except BrokenPeerError:
        return
