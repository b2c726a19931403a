"""The command line: make each command from its settings, run it, turn errors into exit codes.

The only file that imports typer.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from codesynth import settings as command_settings
from codesynth.errors import CodesynthError, LimitReached, one_line
from codesynth.options import Option, Settings
from codesynth.process import EXIT_PIPE, redirect_to_devnull
from codesynth.version import __version__

_EXIT_USAGE, _EXIT_INTERRUPTED = 2, 130
_GEN_CODE_HAS_NO_N = "gen-code answers each input row. Did you mean --limit or --samples?"
_EXAMPLES = """\
  codesynth gen-instructions seeds.jsonl -n 1000 |
      codesynth gen-code > sft.jsonl
  codesynth gen-instructions seeds.jsonl -n 1000 -o new.jsonl
  codesynth gen-code new.jsonl -o sft.jsonl
  codesynth gen-code new.jsonl --offline | head
"""


class _Help:
    def format_help(self: Any, ctx: Any, formatter: Any) -> None:
        """Write usage, what it does, examples, then the options in their groups."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_epilog(ctx, formatter)
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (entry := param.get_help_record(ctx)) is not None:
                heading = getattr(param, "rich_help_panel", None) or "Other"
                groups.setdefault(heading, []).append(entry)
        for heading, entries in groups.items():
            with formatter.section(heading):
                formatter.write_dl(entries, col_max=26)
        if hasattr(self, "format_commands"):
            self.format_commands(ctx, formatter)


class _Group(_Help, TyperGroup):
    pass


class _Command(_Help, TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.info_name == "gen-code":
            for wrong in {"-n", "--num-generate"}.intersection(args):
                ctx.fail(f"No such option: {wrong}. {_GEN_CODE_HAS_NO_N}")
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def make_app(name: str | None = None) -> typer.Typer:
    """Make the command line.

    Args:
        name: the one command to make; None makes all, which takes longer.
    """
    app = typer.Typer(
        name="codesynth",
        cls=_Group,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
        epilog=f"\b\nExamples:\n{_EXAMPLES}",
    )
    app.callback()(_main)
    for each in [name] if name in command_settings.COMMANDS else command_settings.COMMANDS:
        _add_command(app, command_settings.COMMANDS[each])
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


def _add_command(app: typer.Typer, kind: type[Settings]) -> None:
    """Build a command from the fields of its settings."""

    def command(ctx: typer.Context, **values: Any) -> None:
        given = {name: value for name, value in values.items() if value is not None}
        if not given.get("inputs") and os.isatty(0):
            words = (
                "No INPUT, and standard input is a terminal. Name a JSONL file, or - to type rows."
            )
            hint = f"Try '{ctx.command_path} -h' for help."
            print(f"{ctx.get_usage()}\n{hint}\n\n{words}", file=sys.stderr)
            raise typer.Exit(_EXIT_USAGE)
        settings = kind(**{**given, "inputs": given.get("inputs") or ["-"]})
        raise typer.Exit(_exit_code(settings, verbose=bool(values.get("verbose"))))

    hints = typing.get_type_hints(kind)
    parameters = {"ctx": typer.Context} | {
        field: _annotation(hints[field], option, heading)
        for heading, options in kind.options().items()
        for field, option in options.items()
    }
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # typer reads it
        [
            inspect.Parameter(
                field,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field == "ctx" else None,
                annotation=annotation,
            )
            for field, annotation in parameters.items()
        ]
    )
    command.__annotations__ = parameters
    about, _, examples = inspect.cleandoc(kind.__doc__ or "").partition("\n\nExamples:\n")
    examples = examples.replace("    codesynth", "  codesynth")
    epilog = f"\b\nExamples:\n{examples}"
    short = about.replace("\n", " ").partition(". ")[0].removesuffix(".")
    app.command(kind.command, cls=_Command, help=about, short_help=short, epilog=epilog)(command)


def _annotation(kind: Any, option: Option, heading: str) -> Any:
    """Describe an option to typer. An option that is not given becomes None."""
    more: dict[str, Any] = {"help": option.help, "rich_help_panel": heading}
    if not option.names:
        return Annotated[list[str] | None, typer.Argument(metavar=option.metavar, **more)]
    more |= {"show_default": False, "envvar": option.env, "show_envvar": False}
    if option.metavar:
        more["metavar"] = option.metavar
    if option.complete is not None:
        more["autocompletion"] = _completion(option.complete)
    many = typing.get_origin(kind) is list
    if option.read is not None:
        more["parser"] = _parser(option)
        kind = list[Any] if many else Any
    elif not many and kind is not bool:
        more["callback"] = _checker(option.least)
    return Annotated[kind | None, typer.Option(*option.names, **more)]


def _parser(option: Option) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return option.read(text) if option.read is not None else text
        except ValueError as exc:
            words = f"must be {option.form}" if option.form is not None else str(exc)
            raise typer.BadParameter(f"it {words}") from exc

    return read


def _completion(values: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    return lambda incomplete: [value for value in values() if value.startswith(incomplete)]


def _checker(least: float | None) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise typer.BadParameter("it is not a number")
        if least is not None and value is not None and value < least:
            raise typer.BadParameter(f"it is less than {least:g}")
        return value

    return check


def _exit_code(settings: Settings, *, verbose: bool) -> int:
    """Run a command; return its exit code, and print an error on one line."""
    try:
        with _log_to_stderr() if verbose else contextlib.nullcontext():
            return _run(settings)
    except CodesynthError as exc:
        if not (isinstance(exc, LimitReached) and _is_silent_poll(settings)):
            complain(str(exc))
        return exc.exit_code
    except BrokenPipeError:
        redirect_to_devnull(1)
        return EXIT_PIPE
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED


def _is_silent_poll(settings: Settings) -> bool:
    """Tell whether cron repeats this line until the batches are done: open ones are no news."""
    if not isinstance(settings, command_settings.AskSettings):
        return False
    return settings.no_wait and settings.quiet


def _run(settings: Settings) -> int:
    """Run the command of these settings. Only the modules that it needs are imported."""
    match settings:
        case command_settings.AskSettings():
            from codesynth.asking import ask

            if settings.ray is None:
                return ask(settings)
            from codesynth.scale.ray import run_parts

            return ask(settings, run_parts)
        case command_settings.VerifySettings():
            from codesynth.verifying import verify

            return verify(settings)
        case command_settings.ShowSettings():
            from codesynth.report.show import show

            return show(settings)
        case command_settings.ReportSettings():
            from codesynth.report.page import report

            return report(settings)
        case command_settings.StatusSettings():
            from codesynth.scale.status import status

            return status(settings)
        case command_settings.JoinSettings():
            from codesynth.scale.join import join

            return join(settings)
    raise TypeError(f"{type(settings).__name__} belongs to no command")


def complain(text: str) -> None:
    """Print on one line why the command ends; the text may quote a row."""
    with contextlib.suppress(OSError):  # stderr may be closed or full; the exit code is left
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
