"""The guest's side of ``scene``: what a test set up, put in its place."""

import importlib
from typing import Any


class Stage:
    """Put things in their place, and back."""

    def __init__(self) -> None:
        self._own: dict[tuple[str, str], Any] = {}

    def restore(self, module: str, name: str, *value: Any) -> None:
        """Set a name of a module to a value, or to what it was."""
        place = importlib.import_module(module)
        own = self._own.setdefault((module, name), getattr(place, name))
        setattr(place, name, *value or (own,))
