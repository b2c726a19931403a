"""What each command is told: one frozen dataclass a command.

Each field declares its option, its help text and its check, once. The command line is built from
these fields; a new option goes here and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from codesynth.codec import loads
from codesynth.errors import ConfigError
from codesynth.models import META_KEY, Endpoint, SamplingParams
from codesynth.options import (
    ASK,
    CHECK,
    IN,
    MODEL,
    MORE,
    PICK,
    RESUME,
    SPEED,
    complete_languages,
    complete_statuses,
    complete_templates,
    option,
    read_body,
    read_concurrency,
    read_condition,
    read_field,
    read_header,
    read_language,
    read_price,
    read_ratio,
    read_shard,
    read_statuses,
    read_text,
)

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RowSettings:
    """What every command that turns rows into rows is told."""

    inputs: list[str] = option(
        [], IN, "[INPUT]...", "JSONL files, also .gz. Default: -, standard input."
    )
    output: str | None = option(
        None,
        IN,
        "-o, --output PATH",
        "File for the rows. It is written as PATH.partial and renamed when the run is complete. "
        "Default: stdout.",
    )
    failures: str | None = option(
        None,
        IN,
        "--failures PATH",
        "File for rows that failed, with the reason. Default with -o: OUT.failures.jsonl.",
    )
    limit: int | None = option(None, IN, "--limit N", "Read only the first N rows.", least=1)
    shard: tuple[int, int] = option(
        (0, 1),
        IN,
        "--shard I/N",
        "Do one part of a job: every N-th request, from number I (0 to N - 1).",
        parse=read_shard,
    )
    unordered: bool = option(
        False, IN, "--unordered", "Write rows as they finish. Default: in input order."
    )
    overwrite: bool = option(
        False,
        RESUME,
        "--overwrite",
        "Replace OUT. Answers in the journal are still used; delete the journal to ask again.",
    )
    max_time: float | None = option(
        None,
        RESUME,
        "--max-time S",
        "Stop cleanly after S seconds and exit 5. Run again to continue.",
        least=0,
    )
    quiet: bool = option(
        False, MORE, "-q, --quiet", "Print only what is wrong: errors and failed rows."
    )
    verbose: bool = option(
        False,
        MORE,
        "-v, --verbose",
        "Print every retry, and every change of the concurrency limit with its reason.",
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        return []

    def check(self) -> None:
        """See that the options go together.

        Raises:
            ConfigError: they do not.
        """
        columns = self.new_columns
        for i, name in enumerate(columns):
            if name in columns[:i]:
                raise ConfigError(f'two new columns would have the name "{name}". Rename one')


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AskSettings(RowSettings):
    """What every command that asks a model is told."""

    output_key: str = ""
    reasoning_key: str | None = option(
        None,
        IN,
        "--reasoning-key KEY",
        "Keep the model's reasoning in this column (null if there is none).",
    )
    answer_key: str | None = option(
        None, IN, "--answer-key KEY", "Keep the whole answer text in this column."
    )
    messages_key: str | None = option(
        None,
        IN,
        "--messages-key KEY",
        "Write the row as a chat in this column: the user's turn and the assistant's.",
    )
    meta: bool = option(
        False,
        IN,
        "--meta",
        "Add the column _codesynth: model, usage, attempts, sampling parameters and more.",
    )
    samples: int = option(
        1,
        ASK,
        "--samples N",
        "Answers per input row. Each becomes an output row. Default: 1.",
        least=1,
    )
    prompt_template: str | None = option(
        None,
        ASK,
        "-t, --prompt-template NAME|PATH",
        "Text file with {placeholders}, or the name of a built-in one. Default: built-in.",
        complete=complete_templates,
    )
    system_prompt: str | None = option(
        None,
        ASK,
        "--system-prompt TEXT|@FILE",
        "System message, sent before each prompt. Default: none.",
        parse=read_text,
    )
    temperature: float | None = option(
        None, ASK, "--temperature T", "Sampling temperature. Default: not sent."
    )
    top_p: float | None = option(None, ASK, "--top-p P", "Nucleus sampling. Default: not sent.")
    max_tokens: int | None = option(
        None, ASK, "--max-tokens N", "Most tokens in an answer. Default: not sent.", least=1
    )
    extra_body: Mapping[str, Any] | None = option(
        None,
        ASK,
        "--extra-body JSON",
        "JSON object that is merged into the body of each request.",
        parse=read_body,
    )
    decontaminate: list[str] = option(
        [],
        CHECK,
        "--decontaminate FILE",
        "Reject rows that overlap with this benchmark (JSONL or text). May be given several times.",
    )
    ngram: int = option(
        13, CHECK, "--ngram N", "An overlap is N equal words in a row. Default: 13.", least=3
    )
    model: str | None = option(
        None,
        MODEL,
        "--model NAME",
        "Default: CODESYNTH_MODEL, else the only model that the endpoint lists.",
        env="CODESYNTH_MODEL",
    )
    base_urls: list[str] = option(
        [],
        MODEL,
        "--base-url URL",
        "URL of the endpoint, with its /v1. Default: OPENAI_BASE_URL, else OpenAI's. The key is "
        "read from OPENAI_API_KEY. Given several times, the endpoints share the load.",
        env="OPENAI_BASE_URL",
    )
    headers: list[str] = option(
        [],
        MODEL,
        "--header 'NAME: VALUE'",
        "Header sent with every request. Default: CODESYNTH_HEADERS, a JSON object.",
        parse=read_header,
    )
    offline: bool = option(
        False,
        MODEL,
        "--offline",
        "Practise without a model: a built-in endpoint answers. No network, no key.",
    )
    concurrency: int = option(
        0,
        SPEED,
        "-j, --concurrency N|auto",
        "Most requests in flight. Default: auto, as many as the endpoint takes.",
        parse=read_concurrency,
    )
    rpm: float | None = option(None, SPEED, "--rpm N", "Most requests per minute.", least=0.01)
    tpm: float | None = option(None, SPEED, "--tpm N", "Most tokens per minute.", least=1)
    timeout: float = option(
        600.0,
        SPEED,
        "--timeout S",
        "Seconds for one attempt, from sending to the last byte. Default: 600.",
        least=0.001,
    )
    connect_timeout: float = option(
        10.0,
        SPEED,
        "--connect-timeout S",
        "Seconds for making a connection. Default: 10.",
        least=0.001,
    )
    max_retries: int = option(
        5,
        SPEED,
        "--max-retries N",
        "Retries of a request after its first attempt. Default: 5.",
        least=0,
    )
    max_outage: float = option(
        300.0,
        RESUME,
        "--max-outage S",
        "Stop when no request has succeeded for S seconds. Default: 300.",
        least=0,
    )
    batch: bool = option(
        False,
        SPEED,
        "--batch",
        "Send through the Batch API: within a day, often for half the price. Needs a journal.",
    )
    batch_size: int = option(
        50_000,
        SPEED,
        "--batch-size N",
        "With --batch: most requests in one batch. Default: 50000.",
        least=1,
    )
    no_wait: bool = option(
        False,
        SPEED,
        "--no-wait",
        "With --batch: send, collect what is done, and exit 5 while batches are running. Run "
        "again to collect.",
    )
    cancel: bool = option(
        False,
        SPEED,
        "--cancel",
        "Cancel the open batches of this journal and collect what they have done. Ask nothing.",
    )
    journal: str | None = option(
        None,
        RESUME,
        "--journal PATH",
        "File that keeps every answer, so that a later run does not ask again. Default with -o: "
        "OUT.journal.",
    )
    no_journal: bool = option(
        False, RESUME, "--no-journal", "Keep no journal: a later run asks, and pays, again."
    )
    also_journal: list[str] = option(
        [],
        RESUME,
        "--also-journal PATH",
        "Take answers from this journal too; what is used is copied into the run's own journal. "
        "May be given several times.",
    )
    max_cost: float | None = option(
        None,
        RESUME,
        "--max-cost C",
        "Stop cleanly before the journal's answers cost more than C, and exit 5. Needs --price. "
        "Exact only with --max-tokens.",
        least=0,
    )
    price: tuple[float, float] | None = option(
        None,
        RESUME,
        "--price IN,OUT",
        "Price per million tokens, of prompts and of answers.",
        parse=read_price,
    )
    ray: int | None = option(
        None,
        SPEED,
        "--ray N",
        "Divide the job into N parts, run them on a Ray cluster (RAY_ADDRESS, else this machine), "
        "and join them into OUT.",
        least=1,
    )
    log_json: str | None = option(
        None,
        MORE,
        "--log-json PATH",
        "Add one JSON line a second to this file: rows, failures by kind, requests in flight, "
        "tokens, cost.",
    )
    estimate: int | None = option(
        None,
        MORE,
        "--estimate N",
        "Ask for N rows spread over the input, keep their answers in the journal, print what the "
        "whole would take in tokens, time and money, and stop.",
        least=1,
    )
    dry_run: bool = option(
        False,
        MORE,
        "--dry-run",
        "Print the requests to stdout as OpenAI batch lines. Send nothing.",
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        keys = [self.output_key, self.reasoning_key, self.answer_key, self.messages_key]
        return [key for key in [*keys, META_KEY if self.meta else None] if key]

    @property
    def params(self) -> SamplingParams:
        """OpenAI's request parameters."""
        return SamplingParams(
            self.temperature, self.top_p, self.max_tokens, dict(self.extra_body or {})
        )

    def endpoints(self, environ: Mapping[str, str]) -> list[Endpoint]:
        """Make the endpoints, with the key and the headers of the environment.

        Raises:
            ConfigError: CODESYNTH_HEADERS is wrong, or OpenAI's endpoint has no key.
        """
        key = environ.get("OPENAI_API_KEY", "")
        headers = {**_headers_of(environ), **dict(map(_split_header, self.headers))}
        urls = self.base_urls or [OPENAI_URL]
        if urls == [OPENAI_URL] and not key and not headers and not self.offline:
            raise ConfigError(
                f"no OPENAI_API_KEY for {OPENAI_URL}. Set it, name another endpoint with "
                "--base-url, or practise with --offline"
            )
        return [Endpoint(url, key, headers) for url in urls]

    @property
    def most_tokens(self) -> int | None:
        """Tell the most tokens of an answer, where the requests name it."""
        body = self.params.body("", [])
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def check(self) -> None:
        """See that the options go together; see ``RowSettings.check``."""
        super().check()
        self._check_batch()
        if self.max_cost is not None and self.price is None:
            raise ConfigError("--max-cost needs --price IN,OUT")
        if self.estimate is not None and self.shard != (0, 1):
            raise ConfigError("--estimate is about the whole job: drop --shard")
        if self.also_journal and self.journal is None and (self.output is None or self.no_journal):
            raise ConfigError("--also-journal needs a journal of the run's own: -o or --journal")
        if self.ray is not None:
            self._check_ray()
        if self.journal is not None and self.no_journal:
            raise ConfigError("--journal and --no-journal exclude each other")

    def part(self, number: int, of: int, output: str, also_journal: list[str]) -> Self:
        """Make the settings of one part of the job, for a process in whatever folder.

        Args:
            also_journal: further journals for it to take answers from.
        """
        template = self.prompt_template
        if template is not None and Path(template).exists():
            template = _absolute([template])[0]
        return replace(
            self,
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
        """Divide the limits among so many processes that run at the same time."""
        return replace(
            self,
            concurrency=self.concurrency // number,
            rpm=self.rpm and self.rpm / number,
            tpm=self.tpm and self.tpm / number,
        )

    def _check_ray(self) -> None:
        """See that the job can be divided among processes on several machines."""
        if self.output is None or self.no_journal:
            raise ConfigError("--ray needs -o OUT and its journal, on a disk that all nodes share")
        if "-" in self.inputs:
            raise ConfigError("--ray needs INPUT files that all nodes can read: not standard input")
        if self.batch or self.cancel:
            raise ConfigError("--batch needs no parts, the endpoint does the work: drop --ray")
        if self.unordered or self.shard != (0, 1) or self.estimate is not None:
            raise ConfigError("--ray divides a whole job: drop --unordered, --shard, --estimate")

    def _check_batch(self) -> None:
        no_journal = self.journal is None and (self.output is None or self.no_journal)
        if no_journal and (self.batch or self.cancel):
            what = "--batch" if self.batch else "--cancel"
            raise ConfigError(f"{what} needs a journal: name -o OUT or --journal PATH")
        if self.no_wait and not (self.batch or self.cancel):
            raise ConfigError("--no-wait goes with --batch")
        if self.batch and len(self.base_urls) > 1:
            raise ConfigError("--batch sends to one endpoint: give one --base-url")
        if self.batch and self.estimate is not None:
            raise ConfigError("--estimate asks at once: drop --batch")
        if self.batch and self.max_cost is not None and self.most_tokens is None:
            raise ConfigError(
                "--batch with --max-cost needs --max-tokens to know what may be spent"
            )


def _absolute(paths: Sequence[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]


def _split_header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def _headers_of(environ: Mapping[str, str]) -> dict[str, str]:
    text = environ.get("CODESYNTH_HEADERS")
    if not text:
        return {}
    try:
        headers = loads(text)
        return dict(_split_header(read_header(f"{k}: {v}")) for k, v in headers.items())
    except (ValueError, AttributeError) as exc:
        raise ConfigError(
            'CODESYNTH_HEADERS is no JSON object of headers, such as {"X-Title": "my run"}'
        ) from exc


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class InstructionsSettings(AskSettings):
    """What ``gen-instructions`` is told."""

    input_key: str = option("prompt", IN, "--input-key KEY", "Column of the pool. Default: prompt.")
    output_key: str = option(
        "generated_instruction",
        IN,
        "--output-key KEY",
        "Column to write. Default: generated_instruction.",
    )
    num_generate: int = option(
        10, ASK, "-n, --num-generate N", "Instructions to ask for. Default: 10.", least=0
    )
    num_few_shot: int = option(
        3,
        ASK,
        "-k, --num-few-shot K",
        "Examples in each prompt, chosen at random from the pool. Default: 3.",
        least=1,
    )
    seed: int | None = option(
        None,
        ASK,
        "--seed N",
        "Seed for choosing the examples. Default: random; it is printed at the end.",
    )
    mix: tuple[int, int] | None = option(
        None,
        ASK,
        "--mix H:M",
        'Examples per prompt: H human-written rows (with "prompt") and M generated rows (with '
        '"generated_instruction"). Replaces -k. Self-instruct takes 6:2.',
        parse=read_ratio,
    )
    novelty: float | None = option(
        None,
        CHECK,
        "--novelty T",
        "Reject an instruction whose ROUGE-L with the pool or an earlier row is T or more "
        "(self-instruct: 0.7), and one that differs only in names, case or white space.",
    )
    accepted: int | None = option(
        None,
        CHECK,
        "--accepted N",
        "Ask until N instructions are accepted, whatever -n says.",
        least=1,
    )

    def check(self) -> None:
        """See that the options go together; see ``RowSettings.check``."""
        super().check()
        if self.novelty is not None or self.accepted is not None:
            if self.unordered:
                raise ConfigError(
                    "--novelty and --accepted need the rows in order: drop --unordered"
                )
            if self.ray is not None:
                raise ConfigError(
                    "--novelty and --accepted compare each row with all before it, so the job "
                    "cannot be divided: drop --ray"
                )
        if self.batch and self.accepted is not None:
            raise ConfigError(
                "--accepted asks until enough rows are accepted, but --batch sends all at once: "
                "use -n"
            )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CodeSettings(AskSettings):
    """What ``gen-code`` is told."""

    input_key: str | None = option(
        None,
        IN,
        "--input-key KEY",
        "Column with the instruction. Default: instruction, else generated_instruction.",
    )
    output_key: str = option(
        "generated_code", IN, "--output-key KEY", "Column to write. Default: generated_code."
    )
    language: str | None = option(
        None,
        ASK,
        "--language NAME",
        "Language of the code to take from an answer. Default: as the instruction and the answer "
        "say.",
        parse=read_language,
        complete=complete_languages,
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TestsSettings(AskSettings):
    """What ``gen-tests`` is told."""

    __test__ = False  # its name makes pytest take it for tests

    input_key: str | None = option(
        None,
        IN,
        "--input-key KEY",
        "Column with the instruction. Default: instruction, else generated_instruction.",
    )
    output_key: str = option(
        "generated_tests", IN, "--output-key KEY", "Column to write. Default: generated_tests."
    )
    num_tests: int = option(
        8, ASK, "--num-tests K", "Tests to ask for, for each row. Default: 8.", least=1
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        return [*super().new_columns, "signature"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GenSettings(AskSettings):
    """What ``gen`` is told."""

    output_key: str = option(
        "generated", IN, "--output-key KEY", "Column for the answer. Default: generated."
    )
    json: bool = option(
        False,
        ASK,
        "--json",
        "Read the answer as a JSON object. Each of its fields becomes a column.",
    )
    prefix: str = option(
        "", ASK, "--prefix TEXT", "With --json: put TEXT before the names of the new columns."
    )
    require: list[tuple[str, str]] = option(
        [],
        ASK,
        "--require NAME[:TYPE]",
        "With --json: a row fails (bad_json) without this field. TYPE is string, integer, number, "
        "boolean, list or object. May be given several times.",
        parse=read_field,
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds, as far as they are known."""
        columns = super().new_columns
        if not self.json:
            return columns
        return [*columns[1:], *(f"{self.prefix}{name}" for name, _ in self.require)]

    def check(self) -> None:
        """See that the options go together; see ``RowSettings.check``."""
        super().check()
        if self.prompt_template is None:
            raise ConfigError(
                "gen needs -t: a template file with {placeholders}, or the name of a built-in one"
            )
        if not self.json and (self.prefix or self.require):
            raise ConfigError("--prefix and --require go with --json")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class VerifySettings(RowSettings):
    """What ``verify`` is told."""

    input_key: str = option(
        "generated_code", IN, "--input-key KEY", "Column with the code. Default: generated_code."
    )
    output_key: str = option(
        "verification", IN, "--output-key KEY", "Column to write. Default: verification."
    )
    instruction_key: str | None = option(
        None,
        IN,
        "--instruction-key KEY",
        "Column with the instruction, whose doctests are tests too. Default: instruction, "
        "generated_instruction or prompt.",
    )
    test_key: str | None = option(
        None,
        CHECK,
        "--test-key KEY",
        "Column with the tests: asserts (a text or a list), check(candidate), test functions, "
        "unittest classes, or pairs of input and output. Default: generated_tests, which gen-tests "
        "writes, else the doctests.",
    )
    keep: frozenset[str] | None = option(
        None,
        CHECK,
        "--keep STATUS,...",
        "Keep only rows with these statuses: passed, failed, error, timeout, syntax_error, "
        "no_tests, unsupported. Default: all.",
        parse=read_statuses,
        complete=complete_statuses,
    )
    best: bool = option(
        False,
        CHECK,
        "--best",
        "Keep only the first answer to each instruction that passed its tests; with --agree, one "
        "answer of the largest group.",
    )
    agree: bool = option(
        False,
        CHECK,
        "--agree",
        "Compare the answers to each instruction, for tests that may be wrong. Adds the columns "
        "pass_rate (share of the tests that the answer passed) and agreement (share of the answers "
        "that passed the same tests). A test that every answer fails does not count. With --best, "
        "the kept answer passed all tests or, if none did, is from the group with the most answers "
        "times passed tests. Only answers at most 1,000 rows apart are compared; rows are held "
        "back until then.",
    )
    pairs: bool = option(
        False,
        CHECK,
        "--pairs",
        "Write preference pairs instead of rows: an answer that passed as chosen, one to the same "
        "instruction that failed as rejected, and the instruction as prompt. With --agree, answers "
        "of the largest group count as passed.",
    )
    python: str = option(
        sys.executable,
        CHECK,
        "--python PATH",
        "Python interpreter that runs the rows, such as one of a virtual environment with the "
        "libraries that they use. Default: the one that runs codesynth.",
    )
    timeout: float = option(
        10.0, CHECK, "--timeout S", "Seconds that a row may take. Default: 10.", least=0.1
    )
    memory: int = option(
        512, CHECK, "--memory MB", "Memory that a row may use. Default: 512.", least=64
    )
    unsafe: bool = option(
        False,
        CHECK,
        "--unsafe",
        "Run the code without a sandbox. It can do all that you can do.",
    )
    jobs: int | None = option(
        None,
        SPEED,
        "-j, --concurrency N",
        "Rows that run at the same time. Default: one per processor core.",
        least=1,
    )

    @property
    def new_columns(self) -> list[str]:
        """Name the columns that the run adds."""
        return [self.output_key, *(("pass_rate", "agreement") if self.agree else ())]

    def check(self) -> None:
        """See that the options go together; see ``RowSettings.check``."""
        super().check()
        if self.keep is not None and self.best:
            raise ConfigError("--best keeps only rows that passed: drop --keep")
        if self.pairs and (self.best or self.keep is not None):
            raise ConfigError("--pairs chooses the answers itself: drop --best and --keep")
        if self.unordered and (self.best or self.agree or self.pairs):
            raise ConfigError(
                "--best, --agree and --pairs need the rows in order: drop --unordered"
            )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LookSettings:
    """What the commands that look at rows are told: no RowSettings, since they make no rows."""

    inputs: list[str] = option(
        [], IN, "[FILE]...", "Outputs and failures files: JSONL, also .gz. Default: -, stdin."
    )
    code_key: str | None = option(
        None,
        IN,
        "--code-key KEY",
        "Column with the code. Default: generated_code, code or canonical_solution.",
    )
    reasoning_key: str | None = option(
        None,
        IN,
        "--reasoning-key KEY",
        "Column with the model's reasoning. Default: reasoning, reasoning_content or thinking.",
    )

    @property
    def code_keys(self) -> tuple[str, ...]:
        """Columns in which the code is looked for; the first that is there counts."""
        return (self.code_key or "generated_code", "code", "canonical_solution")

    @property
    def reasoning_keys(self) -> tuple[str, ...]:
        """Columns in which the model's reasoning is looked for."""
        return (self.reasoning_key or "reasoning", "reasoning_content", "thinking")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ShowSettings(LookSettings):
    """What ``show`` is told."""

    where: list[tuple[str, str, str]] = option(
        [],
        PICK,
        "--where CONDITION",
        "Show only rows for which this holds: KEY=VALUE, KEY!=VALUE, KEY (it has a value) or !KEY "
        "(it has none). A dot leads into an object: verification.status=failed. May be given "
        "several times.",
        parse=read_condition,
    )
    limit: int | None = option(
        None, PICK, "--limit N", "Take only the first N of these rows.", least=1
    )
    sample: int | None = option(
        None, PICK, "--sample N", "Show N of these rows, chosen at random.", least=1
    )
    seed: int | None = option(
        None, PICK, "--seed N", "Seed for --sample. Default: random, so each call shows others."
    )
    full: bool = option(
        False,
        MORE,
        "--full",
        "Show reasoning, and texts of more than 20,000 characters, whole.",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReportSettings(LookSettings):
    """What ``report`` is told."""

    inputs: list[str] = option(
        [],
        IN,
        "[FILE]...",
        "Outputs, failures files and journals; JSONL also as .gz. Default: -, stdin.",
    )
    instruction_key: str | None = option(
        None,
        IN,
        "--instruction-key KEY",
        "Column with the instruction. Default: instruction, generated_instruction or prompt.",
    )
    output: str | None = option(
        None, IN, "-o, --output PATH", "File for the page. Default: stdout."
    )
    rows: int = option(
        200, PICK, "--rows N", "Rows to show on the page, chosen at random. Default: 200.", least=0
    )
    price: tuple[float, float] | None = option(
        None,
        MORE,
        "--price IN,OUT",
        "Price per million tokens, of prompts and of answers. Default: the page tells no cost.",
        parse=read_price,
    )

    @property
    def instruction_keys(self) -> tuple[str, ...]:
        """Columns in which the instruction is looked for; the first that is there counts."""
        return (self.instruction_key or "instruction", "generated_instruction", "prompt")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StatusSettings:
    """What ``status`` is told."""

    inputs: list[str] = option(
        [], IN, "PART...", "Outputs or journals of runs, also of some that are running."
    )
    price: tuple[float, float] | None = option(
        None,
        MORE,
        "--price IN,OUT",
        "Price per million tokens, of prompts and of answers. Default: no cost is shown.",
        parse=read_price,
    )
    json: bool = option(False, MORE, "--json", "Print JSON instead of a table.")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class JoinSettings:
    """What ``join`` is told."""

    inputs: list[str] = option(
        [], IN, "PART...", "Outputs of all parts of one job (--shard I/N), in any order."
    )
    output: str | None = option(
        None, IN, "-o, --output PATH", "File for the rows. Default: stdout."
    )
    failures: str | None = option(
        None,
        IN,
        "--failures PATH",
        "File for rows that failed. Default with -o: OUT.failures.jsonl.",
    )
    overwrite: bool = option(False, IN, "--overwrite", "Replace OUT.")
