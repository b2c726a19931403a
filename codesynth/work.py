"""Settings, and what each command makes of them: its rows, its prompts, its new column."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record, SamplingParams
from codesynth.operators import (
    CodeInstructionGenerator,
    CodeInstructionToCodeGenerator,
    code,
    instructions,
)
from codesynth.operators.templates import find_template
from codesynth.pipeline import Job
from codesynth.quality.gate import QualityGate, Quota
from codesynth.quality.mixing import mix
from codesynth.serving.budget import Price
from codesynth.serving.journal import Journal
from codesynth.storage import Pool, read_records

if TYPE_CHECKING:
    from codesynth.quality.decontamination import Decontaminator


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
    decontaminate: list[str] = field(default_factory=list)
    ngram: int = 13
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
        gate: makes what judges the rows in their turn; called once.
        open_ended: how many rows there will be is found out on the way.
    """

    job: Job
    records: Callable[[], Iterator[Record]]
    total: Callable[[], int | None]
    task: Literal["instruction", "code"]
    request: list[Any]
    remarks: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    gate: Callable[[], QualityGate | None] = lambda: None
    open_ended: bool = False


def instruction_work(
    settings: Settings,
    journal: Journal | None,
    *,
    input_key: str,
    num_generate: int,
    num_few_shot: int,
    seed: int | None,
    novelty: float | None = None,
    accepted: int | None = None,
    ratio: tuple[int, int] | None = None,
) -> Work:
    """Prepare ``gen-instructions``; without a seed, with the one that the journal remembers."""
    judged = novelty is not None or accepted is not None
    if judged and not settings.ordered:
        raise ConfigError("--novelty and --accepted judge rows in their order: drop --unordered")
    if seed is None:
        remembered = journal.note("seed") if journal is not None else None
        seed = int(remembered) if remembered else secrets.randbelow(2**32)
    number = min(num_generate, settings.limit or num_generate)
    template, name = find_template(settings.prompt_template or instructions.TEMPLATE)
    operator = CodeInstructionGenerator(
        None, template, sum(ratio) if ratio else num_few_shot, number, seed=seed, template_name=name
    )
    quota = Quota(accepted) if accepted is not None else None

    @cache
    def pool() -> Pool:
        return Pool(settings.inputs, input_key, settings.output_key if ratio else None)

    def records() -> Iterator[Record]:
        first, parts = settings.shard
        bad = pool().bad_records() if first == 0 else iter(())
        numbers: Iterable[int] = range(first, number, parts)
        if quota is not None:
            quota.skip(pool().bad if first == 0 else 0)
            numbers = (first + parts * i for i in quota.numbers())
        try:
            choose = _mixer(pool(), seed, ratio) if ratio is not None else None
            rows = operator.records(pool(), numbers, choose)
        except ConfigError as exc:
            raise ConfigError(f"{exc}{_first_bad(pool())}") from exc
        return itertools.chain(bad, rows)

    def gate() -> QualityGate | None:
        if not judged and not settings.decontaminate:
            return None
        unlike = None
        if judged:
            from codesynth.quality.novelty import NoveltyGate

            unlike = NoveltyGate(novelty)
            unlike.seed(pool())
        return QualityGate(
            settings.output_key,
            novelty=unlike,
            decontaminator=decontaminator(settings),
            quota=quota,
        )

    return Work(
        job=operator.job(settings.output_key, settings.system_prompt),
        records=records,
        total=lambda: accepted or len(range(settings.shard[0], number, settings.shard[1])),
        task="instruction",
        request=[*_request(settings, template), seed, num_few_shot, ratio],
        remarks=(f"seed {seed}",),
        notes={"seed": str(seed)},
        meta={"seed": seed},
        gate=gate,
        open_ended=quota is not None,
    )


def _mixer(pool: Pool, seed: int, ratio: tuple[int, int]) -> Callable[[int], list[int]]:
    """Draw from people's rows and from a model's, where the pool has enough of both."""
    machine = len(pool) - pool.human
    if pool.human < ratio[0] or machine < ratio[1]:
        raise ConfigError(
            f"the pool has {pool.human} rows of people's and {machine} of a model's, but --mix "
            f"takes {ratio[0]} and {ratio[1]} examples"
        )
    return lambda i: mix(seed, i, pool.human, machine, ratio)


def _first_bad(pool: Pool) -> str:
    for record in pool.bad_records():
        if record.error is not None:
            return f". First unusable row: {record.source}:{record.line}: {record.error.message}"
    return ""


def decontaminator(settings: Settings) -> Decontaminator | None:
    """Read the benchmarks, if any are named."""
    if not settings.decontaminate:
        return None
    from codesynth.quality.decontamination import Decontaminator

    return Decontaminator(settings.decontaminate, settings.ngram)


def code_work(
    settings: Settings, *, input_key: str | None, samples: int = 1, language: str | None = None
) -> Work:
    """Prepare ``gen-code``.

    A row whose instruction is of a benchmark is not sent; the code that comes is looked at too.
    """
    template, name = find_template(settings.prompt_template or code.TEMPLATE)
    operator = CodeInstructionToCodeGenerator(None, template, template_name=name, language=language)

    def records() -> Iterator[Record]:
        rows = itertools.islice(read_records(settings.inputs), settings.limit)
        return _shard(_repeated(rows, samples), settings.shard)

    job = operator.job(input_key, settings.output_key, settings.system_prompt)
    benchmarks = decontaminator(settings)

    def prompt(record: Record) -> str | Failure:
        text = operator.instruction(record, input_key)
        found = benchmarks.judge(text) if benchmarks and isinstance(text, str) else None
        return Failure("contaminated", str(found)) if found else job.prompt(record)

    def gate() -> QualityGate | None:
        if benchmarks is None:
            return None
        return QualityGate(settings.output_key, decontaminator=benchmarks)

    return Work(
        job=replace(job, prompt=prompt) if benchmarks else job,
        records=records,
        total=partial(_count_lines, settings, samples),
        task="code",
        request=_request(settings, template),
        gate=gate,
    )


def _repeated(records: Iterator[Record], samples: int) -> Iterator[Record]:
    """Give each row as often as answers to it are wanted, one after the other."""
    if samples == 1:
        return records
    return (
        replace(record, index=record.index * samples + i)
        for record in records
        for i in range(samples)
    )


def _request(settings: Settings, template: str) -> list[Any]:
    return [template, settings.system_prompt, settings.params.body("", [])]


def _shard(records: Iterator[Record], shard: tuple[int, int]) -> Iterator[Record]:
    return itertools.islice(records, shard[0], None, shard[1])


def _count_lines(settings: Settings, samples: int) -> int | None:
    """Count the rows to come, where the inputs are plain files; a bar wants to know."""
    count = 0
    for path in settings.inputs:
        if path.endswith(".gz") or not Path(path).is_file():
            return None
        with open(path, "rb") as file:
            count += sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    count = samples * min(count, settings.limit or count)
    return len(range(settings.shard[0], count, settings.shard[1]))
