"""The command line: read the options of a command, run it, turn errors into exit codes.

The only file that imports typer.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from codesynth import local_settings
from codesynth import settings as ask_settings
from codesynth.errors import CodesynthError, LimitReached, one_line
from codesynth.options import Option, Settings
from codesynth.process import EXIT_INTERRUPTED, EXIT_PIPE, print_error, redirect_to_devnull

_MODULES: dict[type[Settings], str] = {
    ask_settings.InstructionsSettings: "asking",
    ask_settings.CodeSettings: "asking",
    ask_settings.TestsSettings: "asking",
    ask_settings.GenSettings: "asking",
    local_settings.VerifySettings: "verifying",
    local_settings.ShowSettings: "report.show",
    local_settings.ReportSettings: "report.page",
    local_settings.StatusSettings: "scale.status",
    local_settings.JoinSettings: "scale.join",
}
"""The module of each command. Its function has the command's name, or is called ``ask``."""
COMMANDS: dict[str, type[Settings]] = {kind.command: kind for kind in _MODULES}
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def run_command_line(name: str = "") -> None:
    """Run the command of this process's arguments, and exit.

    Args:
        name: the command; only its options are prepared. If there is no such command, all are
            prepared, which takes longer: for the error message, or to complete the name.
    """
    app = typer.Typer(
        cls=TyperGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    app.callback()(lambda: None)
    group: Any = get_command(app)  # it has the options for completion
    for each in [name] if name in COMMANDS else COMMANDS:
        group.add_command(_Command(COMMANDS[each]))
    group(prog_name="codesynth")


class _Command(TyperCommand):
    """A command whose options are the fields of its settings."""

    def __init__(self, kind: type[Settings]) -> None:
        self._kind = kind
        super().__init__(
            kind.command,
            params=[_parameter(field, each) for field, each in kind.options().items()],
            help=kind.__doc__,
            context_settings=_CONTEXT,
        )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self.name == "gen-code" and "-n" in args:
            ctx.fail("No such option: -n. Did you mean --limit or --samples?")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> None:
        given = {name: value for name, value in ctx.params.items() if value not in (None, ())}
        if "inputs" not in given and os.isatty(0):
            ctx.fail(
                "No INPUT, and standard input is a terminal. Name a JSONL file, or - to type rows."
            )
        ctx.exit(_exit_code(self._kind(**given)))


def _parameter(field: str, option: Option) -> Any:
    """Describe an option to typer. An option that is not given becomes None."""
    if not option.names:
        return TyperArgument(param_decls=[field], nargs=-1, metavar=option.metavar)

    def read(text: str) -> Any:
        try:
            return option.parse(text)
        except ValueError as exc:
            raise typer.BadParameter(f"it {exc}") from exc

    def complete(*_: object) -> list[str]:
        return option.complete() if option.complete is not None else []

    return TyperOption(
        param_decls=[field, *option.names],
        type=read if option.metavar else None,
        is_flag=not option.metavar,
        multiple=option.multiple,
        metavar=option.metavar,
        envvar=option.env,
        help=option.help,
        autocompletion=complete if option.complete is not None else None,
    )


def _exit_code(settings: Settings) -> int:
    """Run a command; return its exit code, and print an error on one line."""
    try:
        code = _run(settings)
        sys.stdout.flush()
        return code
    except CodesynthError as exc:
        # With --no-wait -q, cron runs the command until the batches are done. It would send a mail
        # each time.
        waits = (
            isinstance(settings, ask_settings.AskSettings) and settings.no_wait and settings.quiet
        )
        if not (waits and isinstance(exc, LimitReached)):
            print_error(f"codesynth {settings.command}: {one_line(str(exc), 1000)}")
        return exc.exit_code
    except BrokenPipeError:
        redirect_to_devnull(1)
        return EXIT_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(settings: Settings) -> int:
    """Run the command of these settings. Only the modules that it needs are imported."""
    module, name = _MODULES[type(settings)], settings.command
    if isinstance(settings, ask_settings.AskSettings):
        _log_to_stderr(settings)
        name = "ask"
        if settings.ray is not None and not settings.dry_run:
            module, name = "scale.ray", "ask_in_parts"
    return int(getattr(import_module(f"codesynth.{module}"), name)(settings))


def _log_to_stderr(settings: ask_settings.AskSettings) -> None:
    """Print warnings; with ``--verbose`` also retries and changes of the concurrency."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"codesynth {settings.command}: %(message)s"))
    logger = logging.getLogger("codesynth")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if settings.verbose else logging.WARNING)
