"""Why no connection was made, in words, and whether trying again can help."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import TypeVar

Cause = TypeVar("Cause", bound=BaseException)

_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_TRANSIENT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def find_cause(error: BaseException, kind: type[Cause]) -> Cause | None:
    """Find an exception of a kind among an error and what it was raised from."""
    return next((each for each in _causes(error) if isinstance(each, kind)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        grouped = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = grouped or error.__cause__ or error.__context__


def _find_os_error(error: BaseException) -> OSError | None:
    numbered = (each for each in _causes(error) if isinstance(each, OSError) and each.errno)
    return next(numbered, find_cause(error, OSError))


def reason_of(error: BaseException) -> str:
    """Say why a connection was not made: ``connection refused``."""
    cause = _find_os_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted ({cause.verify_message})"
        return f"{why}. Name the certificates to trust in SSL_CERT_FILE"
    if isinstance(cause, ssl.SSLError):  # its errno is not the system's
        why = (cause.reason or "no reason given").replace("_", " ").lower()
        return f"TLS failed: {why}. Is it an http URL?"
    if isinstance(cause, socket.gaierror):
        unknown = cause.errno in _UNKNOWN_NAME
        return "no such host" if unknown else "the name cannot be looked up at the moment"
    # asyncio joins the failures of several addresses into one text that has no number.
    numbers = {cause.errno} if cause and cause.errno else set(_numbers(cause or error))
    return os.strerror(numbers.pop()).lower() if len(numbers) == 1 else str(error)


def _numbers(error: BaseException) -> list[int]:
    return [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]


def is_permanent(error: BaseException) -> bool:
    """Tell whether trying again cannot help: an unknown host, no TLS, an untrusted certificate."""
    cause = _find_os_error(error)
    if isinstance(cause, socket.gaierror):
        return cause.errno in _UNKNOWN_NAME
    if isinstance(cause, ssl.SSLError):
        return not isinstance(cause, _TRANSIENT_TLS)
    return cause is None and find_cause(error, ValueError) is not None  # no name of a host


def is_out_of_files(error: BaseException) -> bool:
    """Tell whether this process may open no more files."""
    cause = _find_os_error(error)
    return cause is not None and cause.errno in _OUT_OF_FILES
