"""Texts that a model may write and that must not act where people look at them."""

import json
from typing import Any

TEXTS = [
    '<script>document.title = "ran"</script>',
    "</script><script>document.title = 'ran'</script>",
    "<img src=x onerror=\"document.title = 'ran'\">",
    '"><svg onload="document.title = \'ran\'">',
    "' onmouseover='document.title = 1' x='",
    "</pre></details></title></style><base href='http://evil.example/'>",
    "$body ${css} &lt;b&gt; <!-- ]]>",
    "\u2028\u2029\ud800\x00",
    "\x1b[2J\x1b]0;ran\x07\x9b31m\x08\r\u202egnp.exe\u2066",
]


def rows() -> list[bytes]:
    """Write lines that hold each text at every place where a row can hold one."""
    lines: list[Any] = []
    for text in TEXTS:
        meta = {"model": text, "language": text, "usage": {"completion_tokens": text}}
        verdict = {"status": text, "tests_run": 2, "tests_passed": 1, "message": text}
        code = {"instruction": text, "generated_code": f"{text}\n{text}", "reasoning": f"{text}\n"}
        row = {**code, text: text, "language": text, "verification": verdict, "_codesynth": meta}
        error = {"kind": text, "message": text, "attempts": 2}
        lines += [row, {"input": row, "line": 7, "error": error, "answer": text}]
        lines += [{"input": text, "line": None, "error": error}]
    odd = {"verification": 5, "_codesynth": [1], "agreement": -1, "instruction": None, "error": ""}
    lines += [odd, {"verification": {"tests_run": 10**30}, "agreement": 1e300, "error": {}}, {}]
    broken = [b'{"torn": "\x1b[2J', b"[1]", b"\xff\xfe", *(repr(text).encode() for text in TEXTS)]
    return [json.dumps(line).encode() for line in lines] + broken
