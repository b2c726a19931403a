"""Keep the key and other secrets out of what is printed or stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SHORTEST = 6
"""A shorter value of a header ("true", "1") is no secret: messages would lose common words."""
_KEY_HEADER = re.compile(r"key|token|auth|secret|cookie", re.IGNORECASE)
_NO_WORD = re.compile(r"(?=.*[\d_-]).{8,}")


class Secrets:
    """Replaces secrets that a server has quoted by ``[secret]``.

    Args:
        keys: keys and passwords; empty ones are ignored.
        headers: the user's headers. Each value is a secret, and each word of a value, such as
            the key in ``Bearer KEY``.

    >>> secrets = Secrets(["sk-12345"], {"HTTP-Referer": "https://example.com"})
    >>> secrets.hide("no https://example.com for sk-12345")
    'no [secret] for [secret]'
    >>> secrets.hide_in_body(b"no https://example.com for sk-12345")
    b'no https://example.com for [secret]'
    """

    def __init__(self, keys: Iterable[str], headers: Mapping[str, str]) -> None:
        hidden = {key for key in keys if key}
        in_bodies = set(hidden)
        for name, value in headers.items():
            parts = {part for part in (value.strip(), *value.split()) if len(part) >= _SHORTEST}
            hidden |= parts
            if _KEY_HEADER.search(name):
                in_bodies |= parts
        self._hidden = sorted(hidden - {"Bearer"}, key=len, reverse=True)
        self._in_bodies = [
            key.encode() for key in self._hidden if key in in_bodies and _NO_WORD.fullmatch(key)
        ]

    def hide(self, text: str) -> str:
        """Replace all secrets in a text for people."""
        for secret in self._hidden:
            text = text.replace(secret, "[secret]")
        return text

    def hide_in_body(self, body: bytes) -> bytes:
        """Replace keys in a response that will be stored.

        Values of other headers stay, and keys that may be words (``EMPTY``, ``none``), because an
        answer may contain such a text by chance.
        """
        for key in self._in_bodies:
            if key in body:
                body = body.replace(key, b"[secret]")
        return body
