"""The README's commands, run as they are printed, but for what they install."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from update_help import readme

from codesynth.models import FailureKind
from codesynth.verify import STATUSES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def printed(name: str) -> str:
    """Find the one command between the marks of a name."""
    found = re.findall(rf"<!-- {name} -->\n```sh\n(.*)\n```\n<!-- end -->\n", README)
    assert len(found) == 1
    return str(found[0])


def test_the_first_command_makes_code_from_seeds(tmp_path: Path) -> None:
    installing = "python3 -m venv .venv && .venv/bin/pip install -q . && "
    command = printed("first command")
    assert command.startswith(installing)
    script = tmp_path / ".venv" / "bin" / "codesynth"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m codesynth "$@"\n')
    script.chmod(0o755)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.removeprefix(installing)],
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(rows)) == (0, 5)
    for row in rows:
        assert list(row) == ["generated_instruction", "generated_code"]
        [signature] = re.findall(r"^def .*:$", row["generated_instruction"], re.MULTILINE)
        assert f"{signature}\n" in row["generated_code"]
    assert b"Traceback" not in done.stderr


def test_every_option_is_in_the_readme() -> None:
    for path in (ROOT / "codesynth" / "help").glob("*.txt"):
        options = set(re.findall(r"(?<=\s)--[a-z-]+|(?<=  )-[a-zA-Z](?=,)", path.read_text()))
        told = {name for name in options if re.search(rf"(?<![\w-]){name}(?![\w-])", README)}
        assert options - told == set(), path.name


def test_the_tables_of_options_are_those_of_the_settings() -> None:
    assert readme() == README, "run tests/update_help.py"


def test_every_kind_of_failure_and_every_status_is_in_the_readme() -> None:
    kinds = set(get_args(FailureKind))
    names = {*kinds, *STATUSES}
    assert "timeout" in kinds
    assert {name for name in names if f"`{name}`" not in README} == set()
