"""An endpoint as it is on a bad day: every prompt has its own fate, whenever it comes."""

from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType

from support.faults.content import CONTENT
from support.faults.fault import Fault
from support.faults.status import STATUS
from support.faults.wire import WIRE
from support.replies import FOREVER, Received, Reply, echo, error

FAULTS = MappingProxyType(WIRE | CONTENT | STATUS)

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
    *("content_parts_list", "finish_unknown", "chunked", "close_unsaid", "usage_absent"),
    *("blank_lines_first", "100_continue_first", "http10", "trailing_garbage"),
)


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
