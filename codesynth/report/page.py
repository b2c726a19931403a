"""``codesynth report``: one page that needs no network and runs no text of a row."""

from __future__ import annotations

import contextlib
import math
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from codesynth.codec import dumps
from codesynth.errors import ConfigError
from codesynth.report.collect import LEAST_SIMILARITY, Figures, Numbers, nearest
from codesynth.report.rows import clean, describe
from codesynth.settings import ReportSettings
from codesynth.storage import Output

_MOST_CHARACTERS = 4000  # of each text on the page
_MOST_BARS = 40
_COLORS = {"ok": "#3f9c6b", "rejected": "#cc8b1f", "failed": "#d65a5a", "unreadable": "#d65a5a"}
_MAIN = "#4f7fd9"
_LAYOUT = {
    "margin": {"l": 8, "r": 12, "t": 10, "b": 8},
    "paper_bgcolor": "#0000",
    "plot_bgcolor": "#0000",
    "separators": ".,",
    "bargap": 0.1,
}
_AXIS = {"automargin": True, "fixedrange": True}


def report(told: ReportSettings) -> int:
    """Write the page; return the exit code.

    Raises:
        ConfigError: plotly is not installed, or the page would replace a file that is no page.
        InputError: a file cannot be read.
        OutputError: the page cannot be written.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as exc:
        raise ConfigError("plotly is missing. Run: pip install 'codesynth[report]'") from exc
    _refuse_to_replace(told.output)
    folder = Path(__file__).parent
    scripts = [get_plotlyjs(), (folder / "page.js").read_text()]
    digests = [b64encode(sha256(script.encode()).digest()).decode() for script in scripts]
    page = Template((folder / "page.html").read_text()).substitute(
        hashes=" ".join(f"'sha256-{digest}'" for digest in digests),
        plotly=scripts[0],
        script=scripts[1],
        body="\n".join(_body(Figures.collect(told))),
    )
    with contextlib.closing(Output(told.output)) as output:
        output.start()
        output.write(page.encode())
        output.commit()
    return 0


def _refuse_to_replace(path: str | None) -> None:
    if path is not None and Path(path).is_file():
        with open(path, "rb") as file:
            if file.read(9) not in (b"", b"<!doctype"):
                raise ConfigError(f"{path} exists and is no page. Choose another -o")


def _body(figures: Figures) -> Iterator[str]:
    """Write what is between title and end of the page."""
    yield f"<p>{escape(clean(', '.join(figures.files)))}</p>"
    tiles = (f'<div class="tile"><b>{n}</b>{words}</div>' for n, words in _tiles(figures))
    yield f'<div class="grid tiles">{"".join(tiles)}</div>'
    for title, charts in _sections(figures):
        if charts := [chart for chart in charts if chart]:
            yield f'<h2>{title}</h2><div class="grid">{"".join(charts)}</div>'
    views = list(figures.drawn())
    yield (
        f"<h2>Rows</h2><p>Rows drawn at random from {figures.rows.total():,}, as evenly as possible "
        f'from each outcome. Shown: <b id="shown">{len(views)}</b> of {len(views)}.</p>'
        '<input id="search" type="search" placeholder="Search: passed, a word, a column ...">'
    )
    for view in views:
        parts = list(describe(view, figures.told, _MOST_CHARACTERS))
        first = (view.text(figures.told.instruction_keys) or "").strip()[:100]
        texts = (
            f'<h4>{escape(p.title)}</h4><pre class="{p.kind}">{escape(p.text)}</pre>'
            for p in parts[1:]
        )
        yield (
            f'<details class="row"><summary><b>{escape(parts[0].title)}</b> {escape(clean(first))}'
            f"</summary>{''.join(texts)}</details>"
        )


def _tiles(figures: Figures) -> Iterator[tuple[str, str]]:
    used, price = figures.usage, figures.told.price
    for fate, count in figures.rows.most_common():
        yield f"{count:,}", f"rows {fate}"
    if verified := figures.counts("ok"):
        yield f"{verified.get('passed', 0) / sum(verified.values()):.1%}", "of verified rows passed"
    for name, sample in ("instructions", figures.instructions), ("codes", figures.codes):
        about = "different" if sample.every == 1 else "different (estimated)"
        yield f"{sample.different:,}", f"{about} {name}"
        yield f"{sample.repeated:.1%}", f"of the {name} repeat another one"
    if used.completion_tokens:
        yield f"{used.prompt_tokens:,}", "prompt tokens"
        yield f"{used.completion_tokens:,}", "answer tokens"
        yield f"{used.reasoning_tokens / used.completion_tokens:.0%}", "of these are reasoning"
    if price is not None:
        cost = used.prompt_tokens * price[0] + used.completion_tokens * price[1]
        yield f"{cost / 1e6:,.2f}", "cost"


def _sections(figures: Figures) -> Iterator[tuple[str, list[str]]]:
    numbers = figures.numbers
    yield (
        "What became of the rows",
        [
            _bars("Rows", figures.rows, _COLORS),
            _bars("Rejected, by reason", figures.counts("rejected")),
            _bars("Failed, by kind", figures.counts("failed")),
        ],
    )
    yield (
        "Tests",
        [
            _bars("Verification", figures.counts("ok")),
            _histogram("Tests per row", "tests", numbers["tests"]),
            _histogram("Tests passed", "%", numbers["pass_rate"]),
            _histogram("Agreement of the answers to one instruction", "%", numbers["agreement"]),
        ],
    )
    similar = nearest(figures.instructions.texts())
    yield (
        "Instructions and code",
        [
            _histogram("Length of the instructions", "characters", numbers["instruction"]),
            _histogram("Length of the code", "lines", numbers["code"]),
            _histogram(
                "Similarity of an instruction to the closest other one (ROUGE-L)", "%", similar
            ),
            _bars("Language", figures.languages),
        ],
    )
    yield (
        "Tokens",
        [
            _histogram("Tokens of an answer", "tokens", numbers["tokens"]),
            _histogram("Share of reasoning in an answer", "%", numbers["reasoning"]),
        ],
    )
    yield (
        "Over time",
        [
            _line("Answers per second", figures.timeline, 1),
            _line("Requests in flight", figures.timeline, 2),
        ],
    )


def _chart(title: str, about: str, data: Mapping[str, Any], **axes: Mapping[str, Any]) -> str:
    axes = {name: {**_AXIS, **axis} for name, axis in axes.items()}
    spec = dumps({"data": [data], "layout": {**_LAYOUT, **axes}}).decode()
    return (
        f"<figure><figcaption><h3>{escape(title)}</h3><p>{escape(about)}</p></figcaption>"
        f'<div class="plot" data-chart="{escape(spec)}"></div></figure>'
    )


def _bars(title: str, counts: Mapping[str, int], colors: Mapping[str, str] | None = None) -> str:
    if not counts:
        return ""
    total, names = sum(counts.values()), sorted(counts, key=lambda name: -counts[name])[:_MOST_BARS]
    data = {
        "type": "bar",
        "orientation": "h",
        "y": [escape(clean(name, 40)) for name in names],
        "x": [counts[name] for name in names],
        "text": [f"{counts[name]:,} ({counts[name] / total:.1%})" for name in names],
        "textposition": "outside",
        "hoverinfo": "none",
        "marker": {"color": [(colors or {}).get(name, _MAIN) for name in names]},
    }
    x = {"range": [0, 1.4 * max(counts.values())], "nticks": 5, "separatethousands": True}
    return _chart(
        title, f"{total:,} rows", data, xaxis=x, yaxis={"type": "category", "autorange": "reversed"}
    )


def _histogram(title: str, unit: str, numbers: Numbers) -> str:
    if not numbers.counts:
        return ""
    median, high, longest = (numbers.quantile(share) for share in (0.5, 0.9, 1.0))
    about = (
        f"half have at most {median:,g} {unit}, 90 % at most {high:,g}, the largest {longest:,g}"
    )
    low, top = numbers.quantile(0.0), numbers.quantile(0.99)
    width = _nice((top - low) / _MOST_BARS)
    ...
