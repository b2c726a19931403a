"""Few-shot examples from a pool -> new instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record
from codesynth.operators.chat import Parsed
from codesynth.operators.extract import extract_instruction
from codesynth.operators.templates import Template, format_examples, load_template

TEMPLATE = "code_instruction_generate"
OUTPUT_KEY = "generated_instruction"


@dataclass(frozen=True, slots=True)
class InstructionOperator:
    """Asks for a new instruction like the examples of a row; see ``few_shot_records``.

    Args:
        fill: writes the prompt from the examples.
    """

    fill: Callable[[Sequence[str]], str]
    output_key: str = OUTPUT_KEY

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the new column."""
        return (self.output_key,)

    def prompt(self, record: Record) -> str:
        """Write the prompt."""
        return self.fill(record.fields["examples"])

    def subject(self, record: Record) -> None:
        """Tell that nobody has said yet what is asked."""

    def parse(self, text: str, record: Record) -> Parsed | Failure:
        """Take the instruction out of the answer."""
        found = extract_instruction(text)
        return found if isinstance(found, Failure) else Parsed({self.output_key: found})


def instruction_template(text: str | None, name: str = "<prompt_template>") -> Template:
    """Check a template for new instructions; None is the built-in one.

    Raises:
        ConfigError: it does not have ``{examples}``, or has anything else.
    """
    return load_template(text, TEMPLATE, required={"examples"}, known={"examples"}, name=name)


def fill_examples(template: Template) -> Callable[[Sequence[str]], str]:
    """Make the function that writes a prompt from examples."""
    return lambda examples: template.fill({"examples": format_examples(examples)})


def check_pool(size: int, num_few_shot: int) -> None:
    """See that a pool holds enough texts for a prompt.

    Raises:
        ConfigError: it does not.
    """
    if size < num_few_shot:
        raise ConfigError(
            f"the pool has {size} usable rows, but a prompt takes {num_few_shot} examples. "
            "Lower --num-few-shot or add rows"
        )


def few_shot_records(
    pool: Sequence[str],
    lines: Callable[[int], int],
    numbers: Iterable[int],
    choose: Callable[[int], Sequence[int]],
) -> Iterator[Record]:
    """Yield a Record for each instruction to ask for, with its examples.

    Args:
        pool: the texts to draw from.
        lines: tells the line number of a text in its file.
        numbers: of the prompts to make.
        choose: chooses the examples of a prompt by its number.
    """
    for i in numbers:
        chosen = choose(i)
        fields = {"examples": [pool[n] for n in chosen]}
        yield Record(i, b"{}", fields, examples=tuple(map(lines, chosen)))
