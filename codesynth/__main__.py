"""``codesynth`` and ``python -m codesynth``: the streams, and what is told without a parser."""

from __future__ import annotations

import errno
import os
import sys

from codesynth.streams import EXIT_PIPE, occupy_standard_streams, turn_away
from codesynth.version import __version__

_COMMANDS = ("gen-instructions", "gen-code", "verify")


def main() -> None:
    """Run the command line on this process's arguments."""
    occupy_standard_streams()
    try:
        words = _at_once(sys.argv[1:])
        if words is None:
            from codesynth.cli import app

            app()
        else:
            _say(words)
    except BrokenPipeError:
        turn_away(1)
        sys.exit(EXIT_PIPE)
    except OSError as exc:
        from codesynth.cli import complain

        complain(f"{exc.filename or 'cannot write <stdout>'}: {exc.strerror}")
        sys.exit(1)
    finally:
        for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
            try:
                if stream is not None:
                    stream.flush()  # the interpreter's own, at the exit, would make it exit 120
            except OSError:
                turn_away(fd)


def _say(words: str) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    print(words, end="", flush=True)


def _at_once(args: list[str]) -> str | None:
    """Give version or help: loading the parser takes six times as long as Python's own start."""
    if args == ["--version"]:
        return f"codesynth {__version__}\n"
    name = args[0] if len(args) == 2 and args[0] in _COMMANDS else "codesynth"
    if args not in ([name, "-h"], [name, "--help"], ["-h"], ["--help"]):
        return None
    path = os.path.join(os.path.dirname(__file__), "help", f"{name}.txt")  # noqa: PTH118, PTH120  # pathlib loads slowly
    with open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    main()
