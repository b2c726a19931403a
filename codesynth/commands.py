"""What differs between the commands that ask a model: their rows, task and filters."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record
from codesynth.operators.chat import ChatTask, Operator
from codesynth.operators.code import code_operator, fill_instruction
from codesynth.operators.generic import json_operator, text_operator
from codesynth.operators.instructions import (
    check_pool,
    few_shot_records,
    fill_examples,
    instructions_operator,
)
from codesynth.operators.languages import find_language
from codesynth.operators.templates import Template, find_template, load_template
from codesynth.operators.tests import tests_operator
from codesynth.pipeline import RowFilter
from codesynth.settings import (
    AskSettings,
    CodeSettings,
    GenSettings,
    InstructionsSettings,
    RowSettings,
    TestsSettings,
)
from codesynth.storage import Pool, count_lines, open_stream, read_lines, read_records

if TYPE_CHECKING:  # the filters are loaded where they are used: they take time
    from codesynth.filters import ContaminationFilter, NoveltyFilter, Quota

GetNote: TypeAlias = Callable[[str], str | None]
"""Reads a note that an earlier run has left in the same journal; see ``Journal.get_note``."""


@dataclass(kw_only=True, eq=False, repr=False)
class CommandSpec:
    """One run of a command that asks a model.

    Attributes:
        records: makes the stream of rows; may be called again, for the same rows.
        total: counts the rows to come, where that is known without reading standard input.
        identity: what all requests have in common, except the model; JSON. A finished output is
            replaced only by a run with the same identity.
        filters: makes the filters; called once.
        screen: says why a row with this instruction is not asked; None asks for all rows.
        seed: for choosing examples; printed at the end, and kept in the journal.
        tally: what was dropped from answers, and how often; for the summary line.
        quota: set with ``--accepted``; it decides how many rows there are.
    """

    operator: Operator
    records: Callable[[], Iterator[Record]]
    total: Callable[[], int | None]
    identity: dict[str, Any]
    filters: Callable[[], Sequence[RowFilter]] = tuple
    screen: Callable[[str], Failure | None] | None = None
    seed: int | None = None
    tally: Counter[str] = field(default_factory=Counter)
    quota: Quota | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Words for the summary line."""
        return () if self.seed is None else (f"seed {self.seed}",)

    def task(self, settings: AskSettings, model: str) -> ChatTask:
        """Make the task, once the model is known."""
        meta = {} if self.seed is None else {"seed": self.seed}
        return ChatTask(
            operator=self.operator,
            model=model,
            params=settings.params,
            system_prompt=settings.system_prompt,
            screen=self.screen,
            reasoning_key=settings.reasoning_key,
            answer_key=settings.answer_key,
            messages_key=settings.messages_key,
            meta=meta if settings.meta else None,
        )


def prepare(settings: AskSettings, get_note: GetNote) -> CommandSpec:
    """Prepare the command of these settings."""
    match settings:
        case InstructionsSettings():
            return instructions_spec(settings, get_note)
        case CodeSettings():
            return code_spec(settings)
        case TestsSettings():
            return tests_spec(settings)
        case GenSettings():
            return gen_spec(settings)
    raise TypeError(f"{type(settings).__name__} belongs to no command")


def instructions_spec(settings: InstructionsSettings, get_note: GetNote) -> CommandSpec:
    """Prepare ``gen-instructions``; without ``--seed``, the seed of an earlier run is used."""
    seed = settings.seed
    if seed is None:
        seed = int(get_note("seed") or secrets.randbelow(2**32))
    template = _template(settings, "code_instruction_generate")
    number = min(settings.num_generate, settings.limit or settings.num_generate)
    quota = None
    if settings.accepted is not None:
        from codesynth.filters import Quota

        quota = Quota(settings.accepted, settings.samples)

    @cache
    def pool() -> Pool:
        generated = settings.output_key if settings.mix else None
        return Pool(settings.inputs, settings.input_key, generated)

    def records() -> Iterator[Record]:
        numbers: Iterable[int] = range(number)
        if quota is not None:
            numbers = quota.numbers(pool().bad, settings.shard)
        rows = _few_shot_rows(pool(), settings, seed, numbers)
        return itertools.chain(pool().bad_records(), _repeat(rows, settings.samples))

    return CommandSpec(
        operator=instructions_operator(fill_examples(template), settings.output_key),
        records=records,
        total=lambda: settings.accepted or _share(settings, number * settings.samples + pool().bad),
        identity=_identity(settings, template)
        | {"seed": seed, "few-shot": settings.mix or settings.num_few_shot},
        filters=lambda: _instruction_filters(settings, pool, quota),
        seed=seed,
        quota=quota,
    )


def _few_shot_rows(
    pool: Pool, settings: InstructionsSettings, seed: int, numbers: Iterable[int]
) -> Iterator[Record]:
    """Make the rows to ask for; where the pool is too small, the error names its first bad row."""
    try:
        parts = _example_parts(pool, settings)
    except ConfigError as exc:
        bad = next(pool.bad_records(), None)
        if bad is None or bad.error is None:
            raise
        cause = f"First unusable row: {bad.where}: {bad.error.message}"
        raise ConfigError(f"{exc}. {cause}") from exc
    return few_shot_records(pool, pool.line, numbers, seed, parts)


def _instruction_filters(
    settings: InstructionsSettings, pool: Callable[[], Pool], quota: Quota | None
) -> Sequence[RowFilter]:
    found: list[ContaminationFilter | NoveltyFilter] = [*_benchmarks(settings)]
    if settings.novelty is not None or quota is not None:
        from codesynth.filters import NoveltyFilter

        found.append(NoveltyFilter(settings.novelty, pool()))
    if quota is None:
        return found
    quota.filters = found
    return [quota]


def _example_parts(pool: Pool, settings: InstructionsSettings) -> list[tuple[range, int]]:
    """Say how many examples a prompt takes from which part of the pool."""
    human, generated, ratio = pool.human, len(pool) - pool.human, settings.mix
    if ratio is None:
        check_pool(len(pool), settings.num_few_shot)
        return [(range(len(pool)), settings.num_few_shot)]
    if human < ratio[0] or generated < ratio[1]:
        raise ConfigError(
            f"the pool has {human} human-written and {generated} generated rows, but --mix takes "
            f"{ratio[0]} and {ratio[1]}"
        )
    return [(range(human), ratio[0]), (range(human, len(pool)), ratio[1])]


def code_spec(settings: CodeSettings) -> CommandSpec:
    """Prepare ``gen-code``."""
    template = _template(settings, "code_instruction_to_code")
    operator = code_operator(
        fill_instruction(template),
        settings.input_key or "instruction",
        settings.output_key,
        find_language(settings.language) if settings.language else None,
    )
    return _rows_spec(settings, operator, template)


def tests_spec(settings: TestsSettings) -> CommandSpec:
    """Prepare ``gen-tests``."""
    template = _template(settings, "instruction_to_tests")
    dropped: Counter[str] = Counter()
    input_key = settings.input_key or "instruction"
    operator = tests_operator(template, input_key, settings.output_key, settings.num_tests, dropped)
    return replace(_rows_spec(settings, operator, template), tally=dropped)


def gen_spec(settings: GenSettings) -> CommandSpec:
    """Prepare ``gen``."""
    template = _template(settings, "")

    def fill(record: Record, _: str) -> str | Failure:
        return template.fill(record.fields)

    operator = text_operator(fill, settings.output_key)
    if settings.json:
        operator = json_operator(fill, dict(settings.require), settings.prefix)
    return _rows_spec(settings, operator, template)


def _rows_spec(settings: AskSettings, operator: Operator, template: Template) -> CommandSpec:
    """Prepare a command that asks for each input row."""
    benchmarks = _benchmarks(settings)

    def records() -> Iterator[Record]:
        rows = itertools.islice(read_records(settings.inputs), settings.limit)
        return _repeat(rows, settings.samples)

    return CommandSpec(
        operator=operator,
        records=records,
        total=partial(count_rows, settings, settings.samples),
        identity=_identity(settings, template),
        filters=lambda: benchmarks,
        screen=benchmarks[0].reject_text if benchmarks else None,
    )


def _repeat(records: Iterator[Record], samples: int) -> Iterator[Record]:
    """Yield each row ``samples`` times, one after the other."""
    if samples == 1:
        return records
    return (
        replace(record, index=record.index * samples + i, sample=i)
        for record in records
        for i in range(samples)
    )


def _template(settings: AskSettings, default: str) -> Template:
    """Load the template of ``-t``, or the built-in one, and check it."""
    named = settings.prompt_template
    return load_template(default, *(find_template(named) if named is not None else ()))


def _benchmarks(settings: AskSettings) -> list[ContaminationFilter]:
    """Make the filter of ``--decontaminate``, in a list; an empty list without the option."""
    if not settings.decontaminate:
        return []
    from codesynth.filters import ContaminationFilter

    with contextlib.ExitStack() as stack:
        benchmarks = {}
        for name in settings.decontaminate:
            stream = open_stream(name)
            stack.callback(stream.close)
            benchmarks[name] = read_lines(stream, name)
        return [ContaminationFilter(benchmarks, settings.ngram)]


def _identity(settings: AskSettings, template: Template) -> dict[str, Any]:
    return {
        "template": "\0".join(template.pieces),
        "system prompt": settings.system_prompt,
        "parameters": settings.params.identity("", []),
        "shard": list(settings.shard),
    }


def _share(settings: RowSettings, count: int) -> int:
    """Count the requests of this shard."""
    return len(range(settings.shard[0], count, settings.shard[1]))


def count_rows(settings: RowSettings, samples: int = 1) -> int | None:
    """Count the rows to come, for the bar; None where an input is not a plain file."""
    count = 0
    for path in settings.inputs:
        if path.endswith(".gz") or not Path(path).is_file():
            return None
        with open(path, "rb") as file:
            count += count_lines(file)
    return _share(settings, samples * min(count, settings.limit or count))
