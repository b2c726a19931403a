"""Write codesynth/help/: the help as the parser prints it, so that printing needs no parser.

    .venv/bin/python tests/update_help.py

Run it after a change of an option; a test says when that was forgotten.
"""

import os
import subprocess
import sys
from pathlib import Path

from codesynth.cli import app

FOLDER = Path(__file__).parent.parent / "codesynth" / "help"
COMMANDS = ["", *sorted(command.name or "" for command in app.registered_commands)]


def help_of(command: str) -> str:
    """Ask the parser for the help of a command; "" is codesynth itself."""
    program = Path(sys.executable).with_name("codesynth")
    args = [str(program), *command.split(), "-h", "-h"]  # -h once prints the written text
    environment = os.environ | {"COLUMNS": "80"}
    return subprocess.run(args, env=environment, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    for name in COMMANDS:
        (FOLDER / f"{name or 'codesynth'}.txt").write_text(help_of(name))
