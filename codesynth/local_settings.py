"""The settings of the commands that ask no model: verify, show, report, status, join."""

from __future__ import annotations

import sys

from codesynth import readers
from codesynth.models import INSTRUCTION_KEYS
from codesynth.options import Settings, option
from codesynth.settings import FileSettings, PriceOptions, RowSettings


class VerifySettings(RowSettings, command="verify"):
    """Run each row's code against its tests, in a sandbox, and write what happened.

    Examples:
        codesynth verify sft.jsonl --keep passed -o clean.jsonl
        codesynth verify code.jsonl --best > best.jsonl
        codesynth verify code.jsonl --agree --best > best.jsonl
        codesynth verify rows.jsonl --test-key test --input-key solution
    """

    usage = """
        --input-key KEY        Column with the code.
        --output-key KEY       Column to write.
        --instruction-key KEY  Column with the instruction. Its doctests are the tests of a row that
                               has no others. Default: instruction, generated_instruction or prompt.
        --test-key KEY         Column with the tests: asserts (a text or a list), check(candidate),
                               test functions, unittest classes, or pairs of input and output.
                               Default: generated_tests, else the doctests.
        --keep STATUS,...      Keep only rows with these statuses: passed, failed, error, timeout,
                               syntax_error, no_tests, unsupported. Default: all.
        --best                 Keep only one answer to each instruction: the first that passed its
                               tests; with --agree, the first of the best group.
        --agree                Compare the answers to each instruction, for tests that may be wrong.
                               Adds the columns pass_rate (share of the tests that the answer
                               passed) and agreement (share of the answers that passed the same
                               tests). A test that every answer fails does not count. Answers that
                               passed the same tests are a group. The best group passed all tests
                               or, if none did, has the highest number of answers times number of
                               passed tests. Only answers at most 1,000 rows apart are compared.
        --pairs                Write preference pairs instead of rows: prompt (the instruction),
                               chosen (an answer that passed) and rejected (one that failed). With
                               --agree, answers of the best group count as passed.
        --python PATH          Python that runs the rows, such as that of a virtual environment with
                               the libraries that they use. Default: the one that runs codesynth.
        --timeout S            Seconds that a row may take.
        --memory MB            Memory that a row may use.
        --unsafe               Run the code without a sandbox: it can do all you can do.
        -j, --concurrency N    Rows that run at once. Default: one per processor core.
    """
    input_key: str = "generated_code"
    output_key: str = "verification"
    instruction_key: str | None = None
    test_key: str | None = None
    keep: frozenset[str] | None = option(read=readers.statuses, complete=readers.status_names)
    best: bool = option(excludes="--keep --unordered")
    agree: bool = option(excludes="--unordered")
    pairs: bool = option(excludes="--best --keep --unordered")
    python: str = sys.executable
    timeout: float = option(10.0, least=0.1)
    memory: int = option(512, least=64)
    unsafe: bool = False
    concurrency: int | None = option(least=1)


class LookSettings(Settings):
    """Options of the commands that show rows to people."""

    usage = """
        Rows and columns:
        [FILE]...            Outputs and failures files, also .gz. Default: stdin. For report also
                             journals.
        --instruction-key KEY  Column with the instruction. Default: instruction,
                             generated_instruction or prompt.
        --code-key KEY       Column with the code. Default: generated_code, code,
                             canonical_solution.
        --reasoning-key KEY  Column with the model's reasoning. Default: reasoning,
                             reasoning_content or thinking.
    """
    inputs: list[str] = option()
    code_key: str | None = None
    reasoning_key: str | None = None
    instruction_key: str | None = None

    @property
    def instruction_keys(self) -> tuple[str, ...]:
        """Columns in which the instruction is looked for; the first that is there counts."""
        return (self.instruction_key or INSTRUCTION_KEYS[0], *INSTRUCTION_KEYS[1:])

    @property
    def code_keys(self) -> tuple[str, ...]:
        """Columns in which the code is looked for; the first that is there counts."""
        return (self.code_key or "generated_code", "code", "canonical_solution")

    @property
    def reasoning_keys(self) -> tuple[str, ...]:
        """Columns in which the model's reasoning is looked for."""
        return (self.reasoning_key or "reasoning", "reasoning_content", "thinking")


class ShowSettings(LookSettings, command="show"):
    """Read rows in the terminal: code in color, verdicts, failures with their answers.

    Examples:
        codesynth show sft.jsonl
        codesynth show sft.jsonl --where verification.status=failed --sample 20
        codesynth show sft.failures.jsonl --where error.kind=truncated
    """

    usage = """
        --where CONDITION  Show only rows for which this holds: KEY=VALUE, KEY!=VALUE, KEY (it has a
                           value) or !KEY (it has none). A dot leads into an object, as in
                           verification.status=failed.
        --limit N          Take only the first N such rows.
        --sample N         Show N of them, chosen at random.
        --seed N           Seed for --sample. Default: another one each time.
        --full             Show reasoning and texts of over 20,000 characters in full.
    """
    where: list[tuple[str, str, str]] = option(
        read=readers.condition,
        form="KEY=VALUE, KEY!=VALUE, KEY or !KEY, such as error.kind=truncated",
    )
    limit: int | None = option(least=1)
    sample: int | None = option(least=1)
    seed: int | None = None
    full: bool = False


class ReportSettings(LookSettings, PriceOptions, command="report"):
    """Write an HTML page with figures, plots and sample rows. It needs no network.

    Examples:
        codesynth report sft.jsonl -o report.html
        codesynth report sft.jsonl sft.failures.jsonl sft.journal -o report.html
    """

    usage = """
        -o, --output PATH  File for the page. Default: stdout.
        --rows N           Rows to show on the page, chosen at random.
    """
    output: str | None = None
    rows: int = 200


class StatusSettings(PriceOptions, command="status"):
    """Show how far the parts of a job are: rows, failures, tokens, speed. It disturbs no run.

    Examples:
        codesynth status sft.*.journal
        codesynth status sft.*.journal --price 0.15,0.6 --json
    """

    usage = """
        PART...  Outputs or journals of runs, also unfinished ones.
        --json   Print JSON instead of a table.
    """
    inputs: list[str] = option()
    json: bool = False


class JoinSettings(FileSettings, command="join"):
    """Put the outputs of all parts of a job together, in the order of the undivided job.

    Examples:
        codesynth gen-code big.jsonl --shard 0/2 -o sft.0.jsonl
        codesynth gen-code big.jsonl --shard 1/2 -o sft.1.jsonl
        codesynth join sft.0.jsonl sft.1.jsonl -o sft.jsonl
    """

    usage = """
        PART...  Outputs of all parts of a job (--shard), in any order.
    """
    inputs: list[str] = option()
