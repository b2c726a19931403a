"""``codesynth report``: one page that needs no network and never runs text of a row as code."""

import contextlib
import math
from base64 import b64encode
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from itertools import accumulate
from pathlib import Path
from string import Template

from codesynth.errors import ConfigError
from codesynth.models import Usage
from codesynth.report.figures import LEAST_SIMILARITY, Figures
from codesynth.report.rows import NOT_VERIFIED, clean
from codesynth.settings import ReportSettings
from codesynth.storage import Output

_MOST_COLUMNS, _MOST_NAMES = 40, 15
_PACES = ("Answers per second", "Requests in flight")
_LEFT, _WIDTH, _HEIGHT = 56, 292, 150  # of a plot, in its own pixels
_BEGIN = b"<!doctype html>"


def report(settings: ReportSettings) -> int:
    """Write the page; return the exit code.

    Raises:
        ConfigError: the page would replace a file that is not such a page.
        InputError: a file cannot be read.
        OutputError: the page cannot be written.
    """
    if settings.output is not None and Path(settings.output).is_file():
        with open(settings.output, "rb") as file:
            if file.read(len(_BEGIN)) not in (b"", _BEGIN):
                raise ConfigError(
                    f"{settings.output} exists and is not a report page. Choose another -o"
                )
    texts = {kind: Path(__file__).with_name(f"page.{kind}").read_text() for kind in ("css", "js")}
    for kind, text in tuple(texts.items()):  # the page's security policy allows only these
        texts[f"{kind}_hash"] = b64encode(sha256(text.encode()).digest()).decode()
    template = Template(Path(__file__).with_name("page.html").read_text())
    with contextlib.closing(Output(settings.output)) as output:
        page = template.substitute(texts, body="".join(_body(Figures(settings))))
        output.start()
        output.write(page.encode())
        output.commit()
    return 0


def _body(figures: Figures) -> Iterator[str]:
    """Write all of the page after its title."""
    yield f"<p>{escape(clean(', '.join(figures.settings.inputs)))}</p><div class='grid tiles'>"
    yield from (f"<div><b>{number}</b>{about}</div>" for number, about in _tiles(figures))
    plots = [_histogram(*name, numbers) for name, numbers in figures.numbers.items()]
    if similar := figures.instructions.similarity():
        others = len(figures.instructions.kept) - similar.total()
        unit = f"% ROUGE-L with the closest of {others:,} others (0: below {LEAST_SIMILARITY:.0%})"
        plots.append(_histogram("Similarity of instructions", unit, similar))
    times, *paces = zip(*figures.history, strict=True) if figures.history else [()]
    for title, cards in {
        "Outcomes": [_table(name, counts) for name, counts in figures.counts.items() if counts],
        "Distributions": plots,
        "Over time": [_history(*each, times) for each in zip(_PACES, paces, strict=False)],
    }.items():
        if cards:
            yield f"</div><h2>{title}</h2><div class='grid'>{''.join(cards)}"
    rows, total = figures.sample(), figures.counts["Rows"].total()
    yield f"</div><h2>Rows</h2><p><span id='shown'>{len(rows)}</span> of {len(rows)} rows, drawn"
    yield f" at random from {total:,}: as many as possible of each outcome.</p>"
    yield "<input id='search' type='search' placeholder='Search for words' aria-label='Search'>"
    for headline, begin, parts in rows:
        yield f"<details><summary><b>{escape(headline)}</b> {escape(begin)}</summary>"
        for kind, title, text in parts:
            yield f"<h4>{escape(title)}</h4><pre class='{kind}'>{escape(text)}</pre>"
        yield "</details>"


def _tiles(figures: Figures) -> Iterator[tuple[str, str]]:
    yield from ((f"{n:,}", f"rows {outcome}") for outcome, n in figures.counts["Rows"].items())
    statuses = figures.counts["Rows ok, by verification"]
    if verified := statuses.total() - statuses[NOT_VERIFIED]:
        yield f"{statuses['passed'] / verified:.1%}", "of the verified rows passed"
    for name, texts in ("instructions", figures.instructions), ("codes", figures.codes):
        if texts.total:
            about = "" if texts.every == 1 else " (estimated)"
            yield f"{texts.different:,}", f"different {name}{about}"
            yield f"{1 - texts.different / texts.total:.1%}", f"of the {name} repeat another{about}"
    used, where = Usage(*figures.tokens.values()), "in the rows"
    if used.reasoning_tokens and used.completion_tokens:
        share = used.reasoning_tokens / used.completion_tokens
        yield f"{share:.0%}", "of the answer tokens are reasoning"
    if figures.spent is not None:
        used, where = figures.spent, "in the journals"
    if used.completion_tokens:
        yield f"{used.prompt_tokens:,}", f"prompt tokens {where}"
        yield f"{used.completion_tokens:,}", f"answer tokens {where}"
    if (price := figures.settings.price) is not None:
        yield f"{price.of(used):,.2f}", "cost of these tokens"


def _table(title: str, counts: Counter[str]) -> str:
    """Draw names with their counts, the most frequent first."""
    html = f"<div><h3>{title}</h3><table>"
    for name, count in counts.most_common(_MOST_NAMES):
        shown, share = escape(clean(name, 40)), count / counts.total()
        html += f"<tr><th>{shown}</th><td>{count:,}</td><td>{share:.1%}</td><td>"
        html += "<svg viewBox='0 0 100 10' preserveAspectRatio='none'>"
        html += f"<rect class='{shown}' width='{100 * share:.1f}' height='10'/></svg></td></tr>"
    return f"{html}</table></div>"


def _histogram(title: str, unit: str, numbers: Counter[int]) -> str:
    ordered, total = sorted(numbers), numbers.total()
    sums = list(accumulate(map(numbers.__getitem__, ordered)))
    half, high = (ordered[bisect_left(sums, share * total)] for share in (0.5, 0.99))
    about = f"In {unit}; half have at most {half:,}, the largest {ordered[-1]:,}."
    low, high = (0, 100) if unit[0] == "%" else (ordered[0], high)
    width = _round_up((high - low + 1) / _MOST_COLUMNS)
    counts, end = Counter[int](), high // width
    for number, count in numbers.items():
        counts[min(number, high) // width] += count
    columns = []
    for i in range(low // width, end + 1):  # the last column has all that is larger, too
        last = max(ordered[-1], high) if i == end else (i + 1) * width - 1
        columns.append(
            (counts[i], f"{i * width:,} to {last:,}: {counts[i]:,} rows", f"{i * width:,}")
        )
    return _plot(title, about, columns)


def _history(title: str, values: Sequence[float], times: Sequence[float]) -> str:
    words = [f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}" for time in times]
    columns = [
        (value, f"{time}: {value:,.1f}", time[11:16])
        for time, value in zip(words, values, strict=True)
    ]
    about = f"From {words[0]} to {words[-1]} (UTC). The most is {max(values):,.1f}."
    return _plot(title, about, columns)


def _plot(title: str, about: str, columns: Sequence[tuple[float, str, str]]) -> str:
    """Draw columns, each given as its height, its hint and the label below it."""
    highest = max(height for height, _, _ in columns)
    step = _round_up(highest / 4)
    lines = max(1, math.ceil(highest / step))
    scale, pitch = (_HEIGHT - 10) / (step * lines), _WIDTH / len(columns)
    svg = f"<svg viewBox='0 0 {_LEFT + _WIDTH + 12} {_HEIGHT + 22}' role='img'>"
    for i in range(lines + 1):
        y = _HEIGHT - scale * step * i
        svg += f"<path d='M{_LEFT} {y:.1f}h{_WIDTH}'/>"
        svg += f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' class='end'>{i * step:,}</text>"
    for i, (height, hint, label) in enumerate(columns):
        x, tall = _LEFT + i * pitch, scale * height
        svg += f"<rect x='{x:.1f}' y='{_HEIGHT - tall:.1f}' width='{0.9 * pitch:.2f}' "
        svg += f"height='{tall:.1f}'><title>{hint}</title></rect>"
        if i % math.ceil(len(columns) / 5) == 0:
            x = min(x + pitch / 2, _LEFT + _WIDTH + 12 - 3.3 * len(label))
            svg += f"<text x='{x:.1f}' y='{_HEIGHT + 16}'>{label}</text>"
    return f"<div><h3>{title}</h3><p>{escape(about)}</p>{svg}</svg></div>"


def _round_up(number: float) -> int:
    """Round up to 1, 2 or 5 times a power of ten, at least 1.

    >>> [_round_up(n) for n in (0, 0.3, 1.2, 26, 50)]
    [1, 1, 2, 50, 50]
    """
    power = int(10 ** max(0, math.floor(math.log10(number or 1))))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= number)
