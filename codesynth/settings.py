"""The settings of each command. Each field declares its option, its help text and its check, once.

The command line, the help and the README's tables are made of these classes; a new option goes
here and nowhere else. After a change run tests/update_help.py.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from codesynth import readers
from codesynth.codec import loads
from codesynth.errors import ConfigError
from codesynth.models import META_KEY, Endpoint, Price, SamplingParams
from codesynth.options import Settings, option

OPENAI_URL = "https://api.openai.com/v1"
_FILES = "Input and output"


class FileSettings(Settings, heading=_FILES):
    """Where rows come from, and where they go."""

    inputs: list[str] = option("[INPUT]...", "JSONL files, also .gz. Default: stdin.")
    output: str | None = option(
        "-o, --output PATH",
        "File for the rows (PATH.partial until complete). Default: stdout.",
    )
    failures: str | None = option(
        "--failures PATH", "File for rows that failed. Default with -o a.jsonl: a.failures.jsonl."
    )
    overwrite: bool = option("--overwrite", "Replace the file of -o, whatever it holds.")


class RowSettings(FileSettings, heading=_FILES):
    """Options of each command that turns rows into rows."""

    limit: int | None = option("--limit N", "Process only the first N rows.", least=1)
    shard: tuple[int, int] = option(
        "--shard I/N",
        "Do one of N parts of a job: each N-th row, from number I (0 to N - 1).",
        default=(0, 1),
        read=readers.shard,
        form="I/N with I from 0 to N - 1, such as 0/8",
    )
    unordered: bool = option("--unordered", "Write rows as they finish, not in input order.")
    max_time: float | None = option(
        "--max-time S", "Stop cleanly after S seconds and exit 5. Run again to continue.", least=0
    )
    quiet: bool = option("-q, --quiet", "Print only what is wrong: errors and failed rows.")

    def is_mine(self, number: int) -> bool:
        """Tell whether request ``number`` of the whole job belongs to this shard."""
        return number % self.shard[1] == self.shard[0]

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        return []

    def check(self) -> None:
        """Check that the options fit together."""
        super().check()
        columns = self.new_columns
        if len(set(columns)) < len(columns):
            name = next(name for name in columns if columns.count(name) > 1)
            raise ConfigError(f'two new columns would have the name "{name}". Rename one')


class _RequestOptions(Settings, heading="What to ask"):
    samples: int = option(
        "--samples N", "Answers per input row. Each becomes an output row.", default=1, least=1
    )
    prompt_template: str | None = option(
        "-t, --prompt-template NAME|PATH",
        "Text file with {placeholders}, or the name of a built-in one. Default: the command's own.",
        complete=readers.template_names,
    )
    system_prompt: str | None = option(
        "--system-prompt TEXT|@FILE", "System message of each request.", read=readers.text_or_file
    )
    temperature: float | None = option(
        "--temperature T", "Sampling temperature. Default: not sent."
    )
    top_p: float | None = option("--top-p P", "Nucleus sampling. Default: not sent.")
    max_tokens: int | None = option(
        "--max-tokens N", "Most tokens in an answer. Default: not sent.", least=1
    )
    extra_body: Mapping[str, Any] | None = option(
        "--extra-body JSON",
        "JSON object to merge into the body of each request.",
        read=readers.body,
    )
    decontaminate: list[str] = option(
        "--decontaminate FILE", "Reject rows that overlap with this benchmark (JSONL or text)."
    )
    ngram: int = option(
        "--ngram N",
        "With --decontaminate: words in sequence that make an overlap.",
        default=13,
        least=3,
    )
    estimate: int | None = option(
        "--estimate N",
        "Ask for N rows from all over the input, print the tokens, time and money that all rows "
        "would take, and stop. The journal keeps the answers.",
        least=1,
        excludes="--batch --shard",
    )
    dry_run: bool = option("--dry-run", "Send nothing: print the requests as OpenAI batch lines.")


class _EndpointOptions(Settings, heading="Endpoint and model"):
    model: str | None = option(
        "--model NAME",
        "Name of the model. Default: CODESYNTH_MODEL, else the only model the endpoint lists.",
        env="CODESYNTH_MODEL",
    )
    base_urls: list[str] = option(
        "--base-url URL",
        "URL of the endpoint, with its /v1. Default: OPENAI_BASE_URL, else OpenAI's. The key is "
        "read from OPENAI_API_KEY. Several endpoints share the load.",
        env="OPENAI_BASE_URL",
    )
    headers: list[tuple[str, str]] = option(
        "--header 'NAME: VALUE'",
        "Header of every request. Default: CODESYNTH_HEADERS, a JSON object.",
        read=readers.header,
    )
    offline: bool = option(
        "--offline", "Practise with a built-in endpoint: no model, no network, no key."
    )


class _SpeedOptions(Settings, heading="Speed and patience"):
    concurrency: int = option(
        "-j, --concurrency N|auto",
        "Most requests in flight. Default: auto, as many as the endpoint takes.",
        default=0,
        read=readers.concurrency,
        form="a number from 1, or auto",
    )
    rpm: float | None = option("--rpm N", "Most requests per minute.", least=0.01)
    tpm: float | None = option("--tpm N", "Most tokens per minute.", least=1)
    timeout: float = option(
        "--timeout S", "Seconds for one attempt, to the last byte.", default=600.0, least=0.001
    )
    connect_timeout: float = option(
        "--connect-timeout S", "Seconds for making a connection.", default=10.0, least=0.001
    )
    max_retries: int = option(
        "--max-retries N", "Retries of a request after its first attempt.", default=5, least=0
    )
    max_outage: float = option(
        "--max-outage S", "Stop when no request has succeeded for S seconds.", default=300.0
    )
    ray: int | None = option(
        "--ray N",
        "Run the job in N parts on a Ray cluster (RAY_ADDRESS, else this machine) and join them.",
        least=1,
        needs="--output",
        excludes="--no-journal --batch --cancel --unordered --shard --estimate",
    )


class _BatchOptions(Settings, heading="Batch API"):
    batch: bool = option(
        "--batch",
        "Use the Batch API: answers come within a day, often for half the price. Needs a journal.",
        needs="--output --journal",
        excludes="--no-journal",
    )
    batch_size: int = option("--batch-size N", "Most requests in a batch.", default=50_000, least=1)
    no_wait: bool = option(
        "--no-wait",
        "Send, collect what is done, and exit 5 if batches are still open. Run again to collect.",
        needs="--batch --cancel",
    )
    cancel: bool = option(
        "--cancel",
        "Cancel the open batches of this journal and collect what they have done.",
        needs="--output --journal",
        excludes="--no-journal",
    )


class _PriceOptions(Settings, heading="Cost"):
    price: Price | None = option(
        "--price IN,OUT",
        "Price per million tokens, of prompts and of answers. Default: no cost is shown.",
        read=readers.price,
        form="IN,OUT, two numbers such as 0.15,0.6",
    )


class _JournalOptions(_PriceOptions, heading="Stop and resume"):
    journal: str | None = option(
        "--journal PATH",
        "File that keeps every answer, so that no later run asks for it again, not even with "
        "--overwrite. Default with -o a.jsonl: a.journal.",
    )
    no_journal: bool = option(
        "--no-journal", "Keep no journal: a later run asks and pays again.", excludes="--journal"
    )
    also_journal: list[str] = option(
        "--also-journal PATH",
        "Use answers of this journal too; they are copied into the run's own.",
        needs="--output --journal",
        excludes="--no-journal",
    )
    max_cost: float | None = option(
        "--max-cost C",
        "Stop cleanly and exit 5 before the answers in the journal cost more than C in total. "
        "Only --max-tokens makes the limit exact.",
        needs="--price",
    )


class AskSettings(
    RowSettings,
    _RequestOptions,
    _EndpointOptions,
    _SpeedOptions,
    _BatchOptions,
    _JournalOptions,
    heading=_FILES,
):
    """Options of each command that asks a model."""

    output_key: str = ""
    reasoning_key: str | None = option(
        "--reasoning-key KEY", "Keep the model's reasoning in this column; null if there is none."
    )
    answer_key: str | None = option("--answer-key KEY", "Keep the whole answer in this column.")
    messages_key: str | None = option(
        "--messages-key KEY", "Write the row as a chat (user, assistant) in this column."
    )
    meta: bool = option("--meta", "Add the column _codesynth: model, tokens, attempts and more.")
    verbose: bool = option(
        "-v, --verbose", "Print each retry, and each change of the concurrency, with the reason."
    )
    log_json: str | None = option(
        "--log-json PATH", "Add a JSON line a second to this file: rows, failures, tokens, cost."
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        keys = [self.output_key, self.reasoning_key, self.answer_key, self.messages_key]
        return [key for key in [*keys, META_KEY if self.meta else None] if key]

    @property
    def params(self) -> SamplingParams:
        """The parameters of each request, by OpenAI's names."""
        extra = dict(self.extra_body or {})
        return SamplingParams(self.temperature, self.top_p, self.max_tokens, extra)

    def endpoints(self, environ: Mapping[str, str]) -> list[Endpoint]:
        """Make the endpoints, with the key and the headers of the environment.

        Raises:
            ConfigError: CODESYNTH_HEADERS is wrong, or OpenAI's endpoint has no key.
        """
        key = environ.get("OPENAI_API_KEY", "")
        headers = _headers_of(environ) | dict(self.headers)
        urls = self.base_urls or [OPENAI_URL]
        if urls == [OPENAI_URL] and not key and not headers and not self.offline:
            raise ConfigError(
                f"no OPENAI_API_KEY for {OPENAI_URL}. Set it, name another endpoint with "
                "--base-url, or practise with --offline"
            )
        return [Endpoint(url, key, headers) for url in urls]

    @property
    def most_tokens(self) -> int | None:
        """The most tokens that an answer may have; None where the requests do not say."""
        body = self.params.body("", [])
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def check(self) -> None:
        """Check that the options fit together."""
        super().check()
        if self.batch and len(self.base_urls) > 1:
            raise ConfigError("--batch sends to one endpoint: give one --base-url")
        if self.batch and self.max_cost is not None and self.most_tokens is None:
            raise ConfigError("--batch and --max-cost need --max-tokens to know what may be spent")
        if self.ray is not None and "-" in self.inputs:
            raise ConfigError("--ray needs INPUT files that all nodes can read, not standard input")

    def part(self, number: int, of: int, output: str, also_journal: list[str]) -> Self:
        """Make the settings of one part of the job, for a process in any working directory.

        Args:
            also_journal: further journals that the part may take answers from.
        """
        template = self.prompt_template
        if template is not None and Path(template).exists():
            template = str(Path(template).absolute())
        return self.replace(
            shard=(number, of),
            output=output,
            inputs=_absolute(self.inputs),
            also_journal=_absolute([*self.also_journal, *also_journal]),
            decontaminate=_absolute(self.decontaminate),
            prompt_template=template,
            max_cost=self.max_cost and self.max_cost / of,
            ray=None,
            journal=None,
            failures=None,
            log_json=None,
            quiet=True,
        )

    def share(self, number: int) -> Self:
        """Divide the limits among ``number`` processes that run at the same time."""
        return self.replace(
            concurrency=self.concurrency // number,
            rpm=self.rpm and self.rpm / number,
            tpm=self.tpm and self.tpm / number,
        )


def _absolute(paths: Sequence[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]


def _headers_of(environ: Mapping[str, str]) -> dict[str, str]:
    text = environ.get("CODESYNTH_HEADERS") or "{}"
    try:
        return dict(readers.header(f"{name}: {value}") for name, value in loads(text).items())
    except (ValueError, AttributeError) as exc:
        raise ConfigError(
            'CODESYNTH_HEADERS must be a JSON object of headers, such as {"X-Title": "my run"}'
        ) from exc


class InstructionsSettings(AskSettings, command="gen-instructions"):
    """Ask for new instructions like the examples in a pool of code prompts.

    Examples:
        codesynth gen-instructions seeds.jsonl -n 100 --offline
        codesynth gen-instructions seeds.jsonl -n 1000 --seed 1 -o new.jsonl
        codesynth gen-instructions pool.jsonl.gz -k 5 --temperature 1 > new.jsonl
    """

    input_key: str = option("--input-key KEY", "Column with the examples.", default="prompt")
    output_key: str = option(
        "--output-key KEY", "Column to write.", default="generated_instruction"
    )
    num_generate: int = option("-n, --num-generate N", "Instructions to ask for.", default=10)
    num_few_shot: int = option(
        "-k, --num-few-shot K", "Examples per prompt, chosen at random.", default=3, least=1
    )
    seed: int | None = option(
        "--seed N", "Seed for choosing the examples. Default: random; it is printed at the end."
    )
    mix: tuple[int, int] | None = option(
        "--mix H:M",
        "Examples in each prompt: H rows written by people (column --input-key) and M generated "
        "rows (column --output-key), such as 6:2. Replaces -k.",
        read=readers.mix,
        form="H:M, two numbers such as 6:2",
    )
    novelty: float | None = option(
        "--novelty T",
        "Reject an instruction whose ROUGE-L with the pool or an earlier row is T (such as 0.7) or "
        "more, and one that differs only in names, case or white space.",
        excludes="--unordered --ray",
    )
    accepted: int | None = option(
        "--accepted N",
        "Ask until the filters have accepted N instructions. Replaces -n.",
        least=1,
        excludes="--unordered --ray --batch",
    )


class InstructionSettings(AskSettings, heading=_FILES):
    """Options of the commands that read one instruction per row."""

    input_key: str | None = option(
        "--input-key KEY", "Column to read. Default: instruction, else generated_instruction."
    )


class CodeSettings(InstructionSettings, command="gen-code"):
    """Ask for the code that each row's instruction describes.

    Examples:
        codesynth gen-code instructions.jsonl --offline
        codesynth gen-code instructions.jsonl -o sft.jsonl --max-tokens 2048
        codesynth gen-instructions seeds.jsonl | codesynth gen-code > sft.jsonl
    """

    output_key: str = option("--output-key KEY", "Column to write.", default="generated_code")
    language: str | None = option(
        "--language NAME",
        "Language of the code. Default: the one that the instruction and the answer name.",
        read=readers.language,
        complete=readers.language_names,
    )


class TestsSettings(InstructionSettings, command="gen-tests"):
    """Ask for tests of the code that each row's instruction describes, before there is any code.

    Examples:
        codesynth gen-tests new.jsonl -o tested.jsonl --num-tests 10
        codesynth gen-instructions seeds.jsonl | codesynth gen-tests > tested.jsonl
    """

    __test__ = False  # its name makes pytest take it for tests

    output_key: str = option("--output-key KEY", "Column to write.", default="generated_tests")
    num_tests: int = option("--num-tests K", "Tests to ask for, per row.", default=8, least=1)

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        return [*super().new_columns, "signature"]


class GenSettings(AskSettings, command="gen"):
    """Fill a template with the columns of each row, and ask. Any {column} is a placeholder.

    Examples:
        codesynth gen sft.jsonl -t my_prompt.txt --output-key review
        codesynth gen new.jsonl -t judge_difficulty --json --require difficulty
    """

    output_key: str = option("--output-key KEY", "Column for the answer.", default="generated")
    json: bool = option("--json", "Read the answer as a JSON object; its fields become columns.")
    prefix: str = option(
        "--prefix TEXT",
        "With --json: TEXT begins each new column's name.",
        default="",
        needs="--json",
    )
    require: list[tuple[str, str]] = option(
        "--require NAME[:TYPE]",
        "With --json: rows without this field fail (bad_json). TYPE is string, integer, number, "
        "boolean, list or object.",
        read=readers.field,
        needs="--json",
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds, as far as they are known."""
        columns = super().new_columns
        if not self.json:
            return columns
        return [*columns[1:], *(f"{self.prefix}{name}" for name, _ in self.require)]

    def check(self) -> None:
        """Check that the options fit together."""
        super().check()
        if self.prompt_template is None:
            raise ConfigError("gen needs -t: a template file, or the name of a built-in template")


class VerifySettings(RowSettings, command="verify"):
    """Run each row's code against its tests, in a sandbox, and write what happened.

    Examples:
        codesynth verify sft.jsonl --keep passed -o clean.jsonl
        codesynth verify code.jsonl --best > best.jsonl
        codesynth verify code.jsonl --agree --best > best.jsonl
        codesynth verify rows.jsonl --test-key test --input-key solution
    """

    input_key: str = option("--input-key KEY", "Column with the code.", default="generated_code")
    output_key: str = option("--output-key KEY", "Column to write.", default="verification")
    instruction_key: str | None = option(
        "--instruction-key KEY",
        "Column with the instruction. Its doctests are the tests of a row that has no others. "
        "Default: instruction, generated_instruction or prompt.",
    )
    test_key: str | None = option(
        "--test-key KEY",
        "Column with the tests: asserts (a text or a list), check(candidate), test functions, "
        "unittest classes, or pairs of input and output. Default: generated_tests, else the "
        "doctests.",
    )
    keep: frozenset[str] | None = option(
        "--keep STATUS,...",
        "Keep only rows with these statuses: passed, failed, error, timeout, syntax_error, "
        "no_tests, unsupported. Default: all.",
        read=readers.statuses,
        complete=readers.status_names,
    )
    best: bool = option(
        "--best",
        "Keep only one answer to each instruction: the first that passed its tests; with --agree, "
        "the first of the best group.",
        excludes="--keep --unordered",
    )
    agree: bool = option(
        "--agree",
        "Compare the answers to each instruction, for tests that may be wrong. Adds the columns "
        "pass_rate (share of the tests that the answer passed) and agreement (share of the answers "
        "that passed the same tests). A test that every answer fails does not count. Answers that "
        "passed the same tests are a group. The best group passed all tests or, if none did, has "
        "the highest number of answers times number of passed tests. Only answers at most 1,000 "
        "rows apart are compared.",
        excludes="--unordered",
    )
    pairs: bool = option(
        "--pairs",
        "Write preference pairs instead of rows: prompt (the instruction), chosen (an answer that "
        "passed) and rejected (one that failed). With --agree, answers of the best group count as "
        "passed.",
        excludes="--best --keep --unordered",
    )
    python: str = option(
        "--python PATH",
        "Python that runs the rows, such as that of a virtual environment with the libraries that "
        "they use. Default: the one that runs codesynth.",
        default=sys.executable,
    )
    timeout: float = option("--timeout S", "Seconds that a row may take.", default=10.0, least=0.1)
    memory: int = option("--memory MB", "Memory that a row may use.", default=512, least=64)
    unsafe: bool = option("--unsafe", "Run the code without a sandbox: it can do all you can do.")
    jobs: int | None = option(
        "-j, --concurrency N", "Rows that run at once. Default: one per processor core.", least=1
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        return [self.output_key, *(("pass_rate", "agreement") if self.agree else ())]


class LookSettings(Settings, heading=_FILES):
    """Options of the commands that show rows to people."""

    inputs: list[str] = option("[FILE]...", "Outputs and failures files, also .gz. Default: stdin.")
    code_key: str | None = option(
        "--code-key KEY", "Column with the code. Default: generated_code, code, canonical_solution."
    )
    reasoning_key: str | None = option(
        "--reasoning-key KEY",
        "Column with the model's reasoning. Default: reasoning, reasoning_content or thinking.",
    )
    instruction_key: str | None = None

    @property
    def instruction_keys(self) -> tuple[str, ...]:
        """Columns in which the instruction is looked for; the first that is there counts."""
        return (self.instruction_key or "instruction", "generated_instruction", "prompt")

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

    where: list[tuple[str, str, str]] = option(
        "--where CONDITION",
        "Show only rows for which this holds: KEY=VALUE, KEY!=VALUE, KEY (it has a value) or !KEY "
        "(it has none). A dot leads into an object: verification.status=failed.",
        read=readers.condition,
        form="KEY=VALUE, KEY!=VALUE, KEY or !KEY, such as error.kind=truncated",
    )
    limit: int | None = option("--limit N", "Take only the first N such rows.", least=1)
    sample: int | None = option("--sample N", "Show N of them, chosen at random.", least=1)
    seed: int | None = option("--seed N", "Seed for --sample. Default: another one each time.")
    full: bool = option("--full", "Show reasoning and texts of over 20,000 characters in full.")


class ReportSettings(LookSettings, _PriceOptions, command="report"):
    """Write an HTML page with figures, plots and sample rows. It needs no network.

    Examples:
        codesynth report sft.jsonl -o report.html
        codesynth report sft.jsonl sft.failures.jsonl sft.journal -o report.html
    """

    inputs: list[str] = option(
        "[FILE]...",
        "Outputs, failures files, and journals (.journal). JSONL also as .gz. Default: stdin.",
    )
    instruction_key: str | None = option(
        "--instruction-key KEY",
        "Column with the instruction. Default: instruction, generated_instruction or prompt.",
    )
    output: str | None = option("-o, --output PATH", "File for the page. Default: stdout.")
    rows: int = option("--rows N", "Rows to show on the page, chosen at random.", default=200)


class StatusSettings(_PriceOptions, command="status"):
    """Show how far the parts of a job are: rows, failures, tokens, speed. It disturbs no run.

    Examples:
        codesynth status sft.*.journal
        codesynth status sft.*.journal --price 0.15,0.6 --json
    """

    inputs: list[str] = option("PART...", "Outputs or journals of runs, also unfinished ones.")
    json: bool = option("--json", "Print JSON instead of a table.")


class JoinSettings(FileSettings, command="join"):
    """Put the outputs of all parts of a job together, in the order of the undivided job.

    Examples:
        codesynth gen-code big.jsonl --shard 0/2 -o sft.0.jsonl
        codesynth gen-code big.jsonl --shard 1/2 -o sft.1.jsonl
        codesynth join sft.0.jsonl sft.1.jsonl -o sft.jsonl
    """

    inputs: list[str] = option("PART...", "Outputs of all parts of a job (--shard), in any order.")


COMMANDS: dict[str, type[Settings]] = {
    kind.command: kind
    for kind in (
        InstructionsSettings,
        CodeSettings,
        TestsSettings,
        GenSettings,
        VerifySettings,
        ShowSettings,
        ReportSettings,
        StatusSettings,
        JoinSettings,
    )
}
