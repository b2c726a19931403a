"""What a fault is, and the few words that the tables of faults are written in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from answers import Answer, Plan, Received, Step, completion, echo, reply


@dataclass(frozen=True)
class Fault:
    """One way of answering, and what must become of a row that only gets such answers.

    Attributes:
        plan: answers every attempt so.
        kinds: the failure's kind, "ok" where the answer is usable; more than one where the contract
            leaves it open.
        retried: whether attempts go on; None where the contract leaves it open.
        status: the status in the failure, where it must be there.
        says: what the failure's message must hold.
        text: the answer's text for a prompt, where it is usable.
        stops: as the first answer of a run it stops the run; among answers it is as ``kinds`` says.
        slow: only the client's own time limit ends an attempt.
        wait: seconds that must pass before the next attempt.
        in_text: only reading the text shows it, so a serving may pass it on as "ok".
    """

    plan: Plan
    kinds: tuple[str, ...]
    retried: bool | None
    status: int | None = None
    says: str = ""
    text: Callable[[str], str] = reply
    stops: bool = False
    slow: bool = False
    wait: float = 0.0
    in_text: bool = False


# Ways to change the answer that ``echo`` gives.


def wire(**changes: Any) -> Plan:
    """Change how the answer is sent: the fields of ``Answer``."""
    return lambda request: replace(echo(request), **changes)


def payload(change: Callable[[bytes], bytes], **changes: Any) -> Plan:
    """Change the bytes of the body, and how it is sent."""
    return lambda request: Answer(body=change(cast("bytes", echo(request).payload)), **changes)


def raw(steps: Callable[[bytes, bytes], Iterable[Step]], end: Any = "close") -> Plan:
    """Make steps of the head and the body."""

    def plan(request: Received) -> Answer:
        good = echo(request)
        return Answer(raw=steps(good.head(), cast("bytes", good.payload)), end=end)

    return plan


def fields(**changes: Any) -> Plan:
    """Change top-level fields of the completion."""
    return lambda request: Answer(body={**cast("dict[str, Any]", echo(request).body), **changes})


def message(content: Any = None, finish_reason: str | None = "stop", **others: Any) -> Plan:
    """Answer a completion with this message."""
    return lambda request: completion(content, finish_reason, **others)


def always(answer: Answer) -> Plan:
    """Answer the same whatever is asked."""
    return lambda request: answer


# What is expected.


def usable(plan: Plan, text: Callable[[str], str] = reply) -> Fault:
    return Fault(plan, ("ok",), retried=False, text=text)


def says(text: str) -> Fault:
    return usable(message(text), lambda prompt: text)


def broken(plan: Plan, *or_kinds: str) -> Fault:
    return Fault(plan, ("connection", *or_kinds), retried=None if "ok" in or_kinds else True)


def bad(plan: Plan, *or_kinds: str) -> Fault:
    return Fault(plan, ("bad_response", *or_kinds), retried=None if "ok" in or_kinds else True)


def silent(plan: Plan, *or_kinds: str) -> Fault:
    return Fault(plan, ("timeout", *or_kinds), retried=True, slow=True)


def spent(kind: str, plan: Plan, *, in_text: bool = False) -> Fault:
    """Answered and paid for, but unusable."""
    return Fault(plan, (kind,), retried=False, in_text=in_text)
