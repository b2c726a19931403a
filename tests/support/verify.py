"""Run rows through ``verify``'s task and sandboxes, without the command line."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pytest

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record, Request, Response
from codesynth.verify import SandboxServing, SandboxSettings, VerifyTask


def verify(
    rows: Iterable[Mapping[str, Any]], settings: SandboxSettings | None = None, jobs: int = 2
) -> list[dict[str, Any]]:
    """Return the verdicts of rows, in their order; skip the test where there is no sandbox."""
    try:
        serving = SandboxServing(settings or SandboxSettings(timeout=30), jobs)
    except ConfigError as exc:
        pytest.skip(str(exc))
    task = VerifyTask(test_key="test")
    verdicts: dict[int, dict[str, Any]] = {}
    with serving.generate(map(_request, *_numbered(rows, task))) as stream:
        for response in stream:
            if response.error is not None:
                verdicts[response.request.position] = asdict(response.error)
            else:
                verdicts[response.request.position] = task.columns(response)["verification"]
    return [verdicts[position] for position in sorted(verdicts)]


def _numbered(rows: Iterable[Mapping[str, Any]], task: VerifyTask) -> tuple[Any, Any]:
    records = [Record(number, b"{}", row) for number, row in enumerate(rows)]
    return records, [task.make_question(record) for record in records]


def _request(record: Record, ask: Any) -> Request | Response:
    if isinstance(ask, Failure):
        return Response(Request(record, record.index, b""), error=ask)
    return Request(record, record.index, ask.body)
