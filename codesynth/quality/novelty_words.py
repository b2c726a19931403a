"""The words of a text, and the text without the names that its functions happen to have."""

import re
from hashlib import blake2b
from unicodedata import normalize

# Thai, Lao, Burmese, Khmer, kana and Han are written without spaces: each character is a word.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[^\W_{_UNSPACED}]+|[{_UNSPACED}]")
_ASCII_MARKS = {code: " " for code in range(128) if not chr(code).isalnum()}
_TOKEN = re.compile(r"\w+|[^\w\s]")
_IDENTIFIER = re.compile(r"(\w+)")
_PROSE_TOO = frozenset({"function", "fun"})
_DEFINERS = frozenset({"def", "fn", "func"}) | _PROSE_TOO
_MODIFIERS = frozenset(
    {"async", "default", "export", "inline", "local", "private", "public", "static", "suspend"}
)


def words(text: str) -> list[str]:
    """Split a text into lower-case words: runs of letters and digits.

    For ASCII these are the tokens of Google's ``rouge_score`` without stemming, with which
    self-instruct (https://arxiv.org/abs/2212.10560) compares instructions: punctuation and the
    underscores in a name part words, operators are no words.

    >>> words("def is_even(n): return n % 2 == 0")
    ['def', 'is', 'even', 'n', 'return', 'n', '2', '0']
    """
    text = text.lower()
    if text.isascii():
        return text.translate(_ASCII_MARKS).split()  # four times as fast
    return _WORD.findall(normalize("NFC", text))


def nameless(text: str) -> str:
    """Put a number after a NUL for the name of each function that a text defines.

    A name that could be a word of prose is replaced only where it is called and in doctests.

    >>> nameless("def flip(s): 'Flip s: flip(s).'") == nameless("def turn(s): 'Flip s: turn(s).'")
    True
    """
    parts = _IDENTIFIER.split(text)  # what stands between, a word, what stands between, ...
    names: dict[str, str] = {}
    for i in range(1, len(parts) - 2, 2):
        if parts[i] in _DEFINERS and _defines(parts, i):
            names.setdefault(parts[i + 2], f"\0{len(names)}")
    if not names:
        return text
    doctest = False
    for i in range(1, len(parts), 2):
        if i == 1 or "\n" in parts[i - 1]:
            doctest = parts[i - 1].rpartition("\n")[2].lstrip().startswith((">>>", "..."))
        name = parts[i]
        if name in names and (doctest or _opens(parts[i + 1]) or not _is_prose(name)):
            parts[i] = names[name]
    return "".join(parts)


def _defines(parts: list[str], i: int) -> bool:
    """Tell whether a name is defined after part ``i``; "function" has to start a line for that."""
    if not (parts[i + 1].strip(" \t*") == "" and _opens(parts[i + 3])):
        return False
    if parts[i] not in _PROSE_TOO:
        return True
    while i > 1 and "\n" not in parts[i - 1] and parts[i - 2] in _MODIFIERS:
        i -= 2
    before = parts[i - 1]
    return (i == 1 or "\n" in before) and not before.rpartition("\n")[2].strip()


def _opens(between: str) -> bool:
    return between[:2].lstrip(" ")[:1] in {"(", "<", "["}


def _is_prose(name: str) -> bool:
    return name.isalpha() and name.islower()


def fingerprint(text: str) -> bytes:
    r"""Digest what is left of a text without white space, case and the names of its functions.

    >>> fingerprint("def add(a, b):\n    ...") == fingerprint("def Plus( a,b ):  ...")
    True
    """
    tokens = _TOKEN.findall(nameless(normalize("NFC", text)).casefold())
    return blake2b(" ".join(tokens).encode("utf-8", "surrogatepass"), digest_size=16).digest()
