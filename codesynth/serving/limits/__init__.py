"""What holds a request back: concurrency, rates, budget, replicas, outages."""

from codesynth.serving.limits.admission import (
    Admission,
    Advice,
    AttemptResult,
    Drained,
    Permit,
    Status,
)
from codesynth.serving.limits.budget import Budget
from codesynth.serving.limits.concurrency import Kind

__all__ = [
    "Admission",
    "Advice",
    "AttemptResult",
    "Budget",
    "Drained",
    "Kind",
    "Permit",
    "Status",
]
