"""``codesynth report``: what the page tells, and that nothing of a row acts in it."""

import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support import hostile
from support.command import codesynth
from support.files import written

from codesynth.journal import Journal
from codesynth.journal.store import StoredAnswer
from codesynth.local_settings import ReportSettings
from codesynth.models import Usage
from codesynth.report import figures

CHROMIUM = shutil.which("chromium")
TAGS = {"html", "meta", "title", "style", "script", "h1", "h2", "h3", "h4", "p", "div", "b", "span"}
TAGS |= {"table", "tr", "th", "td", "svg", "rect", "input"}
TAGS |= {"details", "summary", "pre"}


class Page(HTMLParser):
    """A page taken apart by a parser of HTML.

    Attributes:
        tags: how often each is used.
        attributes: names of all.
        texts: by the tag that they are in.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.texts: dict[str, list[str]] = {}
        self.policy = ""
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self._open = tag
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = str(dict(attrs)["content"])

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open, []).append(data)

    def chart(self, title: str) -> dict[str, str]:
        """Read the names and the numbers of a chart."""
        chart = self.page.partition(f"<h3>{title}</h3>")[2].partition("</table>")[0]
        return dict(re.findall(r"<th>([^<]*)</th><td>([^<]*)</td>", chart))


def made(path: Path, *args: object) -> Page:
    done = codesynth("report", *args, "-o", path)
    assert (done.code, done.out, done.err) == (0, b"", "")
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join(hostile.rows()))
    return path


def test_a_page_runs_its_own_script_alone_and_loads_nothing(tmp_path: Path, bad: Path) -> None:
    page = made(tmp_path / "a.html", bad)
    assert set(page.tags) <= TAGS
    assert (page.tags["script"], page.tags["style"]) == (1, 1)
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not page.attributes & {"src", "href", "style", "action", "srcdoc"}
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    [nonce] = set(re.findall(r"nonce=\"(\w{32})\"", text))
    assert page.policy == (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
    )
    assert made(tmp_path / "a.html", bad).page == text  # the same rows make the same page
    assert nonce not in made(tmp_path / "a.html", bad, bad).page
    assert set(re.findall(r"\w+://[\w.]+", text)) == {"http://evil.example"}  # as escaped text
    shown = "".join(page.texts["pre"])
    assert all(each in shown for each in hostile.TEXTS[:4])


def test_a_text_of_a_megabyte_takes_four_thousand_characters(tmp_path: Path) -> None:
    row = {"instruction": "<b>" * 350_000, "generated_code": "x\n" * 500_000}
    error = {"kind": "k" * 1_000_000, "message": "<m>\n" * 250_000}
    verified = {"verification": {"status": "s" * 1_000_000}, "language": "l" * 1_000_000}
    rows = [row, {"input": row, "line": 1, "error": error, "answer": "<a>" * 350_000}, verified]
    page = made(tmp_path / "a.html", written(tmp_path / "a.jsonl", rows))
    assert (tmp_path / "a.html").stat().st_size < 120_000
    assert "[... 1,046,000 more characters]" in "".join(page.texts["pre"])
    assert page.chart("Characters of an instruction") == {"1,000,000 to 1,999,999": "1 (100.0%)"}
    assert max(len(text) for tag in ("th", "b") for text in page.texts[tag]) < 400


def test_the_page_tells_what_became_of_the_rows(tmp_path: Path) -> None:
    def row(i: int, status: str, passed: int) -> dict[str, Any]:
        usage = {"prompt_tokens": 100, "completion_tokens": 50, "reasoning_tokens": 40}
        verdict = {"status": status, "tests_run": 4, "tests_passed": passed}
        texts = {"instruction": f"Task {i // 2}", "generated_code": "a = 1\nb = 2"}
        return {**texts, "verification": verdict, "_codesynth": {"usage": usage}, "agreement": 0.5}

    rows = [row(i, "failed" if i < 300 else "passed", 1 if i < 300 else 4) for i in range(1200)]
    kinds = ["truncated"] * 60 + ["timeout"] * 20 + ["duplicate"] * 20
    failures = [{"input": {}, "line": 1, "error": {"kind": kind, "message": ""}} for kind in kinds]
    files = written(tmp_path / "a.jsonl", rows), written(tmp_path / "f.jsonl", failures)
    page = made(tmp_path / "a.html", *files, "--price", "1,2", "--rows", 30)
    assert {
        title: page.chart(title) for title in re.findall("<h3>(.*?)</h3>", page.page)
    }.items() >= {
        "Rows": {"ok": "1,200 (92.3%)", "failed": "80 (6.2%)", "rejected": "20 (1.5%)"},
        "Rows ok": {"verification passed": "900 (75.0%)", "verification failed": "300 (25.0%)"},
        "Rows failed": {"truncated": "60 (75.0%)", "timeout": "20 (25.0%)"},
        "Rows rejected": {"duplicate": "20 (100.0%)"},
        "Instructions": {"different": "600 (50.0%)", "repeated": "600 (50.0%)"},
        "Code": {"repeated": "1,199 (99.9%)", "different": "1 (0.1%)"},
        "Tokens of the rows, which cost 0.24": {
            "prompt": "120,000 (66.7%)",
            "reasoning": "48,000 (26.7%)",
            "answer": "12,000 (6.7%)",
        },
        "Lines of the code": {"2 to 4": "1,200 (100.0%)"},
        "Tokens of an answer": {"50 to 99": "1,200 (100.0%)"},
        "Tests run": {"2 to 4": "1,200 (100.0%)"},
        "Tests passed, % of a row's tests": {"20 to 29": "300 (25.0%)", "100": "900 (75.0%)"},
        "Agreement, % of the answers to an instruction": {"50 to 59": "1,200 (100.0%)"},
    }.items()
    heads = " ".join(page.texts["b"])
    assert page.tags["details"] == 30
    assert heads.count(": failed: ") == heads.count(": rejected: ") == 10


def test_journals_tell_tokens_and_the_pace_over_time(tmp_path: Path) -> None:
    for name, start in ("a.journal", 1_000_000), ("b.journal", 1_000_060):
        now = [start]
        with Journal(str(tmp_path / name), clock=lambda now=now: now[0]) as journal:  # type: ignore[misc]  # the default binds this round's list
            for i in range(0, 120, 2):
                now[0] = start + i // 2
                keys = bytes([i]), bytes([i + 1])
                journal.put([StoredAnswer(key, b"{}", 1, 3.0, Usage(10, 20)) for key in keys])
    files = written(tmp_path / "a.jsonl", [{}]), tmp_path / "a.journal", tmp_path / "b.journal"
    page = made(tmp_path / "a.html", *files)
    assert page.chart("Tokens of the journals") == {
        "answer": "4,800 (66.7%)",
        "prompt": "2,400 (33.3%)",
    }
    paces, flights = (
        page.chart(f"{name}, each for 5 s (UTC)")
        for name in ("Answers per second", "Requests in flight")
    )
    assert list(paces.items())[:-1] == [
        (f"01-12 13:{46 + (40 + 5 * i) // 60}:{(40 + 5 * i) % 60:02}", "2.0") for i in range(23)
    ]
    assert list(flights.values())[:-1] == ["6.0"] * 23


def test_repeated_texts_are_estimated_from_a_sample_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "_MOST_TEXTS", 1000)
    texts, largest = figures.Texts(), 0
    for i in range(20_000):
        texts.add(f"text {i % 10_000}")
        largest = max(largest, len(texts.kept))
    assert (largest, texts.every, texts.total) == (1000, 16, 20_000)
    assert 9_700 < texts.repeats()["different"] < 10_300


def test_rows_that_are_kept_are_few_however_many_there_are(tmp_path: Path) -> None:
    rows = [{"verification": {"status": f"s{i % 900}"}} for i in range(3000)]
    path = str(written(tmp_path / "a.jsonl", rows))
    told = figures.Figures(ReportSettings(inputs=[path], rows=5))
    assert max(len(kept) for kept in told._samples.values()) == 5
    assert len(told.sample()) == 5


def test_similarity_is_that_of_the_closest_other_text() -> None:
    texts = figures.Texts()
    for i in range(40):
        word = "abcdefghijklmnopqrstuvwxyz"[i % 26] * (i + 3)
        texts.add(f"{word}1 {word}2 {word}3 {word}4")
    assert texts.similarity() == [0] * 20
    for i in range(40):
        texts.add(f"write a function that sorts the list number {i}")
    assert set(texts.similarity()) == {0, 89}


def test_no_input_is_replaced(tmp_path: Path) -> None:
    rows = written(tmp_path / "a.jsonl", [{}])
    done = codesynth("report", rows, "-o", f"{tmp_path}/./a.jsonl")
    assert (done.code, "a.jsonl is an input" in done.err) == (2, True)
    assert rows.read_bytes() == b"{}\n"


@pytest.mark.parametrize("args", [(), ("-", "-o", "-")])
def test_a_page_goes_from_stdin_to_stdout(args: tuple[str, ...]) -> None:
    done = codesynth("report", *args, stdin=b'{"instruction": "Add."}\n')
    assert (done.code, done.err, done.out[:9]) == (0, "", b"<!doctype")
    assert Page(done.out.decode()).chart("Rows") == {"ok": "1 (100.0%)"}


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_opens_the_page_without_a_complaint(tmp_path: Path, bad: Path) -> None:
    made(tmp_path / "a.html", bad)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update"]
    options += ["--disable-dev-shm-usage"]  # a container may have little of it
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"]
    where = [f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/a.html"]
    done = subprocess.run(
        [str(CHROMIUM), *options, *where], capture_output=True, timeout=600, check=True
    )
    assert b"CONSOLE" not in done.stderr
    page = Page(done.stdout.decode())
    assert page.texts["title"][0] == "codesynth report"
    assert page.tags["details"] == len(hostile.rows())
