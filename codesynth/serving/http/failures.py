"""Say why no whole response came, and whether trying again can help."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import httpx

from codesynth.models import FailureKind
from codesynth.serving.http.connection import ResponseTooLarge, StaleConnection

Cause: TypeAlias = Literal["hopeless", "unreachable", "busy", "stale", "timeout", "down", "other"]
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_TRANSIENT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


@dataclass(eq=False)
class NoReplyError(Exception):
    """No whole HTTP response came.

    Attributes:
        kind: the row's failure: timeout, connection or bad_response.
        cause: ``hopeless`` (trying again cannot help), ``unreachable`` (no connection was made),
            ``busy`` (this process has too many open files), ``stale`` (a kept connection was
            closed; the request can be sent again at once over a new one), ``timeout``, ``down`` (a
            connection broke), or ``other`` (the response cannot be read).
    """

    kind: FailureKind
    message: str
    cause: Cause


def explain(
    error: httpx.HTTPError, name: str, proxy: str, hide: Callable[[str], str]
) -> NoReplyError:
    """Turn an error of a transport into ours.

    Args:
        name: of the endpoint.
        proxy: name of the proxy between us and it, empty if we know of none.
        hide: takes secrets out of the words of the server.
    """
    words = hide(str(error)) or f"the connection to {name} broke"
    if isinstance(error, httpx.ProxyError):
        return NoReplyError("connection", f"{proxy or 'the proxy'} refuses: {words}", "hopeless")
    if isinstance(error, httpx.ConnectTimeout):
        text = f"cannot connect to {proxy or name} within --connect-timeout"
        return NoReplyError("timeout", text, "unreachable")
    if isinstance(error, httpx.ConnectError):
        why, cause = _explain_connect_error(error)
        if proxy and not isinstance(_find_cause(error), ssl.SSLError):  # TLS is behind the proxy
            fix = f"To go without it, set NO_PROXY={httpx.URL(name).host}"
            return NoReplyError(
                "connection", f"cannot connect to {proxy}: {why}. {fix}", "hopeless"
            )
        return NoReplyError("connection", f"cannot connect to {name}: {why}", cause)
    if isinstance(error, (ResponseTooLarge, httpx.DecodingError)):
        return NoReplyError("bad_response", words, "other")
    is_stale = isinstance(error, StaleConnection)
    return NoReplyError("connection", words, "stale" if is_stale else "down")


def _explain_connect_error(error: BaseException) -> tuple[str, Cause]:
    """Say why a connection was not made, in words and as a ``Cause``.

    Trying again is hopeless for an unknown host, an untrusted certificate and a port without TLS.
    A refused connection may be a restart.
    """
    cause = _find_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted ({cause.verify_message})"
        return f"{why}. Name the certificates to trust in SSL_CERT_FILE", "hopeless"
    if isinstance(cause, ssl.SSLError):  # its errno is not the system's
        why = (cause.reason or "no reason given").replace("_", " ").lower()
        is_transient = isinstance(cause, _TRANSIENT_TLS)
        text = f"TLS failed: {why}. Is it an http URL?"
        return text, "unreachable" if is_transient else "hopeless"
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


def _find_cause(error: BaseException) -> OSError | None:
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
