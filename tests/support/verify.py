"""Run rows through ``verify``'s task and sandboxes, without the command line; rows to run.

Rows are written as text, so that nothing imports them: some are hostile.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record, Request, Response
from codesynth.verify import SandboxServing, SandboxSettings, VerifyTask

DATA = Path(__file__).parents[1] / "data" / "verify"


def verify(
    rows: Iterable[Mapping[str, Any]], settings: SandboxSettings | None = None, jobs: int = 2
) -> list[dict[str, Any]]:
    """Return the verdicts of rows, in their order; skip the test where there is no sandbox."""
    try:
        serving = SandboxServing(settings or SandboxSettings(timeout=30), jobs)
    except ConfigError as exc:
        pytest.skip(str(exc))
    task, requests = VerifyTask(test_key="test"), []
    for number, row in enumerate(rows):
        record = Record(number, b"{}", row)
        question = task.make_question(record)
        if isinstance(question, Failure):
            requests.append(Response(Request(record, number, b""), error=question))
        else:
            requests.append(Request(record, number, question.body))
    verdicts: dict[int, dict[str, Any]] = {}
    with serving.generate(requests) as stream:
        for response in stream:
            error = response.error
            verdict = asdict(error) if error else task.columns(response)["verification"]
            verdicts[response.request.position] = verdict
    return [verdicts[position] for position in sorted(verdicts)]


def commands_with(text: str) -> list[str]:
    """List the command lines of all processes that hold a text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((process / "cmdline").read_bytes().decode("utf-8", "replace"))
    return [command for command in found if text in command]


def programs(name: str) -> dict[str, dict[str, str]]:
    """Read rows by their names: ``### name``, the code, then columns as ``--- column``."""
    titles = re.split(r"(?m)^### (.+)\n", (DATA / name).read_text(encoding="utf-8"))
    rows = {}
    for title, body in zip(titles[1::2], titles[2::2], strict=True):
        columns = re.split(r"(?m)^--- (\w+)\n", f"--- generated_code\n{body}")
        rows[title] = {k: v.rstrip("\n") for k, v in zip(columns[1::2], columns[2::2], strict=True)}
    return rows
