"""``codesynth report``: one page that needs no network and never runs text of a row as code."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from html import escape
from os.path import realpath
from pathlib import Path
from string import Template

from codesynth.errors import ConfigError
from codesynth.local_settings import ReportSettings
from codesynth.models import Usage
from codesynth.report.figures import Figures
from codesynth.report.rows import Part, clean
from codesynth.storage import Output

_MOST_NAMES, _MOST_STEPS = 15, 24


def report(settings: ReportSettings) -> int:
    """Write the page; return the exit code."""
    if settings.output not in (None, "-") and realpath(settings.output) in map(
        realpath, settings.inputs
    ):
        raise ConfigError(f"{settings.output} is an input. Choose another -o")
    template = Template(Path(__file__).with_name("page.html").read_text())
    with contextlib.closing(Output(settings.output)) as output:
        page = template.substitute(_contents(Figures(settings)))
        output.start()
        output.write(page.encode())
        output.commit()
    return 0


def _contents(figures: Figures) -> dict[str, object]:
    """Write what stands in place of each name in page.html."""
    rows = figures.sample()
    contents = {
        "inputs": escape(clean(", ".join(figures.settings.inputs))),
        "tables": "".join(_tables(figures)),
        "histograms": "".join(_histogram(*each) for each in figures.numbers.items()),
        "history": "".join(_history(figures)) if figures.answers else "",
        "shown": len(rows),
        "total": f"{figures.counts['Rows'].total():,}",
        "rows": "".join(_row(*row) for row in rows),
    }
    # The page's security policy allows what has the nonce, which no text of a row can know.
    digest = blake2b(repr(contents).encode(errors="replace"), digest_size=16)
    return {**contents, "nonce": digest.hexdigest()}


def _tables(figures: Figures) -> Iterator[str]:
    """Draw the most frequent names of each table."""
    price = figures.settings.price
    for title, counts in figures.counts.items():
        if price is not None and title.startswith("Tokens"):
            used = Usage(counts["prompt"], counts["answer"] + counts["reasoning"])
            title += f", which cost {price.of(used):,.2f}"
        if total := counts.total():
            yield _chart(title, dict(counts.most_common(_MOST_NAMES)), total)


def _histogram(title: str, numbers: Counter[tuple[int, int]]) -> str:
    bars = {}
    for (first, last), count in sorted(numbers.items()):
        bars[f"{first:,} to {last:,}" if last > first else f"{first:,}"] = count
    return _chart(title, bars, numbers.total())


def _history(figures: Figures) -> Iterator[str]:
    first, last = min(figures.answers), max(figures.answers)
    width = math.ceil((last - first + 1) / _MOST_STEPS)
    charts = {"Answers per second": figures.answers, "Requests in flight": figures.busy}
    for title, numbers in charts.items():
        bars = {}
        for start in range(first, last + 1, width):
            time = f"{datetime.fromtimestamp(start, UTC):%m-%d %H:%M:%S}"
            bars[time] = sum(numbers[second] for second in range(start, start + width)) / width
        yield _chart(f"{title}, each for {width} s (UTC)", bars)


def _chart(title: str, bars: Mapping[str, float], total: int | None = None) -> str:
    """Draw a bar for each name; with ``total``, also write which part of it the number is."""
    html, longest = f"<div><h3>{title}</h3><table>", max(bars.values()) or 1
    for name, value in bars.items():
        shown = escape(clean(name, 40))
        number = f"{value:,.1f}" if total is None else f"{value:,} ({value / total:.1%})"
        bar = f"<rect class='{shown}' width='{value / longest:.1%}' height='100%'/>"
        html += f"<tr><th>{shown}</th><td>{number}</td><td><svg>{bar}</svg></td></tr>"
    return f"{html}</table></div>"


def _row(headline: str, parts: Sequence[Part]) -> str:
    begin = parts[0][2][:150] if parts else ""
    html = f"<details><summary><b>{escape(headline)}</b> {escape(begin)}</summary>"
    for kind, title, text in parts:
        html += f"<h4>{escape(title)}</h4><pre class='{kind}'>{escape(text)}</pre>"
    return f"{html}</details>"
