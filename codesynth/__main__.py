"""``codesynth`` and ``python -m codesynth``: help and version are printed without the parser.

Loading the parser takes six times as long as Python's own start.
"""

from __future__ import annotations

import os
import sys

from codesynth import process
from codesynth.version import __version__


def main() -> None:
    """Run the command line on this process's arguments."""
    process.refuse_closed_streams()
    args = sys.argv[1:]
    try:
        if args[:1] == ["--version"]:
            print(f"codesynth {__version__}")
        elif "-h" in args or "--help" in args:
            print(_help(args[0]) or _help("codesynth"), end="")
        elif args or "_CODESYNTH_COMPLETE" in os.environ:  # a shell asks for completions
            from codesynth.cli import run_command_line

            run_command_line(*args[:1])
        else:
            process.print_error(_help("codesynth").rstrip())
            sys.exit(process.EXIT_USAGE)
        sys.stdout.flush()
    except BrokenPipeError:
        process.redirect_to_devnull(1)
        sys.exit(process.EXIT_PIPE)
    except KeyboardInterrupt:  # while modules are loaded
        sys.exit(process.EXIT_INTERRUPTED)
    except OSError as exc:
        name = " ".join(["codesynth", *args[:1]])
        process.print_error(f"{name}: {exc.filename or 'cannot write <stdout>'}: {exc.strerror}")
        process.redirect_to_devnull(1)
        sys.exit(1)
    finally:
        try:
            sys.stderr.flush()  # if Python's own flush at the exit fails, the exit code is 120
        except OSError:
            process.redirect_to_devnull(2)


def _help(name: str) -> str:
    """Read the help text of a command, which tests/update_help.py has written."""
    folder = os.path.join(os.path.dirname(__file__), "help")  # noqa: PTH118, PTH120  # pathlib loads slowly
    if f"{name}.txt" not in os.listdir(folder):  # noqa: PTH208 - pathlib loads slowly
        return ""
    with open(f"{folder}/{name}.txt", encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    main()
