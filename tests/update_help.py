"""Write what is derived from the options: codesynth/help/ and the README's tables.

    .venv/bin/python tests/update_help.py

The help texts are those of the parser, so that printing them needs no parser. Run it after a change
of an option; a test says when that was forgotten.
"""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

from codesynth import cli, settings
from codesynth.options import Option

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "codesynth" / "help"
COMMANDS = ["", *sorted(cli.COMMANDS)]
OWN = {
    "gen-instructions": settings.InstructionsSettings,
    "gen-code": settings.CodeSettings,
    "gen-tests": settings.TestsSettings,
    "gen": settings.GenSettings,
    "verify": settings.VerifySettings,
    "show": settings.ShowSettings,
    "report": settings.ReportSettings,
    "status": settings.StatusSettings,
    "join": settings.JoinSettings,
}


def help_of(command: str) -> str:
    """Ask the parser for the help of a command; "" is codesynth itself."""
    program = Path(sys.executable).with_name("codesynth")
    args = [str(program), *command.split(), "-h", "-h"]  # -h once prints the written text
    environment = os.environ | {"COLUMNS": "80"}
    return subprocess.run(args, env=environment, capture_output=True, text=True, check=True).stdout


def tables() -> str:
    """Write the README's tables: the shared options, and those that a command has of its own."""
    shared = _options(settings.AskSettings)
    parts = [_table("Commands that ask a model", shared)]
    for name, kind in OWN.items():
        own = {
            usage: option
            for usage, option in _options(kind).items()
            if shared.get(usage) != option or not issubclass(kind, settings.AskSettings)
        }
        parts.append(_table(f"`{name}`", own))
    return "\n".join(parts)


def _options(kind: type) -> dict[str, Option]:
    declared = [field.metadata.get("option") for field in dataclasses.fields(kind)]
    options = [option for option in declared if option is not None and option.names]
    return {f"{', '.join(o.names)} {o.metavar}".strip(): o for o in options}


def _table(title: str, options: dict[str, Option]) -> str:
    rows = [
        f"| `{usage.replace('|', chr(92) + '|')}` | {option.help} |"
        for usage, option in options.items()
    ]
    return "\n".join([f"**{title}**\n", "| option | meaning |", "| --- | --- |", *rows, ""])


def readme() -> str:
    """Return the README with tables that are up to date."""
    text = (ROOT / "README.md").read_text("utf-8")
    marks = r"(<!-- options -->\n).*?(<!-- end -->)"
    return re.sub(marks, lambda found: f"{found[1]}{tables()}{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    for name in COMMANDS:
        (FOLDER / f"{name or 'codesynth'}.txt").write_text(help_of(name))
    (ROOT / "README.md").write_text(readme(), "utf-8")
