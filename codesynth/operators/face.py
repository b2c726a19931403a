"""``run(storage)``: the operators as users of DataFlow know them.

Our own storage and servings stream. Of foreign ones it takes ``storage.read("dict")``,
``storage.write(list_of_dicts)`` and ``llm_serving.generate_from_input(prompts)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from codesynth import pipeline
from codesynth.models import Failure, Record, Request, Response, Stats
from codesynth.pipeline import Job, Stop
from codesynth.serving import LLMServing


def run_streaming(job: Job, records: Iterable[Record], llm_serving: Any, storage: Any) -> None:
    """Send records through and write rows and failures as they come, in order."""
    stats, stop = Stats(), Stop()
    with storage.open() as files:
        files.start()
        pipeline.run(records, job, _as_serving(llm_serving), files, stats=stats, stop=stop)
        files.commit()


def run_in_memory(
    job: Job, rows: Sequence[dict[str, Any]], llm_serving: Any
) -> list[dict[str, Any]]:
    """Return the rows with the new column; None in it where a row failed."""
    records = (Record(i, b"{}", row) for i, row in enumerate(rows))
    done = [dict(row) for row in rows]
    for outcome in pipeline.outcomes(
        records, job, _as_serving(llm_serving), stats=Stats(), stop=Stop()
    ):
        if outcome is not None:
            done[outcome.response.request.position][job.output_key] = outcome.value
    return done


def _as_serving(llm_serving: Any) -> LLMServing:
    serving: LLMServing = (
        llm_serving if hasattr(llm_serving, "generate") else _FromInput(llm_serving)
    )
    return serving


class _FromInput:
    """A serving that knows lists only, DataFlow's way; a prompt it does not answer fails."""

    def __init__(self, serving: Any) -> None:
        self._serving = serving

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        asked: list[Request] = []
        for request in requests:
            if request.known is not None:
                yield request.known
            else:
                asked.append(request)
        texts = self._serving.generate_from_input([r.messages[-1]["content"] for r in asked])
        for request, text in zip(asked, texts, strict=True):
            if isinstance(text, str):
                yield Response(request, text)
            else:
                yield Response(request, error=Failure("empty", "the serving gave no answer"))
