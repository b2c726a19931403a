"""What a run may cost: money is set aside before a request is sent. Pure, no I/O."""

from __future__ import annotations

from codesynth.models import Price, Usage

_TOKENS_PER_BYTE = 1 / 3  # until the endpoint has counted some
_MARGIN = 1.5


class Budget:
    """Sets money aside for each request, and gives back what it did not use.

    What a request may cost is estimated. Prompt: its bytes, at 1.5 times the most tokens per byte
    so far. Answer: ``max_tokens``, which the endpoint enforces; without it, 1.5 times the longest
    answer so far, and before the first answer only one request is sent at a time.

    Args:
        limit: most that may be spent, in currency units; None only counts.
        earlier: tokens that earlier runs of the job have used.
        max_tokens: most tokens of an answer, if the requests name it.
    """

    def __init__(
        self,
        price: Price,
        limit: float | None,
        *,
        earlier: Usage | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.price = price
        self.limit = limit
        self.spent = price.of(earlier) if earlier is not None else 0.0
        self._max_tokens = max_tokens
        self._reserved = 0.0
        self._open = 0
        self._ratio = _TOKENS_PER_BYTE
        self._longest = 0

    @property
    def is_idle(self) -> bool:
        """Tell whether no money is set aside, so that none can be given back."""
        return self._open == 0

    def reserve(self, body: bytes) -> float | None:
        """Set aside what a request may cost and return it; None if not enough is left now."""
        cost = self._estimate(body)
        if self.limit is not None:
            unknown = self._max_tokens is None and not self._longest
            if unknown:
                fits = self.is_idle and self.spent < self.limit
            else:
                fits = self.spent + self._reserved + cost <= self.limit
            if not fits:
                return None
        self._open += 1
        self._reserved += cost
        return cost

    def _estimate(self, body: bytes) -> float:
        longest = self._max_tokens or int(self._longest * _MARGIN)
        return self.price.of(Usage(int(len(body) * self._ratio) + 16, longest))

    def settle(self, reserved: float, body: bytes, usage: Usage | None, *, billed: bool) -> None:
        """Count what a request has cost.

        Args:
            usage: None if the endpoint did not tell; then all that was set aside counts as spent.
            billed: False if it cost nothing: it was never sent, or it was refused.
        """
        self._open -= 1
        self._reserved = self._reserved - reserved if self._open else 0.0
        if not billed:
            return
        if usage is None:
            self.spent += reserved
            return
        self.spent += self.price.of(usage)
        ratio = _MARGIN * usage.prompt_tokens / max(len(body), 1)
        self._ratio = max(self._ratio, ratio) if self._longest else ratio
        self._longest = max(self._longest, usage.completion_tokens, 1)
