"""A command as a function over batches of columns, for ``ray.data``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from codesynth import asking, commands
from codesynth.errors import BusyError
from codesynth.journal import Journal, JournaledServing
from codesynth.models import Failure, Record, Stats
from codesynth.pipeline import Stop, make_requests, read_response
from codesynth.settings import AskSettings

T = TypeVar("T")
_BUSY_SECONDS = 120.0
_ERROR = "error"


class BatchCommand:
    """Takes a batch of columns and returns it with new ones, for ``Dataset.map_batches``.

    Each batch has a journal of its own, named after its rows: a batch that is computed again, on
    any node, asks nothing again. The key is read from OPENAI_API_KEY on the node. A row that failed
    has the reason in the column ``error``, and None in the other new columns.

    Args:
        settings: ``CodeSettings``, ``TestsSettings`` or ``GenSettings``: what to ask.
        journals: a folder that all nodes share; made if only its own name is missing.

    Raises:
        CodesynthError: the settings are wrong, or the model is not known.
        OSError: the folder cannot be made.

    >>> import tempfile
    >>> from codesynth.settings import CodeSettings
    >>> command = BatchCommand(CodeSettings(offline=True), tempfile.mkdtemp())
    >>> # dataset.map_batches(BatchCommand, fn_constructor_args=(settings, "/shared/journals"),
    >>> #     compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8))
    """

    def __init__(self, settings: AskSettings, journals: str) -> None:
        settings.check()
        self._folder = Path(journals)
        self._folder.mkdir(exist_ok=True)
        self._serving = asking.make_online_serving(settings, None)
        spec = commands.prepare(settings, lambda: self._serving.model)
        self._task = spec.task
        self._columns = [*spec.columns, _ERROR]

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ask for each row of a batch of NumPy columns."""
        columns = [column.tolist() for column in batch.values()]
        rows = [dict(zip(batch, row, strict=True)) for row in zip(*columns, strict=True)]
        new: list[dict[str, Any]] = [{} for _ in rows]
        name = blake2b(repr(rows).encode(errors="backslashreplace"), digest_size=16).hexdigest()
        with when_free(partial(Journal, self._folder / f"{name}.journal")) as journal:
            records = (Record(i, b"{}", row) for i, row in enumerate(rows))
            requests = make_requests(records, self._task, Stats(), Stop())
            with JournaledServing(journal, self._serving).generate(requests) as responses:
                for response in responses:
                    found = read_response(response, self._task)
                    if isinstance(found, Failure):
                        found = {_ERROR: f"{found.kind}: {found.message}"}
                    new[response.request.position] = found
        names = dict.fromkeys([*self._columns, *(name for each in new for name in each)])
        return batch | {name: [row.get(name) for row in new] for name in names}


def when_free(start: Callable[[], T]) -> T:
    """Call ``start`` until the files that it needs are free; return its result.

    A process that died on another node may seem to hold them for a while.

    Raises:
        BusyError: after two minutes another process still holds them.
    """
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return start()
        except BusyError:
            if time.monotonic() > give_up:
                raise
        time.sleep(1)
