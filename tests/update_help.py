"""Write what is derived from the options: codesynth/help/ and the README's tables.

    .venv/bin/python tests/update_help.py

The help texts are those of the parser, so that printing them needs no parser. Run it after a change
of an option; a test says when that was forgotten.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from codesynth.options import Option
from codesynth.settings import COMMANDS, AskSettings

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "codesynth" / "help"
HELPED = ["", *COMMANDS]


def help_of(command: str) -> str:
    """Ask the parser for the help of a command; "" is codesynth itself."""
    program = Path(sys.executable).with_name("codesynth")
    args = [str(program), *command.split(), "-h", "-h"]  # -h once prints the written text
    environment = os.environ | {"COLUMNS": "80"}
    return subprocess.run(args, env=environment, capture_output=True, text=True, check=True).stdout


def tables() -> str:
    """Write the README's tables: the shared options, and those that a command has of its own."""
    shared = [each for group in AskSettings.options().values() for each in group.values()]
    parts = [_table("Commands that ask a model", shared)]
    for name, kind in COMMANDS.items():
        options = [each for group in kind.options().values() for each in group.values()]
        known = shared if issubclass(kind, AskSettings) else []
        parts.append(_table(f"`{name}`", [each for each in options if each not in known]))
    return "\n".join(parts)


def _table(title: str, options: Iterable[Option]) -> str:
    rows = []
    for each in options:
        if each.names:
            usage = f"{', '.join(each.names)} {each.metavar}".strip().replace("|", r"\|")
            rows.append(f"| `{usage}` | {each.help} |")
    return "\n".join([f"**{title}**\n", "| option | meaning |", "| --- | --- |", *rows, ""])


def readme() -> str:
    """Return the README with tables that are up to date."""
    text = (ROOT / "README.md").read_text("utf-8")
    marks = r"(<!-- options -->\n).*?(<!-- end -->)"
    return re.sub(marks, lambda found: f"{found[1]}{tables()}{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    for name in HELPED:
        (FOLDER / f"{name or 'codesynth'}.txt").write_text(help_of(name))
    (ROOT / "README.md").write_text(readme(), "utf-8")
