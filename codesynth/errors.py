"""What can go wrong. A row that fails is not an exception but a value: ``models.Failure``."""


class CodesynthError(Exception):
    """The root: everything codesynth raises on purpose."""

    exit_code = 1


class ConfigError(CodesynthError):
    """An option, template or environment variable is wrong, or the output must not be replaced."""

    exit_code = 2


class RunError(CodesynthError):
    """The run stopped; rows not yet answered are pending, not failed."""


class InputError(RunError):
    """The input cannot be read (a missing file, a broken gzip stream)."""


class OutputError(RunError):
    """The output cannot be written (disk full, folder read-only)."""


class EndpointError(RunError):
    """No request can succeed: a wrong key or model, an exhausted quota, a dead endpoint."""


class JournalError(RunError):
    """The journal cannot be used; it is left as it was found."""


class LimitReached(RunError):  # noqa: N818 - it is no error: the user has set the limit
    """The next request could exceed ``--max-cost``, or batches still run. Run again to continue."""

    exit_code = 5


class BusyError(CodesynthError):
    """Another run holds the output or the journal."""

    exit_code = 4


def one_line(text: str, limit: int = 300) -> str:
    """Make one line of a text that is not ours: no control characters, at most ``limit`` long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
