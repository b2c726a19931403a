"""Say why no connection was made, and whether trying again can help."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from typing import Literal, TypeAlias

Cause: TypeAlias = Literal["hopeless", "unreachable", "busy", "stale", "timeout", "down", "other"]
"""Why there is no reply; see ``NoReply``."""
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


def explain_connect_error(error: BaseException) -> tuple[str, Cause]:
    """Say why a connection was not made, in words and as a ``Cause``.

    Trying again is hopeless for an unknown host, an untrusted certificate and a port without TLS.
    A refused connection may be a restart.
    """
    cause = find_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted ({cause.verify_message})"
        return f"{why}. Name the certificates to trust in SSL_CERT_FILE", "hopeless"
    if isinstance(cause, ssl.SSLError):  # its errno is not the system's
        why = (cause.reason or "no reason given").replace("_", " ").lower()
        is_transient = isinstance(cause, _TRANSIENT_TLS)
        return (
            f"TLS failed: {why}. Is it an http URL?",
            "unreachable" if is_transient else "hopeless",
        )
    if isinstance(cause, socket.gaierror):
        if cause.errno in _UNKNOWN_NAME:
            return "no such host", "hopeless"
        return "its name cannot be looked up", "unreachable"
    if cause is None:  # a name that no host can have
        is_name = isinstance(error.__cause__, ValueError)
        return str(error), "hopeless" if is_name else "unreachable"
    # If a host has several addresses, asyncio puts their errors into one text.
    joined = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(cause))}
    numbers = {cause.errno} if cause.errno else joined
    why = os.strerror(next(iter(numbers))).lower() if len(numbers) == 1 else str(error)
    return why, "busy" if cause.errno in _OUT_OF_FILES else "unreachable"
