"""The command line: options -> settings, help, exit codes. Nothing else knows typer."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from codesynth.errors import CodesynthError, ConfigError
from codesynth.version import __version__

if TYPE_CHECKING:
    from codesynth.serving.budget import Price
    from codesynth.serving.journal import Journal
    from codesynth.work import Settings, Work

_EXIT_USAGE, _EXIT_INTERRUPTED, _EXIT_PIPE = 2, 130, 141
_OURS = ("messages", "model", "n", "stream")  # of a request's body; the rest is the user's

_IN, _ASK, _CHECK, _MODEL, _SPEED, _OUT, _MORE = (
    "Input and output",
    "What to ask",
    "What to check",
    "Endpoint and model",
    "Speed and patience",
    "Stop and go on",
    "Other",
)

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
            group = getattr(param, "rich_help_panel", None) or _MORE
            groups.setdefault(group, []).append(entry)
    groups[_MORE] = groups.pop(_MORE)
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


def _option(group: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=group, show_default=False, **more)


def _number(group: str, *names: str, **more: Any) -> Any:
    return _option(group, *names, callback=_finite, **more)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("it is no number")
    return value


def _concurrency(text: str) -> int:
    if text == "auto":
        return 0
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter("it is a number from 1, or auto")


def _ratio(text: str) -> tuple[int, int]:
    human, _, machine = text.partition(":")
    if human.isdecimal() and machine.isdecimal() and int(human) + int(machine) > 0:
        return int(human), int(machine)
    raise typer.BadParameter("it is H:M, two numbers such as 6:2")


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and int(part) < int(parts):
        return int(part), int(parts)
    raise typer.BadParameter("it is I/N with I from 0 to N - 1, such as 0/8")


def _price(text: str) -> Price:
    from codesynth.serving.budget import Price

    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        prompt = completion = -1.0
    if not (0 <= prompt < float("inf") and 0 <= completion < float("inf")):
        raise typer.BadParameter("it is IN,OUT, two numbers such as 0.15,0.6")
    return Price(prompt, completion)


def _body(text: str) -> dict[str, Any]:
    from codesynth.codec import loads

    try:
        value = loads(text)
    except ValueError as exc:
        raise typer.BadParameter(f"it is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise typer.BadParameter("it is not a JSON object")
    for name in _OURS:
        if name in value:
            raise typer.BadParameter(f'"{name}" is not to be changed here')
    return value


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[INPUT]...", rich_help_panel=_IN, help="JSONL files, .gz too; - is standard input."
    ),
]
Out = Annotated[
    str | None,
    _option(_IN, "-o", "--output", metavar="PATH", help="Where rows go. Default: stdout."),
]
Failures = Annotated[
    str | None,
    _option(
        _IN,
        "--failures",
        metavar="PATH",
        help="Where rows go that failed. Default with -o: OUT.failures.jsonl.",
    ),
]
Limit = Annotated[
    int | None, _option(_IN, "--limit", min=1, metavar="N", help="The first N rows only.")
]
Shard = Annotated[
    Any,
    _option(
        _IN,
        "--shard",
        parser=_shard,
        metavar="I/N",
        help="Every N-th request, from number I (0-based): one part of an array job.",
    ),
]
Unordered = Annotated[
    bool, _option(_IN, "--unordered", help="Rows as they finish. Default: in input order.")
]
Meta = Annotated[bool, _option(_IN, "--meta", help="Add how each row was made, as _codesynth.")]
Template = Annotated[
    str | None,
    _option(
        _ASK,
        "-t",
        "--prompt-template",
        metavar="NAME|PATH",
        help="A text with {placeholders}. Default: the built-in one.",
    ),
]
System = Annotated[
    str | None,
    _option(_ASK, "--system-prompt", metavar="TEXT|@FILE", help="Sent before each prompt."),
]
Temperature = Annotated[
    float | None, _number(_ASK, "--temperature", metavar="T", help="Default: not sent.")
]
TopP = Annotated[float | None, _number(_ASK, "--top-p", metavar="P", help="Default: not sent.")]
MaxTokens = Annotated[
    int | None,
    _option(_ASK, "--max-tokens", min=1, metavar="N", help="Of an answer. Default: not sent."),
]
ExtraBody = Annotated[
    Any,
    _option(
        _ASK, "--extra-body", parser=_body, metavar="JSON", help="Merged into each request's body."
    ),
]
Model = Annotated[
    str | None,
    _option(
        _MODEL,
        "--model",
        metavar="NAME",
        help="Default: CODESYNTH_MODEL, else the only one the endpoint lists.",
    ),
]
BaseUrl = Annotated[
    list[str] | None,
    _option(
        _MODEL,
        "--base-url",
        metavar="URL",
        help="With its /v1. Default: OPENAI_BASE_URL, else OpenAI's. The key is read from "
        "OPENAI_API_KEY. Several share the load.",
    ),
]
Offline = Annotated[
    bool,
    _option(_MODEL, "--offline", help="Practise: a small grammar answers. No network, no key."),
]
Concurrency = Annotated[
    Any,
    _option(
        _SPEED,
        "-j",
        "--concurrency",
        parser=_concurrency,
        metavar="N|auto",
        help="Most requests in flight. Default: auto, what the endpoint takes.",
    ),
]
Rpm = Annotated[
    float | None, _number(_SPEED, "--rpm", min=0.01, metavar="N", help="Most requests a minute.")
]
Tpm = Annotated[
    float | None, _number(_SPEED, "--tpm", min=1, metavar="N", help="Most tokens a minute.")
]
Timeout = Annotated[
    float,
    _number(
        _SPEED,
        "--timeout",
        min=0.001,
        metavar="S",
        help="Seconds for one attempt, to its last byte. Default: 600.",
    ),
]
ConnectTimeout = Annotated[
    float,
    _number(_SPEED, "--connect-timeout", min=0.001, metavar="S", help="Seconds. Default: 10."),
]
MaxRetries = Annotated[
    int,
    _option(
        _SPEED, "--max-retries", min=0, metavar="N", help="After the first attempt. Default: 5."
    ),
]
MaxOutage = Annotated[
    float,
    _number(
        _OUT,
        "--max-outage",
        min=0,
        metavar="S",
        help="Stop when nobody was answered for so many seconds. Default: 300.",
    ),
]
JournalPath = Annotated[
    str | None,
    _option(
        _OUT,
        "--journal",
        metavar="PATH",
        help="Where answers are kept for a rerun. Default with -o: OUT.journal.",
    ),
]
NoJournal = Annotated[
    bool, _option(_OUT, "--no-journal", help="Keep none: a rerun asks, and pays, again.")
]
Overwrite = Annotated[
    bool, _option(_OUT, "--overwrite", help="Start afresh and replace the output.")
]
MaxTime = Annotated[
    float | None,
    _number(
        _OUT, "--max-time", min=0, metavar="S", help="Stop cleanly after so many seconds, exit 5."
    ),
]
MaxCost = Annotated[
    float | None,
    _number(
        _OUT,
        "--max-cost",
        min=0,
        metavar="C",
        help="Stop cleanly before more is spent, earlier runs counted, exit 5. Give --max-tokens "
        "too: then it holds exactly.",
    ),
]
PriceOption = Annotated[
    Any,
    _option(
        _OUT,
        "--price",
        parser=_price,
        metavar="IN,OUT",
        help="Currency units per million tokens, of prompts and of answers.",
    ),
]
Decontaminate = Annotated[
    list[str] | None,
    _option(
        _CHECK,
        "--decontaminate",
        metavar="FILE",
        help="Reject what overlaps with this benchmark: JSONL or text; several times.",
    ),
]
Ngram = Annotated[
    int,
    _option(_CHECK, "--ngram", min=2, metavar="N", help="Words that make an overlap. Default: 13."),
]
DryRun = Annotated[
    bool,
    _option(_MORE, "--dry-run", help="Print the requests as OpenAI batch lines; send nothing."),
]
Quiet = Annotated[bool, _option(_MORE, "-q", "--quiet", help="Say errors only.")]
Verbose = Annotated[bool, _option(_MORE, "-v", "--verbose", help="Tell of every retry.")]


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

        if options["verbose"]:
            _tell_of_retries()
        return execute(Settings(command=str(ctx.info_name), **_common(options)), prepare)

    _exit_with(ctx, options["inputs"], ask)


def _exit_with(ctx: typer.Context, inputs: list[str] | None, command: Callable[[], int]) -> None:
    """Run a command; turn what comes of it into one line and an exit code."""
    if not inputs and os.isatty(0):
        print(f"{ctx.get_usage()}\n\nNo INPUT, and standard input is a terminal.", file=sys.stderr)
        raise typer.Exit(_EXIT_USAGE)
    try:
        code = command()
    except CodesynthError as exc:
        _complain(str(exc))
        code = exc.exit_code
    except BrokenPipeError:
        _turn_away(1)
        code = _EXIT_PIPE
    except KeyboardInterrupt:
        code = _EXIT_INTERRUPTED
    raise typer.Exit(code)


def _complain(text: str) -> None:
    """Say on one line why nothing more is done; a row's own words may be in it."""
    from codesynth.serving.answers import clean

    with contextlib.suppress(OSError):  # the exit code says it too, where stderr takes nothing
        print(f"codesynth: {clean(text, 1000)}", file=sys.stderr)


def _tell_of_retries() -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("codesynth: %(message)s"))
    logger = logging.getLogger("codesynth")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


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
        _option(_IN, "--input-key", metavar="KEY", help="Column of the pool. Default: prompt."),
    ] = "prompt",
    output_key: Annotated[
        str,
        _option(
            _IN, "--output-key", metavar="KEY", help="New column. Default: generated_instruction."
        ),
    ] = "generated_instruction",
    num_generate: Annotated[
        int,
        _option(_ASK, "-n", "--num-generate", min=0, metavar="N", help="How many. Default: 10."),
    ] = 10,
    num_few_shot: Annotated[
        int,
        _option(
            _ASK,
            "-k",
            "--num-few-shot",
            min=1,
            metavar="K",
            help="Examples sampled for each prompt. Default: 3.",
        ),
    ] = 3,
    seed: Annotated[
        int | None,
        _option(_ASK, "--seed", metavar="N", help="Of the sampling. Default: random, and told."),
    ] = None,
    mix: Annotated[
        Any,
        _option(
            _ASK,
            "--mix",
            parser=_ratio,
            metavar="H:M",
            help="Examples from H rows of people's and M of a model's (6:2 in self-instruct), in "
            "place of -k: a model's are rows of the pool with the new column, not the other.",
        ),
    ] = None,
    novelty: Annotated[
        float | None,
        _option(
            _CHECK,
            "--novelty",
            metavar="T",
            help="Reject what has a ROUGE-L of T or more with the pool or a row before (0.7 in "
            "self-instruct), and what is the same but for names and white space.",
        ),
    ] = None,
    accepted: Annotated[
        int | None,
        _option(
            _CHECK,
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
        _option(
            _IN,
            "--input-key",
            metavar="KEY",
            help="Column with the instruction. Default: instruction, or generated_instruction "
            "where a row has no instruction.",
        ),
    ] = None,
    output_key: Annotated[
        str,
        _option(_IN, "--output-key", metavar="KEY", help="New column. Default: generated_code."),
    ] = "generated_code",
    samples: Annotated[
        int,
        _option(
            _ASK, "--samples", min=1, metavar="N", help="Answers, and rows, a row. Default: 1."
        ),
    ] = 1,
    language: Annotated[
        str | None,
        _option(
            _ASK,
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


def _statuses(text: str) -> frozenset[str]:
    from codesynth.verify import STATUSES

    names = frozenset(text.split(","))
    if not names <= set(STATUSES):
        raise typer.BadParameter(f"it is one or more of {','.join(STATUSES)}")
    return names


@app.command(name="verify", cls=_Command, epilog=_EXAMPLES_VERIFY)
def verify(
    ctx: typer.Context,
    inputs: Inputs = None,
    output: Out = None,
    failures: Failures = None,
    input_key: Annotated[
        str,
        _option(
            _IN, "--input-key", metavar="KEY", help="Column with code. Default: generated_code."
        ),
    ] = "generated_code",
    output_key: Annotated[
        str, _option(_IN, "--output-key", metavar="KEY", help="New column. Default: verification.")
    ] = "verification",
    instruction_key: Annotated[
        str | None,
        _option(
            _IN,
            "--instruction-key",
            metavar="KEY",
            help="Column with the instruction, whose doctests are tests. Default: instruction, "
            "generated_instruction or prompt.",
        ),
    ] = None,
    limit: Limit = None,
    test_key: Annotated[
        str | None,
        _option(
            _CHECK,
            "--test-key",
            metavar="KEY",
            help="Column with tests: asserts, or HumanEval's check(candidate). Default: doctests.",
        ),
    ] = None,
    keep: Annotated[
        Any,
        _option(
            _CHECK,
            "--keep",
            parser=_statuses,
            metavar="STATUS,...",
            help="Rows to keep: passed, failed, error, timeout, syntax_error, no_tests. "
            "Default: all.",
        ),
    ] = None,
    best: Annotated[
        bool,
        _option(
            _CHECK,
            "--best",
            help="Keep the first that passed of several answers to one instruction.",
        ),
    ] = False,
    timeout: Annotated[
        float,
        _option(_CHECK, "--timeout", min=0.1, metavar="S", help="Seconds a row. Default: 10."),
    ] = 10.0,
    memory: Annotated[
        int, _option(_CHECK, "--memory", min=64, metavar="MB", help="A row. Default: 512.")
    ] = 512,
    jobs: Annotated[
        int | None,
        _option(
            _CHECK, "-j", "--concurrency", min=1, metavar="N", help="Rows at once. Default: cores."
        ),
    ] = None,
    unsafe: Annotated[
        bool,
        _option(
            _CHECK,
            "--unsafe",
            help="Run model-written code without a sandbox, with all your rights.",
        ),
    ] = False,
    overwrite: Annotated[bool, _option(_IN, "--overwrite", help="Replace the output.")] = False,
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


def run() -> None:
    """Run the command line on this process's arguments."""
    _occupy_standard_streams()
    try:
        app()
    except OSError as exc:
        _complain(f"{exc.filename or 'cannot write <stdout>'}: {exc.strerror}")
        sys.exit(CodesynthError.exit_code)
    finally:
        for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
            try:
                if stream is not None:
                    stream.flush()  # the interpreter's own, at the exit, would make it exit 120
            except OSError:
                _turn_away(fd)


def _turn_away(fd: int) -> None:
    """Let what is still written to a stream go nowhere, so that nobody stumbles over it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def _occupy_standard_streams() -> None:
    """Fill closed descriptors 0 to 2, or the next file opened would be taken for a stream.

    Each is opened the wrong way round, so that using it fails as if it were closed; stderr is
    opened to write into nothing.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stderr is None:
        sys.stderr = open(2, "w")
