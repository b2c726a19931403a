"""JSON text: orjson where it can, the standard library for what orjson refuses."""

import json
from typing import Any

import orjson


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def loads(data: bytes | str) -> Any:
    """Parse one JSON text.

    Escaped lone surrogates are JSON by RFC 8259, section 8.2, but orjson refuses them; the
    standard library reads such texts. NaN and Infinity are refused, as RFC 8259 does.

    Raises:
        ValueError: not JSON, not UTF-8, or nested too deeply to be read.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return loads_exactly(data.decode("utf-8") if isinstance(data, bytes) else data)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def loads_exactly(text: str, *, whole: bool = True) -> Any:
    """Parse one JSON text as ``loads`` does, but keep all digits of integers over 64 bits.

    Args:
        whole: nothing may follow the JSON text.

    Raises:
        ValueError: not JSON, or nested too deeply to be read.
    """
    try:
        return _DECODER.decode(text) if whole else _DECODER.raw_decode(text)[0]
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    r"""Write one JSON text on one line in UTF-8, or in ASCII where a lone surrogate needs escapes.

    U+0085, U+2028 and U+2029 are escaped: readers that split with ``str.splitlines`` take
    them for line ends.

    >>> dumps(["a", chr(0x2028), chr(0xD800)]).decode()
    '["a","\\u2028","\\ud800"]'
    """
    try:
        data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:
        text = json.dumps(value, separators=(",", ":"), sort_keys=sort_keys, allow_nan=False)
        return text.encode("ascii")
    if not data.isascii():  # this check costs far less than the three searches
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
        data = data.replace(b"\xc2\x85", b"\\u0085")
    return data
