"""``codesynth`` and ``python -m codesynth``."""

import sys

from codesynth.version import __version__


def main() -> None:
    """Run the command line; ``--version`` alone loads nothing for it."""
    if sys.argv[1:] == ["--version"]:
        print(f"codesynth {__version__}")
        return
    from codesynth.cli import run

    run()


if __name__ == "__main__":
    main()
