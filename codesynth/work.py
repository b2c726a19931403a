"""Settings, and what each command makes of them: its rows, its prompts, its new column."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from codesynth.errors import ConfigError
from codesynth.models import Record, SamplingParams
from codesynth.operators import (
    CodeInstructionGenerator,
    CodeInstructionToCodeGenerator,
    code,
    instructions,
)
from codesynth.operators.templates import find_template
from codesynth.pipeline import Job
from codesynth.serving.budget import Price
from codesynth.serving.journal import Journal
from codesynth.storage import Pool, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What both commands are told, under the options' names."""

    command: str
    inputs: list[str]
    output: str | None = None
    output_key: str
    prompt_template: str | None = None
    system_prompt: str | None = None
    model: str | None = None
    base_urls: list[str] = field(default_factory=list)
    api_key: str | None = field(default=None, repr=False)
    params: SamplingParams = field(default_factory=SamplingParams)
    concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    timeout: float = 600.0
    connect_timeout: float = 10.0
    max_retries: int = 5
    max_outage: float = 300.0
    failures: str | None = None
    journal: str | None = None
    keep_journal: bool = True
    overwrite: bool = False
    limit: int | None = None
    shard: tuple[int, int] = (0, 1)
    ordered: bool = True
    meta: bool = False
    dry_run: bool = False
    offline: bool = False
    max_time: float | None = None
    max_cost: float | None = None
    price: Price | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What one of the commands brings of its own.

    Attributes:
        records: makes the stream of rows; called once everything else is ready.
        total: rows to come, where that is known.
        task: what the practice endpoint is to play.
        request: what all requests have in common, but for the model; JSON.
        remarks: for the summary line.
        notes: for the journal, so that a rerun does the same.
        meta: for the ``_codesynth`` object.
    """

    job: Job
    records: Callable[[], Iterator[Record]]
    total: Callable[[], int | None]
    task: Literal["instruction", "code"]
    request: list[Any]
    remarks: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def instruction_work(
    settings: Settings,
    journal: Journal | None,
    *,
    input_key: str,
    num_generate: int,
    num_few_shot: int,
    seed: int | None,
) -> Work:
    """Prepare ``gen-instructions``; without a seed, with the one that the journal remembers."""
    if seed is None:
        remembered = journal.note("seed") if journal is not None else None
        seed = int(remembered) if remembered else secrets.randbelow(2**32)
    number = min(num_generate, settings.limit or num_generate)
    template, name = find_template(settings.prompt_template or instructions.TEMPLATE)
    operator = CodeInstructionGenerator(
        None, template, num_few_shot, number, seed=seed, template_name=name
    )

    def records() -> Iterator[Record]:
        pool = Pool(settings.inputs, input_key)
        try:
            rows = operator.records(pool)
        except ConfigError as exc:
            raise ConfigError(f"{exc}{_first_bad(pool)}") from exc
        bad = pool.bad_records() if settings.shard[0] == 0 else ()
        return itertools.chain(bad, _shard(rows, settings.shard))

    return Work(
        job=operator.job(settings.output_key, settings.system_prompt),
        records=records,
        total=lambda: len(range(settings.shard[0], number, settings.shard[1])),
        task="instruction",
        request=[*_request(settings, template), seed, num_few_shot],
        remarks=(f"seed {seed}",),
        notes={"seed": str(seed)},
        meta={"seed": seed},
    )


def _first_bad(pool: Pool) -> str:
    for record in pool.bad_records():
        if record.error is not None:
            return f". First unusable row: {record.source}:{record.line}: {record.error.message}"
    return ""


def code_work(settings: Settings, *, input_key: str | None) -> Work:
    """Prepare ``gen-code``."""
    template, name = find_template(settings.prompt_template or code.TEMPLATE)
    operator = CodeInstructionToCodeGenerator(None, template, template_name=name)

    def records() -> Iterator[Record]:
        rows = itertools.islice(read_records(settings.inputs), settings.limit)
        return _shard(rows, settings.shard)

    return Work(
        job=operator.job(input_key, settings.output_key, settings.system_prompt),
        records=records,
        total=partial(_count_lines, settings),
        task="code",
        request=_request(settings, template),
    )


def _request(settings: Settings, template: str) -> list[Any]:
    return [template, settings.system_prompt, settings.params.body("", [])]


def _shard(records: Iterator[Record], shard: tuple[int, int]) -> Iterator[Record]:
    return itertools.islice(records, shard[0], None, shard[1])


def _count_lines(settings: Settings) -> int | None:
    """Count the rows to come, where the inputs are plain files; a bar wants to know."""
    count = 0
    for path in settings.inputs:
        if path.endswith(".gz") or not Path(path).is_file():
            return None
        with open(path, "rb") as file:
            count += sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    count = min(count, settings.limit or count)
    return len(range(settings.shard[0], count, settings.shard[1]))
