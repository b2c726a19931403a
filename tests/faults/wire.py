"""Faults in how an answer travels: connections, lengths, heads, time."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat
from typing import cast

from answers import Answer, Plan, Received, Step, chunk, dripping, echo

from faults.fault import always, bad, broken, raw, silent, usable, wire


def endless(head: bytes, piece: bytes) -> Plan:
    return lambda request: Answer(raw=chain([head], repeat(piece)), end="close")


def blank_lines_first(request: Received) -> Answer:
    pieces: Iterator[bytes] = iter([b"\n", b"\n", cast("bytes", echo(request).payload)])
    return Answer(body=pieces, framing="chunked")


def blanks(piece: bytes = chunk(b"\n")) -> Iterator[Step]:
    """Send a piece every 20 ms, for ever: enough to keep any time limit on silence from ending."""
    return chain.from_iterable(repeat((0.02, piece)))


OK_CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)
STOLEN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
TIMED_OUT = b"HTTP/1.1 408 Request Time-out\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

ENDS = {
    "reset_before_head": broken(wire(cut=0, end="reset")),
    "reset_in_head": broken(wire(cut=20, end="reset")),
    "reset_after_head": broken(raw(lambda head, body: [head], "reset")),
    "reset_mid_body": broken(wire(cut=-60, end="reset")),
    "close_before_head": broken(wire(cut=0)),
    "close_in_head": broken(wire(cut=20)),
    "cut_body": broken(wire(cut=-60)),
    "close_delimited": usable(wire(framing="close")),
    "close_delimited_cut": bad(wire(framing="close", cut=-60)),
    "close_delimited_reset": broken(wire(framing="close", end="reset")),
    "http10": usable(wire(version="HTTP/1.0", framing="close")),
    "http10_length": usable(wire(version="HTTP/1.0", end="close")),
    "http10_cut": bad(wire(version="HTTP/1.0", framing="close", cut=-60)),
    "close_unsaid": usable(wire(end="close")),
    "close_said": usable(wire(headers={"connection": "close"}, end="close")),
    "close_said_not_done": usable(wire(headers={"connection": "close"})),
    "stale_keep_alive": usable(
        lambda request: replace(echo(request), cut=0 if request.on_connection > 1 else None)
    ),
    "stale_keep_alive_reset": usable(
        lambda request: (wire(cut=0, end="reset") if request.on_connection > 1 else echo)(request)
    ),
}

LENGTHS = {
    "wrong_length": broken(wire(length=5000, end="close")),
    "wrong_length_hang": silent(wire(length=5000, end="hang")),
    "body_too_long": bad(wire(length=200), "connection"),
    "length_missing_hang": silent(wire(headers={"content-length": None}, end="hang")),
    "length_negative": broken(wire(length=-1, end="close"), "bad_response"),
    "length_no_number": broken(wire(length="abc", end="close"), "bad_response"),
    "length_huge": broken(wire(length=10**30, end="close"), "bad_response"),
    "lengths_differ": broken(
        raw(lambda head, body: [head.replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n"), body]),
        "bad_response",
    ),
    "length_and_chunked": broken(
        wire(framing="chunked", headers={"content-length": "5"}), "bad_response", "ok"
    ),
    "trailing_garbage": usable(wire(trailer=b"\r\n\r\ngarbage")),
    "second_answer": usable(wire(trailer=STOLEN)),
    "second_answer_late": usable(
        raw(lambda head, body: [head + body, 0.02, STOLEN], "keep"),
    ),
    "unasked_408": usable(wire(trailer=TIMED_OUT, end="close")),
    "chunked": usable(wire(framing="chunked")),
    "chunked_trailers": usable(
        raw(lambda head, body: [OK_CHUNKED, chunk(body), b"0\r\nx: y\r\n\r\n"])
    ),
    "chunk_extensions": usable(
        raw(lambda head, body: [OK_CHUNKED, b"%X;a=b\r\n%s\r\n" % (len(body), body), chunk(b"")])
    ),
    "chunked_cut": broken(wire(framing="chunked", cut=-5)),
    "chunked_cut_mid": broken(wire(framing="chunked", cut=-60)),
    "chunked_cut_hang": silent(wire(framing="chunked", cut=-5, end="hang")),
    "chunk_size_bad": broken(raw(lambda head, body: [OK_CHUNKED, b"xyz\r\n", body])),
    "chunk_size_huge": broken(raw(lambda head, body: [OK_CHUNKED, b"f" * 40 + b"\r\n", body])),
    "chunk_size_short": broken(raw(lambda head, body: [OK_CHUNKED, b"10\r\n", body, chunk(b"")])),
}

HEADS = {
    "bad_status_line": broken(raw(lambda head, body: [b"HTTP/1.1 abc what\r\n\r\n", body])),
    "http09": broken(raw(lambda head, body: [body])),
    "http2_spoken": broken(raw(lambda head, body: [bytes(4) + b"\x04" + bytes(14)])),
    "tls_alert": broken(raw(lambda head, body: [b"\x15\x03\x01\x00\x02\x02\x46"])),
    "other_protocol": broken(raw(lambda head, body: [b"SSH-2.0-OpenSSH_9.2\r\n"])),
    "no_reason_phrase": usable(raw(lambda head, body: [head.replace(b" OK", b" ") + body], "keep")),
    "line_feeds_only": usable(raw(lambda head, body: [head.replace(b"\r", b"") + body])),
    "header_without_colon": broken(
        raw(lambda head, body: [head.replace(b"\r\n", b"\r\nnonsense\r\n", 1), body]), "ok"
    ),
    "header_not_ascii": usable(wire(headers={"x-by": "caf\u00e9"})),
    "headers_8k": usable(wire(headers={f"x-{i}": "y" * 100 for i in range(75)})),
    "huge_headers": broken(wire(headers={"x-big": "y" * 1_000_000}), "ok", "bad_response"),
    "many_headers": broken(
        wire(headers={f"x-{i}": "y" * 100 for i in range(10_000)}), "ok", "bad_response"
    ),
    "endless_head": broken(endless(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000), "timeout"),
    "endless_header": broken(endless(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 6000), "timeout"),
    "endless_status_line": broken(endless(b"HTTP/1.1 200 ", b"y" * 6000), "timeout"),
    "100_continue_first": usable(wire(interim=b"HTTP/1.1 100 Continue\r\n\r\n")),
    "103_hints_first": usable(wire(interim=b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3)),
    "101_unasked": broken(
        raw(lambda head, body: [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", body]),
        "bad_response",
        "rejected",
    ),
    "content_type_text": usable(wire(headers={"content-type": "text/plain; charset=latin-1"})),
    "content_type_absent": usable(wire(headers={"content-type": None})),
}

TIMES = {
    "never_answer": silent(always(Answer(raw=(), end="hang"))),
    "hang_after_head": silent(raw(lambda head, body: [head], "hang")),
    "hang_mid_body": silent(wire(cut=-60, end="hang")),
    "drip": silent(wire(drip=(1, 0.05))),
    "drip_head": silent(raw(lambda head, body: dripping(head + body, 1, 0.05))),
    "drip_chunks": silent(lambda request: Answer(raw=chain([OK_CHUNKED], blanks()), end="hang")),
    "endless_100_continue": silent(
        lambda request: Answer(raw=blanks(b"HTTP/1.1 100 Continue\r\n\r\n"), end="hang"),
        "connection",
    ),
    "endless": broken(endless(OK_CHUNKED, chunk(b" " * 60_000)), "bad_response", "timeout"),
    "endless_close_delimited": broken(
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 60_000), "bad_response", "timeout"
    ),
    "late_pieces": usable(wire(drip=(100, 0.02))),
    "blank_lines_first": usable(blank_lines_first),
}


WIRE = ENDS | LENGTHS | HEADS | TIMES
