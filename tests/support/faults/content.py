"""Faults in what a whole answer with status 200 says."""

import gzip
import zlib
from typing import Any, cast

from support.faults.fault import Fault, always, bad, fields, message, payload, says, spent, usable
from support.replies import Plan, Received, Reply, code_for, completion, echo, text_for

HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
GZIP = {"content-encoding": "gzip"}
CUT_TEXT = "```python\ndef half("


def choosing(**changes: Any) -> Plan:
    """Change fields of the only choice; None as ``message`` and the like is sent as null."""

    def plan(request: Received) -> Reply:
        body = cast("dict[str, Any]", echo(request).body)
        return Reply(body={**body, "choices": [{**body["choices"][0], **changes}]})

    return plan


def without(*names: str) -> Plan:
    """Leave out top-level fields, fields of the choice, and fields of the message."""

    def plan(request: Received) -> Reply:
        body = cast("dict[str, Any]", echo(request).body)
        choice = body["choices"][0]
        for part in (body, choice, choice["message"]):
            for name in names:
                part.pop(name, None)
        return Reply(body=body)

    return plan


def parts(*wanted: dict[str, Any], split: bool = False) -> Plan:
    """Send the content as a list of parts: these, then the answer, whole or in two."""

    def plan(request: Received) -> Reply:
        text = text_for(request.prompt)
        texts = [text[:10], text[10:]] if split else [text]
        return completion([*wanted, *({"type": "text", "text": piece} for piece in texts)])

    return plan


def fifty_mb(prompt: str) -> str:
    return f"```python\n{code_for(prompt)}\nx = '{'y' * 50_000_000}'\n```\n"


def gzip_bomb(mebibytes: int) -> Reply:
    """Pack a completion with so many MiB of blanks a thousand to one: whole, and valid."""
    blanks = b" " * (1 << 20)
    before, _, after = cast("bytes", completion("|").payload).partition(b"|")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    # A full flush forgets what came before, so a block packed between two may follow itself.
    block = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(after) + packer.flush()
    crc = zlib.crc32(before)
    for _ in range(mebibytes):
        crc = zlib.crc32(blanks, crc)
    size = len(before) + mebibytes * len(blanks) + len(after)
    trailer = zlib.crc32(after, crc).to_bytes(4, "little") + size.to_bytes(4, "little")
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return Reply(body=head + first + block * mebibytes + last + trailer, headers=GZIP)


NOT_JSON = {
    "html_200": bad(always(Reply(body=HTML, headers={"content-type": "text/html"}))),
    "200_empty": bad(always(Reply())),
    "200_blank": bad(always(Reply(body=b" \r\n"))),
    "204_empty": bad(always(Reply(204, headers={"content-length": None, "content-type": None}))),
    "torn_json": bad(payload(lambda body: body[:-10])),
    "two_documents": bad(payload(lambda body: body + body)),
    "sse_stream_instead": bad(
        payload(
            lambda body: b"data: " + body + b"\n\ndata: [DONE]\n\n",
            headers={"content-type": "text/event-stream"},
        )
    ),
    "invalid_utf8": bad(payload(lambda body: body.replace(b"Here", b"\xff\xfe"))),
    "surrogate_bytes": bad(payload(lambda body: body.replace(b"Here", b"\xed\xa0\x80"))),
    "utf16": bad(payload(lambda body: body.decode().encode("utf-16")), "ok"),
    "byte_order_mark": bad(payload(lambda body: b"\xef\xbb\xbf" + body), "ok"),
    "nan": bad(payload(lambda body: body.replace(b": 18}", b": NaN}"))),
    "infinity": bad(payload(lambda body: body.replace(b": 18}", b": -Infinity}"))),
    "nested_deeply": bad(always(Reply(body=b"[" * 200_000))),
    "nested_objects": bad(always(Reply(body=b'{"choices":' * 200_000))),
    "huge_number": bad(
        payload(lambda body: body.replace(b": 18}", b": 1%s}" % (b"0" * 5000))), "ok"
    ),
    "raw_control_characters": bad(payload(lambda body: body.replace(b"Here", b"\x00\x07"))),
    "surrounding_space": usable(payload(lambda body: b"\r\n\t  " + body + b"\n\n")),
}

SHAPES = {
    "json_array": bad(payload(lambda body: b"[%s]" % body)),
    "json_null": bad(always(Reply(body=b"null"))),
    "json_string": bad(always(Reply(body=b'"hello"'))),
    "json_number": bad(always(Reply(body=b"42"))),
    "json_empty_object": bad(always(Reply(body={}))),
    "no_choices": bad(without("choices")),
    "choices_empty": bad(fields(choices=[])),
    "choices_null": bad(fields(choices=None)),
    "choices_object": bad(fields(choices={"message": {"content": "no list"}})),
    "choices_text": bad(fields(choices="none")),
    "choice_null": bad(fields(choices=[None])),
    "choice_text": bad(fields(choices=["text"])),
    "no_message": bad(without("message")),
    "message_null": bad(choosing(message=None)),
    "message_text": bad(choosing(message="text")),
    "legacy_completion": bad(fields(choices=[{"text": "old", "finish_reason": "stop"}])),
    "delta": bad(fields(choices=[{"delta": {"content": "a"}, "finish_reason": None}])),
    "content_int": bad(message(42), "empty"),
    "content_true": bad(message(True), "empty"),
    "content_object": bad(message({"text": "x"}), "empty"),
    "error_object_200": bad(always(Reply(body={"error": {"message": "upstream", "code": 502}}))),
    "error_text_200": bad(always(Reply(body={"error": "upstream is gone"}))),
    "error_beside_choices": bad(fields(error={"message": "upstream", "code": 502})),
    "error_in_choice": bad(
        choosing(finish_reason="error", error={"message": "upstream", "code": 502})
    ),
    "error_null": usable(fields(error=None)),
    "two_choices": usable(
        lambda request: Reply(
            body={"choices": cast("dict[str, Any]", echo(request).body)["choices"] * 2}
        )
    ),
    "only_choices": usable(without("id", "object", "created", "model", "usage", "index", "role")),
}

TEXTS = {
    "content_parts_list": usable(parts()),
    "content_parts_split": usable(parts(split=True)),
    "content_parts_thinking": usable(
        parts({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]})
    ),
    "content_parts_unknown": usable(parts({"type": "image_url", "image_url": {"url": "x"}})),
    "content_parts_none": spent("empty", message([])),
    "content_null": spent("empty", message()),
    "content_absent": spent("empty", without("content")),
    "content_blank": spent("empty", message("")),
    "content_white": spent("empty", message(" \n\t\u00a0\u3000 ")),
    "reasoning_only": spent("empty", message(reasoning_content="I think so.")),
    "reasoning_field_only": spent("empty", message("", reasoning="I think so.")),
    "think_only": spent("empty", message("<think>I think so.</think>\n"), in_text=True),
    "think_unclosed": spent("empty", message("<think>I think so"), in_text=True),
    "tool_call_only": spent(
        "empty",
        message(
            finish_reason="tool_calls",
            tool_calls=[
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        ),
    ),
    "finish_length": spent("truncated", message(CUT_TEXT, "length")),
    "finish_length_null": spent("truncated", message(None, "length")),
    "finish_length_thinking": spent("truncated", message("", "length", reasoning_content="hm")),
    "finish_content_filter": spent("filtered", message(CUT_TEXT, "content_filter")),
    "finish_content_filter_null": spent("filtered", message(None, "content_filter")),
    "finish_unknown": usable(choosing(finish_reason="eos_token")),
    "finish_null": usable(choosing(finish_reason=None)),
    "finish_absent": usable(without("finish_reason")),
    "finish_number": Fault(choosing(finish_reason=7), ("ok", "bad_response"), None),
    "refusal": spent("refused", message(None, refusal="I can't help with that.")),
    "refusal_beside_text": spent("refused", message("Sorry.", refusal="I can't.")),
    "refusal_null": usable(
        lambda request: completion(text_for(request.prompt), refusal=None, annotations=[])
    ),
    "reasoning_beside_text": usable(
        lambda request: completion(text_for(request.prompt), reasoning_content="I think so.")
    ),
    "lone_surrogate": says("```python\nx = '\ud800'\n```\n"),
    "astral": says("```python\nx = '\U0001f600'\n```\n"),
    "nul_in_text": says("```python\nx = '\x00'\n```\n"),
    "line_separators": says("```python\nx = '\u2028\u2029\x85\x0b\x0c'\n```\n"),
    "terminal_escapes": says("```python\nx = '\x1b[2J\x1b]0;owned\x07'\n```\n"),
    "answer_50mb": usable(lambda request: completion(fifty_mb(request.prompt)), fifty_mb),
}

USAGES = {
    "usage_absent": usable(without("usage")),
    "usage_null": usable(fields(usage=None)),
    "usage_empty": usable(fields(usage={})),
    "usage_text": usable(fields(usage="much")),
    "usage_of_texts": usable(fields(usage={"prompt_tokens": "11", "completion_tokens": None})),
    "usage_fractions": usable(fields(usage={"prompt_tokens": 1.5, "completion_tokens": -3})),
    "model_null": usable(fields(model=None, id=None)),
}

PACKED = {
    "gzip": usable(payload(gzip.compress, headers=GZIP)),
    "gzip_chunked": usable(payload(gzip.compress, headers=GZIP, framing="chunked")),
    "gzip_torn": bad(payload(lambda body: gzip.compress(body)[:-60], headers=GZIP), "connection"),
    "gzip_not_at_all": bad(payload(bytes, headers=GZIP), "connection"),
    "gzip_bomb": bad(lambda request: gzip_bomb(160), "connection"),
    "deflate": bad(payload(zlib.compress, headers={"content-encoding": "deflate"}), "ok"),
    "encoding_identity": usable(payload(bytes, headers={"content-encoding": "identity"})),
    "encoding_unknown": bad(
        payload(zlib.compress, headers={"content-encoding": "zz"}), "connection"
    ),
}

CONTENT = NOT_JSON | SHAPES | TEXTS | USAGES | PACKED
