"""What a test sets up around the code: standard input, replaced functions, a seed.

Test and code live in two processes. So what the test replaces in a module that both have, with
``unittest.mock.patch`` or by hand, is replaced on the code's side too before it is next asked for
something, and put back when the test does so.
"""

import builtins
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

OF_SYS = ("stdin", "argv")
SIGNS = ("patch", "stdin", "seed(", "argv", "builtins")
"""Without one of these a test sets up nothing around the code, and need not be watched for it."""


class Scene:
    """The judge's side: compares its modules with what they were, and tells of changes.

    Args:
        tell: asks the guest to do something: ``tell(verb, *args)``.
    """

    def __init__(self, tell: Callable[..., Any]) -> None:
        self._tell = tell
        self._told: dict[tuple[str, str], Any] = {}
        random: Any = importlib.import_module("random")  # not before: it makes every fork dearer
        self._modules = (builtins, os, os.path, random, time)
        seed = random.seed

        def seed_both(*args: Any, **kwargs: Any) -> None:
            seed(*args, **kwargs)
            tell("seed", *args, **kwargs)

        random.seed = seed_both
        self._before = {name: dict(names) for name, names in self._names()}

    def _names(self) -> list[tuple[str, dict[str, Any]]]:
        found = [(module.__name__, vars(module)) for module in self._modules]
        return [*found, ("sys", {name: getattr(sys, name) for name in OF_SYS})]

    def show(self) -> None:
        """Tell the guest what has changed since it was last told."""
        for module, names in self._names():
            before = self._before[module]
            for name, value in names.items():
                if name in before and self._told.get((module, name), before[name]) is not value:
                    self._told[module, name] = value
                    restored = value is before[name]
                    self._tell(*("restore", module, name), *(() if restored else (value,)))
