"""Ways of getting answers: each is one function from requests to responses."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from codesynth.models import Request, Response


class LLMServing(Protocol):
    """The seam: an online endpoint, a journal in front of it, a batch API, a cluster engine.

    1. ``generate`` pulls ``requests`` lazily, perhaps from another thread, and holds a bounded
       number of unfinished ones.
    2. Each request yields exactly one Response, in any order, as soon as it is there.
       Where ``known`` is set, that is the one, and nothing is sent.
    3. A row's failure is a value, ``Response(error=...)``. Only what must stop the run
       (``EndpointError``) is raised.
    4. Closing the iterator cancels what is in flight.
    """

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answer each request."""
        ...
