"""The ways in which an endpoint goes wrong, by name, and what the contract expects of each.

    endpoint.plan = FAULTS["cut_body"].plan              # at every attempt
    endpoint.plan = healing(FAULTS["cut_body"].plan, 2)  # at the first two of each body
    endpoint.plan = day = Mixed(seed=7)                  # thousands of rows; day.expected(prompt)

The rule where bytes are broken: "connection" when the end of the answer that HTTP promised did not
come, "bad_response" when a whole 200 came that is no chat completion. What a body, a status or the
bytes of a connection mean in detail is tested where they are read.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from random import Random
from typing import Any, cast

from support.replies import (
    FOREVER,
    Plan,
    Received,
    Reply,
    Step,
    chunk,
    code_for,
    completion,
    echo,
    error,
    text_for,
)

WORDS = "words of the server"
CUT_TEXT = "```python\ndef half("
HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
OK_CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 Request Time-out\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """One way of answering, and what must become of a row that only gets such answers.

    Attributes:
        plan: answers every attempt so.
        kinds: the failure's kind, "ok" where the answer is usable; more than one where the contract
            leaves it open.
        retried: whether attempts go on.
        status: the status in the failure, where it must be there.
        says: what the failure's message must hold.
        text: the answer's text for a prompt, where it is usable.
        slow: only the client's own time limit ends an attempt.
    """

    plan: Plan
    kinds: tuple[str, ...]
    retried: bool
    status: int | None = None
    says: str = ""
    text: Callable[[str], str] = text_for
    slow: bool = False


# Ways to change the answer that ``echo`` gives.


def wire(**changes: Any) -> Plan:
    """Change how the answer is sent: the fields of ``Reply``."""
    return lambda request: replace(echo(request), **changes)


def payload(change: Callable[[bytes], bytes], **changes: Any) -> Plan:
    """Change the bytes of the body, and how it is sent."""
    return lambda request: Reply(body=change(cast("bytes", echo(request).payload)), **changes)


def raw(steps: Callable[[bytes, bytes], Iterable[Step]], end: Any = "close") -> Plan:
    """Make steps of the head and the body."""

    def plan(request: Received) -> Reply:
        good = echo(request)
        return Reply(raw=steps(good.head(), cast("bytes", good.payload)), end=end)

    return plan


def fields(**changes: Any) -> Plan:
    """Change top-level fields of the completion; None takes a field away."""

    def plan(request: Received) -> Reply:
        body = {**cast("dict[str, Any]", echo(request).body), **changes}
        return Reply(body={name: value for name, value in body.items() if value is not None})

    return plan


def message(content: Any = None, finish_reason: str | None = "stop", **others: Any) -> Plan:
    """Answer a completion with this message."""
    return lambda request: completion(content, finish_reason, **others)


def parts(request: Received) -> Reply:
    """Send the content as a list of two parts."""
    text = text_for(request.prompt)
    return completion([{"type": "text", "text": piece} for piece in (text[:10], text[10:])])


def always(answer: Reply) -> Plan:
    """Answer the same whatever is asked."""
    return lambda request: answer


def endless(head: bytes, piece: bytes) -> Plan:
    return lambda request: Reply(raw=chain([head], repeat(piece)), end="close")


def dripping(pieces: Iterable[bytes]) -> Iterator[Step]:
    """Send a piece every 20 ms: enough to keep any time limit on silence from ending."""
    return chain.from_iterable((0.02, piece) for piece in pieces)


def blank_lines_first(request: Received) -> Reply:
    pieces: Iterator[bytes] = iter([b"\n", b"\n", cast("bytes", echo(request).payload)])
    return Reply(body=pieces, framing="chunked")


def fifty_mb(prompt: str) -> str:
    return f"```python\n{code_for(prompt)}\nx = '{'y' * 50_000_000}'\n```\n"


# What is expected.


def usable(plan: Plan, text: Callable[[str], str] = text_for) -> Fault:
    return Fault(plan, ("ok",), retried=False, text=text)


def says(text: str) -> Fault:
    return usable(message(text), lambda prompt: text)


def broken(plan: Plan, *or_kinds: str) -> Fault:
    return Fault(plan, ("connection", *or_kinds), retried=True)


def bad(plan: Plan, *or_kinds: str) -> Fault:
    return Fault(plan, ("bad_response", *or_kinds), retried=True)


def silent(plan: Plan, *or_kinds: str) -> Fault:
    return Fault(plan, ("timeout", *or_kinds), retried=True, slow=True)


def spent(kind: str, plan: Plan) -> Fault:
    """Answered and paid for, but unusable."""
    return Fault(plan, (kind,), retried=False)


def status(code: int) -> Fault:
    """An error status in OpenAI's shape, classed as the contract's table says."""
    kind = "rate_limited" if code == 429 else "rejected"
    if code in (408, 409) or code >= 500:
        kind = "server_error"
    return Fault(always(error(code, WORDS)), (kind,), kind != "rejected", code, WORDS)


ENDLESS = endless(OK_CHUNKED, chunk(b" " * 60_000))

WIRE = {
    "reset_before_head": broken(wire(cut=0, end="reset")),
    "reset_mid_body": broken(wire(cut=-60, end="reset")),
    "close_before_head": broken(wire(cut=0)),
    "cut_body": broken(wire(cut=-60)),
    "close_delimited": usable(wire(framing="close")),
    "close_delimited_cut": bad(wire(framing="close", cut=-60)),
    "http10": usable(wire(version="HTTP/1.0", framing="close")),
    "close_unsaid": usable(wire(end="close")),
    "stale_keep_alive": usable(
        lambda request: replace(echo(request), cut=0 if request.on_connection > 1 else None)
    ),
    "stale_keep_alive_reset": usable(
        lambda request: (wire(cut=0, end="reset") if request.on_connection > 1 else echo)(request)
    ),
    "wrong_length": broken(wire(length=5000, end="close")),
    "trailing_garbage": usable(raw(lambda head, body: [head + body + b"\r\n\r\ngarbage"], "keep")),
    "unasked_408": usable(raw(lambda head, body: [head + body + TIMED_OUT])),
    "chunked": usable(wire(framing="chunked")),
    "chunked_cut": broken(wire(framing="chunked", cut=-5)),
    "other_protocol": broken(raw(lambda head, body: [b"SSH-2.0-OpenSSH_9.2\r\n"])),
    "endless_header": broken(endless(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 6000)),
    "100_continue_first": usable(raw(lambda head, body: [CONTINUE + head + body], "keep")),
    "never_answer": silent(always(Reply(raw=(), end="hang"))),
    "hang_mid_body": silent(wire(cut=-60, end="hang")),
    "drip": silent(raw(lambda head, body: chain([head], dripping(b"%c" % byte for byte in body)))),
    "endless_100_continue": silent(
        raw(lambda head, body: dripping(repeat(CONTINUE)), "hang"), "connection"
    ),
    "blank_lines_first": usable(blank_lines_first),
}

BODIES = {
    "html_200": bad(always(Reply(body=HTML, headers={"content-type": "text/html"}))),
    "204_empty": bad(always(Reply(204, headers={"content-length": None, "content-type": None}))),
    "torn_json": bad(payload(lambda body: body[:-10])),
    "invalid_utf8": bad(payload(lambda body: body.replace(b"Here", b"\xff\xfe"))),
    "gzip_not_at_all": bad(payload(bytes, headers={"content-encoding": "gzip"})),
    "choices_empty": bad(fields(choices=[])),
    "error_object_200": bad(always(Reply(body={"error": {"message": "upstream", "code": 502}}))),
    "content_parts_split": usable(parts),
    "usage_absent": usable(fields(usage=None)),
    "two_choices": usable(
        lambda request: Reply(
            body={"choices": cast("dict[str, Any]", echo(request).body)["choices"] * 2}
        )
    ),
    "reasoning_beside_text": usable(
        lambda request: completion(text_for(request.prompt), reasoning_content="I think so.")
    ),
    "content_null": spent("empty", message()),
    "content_blank": spent("empty", message("")),
    "reasoning_only": spent("empty", message(reasoning_content="I think so.")),
    "think_unclosed": spent("empty", message("<think>I think so")),
    "finish_length": spent("truncated", message(CUT_TEXT, "length")),
    "finish_content_filter": spent("filtered", message(CUT_TEXT, "content_filter")),
    "refusal": spent("refused", message(None, refusal="I can't help with that.")),
    "lone_surrogate": says("```python\nx = '\ud800'\n```\n"),
    "astral": says("```python\nx = '\U0001f600'\n```\n"),
    "nul_in_text": says("```python\nx = '\x00'\n```\n"),
    "line_separators": says("```python\nx = '\u2028\u2029\x85\x0b\x0c'\n```\n"),
    "terminal_escapes": says("```python\nx = '\x1b[2J\x1b]0;owned\x07'\n```\n"),
    "answer_50mb": usable(lambda request: completion(fifty_mb(request.prompt)), fifty_mb),
}

STATUS = {
    f"status_{code}": status(code)
    for code in (400, 401, 403, 404, 408, 413, 418, 422, 429, 500, 503, 529)
} | {
    "error_plain": Fault(
        always(Reply(400, body=WORDS.encode(), headers={"content-type": "text/plain"})),
        *(("rejected",), False, 400, WORDS),
    ),
    "retry_after_ms": Fault(
        always(Reply(429, headers={"retry-after-ms": "200", "retry-after": "119"})),
        *(("rate_limited",), True, 429),
    ),
    "redirect_other_host": Fault(
        always(Reply(307, headers={"location": "http://localhost:9/moved"})),
        *(("rejected",), False, 307),
    ),
}

FAULTS = WIRE | BODIES | STATUS

BUSY = Fault(
    lambda request: replace(error(429, "slow down"), headers={"retry-after-ms": "20"}),
    ("rate_limited",),
    retried=True,
    status=429,
)

HEALING = (
    *("status_500", "status_503", "status_529", "status_408", "reset_before_head"),
    *("reset_mid_body", "close_before_head", "cut_body", "chunked_cut", "wrong_length", "html_200"),
    *("torn_json", "choices_empty", "error_object_200", "invalid_utf8", "close_delimited_cut"),
)
LASTING = (
    *("status_400", "status_413", "status_422", "status_418", "finish_length", "refusal"),
    *("finish_content_filter", "content_null", "content_blank", "reasoning_only", "error_plain"),
)
HARMLESS = (
    *("content_parts_split", "chunked", "usage_absent", "blank_lines_first", "http10"),
    *("100_continue_first", "trailing_garbage"),
)
"""Without "close_unsaid": it can cost the next row on that connection an attempt."""


@dataclass(frozen=True)
class Mixed:
    """A plan in which some prompts fail; what becomes of each depends on (seed, prompt) alone.

    Attributes:
        healing: share of prompts that fail once or twice, then are answered; 429 is a third of it.
        lasting: share that gets a rejection or an unusable answer.
        harmless: share that gets a strange but usable answer.
        stubborn: share that fails for a passing reason, but always.
        hanging: share that is never answered at the first attempt.
        latency: mean seconds before an answer.
    """

    seed: int
    healing: float = 0.15
    lasting: float = 0.05
    harmless: float = 0.1
    stubborn: float = 0.003
    hanging: float = 0.002
    latency: float = 0.005

    def __call__(self, request: Received) -> Reply:
        fault, failures = self.fate(request.prompt)
        answer = (fault.plan if fault and request.attempt <= failures else echo)(request)
        delay = Random(f"{self.seed}:{request.prompt}:{request.attempt}").expovariate(1)
        return replace(answer, delay=delay * self.latency)

    def fate(self, prompt: str) -> tuple[Fault | None, float]:
        """Say how ``prompt`` fails, if it does, and at how many attempts."""
        random = Random(f"{self.seed}:{prompt}")
        passing = BUSY if random.random() < 1 / 3 else FAULTS[random.choice(HEALING)]
        once_or_twice, draw = random.choice((1, 2)), random.random()
        fates = (
            (self.healing, passing, once_or_twice),
            (self.lasting, FAULTS[random.choice(LASTING)], FOREVER),
            (self.harmless, FAULTS[random.choice(HARMLESS)], FOREVER),
            (self.stubborn, passing, FOREVER),
            (self.hanging, FAULTS["never_answer"], 1),
        )
        for share, fault, failures in fates:
            draw -= share
            if draw < 0:
                return fault, failures
        return None, 0

    def expected(self, prompt: str) -> str:
        """Say what becomes of ``prompt`` after two retries: "ok", or the failure's kind."""
        fault, failures = self.fate(prompt)
        return fault.kinds[0] if fault and failures == FOREVER else "ok"
