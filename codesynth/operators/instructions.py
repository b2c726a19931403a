"""Few-shot examples from a pool -> new instructions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record
from codesynth.operators.chat import ChatTask, Fill, Parsed
from codesynth.operators.extract import extract_instruction
from codesynth.operators.templates import Template, format_examples

EXAMPLES = "_examples"
"""The field of a record that holds its examples. Users are not likely to name a column so."""


def instructions_task(fill: Fill, output_key: str = "generated_instruction") -> ChatTask:
    """Ask for a new instruction like a row's examples."""

    def parse(answer: str, _: str) -> Parsed | Failure:
        found = extract_instruction(answer)
        return found if isinstance(found, Failure) else Parsed({output_key: found})

    return ChatTask(new_columns=(output_key,), fill=fill, parse=parse)


def fill_examples(template: Template) -> Fill:
    """Make the function that writes a prompt from a row of ``few_shot_records``."""
    template.fill({"examples": ""})  # {examples} must be its only placeholder
    return lambda record, _: template.fill({"examples": format_examples(record.fields[EXAMPLES])})


def check_pool(size: int, num_few_shot: int, which: str = "", cause: str = "") -> None:
    """Make sure that a pool has enough rows (of those) for a prompt; else ConfigError."""
    if size < num_few_shot:
        raise ConfigError(
            f"the pool has {size} usable rows{which}, but a prompt takes {num_few_shot} of them. "
            f"Take fewer examples, or add rows{cause}"
        )


def few_shot_records(
    pool: Sequence[str],
    line: Callable[[int], int],
    numbers: Iterable[int],
    seed: int,
    parts: Sequence[tuple[range, int]],
) -> Iterator[Record]:
    """Yield a Record with its examples for each number of a prompt; see ``sample``.

    ``line`` returns the line number, in its file, of a text of the pool.
    """
    for i in numbers:
        chosen = sample(seed, i, parts)
        fields = {EXAMPLES: [pool[n] for n in chosen]}
        yield Record(i, b"{}", fields, examples=tuple(map(line, chosen)))


def sample(seed: int, i: int, parts: Sequence[tuple[range, int]]) -> list[int]:
    """Choose the examples of prompt ``i``, none twice; from several parts in mixed order.

    The result depends on the arguments alone, not on concurrency, restarts or shards.

    Args:
        seed: of the whole job.
        i: number of the prompt.
        parts: parts of the pool, and how many to take from each. Self-instruct
            (https://arxiv.org/abs/2212.10560) takes 6 human-written ones and 2 generated.
    """
    rng = random.Random(f"{seed}:{i}")  # noqa: S311 - not for secrets
    chosen = [n for part, count in parts for n in rng.sample(part, count)]
    if len(parts) > 1:
        rng.shuffle(chosen)
    return chosen
