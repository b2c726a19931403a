"""Say why no connection was made, and whether trying again can help."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl

_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_TRANSIENT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def find_cause(error: BaseException) -> OSError | None:
    """Find the operating system's error in an error and its causes."""
    found: OSError | None = None
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OSError):
            found = each
            if each.errno:
                break
        grouped = each.exceptions[0] if isinstance(each, BaseExceptionGroup) else None
        each = grouped or each.__cause__ or each.__context__
    return found


def explain_connect_error(error: BaseException) -> tuple[str, bool]:
    """Say why a connection was not made; True if trying again cannot help.

    It cannot for an unknown host, an untrusted certificate and a port without TLS. A refused
    connection may be a restart.
    """
    cause = find_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted ({cause.verify_message})"
        return f"{why}. Name the certificates to trust in SSL_CERT_FILE", True
    if isinstance(cause, ssl.SSLError):  # its errno is not the system's
        why = (cause.reason or "no reason given").replace("_", " ").lower()
        return f"TLS failed: {why}. Is it an http URL?", not isinstance(cause, _TRANSIENT_TLS)
    if isinstance(cause, socket.gaierror):
        unknown = cause.errno in _UNKNOWN_NAME
        return "no such host" if unknown else "its name cannot be looked up", unknown
    if cause is None:  # a name that no host can have
        return str(error), isinstance(error.__cause__, ValueError)
    # If a host has several addresses, asyncio puts their errors into one text.
    joined = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(cause))}
    numbers = {cause.errno} if cause.errno else joined
    return os.strerror(numbers.pop()).lower() if len(numbers) == 1 else str(error), False


def is_out_of_files(error: BaseException) -> bool:
    """Tell whether this process may open no more files."""
    cause = find_cause(error)
    return cause is not None and cause.errno in _OUT_OF_FILES
