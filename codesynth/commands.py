"""The commands that ask a model: settings -> rows, task and filters."""

from __future__ import annotations

import contextlib
import itertools
import math
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from codesynth.command_spec import CommandSpec, check_names, in_words
from codesynth.models import META_KEY, Failure, Record, RowFilter
from codesynth.operators.chat import ChatTask
from codesynth.operators.code import code_task, fill_instruction
from codesynth.operators.generic import json_task, text_task
from codesynth.operators.instructions import (
    check_pool,
    few_shot_records,
    fill_examples,
    instructions_task,
)
from codesynth.operators.templates import Template, find_template, load_template
from codesynth.operators.tests import tests_task
from codesynth.settings import (
    AskSettings,
    CodeSettings,
    GenSettings,
    InstructionsSettings,
    TestsSettings,
)
from codesynth.storage import Pool, count_lines, open_stream, read_lines, read_records


def prepare(
    settings: AskSettings, find_model: Callable[[], str], earlier: Mapping[str, Any] | None = None
) -> CommandSpec:
    """Prepare the command of these settings.

    Args:
        find_model: may ask the endpoint; called last, so that a wrong file costs no request.
        earlier: the identity of the earlier run; without ``--seed``, its seed is used again.
    """
    if isinstance(settings, InstructionsSettings):
        return _prepare_instructions(settings, find_model, earlier or {})
    dropped: Counter[str] = Counter()
    task, template = _choose_task(settings, dropped)
    columns, filters = _columns(settings, task), _benchmark_filters(settings)
    rows = itertools.islice(read_records(settings.inputs), settings.limit)
    total, screen = _count_rows(settings), filters[0] if filters else None
    task = replace(_with_options(settings, task, find_model()), screen=screen)
    return CommandSpec(
        task=task,
        columns=columns,
        records=_repeat(rows, settings.samples),
        identity=_identity(settings, template, task.model),
        total=total,
        filters=filters,
        remarks=partial(in_words, dropped),
    )


def _choose_task(settings: AskSettings, dropped: Counter[str]) -> tuple[ChatTask, Template]:
    """Make the task of a command that asks for each input row.

    It counts in ``dropped`` why tests were dropped from answers.
    """
    match settings:
        case CodeSettings():
            template = _template(settings, "code_instruction_to_code")
            fill, key = fill_instruction(template), settings.input_key or "instruction"
            return code_task(fill, key, settings.output_key, settings.language), template
        case TestsSettings():
            template = _template(settings, "instruction_to_tests")
            key, count = settings.input_key or "instruction", settings.num_tests
            return tests_task(template, key, settings.output_key, count, dropped), template
        case GenSettings():
            template = _template(settings, "")

            def fill_row(record: Record, _: str) -> str | Failure:
                return template.fill(record.fields)

            if settings.json:
                return json_task(fill_row, dict(settings.require), settings.prefix), template
            return text_task(fill_row, settings.output_key), template
    raise TypeError(f"{type(settings).__name__} belongs to no command")


def _prepare_instructions(
    settings: InstructionsSettings, find_model: Callable[[], str], earlier: Mapping[str, Any]
) -> CommandSpec:
    """Prepare ``gen-instructions``."""
    template = _template(settings, "code_instruction_generate")
    task = instructions_task(fill_examples(template), settings.output_key)
    columns = _columns(settings, task)
    seed = settings.seed
    if seed is None:
        seed = earlier.get("seed", secrets.randbelow(2**32))
    pool = Pool(settings.inputs, settings.input_key, settings.output_key if settings.mix else None)
    parts = _example_parts(pool, settings)
    number = min(settings.num_generate, settings.limit or settings.num_generate)
    total = settings.accepted or _share(settings, number * settings.samples + pool.bad)
    filters = _instruction_filters(settings, pool)
    numbers, decided = _prompt_numbers(settings, number, pool.bad)
    prompts = few_shot_records(pool, pool.line, numbers, seed, parts)
    task = _with_options(settings, task, find_model(), seed=seed)
    examples = {"seed": seed, "few-shot": settings.mix or settings.num_few_shot}
    return CommandSpec(
        task=task,
        columns=columns,
        records=itertools.chain(pool.bad_records(), _repeat(prompts, settings.samples)),
        identity=_identity(settings, template, task.model) | examples,
        total=total,
        filters=filters,
        decided=decided,
        remarks=lambda: [f"seed {seed}"],
        not_joinable=None if settings.accepted is None else "--accepted",
    )


def _instruction_filters(settings: InstructionsSettings, pool: Pool) -> list[RowFilter]:
    filters = _benchmark_filters(settings)
    if settings.novelty is not None or settings.accepted is not None:
        from codesynth.filters.novelty import NoveltyFilter

        filters.append(NoveltyFilter(settings.novelty, pool).reject)
    return filters


def _prompt_numbers(
    settings: InstructionsSettings, number: int, bad: int
) -> tuple[Iterable[int], Callable[[bool], None]]:
    """Return the numbers of the prompts, and a function to call for each row: was it accepted?"""
    if settings.accepted is None:
        return range(number), lambda _: None
    from codesynth.filters.quota import Quota

    quota = Quota(settings.accepted, settings.samples, bad)
    return quota.numbers(), quota.count


def _example_parts(pool: Pool, settings: InstructionsSettings) -> list[tuple[range, int]]:
    """Say how many examples a prompt takes from which part of the pool; check that it has them."""
    bad = next(pool.bad_records(), None)
    first = f". First unusable row: {bad.where}: {bad.error.message}" if bad and bad.error else ""
    human, generated = range(pool.human), range(pool.human, len(pool))
    counts = settings.mix or (settings.num_few_shot, 0)
    for part, count, key in zip(
        (human, generated), counts, (settings.input_key, settings.output_key), strict=True
    ):
        check_pool(len(part), count, f' with the column "{key}"', first)
    parts = [(human, counts[0]), (generated, counts[1])]
    return parts if settings.mix else parts[:1]


def _with_options(settings: AskSettings, task: ChatTask, model: str, **meta: int) -> ChatTask:
    """Give a task the options that all commands have; ``meta`` is for the column of ``--meta``."""
    return replace(
        task,
        model=model,
        params=settings.params,
        system_prompt=settings.system_prompt,
        reasoning_key=settings.reasoning_key,
        answer_key=settings.answer_key,
        messages_key=settings.messages_key,
        meta=meta if settings.meta else None,
    )


def _columns(settings: AskSettings, task: ChatTask) -> list[str]:
    keys = (settings.reasoning_key, settings.answer_key, settings.messages_key)
    given = [key for key in (*keys, META_KEY if settings.meta else None) if key is not None]
    columns = [*task.new_columns, *given]
    check_names(columns)
    return columns


def _identity(settings: AskSettings, template: Template, model: str) -> dict[str, Any]:
    return {
        "template": "\0".join(template.pieces),
        "system prompt": settings.system_prompt,
        "parameters": settings.params.identity("", []),
        "shard": list(settings.shard),
        "model": model,
    }


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
    return load_template(default, *(() if named is None else find_template(named)))


def _benchmark_filters(settings: AskSettings) -> list[RowFilter]:
    """Make the filter of ``--decontaminate``, in a list; an empty list without the option."""
    if not settings.decontaminate:
        return []
    from codesynth.filters.contamination import ContaminationFilter

    with contextlib.ExitStack() as stack:
        benchmarks = {}
        for name in settings.decontaminate:
            stream = open_stream(name)
            stack.callback(stream.close)
            benchmarks[name] = read_lines(stream, name)
        return [ContaminationFilter(benchmarks, settings.ngram).reject]


def _share(settings: AskSettings, count: int) -> int:
    """Count the requests of this shard."""
    return len(range(settings.shard[0], count, settings.shard[1]))


def _count_rows(settings: AskSettings) -> int | None:
    """Count the rows to come; None where an input is not a plain file."""
    count = 0
    for path in settings.inputs:
        if path.endswith(".gz") or not Path(path).is_file():
            return None
        with open(path, "rb") as file:
            count += count_lines(file, settings.limit or math.inf)
    return _share(settings, settings.samples * min(count, settings.limit or count))
