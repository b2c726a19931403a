"""The key and other secrets, and how they are kept out of what is printed or stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SHORTEST = 6
"""A header's value that is shorter ("true", "1") is no secret: messages would lose their words."""
_KEY_HEADER = re.compile(r"key|token|auth|secret|cookie", re.IGNORECASE)
_NO_WORD = re.compile(r"(?=.*[\d_-]).{8,}")


class Secrets:
    """Takes secrets out, where a server has quoted them.

    Args:
        keys: empty ones count as none.
        headers: those that the user has set; each value is a secret, and each part of
            ``Bearer ...``.

    >>> secrets = Secrets(["sk-12345"], {"HTTP-Referer": "https://example.com"})
    >>> secrets.hide("no https://example.com for sk-12345")
    'no [secret] for [secret]'
    >>> secrets.hide_in_body(b"no https://example.com for sk-12345")
    b'no https://example.com for [secret]'
    """

    def __init__(self, keys: Iterable[str], headers: Mapping[str, str]) -> None:
        found = {key for key in keys if key}
        all_, in_bodies = set(found), set(found)
        for name, value in headers.items():
            parts = {part for part in (value.strip(), *value.split()) if len(part) >= _SHORTEST}
            all_ |= parts
            if _KEY_HEADER.search(name):
                in_bodies |= parts
        self._all = sorted(all_ - {"Bearer"}, key=len, reverse=True)
        self._in_bodies = [key.encode() for key in self._all if key in in_bodies]
        self._in_bodies = [key for key in self._in_bodies if _NO_WORD.fullmatch(key.decode())]

    def hide(self, text: str) -> str:
        """Take secrets out of a text for people."""
        for secret in self._all:
            text = text.replace(secret, "[secret]")
        return text

    def hide_in_body(self, body: bytes) -> bytes:
        """Take keys out of a response that is kept.

        Not the values of other headers, nor a key that may be a word (``EMPTY``, ``none``): an
        answer may hold the same text by itself.
        """
        for key in self._in_bodies:
            if key in body:
                body = body.replace(key, b"[secret]")
        return body
