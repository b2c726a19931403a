"""What holds a request back: concurrency, rates, budget, replicas, outages."""

from codesynth.serving.limits.admission import (
    Admission,
    Advice,
    AttemptResult,
    Drained,
    Permit,
    RateHeaders,
    Status,
    read_rate_headers,
)
from codesynth.serving.limits.budget import Budget, Price

__all__ = [
    "Admission",
    "Advice",
    "AttemptResult",
    "Budget",
    "Drained",
    "Permit",
    "Price",
    "RateHeaders",
    "Status",
    "read_rate_headers",
]
