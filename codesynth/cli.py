"""The command line: options -> settings, help, exit codes. Nothing else knows typer."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from codesynth.errors import CodesynthError, ConfigError
from codesynth.options import (
    ASK,
    CHECK,
    IN,
    MORE,
    BaseUrl,
    Concurrency,
    ConnectTimeout,
    Decontaminate,
    DryRun,
    ExtraBody,
    Failures,
    Inputs,
    JournalPath,
    Limit,
    MaxCost,
    MaxOutage,
    MaxRetries,
    MaxTime,
    MaxTokens,
    Meta,
    Model,
    Ngram,
    NoJournal,
    Offline,
    Out,
    Overwrite,
    PriceOption,
    Quiet,
    Rpm,
    Shard,
    System,
    Temperature,
    Template,
    Timeout,
    TopP,
    Tpm,
    Unordered,
    Verbose,
    option,
    ratio,
    statuses,
)
from codesynth.streams import EXIT_PIPE, turn_away
from codesynth.version import __version__

if TYPE_CHECKING:
    from codesynth.serving.journal import Journal
    from codesynth.work import Settings, Work

_EXIT_USAGE, _EXIT_INTERRUPTED = 2, 130

_EXAMPLES = """\
\b
Examples:
  codesynth gen-instructions seeds.jsonl -n 1000 |
      codesynth gen-code > sft.jsonl
  codesynth gen-instructions seeds.jsonl -n 1000 -o new.jsonl
  codesynth gen-code new.jsonl -o sft.jsonl
  codesynth gen-code new.jsonl --offline | head
"""
_EXAMPLES_INSTRUCTIONS = """\
\b
Examples:
  codesynth gen-instructions seeds.jsonl -n 100 --offline
  codesynth gen-instructions seeds.jsonl -n 1000 --seed 1 -o new.jsonl
  codesynth gen-instructions pool.jsonl.gz -k 5 --temperature 1 > new.jsonl
"""
_EXAMPLES_CODE = """\
\b
Examples:
  codesynth gen-code instructions.jsonl --offline
  codesynth gen-code instructions.jsonl -o sft.jsonl --max-tokens 2048
  codesynth gen-instructions seeds.jsonl | codesynth gen-code > sft.jsonl
"""


def _format_help(command: Any, ctx: Any, formatter: Any) -> None:
    """Write usage, what it does, examples, then the options in their groups."""
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    command.format_epilog(ctx, formatter)
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        entry = param.get_help_record(ctx)
        if entry is not None:
            group = getattr(param, "rich_help_panel", None) or MORE
            groups.setdefault(group, []).append(entry)
    groups[MORE] = groups.pop(MORE)
    for name, entries in groups.items():
        with formatter.section(name):
            formatter.write_dl(entries, col_max=26)
    if hasattr(command, "format_commands"):
        command.format_commands(ctx, formatter)


class _Command(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _format_help(self, ctx, formatter)


class _Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _format_help(self, ctx, formatter)


app = typer.Typer(
    name="codesynth",
    cls=_Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=_EXAMPLES,
)


def _common_options(
    inputs: Inputs = None,
    output: Out = None,
    failures: Failures = None,
    limit: Limit = None,
    shard: Shard = None,
    unordered: Unordered = False,
    meta: Meta = False,
    prompt_template: Template = None,
    system_prompt: System = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    extra_body: ExtraBody = None,
    decontaminate: Decontaminate = None,
    ngram: Ngram = 13,
    model: Model = None,
    base_url: BaseUrl = None,
    offline: Offline = False,
    concurrency: Concurrency = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    timeout: Timeout = 600.0,
    connect_timeout: ConnectTimeout = 10.0,
    max_retries: MaxRetries = 5,
    max_outage: MaxOutage = 300.0,
    journal: JournalPath = None,
    no_journal: NoJournal = False,
    overwrite: Overwrite = False,
    max_time: MaxTime = None,
    max_cost: MaxCost = None,
    price: PriceOption = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Declare the options that both commands have; they are read from the context."""


def _with_common_options(own: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options beside its own."""
    names = inspect.signature(own, eval_str=True).parameters
    shared = inspect.signature(_common_options, eval_str=True).parameters

    @functools.wraps(own)
    def command(**values: Any) -> None:
        own(**{name: values[name] for name in names})

    parameters = [*names.values(), *shared.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _common(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the options that both commands have into settings."""
    from codesynth.models import SamplingParams

    env = os.environ
    urls = options["base_url"] or [url for url in [env.get("OPENAI_BASE_URL")] if url]
    names = ("temperature", "top_p", "max_tokens")
    params = SamplingParams(
        **{name: options[name] for name in names}, extra_body=options["extra_body"] or {}
    )
    as_they_are = (
        *("output", "output_key", "failures", "limit", "meta", "dry_run", "offline", "quiet"),
        *("rpm", "tpm", "timeout", "connect_timeout", "max_retries", "max_outage"),
        *("ngram", "journal", "overwrite", "max_time", "max_cost", "price"),
    )
    return {
        **{name: options[name] for name in as_they_are},
        "inputs": options["inputs"] or ["-"],
        "decontaminate": options["decontaminate"] or [],
        "prompt_template": options["prompt_template"],
        "system_prompt": _system_prompt(options["system_prompt"]),
        "model": options["model"] or env.get("CODESYNTH_MODEL") or None,
        "base_urls": urls,
        "api_key": env.get("OPENAI_API_KEY") or None,
        "params": params,
        "concurrency": options["concurrency"] or None,
        "shard": options["shard"] or (0, 1),
        "ordered": not options["unordered"],
        "keep_journal": not options["no_journal"],
    }


def _system_prompt(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"--system-prompt {text}: {exc}") from exc


def _do(
    ctx: typer.Context,
    options: dict[str, Any],
    prepare: Callable[[Settings, Journal | None], Work],
) -> None:
    """Run one of the commands that ask an endpoint."""

    def ask() -> int:
        from codesynth.application import execute
        from codesynth.work import Settings

        settings = Settings(command=str(ctx.info_name), **_common(options))
        with _retries_told() if options["verbose"] else contextlib.nullcontext():
            return execute(settings, prepare)

    _exit_with(ctx, options["inputs"], ask)


def _exit_with(ctx: typer.Context, inputs: list[str] | None, command: Callable[[], int]) -> None:
    """Run a command; turn what comes of it into one line and an exit code."""
    if not inputs and os.isatty(0):
        print(f"{ctx.get_usage()}\n\nNo INPUT, and standard input is a terminal.", file=sys.stderr)
        raise typer.Exit(_EXIT_USAGE)
    try:
        code = command()
    except CodesynthError as exc:
        complain(str(exc))
        code = exc.exit_code
    except BrokenPipeError:
        turn_away(1)
        code = EXIT_PIPE
    except KeyboardInterrupt:
        code = _EXIT_INTERRUPTED
    raise typer.Exit(code)


def complain(text: str) -> None:
    """Say on one line why nothing more is done; a row's own words may be in it."""
    from codesynth.serving.answers import clean

    with contextlib.suppress(OSError):  # the exit code says it too, where stderr takes nothing
        print(f"codesynth: {clean(text, 1000)}", file=sys.stderr)


@contextlib.contextmanager
def _retries_told() -> Iterator[None]:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("codesynth: %(message)s"))
    logger = logging.getLogger("codesynth")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", show_default=False)
    ] = False,
) -> None:
    """Make training data for code models with any OpenAI-compatible endpoint."""
    if version:
        print(f"codesynth {__version__}")
        raise typer.Exit


@app.command(name="gen-instructions", cls=_Command, epilog=_EXAMPLES_INSTRUCTIONS)
@_with_common_options
def gen_instructions(
    ctx: typer.Context,
    input_key: Annotated[
        str,
        option(IN, "--input-key", metavar="KEY", help="Column of the pool. Default: prompt."),
    ] = "prompt",
    output_key: Annotated[
        str,
        option(
            IN, "--output-key", metavar="KEY", help="New column. Default: generated_instruction."
        ),
    ] = "generated_instruction",
    num_generate: Annotated[
        int,
        option(ASK, "-n", "--num-generate", min=0, metavar="N", help="How many. Default: 10."),
    ] = 10,
    num_few_shot: Annotated[
        int,
        option(
            ASK,
            "-k",
            "--num-few-shot",
            min=1,
            metavar="K",
            help="Examples sampled for each prompt. Default: 3.",
        ),
    ] = 3,
    seed: Annotated[
        int | None,
        option(ASK, "--seed", metavar="N", help="Of the sampling. Default: random, and told."),
    ] = None,
    mix: Annotated[
        Any,
        option(
            ASK,
            "--mix",
            parser=ratio,
            metavar="H:M",
            help="Examples from H rows of people's and M of a model's (6:2 in self-instruct), in "
            "place of -k: a model's are rows of the pool with the new column, not the other.",
        ),
    ] = None,
    novelty: Annotated[
        float | None,
        option(
            CHECK,
            "--novelty",
            metavar="T",
            help="Reject what has a ROUGE-L of T or more with the pool or a row before (0.7 in "
            "self-instruct), and what is the same but for names and white space.",
        ),
    ] = None,
    accepted: Annotated[
        int | None,
        option(
            CHECK,
            "--accepted",
            min=1,
            metavar="N",
            help="Ask until N are accepted, whatever -n says.",
        ),
    ] = None,
) -> None:
    """Ask for new instructions like the examples in a pool of code prompts."""

    def prepare(settings: Settings, journal: Journal | None) -> Work:
        from codesynth.work import instruction_work

        return instruction_work(
            settings,
            journal,
            input_key=input_key,
            num_generate=num_generate,
            num_few_shot=num_few_shot,
            seed=seed,
            novelty=novelty,
            accepted=accepted,
            ratio=mix,
        )

    _do(ctx, ctx.params, prepare)


@app.command(name="gen-code", cls=_Command, epilog=_EXAMPLES_CODE)
@_with_common_options
def gen_code(
    ctx: typer.Context,
    input_key: Annotated[
        str | None,
        option(
            IN,
            "--input-key",
            metavar="KEY",
            help="Column with the instruction. Default: instruction, or generated_instruction "
            "where a row has no instruction.",
        ),
    ] = None,
    output_key: Annotated[
        str,
        option(IN, "--output-key", metavar="KEY", help="New column. Default: generated_code."),
    ] = "generated_code",
    samples: Annotated[
        int,
        option(ASK, "--samples", min=1, metavar="N", help="Answers, and rows, a row. Default: 1."),
    ] = 1,
    language: Annotated[
        str | None,
        option(
            ASK,
            "--language",
            metavar="NAME",
            help="Of the code to keep of an answer, such as rust. Default: as prompt and answer "
            "say.",
        ),
    ] = None,
) -> None:
    """Ask for the code that each row's instruction describes."""

    def prepare(settings: Settings, _: Journal | None) -> Work:
        from codesynth.work import code_work

        return code_work(settings, input_key=input_key, samples=samples, language=language)

    _do(ctx, ctx.params, prepare)


_EXAMPLES_VERIFY = """\
\b
Examples:
  codesynth verify sft.jsonl --keep passed -o clean.jsonl
  codesynth gen-code new.jsonl | codesynth verify --keep passed > clean.jsonl
  codesynth verify HumanEval.jsonl --test-key test \\
      --input-key canonical_solution
"""


@app.command(name="verify", cls=_Command, epilog=_EXAMPLES_VERIFY)
def verify(
    ctx: typer.Context,
    inputs: Inputs = None,
    output: Out = None,
    failures: Failures = None,
    input_key: Annotated[
        str,
        option(IN, "--input-key", metavar="KEY", help="Column with code. Default: generated_code."),
    ] = "generated_code",
    output_key: Annotated[
        str, option(IN, "--output-key", metavar="KEY", help="New column. Default: verification.")
    ] = "verification",
    instruction_key: Annotated[
        str | None,
        option(
            IN,
            "--instruction-key",
            metavar="KEY",
            help="Column with the instruction, whose doctests are tests. Default: instruction, "
            "generated_instruction or prompt.",
        ),
    ] = None,
    limit: Limit = None,
    test_key: Annotated[
        str | None,
        option(
            CHECK,
            "--test-key",
            metavar="KEY",
            help="Column with tests: asserts, HumanEval's check(candidate), test functions or "
            "classes. Default: doctests.",
        ),
    ] = None,
    keep: Annotated[
        Any,
        option(
            CHECK,
            "--keep",
            parser=statuses,
            metavar="STATUS,...",
            help="Rows to keep: passed, failed, error, timeout, syntax_error, no_tests. "
            "Default: all.",
        ),
    ] = None,
    best: Annotated[
        bool,
        option(
            CHECK,
            "--best",
            help="Keep the first that passed of several answers to one instruction.",
        ),
    ] = False,
    timeout: Annotated[
        float,
        option(CHECK, "--timeout", min=0.1, metavar="S", help="Seconds a row. Default: 10."),
    ] = 10.0,
    memory: Annotated[
        int, option(CHECK, "--memory", min=64, metavar="MB", help="A row. Default: 512.")
    ] = 512,
    jobs: Annotated[
        int | None,
        option(
            CHECK, "-j", "--concurrency", min=1, metavar="N", help="Rows at once. Default: cores."
        ),
    ] = None,
    unsafe: Annotated[
        bool,
        option(
            CHECK,
            "--unsafe",
            help="Run model-written code without a sandbox, with all your rights.",
        ),
    ] = False,
    overwrite: Annotated[bool, option(IN, "--overwrite", help="Replace the output.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run each row's code against the tests at hand, in a sandbox; keep what passes."""
    from codesynth import verify as verifying

    def execute() -> int:
        settings = verifying.VerifySettings(
            inputs=inputs or ["-"],
            output=output,
            failures=failures,
            input_key=input_key,
            output_key=output_key,
            instruction_key=instruction_key,
            test_key=test_key,
            keep=keep,
            best=best,
            timeout=timeout,
            memory=memory,
            jobs=jobs,
            unsafe=unsafe,
            limit=limit,
            overwrite=overwrite,
            quiet=quiet,
        )
        return verifying.execute(settings)

    _exit_with(ctx, inputs, execute)
