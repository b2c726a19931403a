"""Faults that an endpoint admits: statuses, the shapes of their words, waiting times, redirects."""

import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from answers import Answer, Received, echo, error

from faults.fault import Fault, always

WORDS = "words of the server"
TEXT = {"content-type": "text/plain"}


def status(code: int) -> Fault:
    """An error status in OpenAI's shape, classed as the contract's table says."""
    kind = "rate_limited" if code == 429 else "rejected"
    if code in (408, 409) or code >= 500:
        kind = "server_error"
    answer, retried, stops = error(code, WORDS), kind != "rejected", code in (401, 403, 404)
    return Fault(always(answer), (kind,), retried, code, WORDS, stops=stops)


def shape(body: Any, says: str = WORDS, code: int = 400) -> Fault:
    """A rejection whose words come in some other shape."""
    answer = Answer(code, body=body, headers=TEXT if isinstance(body, bytes) else {})
    return Fault(always(answer), ("rejected",), retried=False, status=code, says=says)


def advised(answer: Callable[[], Answer], wait: float = 0.0, *, retried: bool = True) -> Fault:
    """A 429 or 503 with its advice when to come again, made anew for each attempt."""
    code = answer().status
    kind = "rate_limited" if code == 429 else "server_error"
    return Fault(lambda request: answer(), (kind,), retried, code, wait=wait)


def headed(code: int, **headers: str) -> Answer:
    """An error with these headers, their names written with underscores."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(error(code, WORDS), headers=names)


def redirect(code: int, location: str | None, *or_kinds: str) -> Fault:
    """A redirect; ``{port}`` is the endpoint's own. What follows it to ``/moved`` is answered."""

    def plan(request: Received) -> Answer:
        if "/moved" in request.path:
            return echo(request)
        port = request.headers["host"].rpartition(":")[2]
        return Answer(code, headers={"location": location and location.format(port=port)})

    return Fault(plan, ("rejected", "bad_response", *or_kinds), retried=None)


def quota(**fields: str) -> Fault:
    """A 429 that no waiting cures: it stops the run, whenever it comes."""
    answer = error(429, WORDS, **fields)
    return Fault(always(answer), ("rate_limited",), False, 429, WORDS, stops=True)


def key_echoed(request: Received) -> Answer:
    """Tell the whole key back, as some gateways do."""
    return error(400, f"{WORDS}, not {request.headers.get('authorization')}")


STATUSES = {
    f"status_{code}": status(code)
    for code in (
        *(400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 418, 421, 422, 424, 425),
        *(429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 520, 524, 529, 530, 599),
    )
}

ADVICE = {
    "retry_after_seconds": advised(lambda: headed(429, retry_after="1"), 1.0),
    "retry_after_fraction": advised(lambda: headed(429, retry_after="0.2"), 0.2),
    "retry_after_ms": advised(lambda: headed(429, retry_after_ms="200"), 0.2),
    "retry_after_ms_first": advised(
        lambda: headed(429, retry_after_ms="200", retry_after="119"), 0.2
    ),
    "retry_after_date": advised(
        lambda: headed(429, retry_after=formatdate(time.time() + 2, usegmt=True)), 0.9
    ),
    "retry_after_503": advised(lambda: headed(503, retry_after="0.2"), 0.2),
    "retry_after_zero": advised(lambda: headed(429, retry_after="0")),
    "retry_after_past": advised(lambda: headed(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")),
    "retry_after_negative": advised(lambda: headed(429, retry_after="-5")),
    "retry_after_words": advised(lambda: headed(429, retry_after="soon")),
    "retry_after_nan": advised(lambda: headed(429, retry_after="nan")),
    "retry_after_too_long": replace(
        advised(lambda: headed(429, retry_after="3600"), retried=False), says="3600"
    ),
    "retry_after_far_date": advised(
        lambda: headed(429, retry_after="Fri, 31 Dec 2100 23:59:59 GMT"), retried=False
    ),
    "x_should_retry_true": Fault(
        lambda request: headed(400, x_should_retry="true"), ("rejected",), True, 400, WORDS
    ),
    "x_should_retry_false": Fault(
        lambda request: headed(503, x_should_retry="false"), ("server_error",), False, 503, WORDS
    ),
    "x_should_retry_false_429": Fault(
        lambda request: headed(429, x_should_retry="false"), ("rate_limited",), False, 429, WORDS
    ),
    "insufficient_quota": quota(code="insufficient_quota"),
    "insufficient_quota_type": quota(kind="insufficient_quota"),
}

WORDINGS = {
    "error_text": shape({"error": WORDS}),
    "error_detail": shape({"detail": WORDS}),
    "error_detail_list": shape({"detail": [{"loc": ["body", "messages"], "msg": WORDS}]}, code=422),
    "error_detail_object": shape({"detail": {"error": WORDS}}),
    "error_message": shape({"object": "error", "message": WORDS, "code": 40303}),
    "error_msg": shape({"code": 1001, "msg": WORDS}),
    "error_in_list": shape([{"error": {"code": 400, "message": WORDS, "status": "INVALID"}}]),
    "error_errors": shape({"errors": [{"message": WORDS, "code": 7003}], "success": False}),
    "error_code_int": shape({"error": {"message": WORDS, "code": 400}}),
    "error_code_text": shape({"error": {"message": WORDS, "code": "context_length_exceeded"}}),
    "error_metadata": shape({"error": {"message": WORDS, "metadata": {"raw": "{}"}}}),
    "error_plain": shape(WORDS.encode()),
    "error_html": shape(b"<html><body><h1>%s</h1></body></html>" % WORDS.encode()),
    "error_no_words": shape(b"", ""),
    "error_words_null": shape({"error": None}, ""),
    "error_empty_object": shape({}, ""),
    "error_message_null": shape({"error": {"message": None, "code": None}}, ""),
    "error_message_object": shape({"error": {"message": {"text": WORDS}}}, ""),
    "error_json_text": shape(b'"%s"' % WORDS.encode()),
    "error_torn": shape(b'{"error": {"message": "%s' % WORDS.encode(), ""),
    "error_invalid_utf8": shape(b"\xff\xfe " + WORDS.encode()),
    "error_many_lines": shape({"error": {"message": f"{WORDS}\n\x1b[31mTraceback\r\n  x"}}),
    "error_5mb": shape(WORDS.encode() + b" and on" * 700_000),
    "error_key_echoed": Fault(key_echoed, ("rejected",), False, 400, WORDS),
}

REDIRECTS = {
    "redirect_same_host": redirect(307, "http://127.0.0.1:{port}/moved", "ok"),
    "redirect_same_host_308": redirect(308, "/moved", "ok"),
    "redirect_same_host_302": redirect(302, "/moved", "ok"),
    "redirect_other_host": redirect(307, "http://localhost:{port}/moved"),
    "redirect_other_port": redirect(307, "http://127.0.0.1:9/moved"),
    "redirect_other_scheme": redirect(307, "ftp://127.0.0.1:{port}/moved"),
    "redirect_to_a_file": redirect(307, "file:///etc/hostname"),
    "redirect_no_address": redirect(307, "http://:{port}:x/", "connection"),
    "redirect_loop": redirect(307, "/v1/chat/completions"),
    "redirect_nowhere": redirect(302, None),
    "status_300": redirect(300, None),
    "status_304": redirect(304, None),
}

STATUS = STATUSES | ADVICE | WORDINGS | REDIRECTS
