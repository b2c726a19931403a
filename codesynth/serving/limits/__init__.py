"""What holds a request back: concurrency, rates, budget, replicas, outages."""

from codesynth.serving.limits.admission import Admission, Advice, AttemptResult
from codesynth.serving.limits.budget import Budget
from codesynth.serving.limits.concurrency import Kind

__all__ = ["Admission", "Advice", "AttemptResult", "Budget", "Kind"]
