"""What holds a request back: concurrency, rates, budget, replicas, outages."""

from codesynth.serving.limits.admission import (
    Admission,
    Advice,
    AttemptResult,
    Kind,
    Status,
)
from codesynth.serving.limits.budget import Budget

__all__ = [
    "Admission",
    "Advice",
    "AttemptResult",
    "Budget",
    "Kind",
    "Status",
]
