"""``codesynth report``: one page that needs no network and runs no text of a row."""

import contextlib
import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template

from codesynth.errors import ConfigError
from codesynth.report.figures import LEAST_SIMILARITY, Figures, Numbers
from codesynth.report.rows import clean, columns_of, first_text, headline, parts
from codesynth.settings import ReportSettings
from codesynth.storage import Output

_MOST_CHARACTERS = 4000  # of each text on the page
_COLUMNS = 40
_LEFT, _WIDTH, _HEIGHT = 56, 292, 160  # of a plot, in its own pixels
_BEGIN = b"<!doctype html>"


def report(told: ReportSettings) -> int:
    """Write the page; return the exit code.

    Raises:
        ConfigError: the page would replace a file that is no page.
        InputError: a file cannot be read.
        OutputError: the page cannot be written.
    """
    if told.output is not None and Path(told.output).is_file():
        with open(told.output, "rb") as file:
            if file.read(len(_BEGIN)) not in (b"", _BEGIN):
                raise ConfigError(f"{told.output} exists and is no page. Choose another -o")
    html, css, js = (
        Path(__file__).with_name(f"page.{e}").read_text() for e in ("html", "css", "js")
    )
    page = Template(html).substitute(
        css=css, css_hash=_hash(css), js=js, js_hash=_hash(js), body="".join(_body(Figures(told)))
    )
    with contextlib.closing(Output(told.output)) as output:
        output.start()
        output.write(page.encode())
        output.commit()
    return 0


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def _body(figures: Figures) -> Iterator[str]:
    """Write what is between title and end of the page."""
    yield f"<p>{escape(clean(', '.join(figures.told.inputs)))}</p>"
    tiles = (f'<div class="tile"><b>{number}</b>{about}</div>' for number, about in _tiles(figures))
    yield f'<div class="grid tiles">{"".join(tiles)}</div>'
    yield from _section("Outcomes", [_table(*each) for each in figures.counts.items()])
    plots = [_histogram(*name, numbers) for name, numbers in figures.numbers.items()]
    if similar := figures.instructions.similarity():
        others = len(figures.instructions.kept) - similar.total()
        unit = f"% ROUGE-L with the closest of {others:,} others; 0 is below {LEAST_SIMILARITY:.0%}"
        plots.append(_histogram("Similarity of instructions", unit, similar))
    yield from _section("Distributions", plots)
    plots = [_history(name, i, figures.history) for i, name in enumerate(_HISTORY, 1)]
    yield from _section("Over time", plots if figures.history else [])
    records, total = figures.sample(), figures.counts["Rows"].total()
    about = (
        f"{len(records)} rows, drawn at random from {total:,}: as many as possible of each outcome"
    )
    yield f'<h2>Rows</h2><p><span id="shown">{len(records)}</span> of {about}.</p>'
    yield '<input id="search" type="search" placeholder="Search for words" aria-label="Search">'
    for record in records:
        begin = first_text(columns_of(record), figures.told.instruction_keys) or ""
        yield f"<details><summary><b>{escape(headline(record))}</b> {escape(clean(begin[:150]))}"
        yield "</summary>"
        for kind, title, text in parts(record, figures.told, _MOST_CHARACTERS):
            yield f'<h4>{escape(title)}</h4><pre class="{kind}">{escape(text)}</pre>'
        yield "</details>"


def _section(title: str, cards: Sequence[str]) -> Iterable[str]:
    return [f'<h2>{title}</h2><div class="grid">', *cards, "</div>"] if cards else []


def _tiles(figures: Figures) -> Iterator[tuple[str, str]]:
    used, price, statuses = figures.usage, figures.told.price, figures.counts["Verification"]
    yield from ((f"{n:,}", f"rows {fate}") for fate, n in figures.counts["Rows"].items())
    if verified := statuses.total() - statuses["not verified"]:
        yield f"{statuses['passed'] / verified:.1%}", "of the verified rows passed"
    for name, texts in ("instructions", figures.instructions), ("codes", figures.codes):
        if texts.kept:
            about = "" if texts.every == 1 else " (estimated)"
            yield f"{len(texts.kept) * texts.every:,}", f"different {name}{about}"
            yield f"{texts.repeated:.1%}", f"of the {name} repeat another{about}"
    if used.completion_tokens:
        yield f"{used.prompt_tokens:,}", "prompt tokens"
        yield f"{used.completion_tokens:,}", "answer tokens"
        yield f"{used.reasoning_tokens / used.completion_tokens:.0%}", "of these are reasoning"
    if price is not None:
        cost = used.prompt_tokens * price[0] + used.completion_tokens * price[1]
        yield f"{cost / 1e6:,.2f}", "cost of these tokens"


def _table(title: str, counts: Counter[str]) -> str:
    """Draw names with their counts, the most frequent first."""
    html = f'<div class="card"><h3>{title}</h3><table>'
    for name, count in counts.most_common(15):
        shown, share = escape(clean(name, 40)), count / counts.total()
        html += f"<tr><th>{shown}</th><td>{count:,}</td><td>{share:.1%}</td><td>"
        html += '<svg viewBox="0 0 100 10" preserveAspectRatio="none">'
        html += f'<rect class="{shown}" width="{100 * share:.1f}" height="10"/></svg></td></tr>'
    return f"{html}</table></div>"


def _histogram(title: str, unit: str, numbers: Numbers) -> str:
    low, half, most, high, last = map(numbers.quantile, (0, 0.5, 0.9, 0.99, 1))
    low, high = (0, 100) if unit[0] == "%" else (low, high)
    width = _round_up((high - low + 1) / _COLUMNS)
    counts = Counter[int]()
    for number, count in numbers.items():
        counts[min(number, high) // width] += count
    first, end = low // width, high // width
    every, columns = _round_up((end - first + 1) / 5), []
    for i in range(first, end + 1):
        upper = (i + 1) * width - 1 if i < end else max(last, high)
        hint = f"{i * width:,} to {upper:,}: {counts[i]:,} rows"
        columns.append((counts[i], hint, "" if i % every else f"{i * width:,}"))
    about = f"{unit}. Half have {half:,} or less, 90 % {most:,} or less; the largest is {last:,}."
    return _plot(title, about, columns)


_HISTORY = ("Answers per second", "Requests in flight")


def _history(title: str, i: int, steps: Sequence[tuple[float, ...]]) -> str:
    times = [f"{datetime.fromtimestamp(step[0], UTC):%Y-%m-%d %H:%M:%S}" for step in steps]
    labels = ["" if n % 24 else time[11:16] for n, time in enumerate(times)]
    hints = [f"{time}: {step[i]:,.1f}" for time, step in zip(times, steps, strict=True)]
    about = (
        f"From {times[0]} to {times[-1]}, UTC. The most is {max(step[i] for step in steps):,.1f}."
    )
    return _plot(title, about, list(zip((step[i] for step in steps), hints, labels, strict=True)))


def _plot(title: str, about: str, columns: Sequence[tuple[float, str, str]]) -> str:
    """Draw columns, each with its height, its hint and what is written below it."""
    highest = max(height for height, _, _ in columns)
    step = _round_up(highest / 4)
    lines = max(1, math.ceil(highest / step))
    scale, pitch = (_HEIGHT - 10) / (step * lines), _WIDTH / len(columns)
    svg = (
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + 12} {_HEIGHT + 24}" role="img" aria-label="{title}">'
    )
    for i in range(lines + 1):
        y = _HEIGHT - scale * step * i
        svg += f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}"/>'
        svg += f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="end">{i * step:,}</text>'
    for i, (height, hint, label) in enumerate(columns):
        x, tall = _LEFT + i * pitch, scale * height
        svg += f'<rect x="{x:.1f}" y="{_HEIGHT - tall:.1f}" width="{0.9 * pitch:.2f}" '
        svg += f'height="{tall:.1f}"><title>{hint}</title></rect>'
        svg += f'<text x="{x + pitch / 2:.1f}" y="{_HEIGHT + 16}">{label}</text>' if label else ""
    return f'<div class="card"><h3>{title}</h3><p>{escape(about)}</p>{svg}</svg></div>'


def _round_up(number: float) -> int:
    """Round up to 1, 2 or 5 times a power of ten, at least 1.

    >>> [_round_up(n) for n in (0, 0.3, 1.2, 26, 50)]
    [1, 1, 2, 50, 50]
    """
    power = 10 ** max(0, math.floor(math.log10(number or 1)))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= number)
