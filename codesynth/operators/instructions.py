"""Few-shot examples from a pool -> new instructions."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record
from codesynth.operators.extract import extract_instruction
from codesynth.operators.face import run_in_memory, run_streaming
from codesynth.operators.templates import format_examples, load_template
from codesynth.pipeline import Job

TEMPLATE = "code_instruction_generate"


def sample(seed: int, i: int, size: int, k: int) -> list[int]:
    """Choose the few-shot examples of prompt ``i``: ``k`` of ``size``, none twice.

    A function of its arguments alone, so neither concurrency nor restarts nor shards change it.

    >>> sample(1, 0, 164, 3) == sample(1, 0, 164, 3)
    True
    """
    return random.Random(f"{seed}:{i}").sample(range(size), k)  # noqa: S311 - not for secrets


class CodeInstructionGenerator:
    """Asks for new instructions of the difficulty and style of examples from a pool.

    Args:
        llm_serving: what ``run`` asks: an ``LLMServing``, or one of DataFlow's.
        prompt_template: None (the built-in), a text with ``{examples}``, or an object with
            ``build_prompt(few_shot_examples=[{"instruction": ...}, ...])``.
        num_few_shot: examples a prompt.
        num_generate: instructions to ask for.
        seed: of the choice of examples.
        template_name: names the template in errors.

    Raises:
        ConfigError: the template's text is wrong.

    >>> operator = CodeInstructionGenerator(prompt_template="Like {examples}", num_few_shot=1)
    >>> pool = ["Add two numbers.", "Sort a list."]
    >>> [record, *_] = operator.records(pool)
    >>> operator.job().prompt(record).startswith("Like ")
    True
    """

    def __init__(
        self,
        llm_serving: Any = None,
        prompt_template: Any = None,
        num_few_shot: int = 3,
        num_generate: int = 10,
        *,
        seed: int = 0,
        template_name: str = "<prompt_template>",
    ) -> None:
        self.llm_serving = llm_serving
        self.prompt_template = prompt_template
        self.num_few_shot = num_few_shot
        self.num_generate = num_generate
        self.seed = seed
        self._build = getattr(prompt_template, "build_prompt", None)
        if self._build is None:
            self._template = load_template(
                prompt_template,
                TEMPLATE,
                required={"examples"},
                known={"examples"},
                name=template_name,
            )

    def records(
        self,
        pool: Sequence[str],
        numbers: Iterable[int] | None = None,
        choose: Callable[[int], list[int]] | None = None,
    ) -> Iterator[Record]:
        """Yield a Record for each instruction to ask for, with its examples.

        Args:
            pool: the texts to draw from.
            numbers: of the prompts to make; None makes ``num_generate``, from 0.
            choose: chooses the examples of a prompt by its number; None takes ``sample``.

        Raises:
            ConfigError: the pool holds fewer texts than a prompt needs.
        """
        if len(pool) < self.num_few_shot:
            raise ConfigError(
                f"the pool has {len(pool)} usable rows, but a prompt takes {self.num_few_shot} "
                "examples. Lower --num-few-shot or add rows"
            )
        if numbers is None:
            numbers = range(self.num_generate)
        if choose is None:
            choose = partial(sample, self.seed, size=len(pool), k=self.num_few_shot)
        return self._records(pool, numbers, choose)

    def _records(
        self, pool: Sequence[str], numbers: Iterable[int], choose: Callable[[int], list[int]]
    ) -> Iterator[Record]:
        line = getattr(pool, "line", lambda i: i + 1)
        for i in numbers:
            chosen = choose(i)
            fields = {"examples": [pool[n] for n in chosen]}
            yield Record(i, b"{}", fields, examples=tuple(line(n) for n in chosen))

    def job(
        self, output_key: str = "generated_instruction", system_prompt: str | None = None
    ) -> Job:
        """Bind the new column."""

        def parse(answer: str, prompt: str) -> str | Failure:  # noqa: ARG001 - as Job asks for
            return extract_instruction(answer)

        return Job("instruction", self._prompt, parse, output_key, system_prompt)

    def _prompt(self, record: Record) -> str | Failure:
        examples = record.fields["examples"]
        if self._build is not None:
            return str(self._build(few_shot_examples=[{"instruction": e} for e in examples]))
        return self._template.fill({"examples": format_examples(examples)})

    def run(
        self, storage: Any, input_key: str = "prompt", output_key: str = "generated_instruction"
    ) -> list[str]:
        """Sample from ``storage``, write the new instructions; return the column's name.

        Rows without a text in ``input_key`` are no examples.

        Raises:
            ConfigError: the pool is too small.
            EndpointError: no request can succeed.
        """
        job = self.job(output_key)
        if hasattr(storage, "pool"):
            pool = storage.pool(input_key)
            records = itertools.chain(pool.bad_records(), self.records(pool))
            run_streaming(job, records, self.llm_serving, storage)
            return [output_key]
        texts = (row.get(input_key) for row in storage.read("dict"))
        pool = [text for text in texts if isinstance(text, str)]  # pandas fills gaps with NaN
        rows = [dict(record.fields) for record in self.records(pool)]
        done = run_in_memory(job, rows, self.llm_serving)
        storage.write([{output_key: row[output_key]} for row in done])
        return [output_key]
