"""A reply -> an answer, or a failure and whether to ask again."""

import time
from email.utils import formatdate

import pytest

from codesynth.serving.outcomes import read_outcome, retry_after

GOOD = b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}'
WORDS = b'{"error": {"message": "why", "type": "t", "param": null, "code": null}}'


def test_answer_is_kept_with_its_body() -> None:
    outcome = read_outcome(200, {}, GOOD)
    assert outcome.answer is not None
    assert (outcome.failure, outcome.body, outcome.retry) == (None, GOOD, False)
    assert outcome.billed


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        *((s, "rejected", False) for s in (400, 401, 402, 403, 404, 406, 410, 413, 422, 425, 451)),
        (429, "rate_limited", True),
        *((s, "server_error", True) for s in (408, 409, 500, 502, 503, 504, 520, 529, 599)),
    ],
)
def test_status_decides_the_kind(status: int, kind: str, retry: bool) -> None:
    outcome = read_outcome(status, {}, WORDS)
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.message) == (kind, "why")
    assert (outcome.failure.status, outcome.retry, outcome.billed) == (status, retry, False)
    assert outcome.denied == (status in (401, 402, 403, 404, 407))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "why"}', "why"),
        (b'{"detail": "why"}', "why"),
        (b'{"detail": [{"loc": ["body", "messages"], "msg": "why"}]}', "why"),
        (b'{"object": "error", "message": "why", "code": 40303}', "why"),
        (b'[{"error": {"code": 400, "message": "why", "status": "INVALID"}}]', "why"),
        (b'{"errors": [{"message": "why", "code": 7003}], "success": false}', "why"),
        (b'{"error": {"message": {"text": "x"}, "code": "why"}}', "why"),
        (b'{"error": {"message": "why\\n\\u001b[31mTraceback\\r\\n  x"}}', "why [31mTraceback x"),
        (b"why", "why"),
        (b"\xff\xfe why", "\ufffd\ufffd why"),
        (b"<html><body><h1>why</h1></body></html>", "why"),
        (b'{"error": {"message": "why', '{"error": {"message": "why'),
        (b"", "status 400"),
    ],
)
def test_words_of_an_error_are_found_whatever_its_shape(body: bytes, words: str) -> None:
    outcome = read_outcome(400, {}, body)
    assert outcome.failure is not None
    assert outcome.failure.message == words


@pytest.mark.parametrize(
    ("status", "headers", "place"),
    [(307, {"location": "https://else\nwhere/"}, "https://else where/"), (304, {}, "nowhere")],
)
def test_redirect_elsewhere_is_a_denial_that_names_the_place(
    status: int, headers: dict[str, str], place: str
) -> None:
    outcome = read_outcome(status, headers, b"")
    assert outcome.failure is not None
    assert outcome.failure.message == f"redirected to {place}"
    assert outcome.denied


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (429, WORDS), (503, WORDS), (400, WORDS), (401, WORDS)]
)
def test_x_should_retry_wins(status: int, body: bytes) -> None:
    for word, retry in (("true", True), (" False ", False)):
        assert read_outcome(status, {"x-should-retry": word}, body).retry == retry


@pytest.mark.parametrize("status", [200, 400, 429, 503])
def test_retry_after_beyond_two_minutes_fails_the_row(status: int) -> None:
    headers = {"retry-after": "86400", "x-should-retry": "true"}
    outcome = read_outcome(status, headers, WORDS)
    assert outcome.failure is not None
    assert outcome.failure.message == "retry-after 86400 s is longer than 120 s: why"
    assert (outcome.retry, outcome.retry_after) == (False, None)


def test_retry_after_is_honoured_in_a_200_too() -> None:
    assert read_outcome(200, {"retry-after": "7"}, WORDS).retry_after == 7.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date_counts_from_now() -> None:
    now = time.time()
    seconds = retry_after({"retry-after": formatdate(now + 60, usegmt=True)}, now)
    assert seconds == pytest.approx(60, abs=1)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "m", "code": "insufficient_quota"}}',
        b'{"error": {"message": "m", "type": "insufficient_quota"}}',
        b'{"message": "m", "code": "insufficient_quota"}',
        b'\xef\xbb\xbf{"error": {"code": "insufficient_quota"}}',
    ],
)
@pytest.mark.parametrize("status", [429, 403, 200])
def test_exhausted_quota_is_told_wherever_it_stands(status: int, body: bytes) -> None:
    assert read_outcome(status, {}, body).quota
    assert not read_outcome(status, {}, WORDS).quota
