"""``codesynth`` and ``python -m codesynth``: help and version are printed without the parser."""

from __future__ import annotations

import errno
import os
import sys

from codesynth.process import EXIT_PIPE, occupy_standard_streams, redirect_to_devnull
from codesynth.version import __version__


def main() -> None:
    """Run the command line on this process's arguments."""
    occupy_standard_streams()
    try:
        text = _ready_text(sys.argv[1:])
        if text is None:
            from codesynth.cli import make_app

            make_app(next(iter(sys.argv[1:]), None))(prog_name="codesynth")
        else:
            _print(text)
    except BrokenPipeError:
        redirect_to_devnull(1)
        sys.exit(EXIT_PIPE)
    except OSError as exc:
        from codesynth.cli import complain

        complain(f"{exc.filename or 'cannot write <stdout>'}: {exc.strerror}")
        sys.exit(1)
    finally:
        for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
            try:
                if stream is not None:
                    stream.flush()  # if Python's own flush at the exit fails, the exit code is 120
            except OSError:
                redirect_to_devnull(fd)


def _print(text: str) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    print(text, end="", flush=True)


def _ready_text(args: list[str]) -> str | None:
    """Return the version or a help text. Loading the parser takes six times Python's own start."""
    if args == ["--version"]:
        return f"codesynth {__version__}\n"
    if not args or len(args) > 2 or args[-1] not in ("-h", "--help"):
        return None
    name = args[0] if len(args) == 2 else "codesynth"
    folder = os.path.join(os.path.dirname(__file__), "help")  # noqa: PTH118, PTH120  # pathlib loads slowly
    if f"{name}.txt" not in os.listdir(folder):  # noqa: PTH208 - pathlib loads slowly
        return None
    with open(f"{folder}/{name}.txt", encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    main()
