"""Write codesynth/help/: the help texts as the parser prints them, so that printing needs no parser.

    python tests/update_help.py

Run it after a change of an option; tests/test_help.py says when that was forgotten.
"""

import os
from pathlib import Path

from typer.testing import CliRunner

from codesynth.cli import app

FOLDER = Path(__file__).parent.parent / "codesynth" / "help"


def texts() -> dict[str, str]:
    """Ask the parser for the help of each command, by name."""
    os.environ |= {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}
    names = [command.name or "" for command in app.registered_commands]
    asked = {"codesynth": ["--help"], **{name: [name, "--help"] for name in names}}
    runner = CliRunner()
    return {
        name: runner.invoke(app, args, prog_name="codesynth", catch_exceptions=False).stdout
        for name, args in asked.items()
    }


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / f"{name}.txt").write_text(text)
