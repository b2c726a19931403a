"""The command line: builds each command from its settings, runs it, turns errors into exit codes.

The only file that imports typer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import os
import sys
import typing
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from codesynth import settings as told
from codesynth.errors import CodesynthError
from codesynth.options import GROUPS, MORE, Option
from codesynth.process import EXIT_PIPE, redirect_to_devnull
from codesynth.version import __version__

_EXIT_USAGE, _EXIT_INTERRUPTED = 2, 130
_HINTS = {
    ("gen-code", "-n"): "gen-code answers each input row. Did you mean --limit or --samples?",
    ("gen-code", "--num-generate"): "gen-code answers each input row: --limit or --samples?",
}
"""What to say where an option of another command is given."""


def _format_help(command: Any, ctx: Any, formatter: Any) -> None:
    """Write usage, what it does, examples, then the options in their groups."""
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    command.format_epilog(ctx, formatter)
    groups: dict[str, list[tuple[str, str]]] = {name: [] for name in GROUPS}
    for param in command.get_params(ctx):
        entry = param.get_help_record(ctx)
        if entry is not None:
            groups[getattr(param, "rich_help_panel", None) or MORE].append(entry)
    for name, entries in groups.items():
        if entries:
            with formatter.section(name):
                formatter.write_dl(entries, col_max=26)
    if hasattr(command, "format_commands"):
        command.format_commands(ctx, formatter)


class _Command(TyperCommand):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _format_help(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for arg in args:
            if hint := _HINTS.get((str(ctx.info_name), arg)):
                ctx.fail(f"No such option: {arg}. {hint}")
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


class _Group(TyperGroup):
    def format_help(self, ctx: Any, formatter: Any) -> None:
        _format_help(self, ctx, formatter)


class _Declared(NamedTuple):
    """A command: the class of its settings, its help, and what runs it."""

    kind: type[Any]
    about: str
    examples: str
    run: Callable[[Any], int]


COMMANDS: dict[str, _Declared] = {}
"""The commands by name; filled below."""


def _command(
    name: str, kind: type[Any], about: str, examples: str
) -> Callable[[Callable[[Any], int]], None]:
    """Declare a command; what is decorated runs it."""

    def declare(run: Callable[[Any], int]) -> None:
        COMMANDS[name] = _Declared(kind, about, examples, run)

    return declare


def make_app(name: str | None = None) -> typer.Typer:
    """Make the command line.

    Args:
        name: of the one command that is needed, as making them all takes time; None makes all.
    """
    app = typer.Typer(
        name="codesynth",
        cls=_Group,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
        epilog="""\b
Examples:
  codesynth gen-instructions seeds.jsonl -n 1000 |
      codesynth gen-code > sft.jsonl
  codesynth gen-instructions seeds.jsonl -n 1000 -o new.jsonl
  codesynth gen-code new.jsonl -o sft.jsonl
  codesynth gen-code new.jsonl --offline | head
""",
    )
    app.callback()(_main)
    for each in [name] if name in COMMANDS else COMMANDS:
        _add_command(app, each, COMMANDS[each])
    return app


def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", show_default=False)
    ] = False,
) -> None:
    """Make training data for code models with any OpenAI-compatible endpoint."""
    if version:
        print(f"codesynth {__version__}")
        raise typer.Exit


def _add_command(app: typer.Typer, name: str, declared: _Declared) -> None:
    """Build a command from the fields of its settings."""
    kind = declared.kind
    hints = typing.get_type_hints(kind)
    fields = [each for each in dataclasses.fields(kind) if "option" in each.metadata]

    def command(ctx: typer.Context, **values: Any) -> None:
        _exit_with(ctx, values["inputs"], lambda: declared.run(_make(kind, values)))

    parameters = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if _is_list(hints[each.name]) else each.default,
            annotation=_annotation(hints[each.name], each.metadata["option"]),
        )
        for each in fields
    ]
    context = inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    signature = inspect.Signature([context, *parameters])
    command.__signature__ = signature  # type: ignore[attr-defined]  # typer reads it
    command.__annotations__ = {each.name: each.annotation for each in [context, *parameters]}
    lines = "\n".join(f"  {line}" for line in declared.examples.strip().splitlines())
    epilog = f"\b\nExamples:\n{lines}"
    app.command(name=name, cls=_Command, help=declared.about, epilog=epilog)(command)


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list


def _annotation(kind: Any, option: Option) -> Any:
    """Make of a field's type and option what typer reads."""
    more: dict[str, Any] = {"help": option.help, "rich_help_panel": option.group}
    if not option.names:
        return Annotated[list[str] | None, typer.Argument(metavar=option.metavar, **more)]
    more["show_default"] = False
    if option.metavar:
        more["metavar"] = option.metavar
    if option.complete is not None:
        more["autocompletion"] = _completion(option.complete)
    if option.parse is not None and not _is_list(kind):
        return Annotated[Any, typer.Option(*option.names, parser=_parser(option.parse), **more)]
    if _is_list(kind):
        return Annotated[list[str] | None, typer.Option(*option.names, **more)]
    if kind is bool:
        return Annotated[bool, typer.Option(*option.names, **more)]
    return Annotated[kind, typer.Option(*option.names, callback=_checker(option.least), **more)]


def _parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not isinstance(text, str):  # typer passes a default through
            return text
        try:
            return parse(text)
        except ValueError as exc:
            raise typer.BadParameter(f"it {exc}") from exc

    return read


def _completion(values: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    return lambda incomplete: [value for value in values() if value.startswith(incomplete)]


def _checker(least: float | None) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise typer.BadParameter("it is no number")
        if least is not None and value is not None and value < least:
            raise typer.BadParameter(f"it is less than {least:g}")
        return value

    return check


def _make(kind: type[Any], values: dict[str, Any]) -> Any:
    """Make the settings, with the environment in the place of what is not given."""
    made = {}
    for each in dataclasses.fields(kind):
        option = each.metadata.get("option")
        if option is None:
            continue
        value = values[each.name]
        is_list = each.default_factory is list
        if option.env is not None and not value and (found := os.environ.get(option.env)):
            value = [found] if is_list else found
        if is_list:
            value = list(value or [])
            if option.parse is not None:
                value = [_parser(option.parse)(text) for text in value]
        made[each.name] = value
    return kind(**made | {"inputs": made["inputs"] or ["-"]})


def _exit_with(ctx: typer.Context, inputs: list[str] | None, command: Callable[[], int]) -> None:
    """Run a command; turn what comes of it into one line and an exit code."""
    if not inputs and os.isatty(0):
        print(f"{ctx.get_usage()}\n\nNo INPUT, and standard input is a terminal.", file=sys.stderr)
        raise typer.Exit(_EXIT_USAGE)
    try:
        with _log_to_stderr() if ctx.params.get("verbose") else contextlib.nullcontext():
            code = command()
    except CodesynthError as exc:
        complain(str(exc))
        code = exc.exit_code
    except BrokenPipeError:
        redirect_to_devnull(1)
        code = EXIT_PIPE
    except KeyboardInterrupt:
        code = _EXIT_INTERRUPTED
    raise typer.Exit(code)


def complain(text: str) -> None:
    """Say on one line why nothing more is done; a row's own words may be in it."""
    from codesynth.serving.answers import one_line

    with contextlib.suppress(OSError):  # the exit code says it too, where stderr takes nothing
        print(f"codesynth: {one_line(text, 1000)}", file=sys.stderr)


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
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


def _ask(settings: told.AskSettings, name: str) -> int:
    """Run a command that asks a model, in this process or on a Ray cluster."""
    from codesynth import asking, commands

    prepare = partial(commands.prepare, settings)
    if settings.ray is None:
        return asking.ask(settings, name, prepare)
    from codesynth.scale.ray import run_parts

    return asking.ask(settings, name, prepare, partial(run_parts, name))


@_command(
    "gen-instructions",
    told.InstructionsSettings,
    "Ask for new instructions like the examples in a pool of code prompts.",
    """
codesynth gen-instructions seeds.jsonl -n 100 --offline
codesynth gen-instructions seeds.jsonl -n 1000 --seed 1 -o new.jsonl
codesynth gen-instructions pool.jsonl.gz -k 5 --temperature 1 > new.jsonl
""",
)
def _gen_instructions(settings: told.InstructionsSettings) -> int:
    return _ask(settings, "gen-instructions")


@_command(
    "gen-code",
    told.CodeSettings,
    "Ask for the code that each row's instruction describes.",
    """
codesynth gen-code instructions.jsonl --offline
codesynth gen-code instructions.jsonl -o sft.jsonl --max-tokens 2048
codesynth gen-instructions seeds.jsonl | codesynth gen-code > sft.jsonl
""",
)
def _gen_code(settings: told.CodeSettings) -> int:
    return _ask(settings, "gen-code")


@_command(
    "gen-tests",
    told.TestsSettings,
    "Ask for tests of the code that each row's instruction describes, before there is any code.",
    """
codesynth gen-tests new.jsonl -o tested.jsonl --num-tests 10
codesynth gen-instructions seeds.jsonl | codesynth gen-tests > tested.jsonl
""",
)
def _gen_tests(settings: told.TestsSettings) -> int:
    return _ask(settings, "gen-tests")


@_command(
    "gen",
    told.GenSettings,
    "Ask what a template says of each row. Any {column} is a placeholder.",
    """
codesynth gen sft.jsonl -t my_prompt.txt --output-key review
codesynth gen new.jsonl -t judge_difficulty --json --require difficulty
""",
)
def _gen(settings: told.GenSettings) -> int:
    return _ask(settings, "gen")


@_command(
    "verify",
    told.VerifySettings,
    "Run each row's code against its tests, in a sandbox, and write what happened.",
    """
codesynth verify sft.jsonl --keep passed -o clean.jsonl
codesynth verify code.jsonl --best > best.jsonl
codesynth verify code.jsonl --agree --best > best.jsonl
codesynth verify rows.jsonl --test-key test --input-key solution
""",
)
def _verify(settings: told.VerifySettings) -> int:
    from codesynth.verifying import verify

    return verify(settings)


@_command(
    "show",
    told.ShowSettings,
    "Read rows in the terminal: code in color, verdicts, failures with their answers.",
    """
codesynth show sft.jsonl
codesynth show sft.jsonl --where verification.status=failed --sample 20
codesynth show sft.failures.jsonl --where error.kind=truncated
""",
)
def _show(settings: told.ShowSettings) -> int:
    from codesynth.report.show import show

    return show(settings)


@_command(
    "report",
    told.ReportSettings,
    "Write an HTML page with figures, plots and sample rows. It needs no network.",
    """
codesynth report sft.jsonl -o report.html
codesynth report sft.jsonl sft.failures.jsonl sft.journal -o report.html
""",
)
def _report(settings: told.ReportSettings) -> int:
    from codesynth.report.page import report

    return report(settings)


@_command(
    "status",
    told.StatusSettings,
    "Show how far the parts of a job are: rows, failures, tokens, speed. It disturbs no run.",
    """
codesynth status sft.*.journal
codesynth status sft.*.journal --price 0.15,0.6 --json
""",
)
def _status(settings: told.StatusSettings) -> int:
    from codesynth.scale.status import status

    return status(settings)


@_command(
    "join",
    told.JoinSettings,
    "Put the outputs of all parts of a job together, in the order of the undivided job.",
    """
codesynth gen-code big.jsonl --shard 0/2 -o sft.0.jsonl
codesynth gen-code big.jsonl --shard 1/2 -o sft.1.jsonl
codesynth join sft.0.jsonl sft.1.jsonl -o sft.jsonl
""",
)
def _join(settings: told.JoinSettings) -> int:
    from codesynth.scale.join import join

    return join(settings)
