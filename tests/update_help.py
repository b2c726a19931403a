"""Write what is derived from the options: codesynth/help/ and the README's tables.

    .venv/bin/python tests/update_help.py

Run it after a change of an option; a test says when that was forgotten.
"""

import inspect
import re
import textwrap
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from codesynth.cli import COMMANDS
from codesynth.options import Option, Settings
from codesynth.settings import AskSettings

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "codesynth" / "help"
WIDTH, LONGEST_USAGE = 78, 26
ALL = """\
Usage: codesynth COMMAND [OPTIONS] [INPUT]...

  Make training data for code models with any OpenAI-compatible endpoint.

  Examples:
    codesynth gen-instructions seeds.jsonl -n 1000 |
        codesynth gen-code > sft.jsonl
    codesynth gen-instructions seeds.jsonl -n 1000 -o new.jsonl
    codesynth gen-code new.jsonl -o sft.jsonl
    codesynth gen-code new.jsonl --offline | head
"""


def help_texts() -> dict[str, str]:
    """Write the help of each command, by file name; also that of codesynth itself."""
    short = {name: _about(kind)[0].partition(". ")[0] for name, kind in COMMANDS.items()}
    options = [
        ("--version", "Print the version."),
        ("--install-completion", "Install completion for the shell that is in use."),
        ("--show-completion", "Print the completion script for the shell that is in use."),
        ("COMMAND -h, --help", "Print the help of a command."),
    ]
    sections = [
        _section("Commands", [(name, words.removesuffix(".")) for name, words in short.items()]),
        _section("Options", options),
    ]
    texts = {name: help_of(name, kind) for name, kind in COMMANDS.items()}
    return {"codesynth": "\n".join([ALL, *sections]), **texts}


def help_of(name: str, kind: type[Settings]) -> str:
    """Write the help of a command: usage, what it does, examples, then options in groups."""
    about, examples = _about(kind)
    sections = [
        _section(heading, [(_usage(each), each.help) for each in options])
        for heading, options in _groups(kind).items()
    ]
    parts = [
        f"Usage: codesynth {name} [OPTIONS] {kind.options()['inputs'].metavar}\n",
        textwrap.fill(about, WIDTH, initial_indent="  ", subsequent_indent="  ") + "\n",
        textwrap.indent(f"Examples:\n{textwrap.indent(examples, '  ')}", "  ") + "\n",
        *sections,
        _section("Other", [("-h, --help", "Print this help.")]),
    ]
    return "\n".join(parts)


def _groups(kind: type[Settings]) -> dict[str, list[Option]]:
    """Group the options by heading; what the command has of its own comes first."""
    groups: dict[str, list[Option]] = {f"Options of {kind.command}": []}
    for each in kind.options().values():
        groups.setdefault(each.heading, []).append(each)
    return {heading: options for heading, options in groups.items() if options}


def _about(kind: type[Settings]) -> tuple[str, str]:
    about, _, examples = inspect.cleandoc(kind.__doc__ or "").partition("\n\nExamples:\n")
    return about, textwrap.dedent(examples)


def _usage(option: Option) -> str:
    return f"{', '.join(option.names)} {option.metavar}".strip()


def _section(heading: str, entries: list[tuple[str, str]]) -> str:
    longest = min(LONGEST_USAGE, max(len(usage) for usage, _ in entries))
    lines = [f"{heading}:"]
    for usage, text in entries:
        first, *more = textwrap.wrap(text, WIDTH - longest - 4)
        if len(usage) > longest:
            lines.append(f"  {usage}")
            usage = ""
        lines += [f"  {usage:<{longest}}  {first}", *(" " * (longest + 4) + line for line in more)]
    return "\n".join(lines) + "\n"


def tables() -> str:
    """Write the README's tables: the shared options, and those that a command has of its own."""
    shared = list(chain.from_iterable(_groups(AskSettings).values()))
    parts = [_table("Commands that ask a model", shared)]
    for name, kind in COMMANDS.items():
        options = [each for each in chain.from_iterable(_groups(kind).values()) if each.names]
        parts.append(_table(f"`{name}`", [each for each in options if each not in shared]))
        known = [f"`{each.names[-1]}`" for each in options if each in shared]
        if known and not issubclass(kind, AskSettings):
            parts.append(f"As above: {', '.join(known)}.\n")
    return "\n".join(parts)


def _table(title: str, options: Iterable[Option]) -> str:
    rows = [
        f"| `{escaped}` | {each.help} |"
        for each in options
        if each.names and (escaped := _usage(each).replace("|", r"\|"))
    ]
    if not rows:
        return f"**{title}**\n"
    return "\n".join([f"**{title}**\n", "| option | meaning |", "| --- | --- |", *rows, ""])


def readme() -> str:
    """Return the README with tables that are up to date."""
    text = (ROOT / "README.md").read_text("utf-8")
    marks = r"(<!-- options -->\n).*?(<!-- end -->)"
    return re.sub(marks, lambda found: f"{found[1]}{tables()}{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    for name, text in help_texts().items():
        (FOLDER / f"{name}.txt").write_text(text)
    (ROOT / "README.md").write_text(readme(), "utf-8")
