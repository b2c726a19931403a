"""``codesynth report``: what the page tells, and that nothing of a row acts in it."""

import re
import shutil
import subprocess
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support import hostile
from support.command import codesynth
from support.files import written

from codesynth.journal import Journal
from codesynth.journal.store import StoredAnswer
from codesynth.models import Usage
from codesynth.report import figures
from codesynth.settings import ReportSettings

CHROMIUM = shutil.which("chromium")
TAGS = {"html", "meta", "title", "style", "script", "h1", "h2", "h3", "h4", "p", "div", "b", "span"}
TAGS |= {"table", "tr", "th", "td", "svg", "path", "rect", "text", "input"}
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

    @property
    def tiles(self) -> dict[str, str]:
        """The numbers at the top, by what they tell."""
        found = re.findall(r"<div><b>([^<]*)</b>([^<]*)</div>", self.page)
        return {about: number for number, about in found}


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
    hashes = {
        tag: sha256("".join(page.texts[tag]).encode()).digest() for tag in ("script", "style")
    }
    assert page.policy == "default-src 'none'; " + "; ".join(
        f"{tag}-src 'sha256-{b64encode(hashes[tag]).decode()}'" for tag in ("style", "script")
    )
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[\w.]+", text)) == {"http://evil.example"}  # as escaped text
    shown = "".join(page.texts["pre"])
    assert all(each in shown for each in hostile.TEXTS[:4])


def test_a_text_of_ten_megabytes_takes_four_thousand_characters(tmp_path: Path) -> None:
    row = {"instruction": "<b>" * 3_500_000, "generated_code": "x\n" * 5_000_000}
    error = {"kind": "k" * 10_000_000, "message": "<m>\n" * 2_500_000}
    verified = {"verification": {"status": "s" * 10_000_000}, "language": "l" * 10_000_000}
    rows = [row, {"input": row, "line": 1, "error": error, "answer": "<a>" * 3_500_000}, verified]
    page = made(tmp_path / "a.html", written(tmp_path / "a.jsonl", rows))
    assert (tmp_path / "a.html").stat().st_size < 120_000
    assert "[... 10,496,000 more characters]" in "".join(page.texts["pre"])
    assert "the largest 10,500,000." in "".join(page.texts["p"])
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
    assert page.tiles == {
        "rows ok": "1,200",
        "rows failed": "80",
        "rows rejected": "20",
        "of the verified rows passed": "75.0%",
        "different instructions": "600",
        "of the instructions repeat another": "50.0%",
        "different codes": "1",
        "of the codes repeat another": "99.9%",
        "of the answer tokens are reasoning": "80%",
        "prompt tokens in the rows": "120,000",
        "answer tokens in the rows": "60,000",
        "cost of these tokens": "0.24",
    }
    cells = list(zip(page.texts["th"], page.texts["td"][::2], strict=False))
    assert {("truncated", "60"), ("duplicate", "20"), ("failed", "300")} <= set(cells)
    hints = page.texts["title"]
    assert {"25 to 29: 300 rows", "100 to 100: 900 rows", "2 to 2: 1,200 rows"} <= set(hints)
    heads = " ".join(page.texts["b"])
    assert page.tags["details"] == 30
    assert all(heads.count(f": {kind}") >= 6 for kind in ("truncated", "timeout", "duplicate"))


def test_journals_tell_tokens_and_the_pace_over_time(tmp_path: Path) -> None:
    for name, start in ("a.journal", 1_000_000), ("b.journal", 1_000_060):
        now = [start]
        with Journal(str(tmp_path / name), clock=lambda now=now: now[0]) as journal:  # type: ignore[misc]
            for i in range(120):
                now[0] = start + i // 2
                journal.put([StoredAnswer(bytes([i]), b"{}", 1, 3.0, Usage(10, 20))])
    files = written(tmp_path / "a.jsonl", [{}]), tmp_path / "a.journal", tmp_path / "b.journal"
    told = figures.Figures(ReportSettings(inputs=[str(path) for path in files]))
    assert told.spent == Usage(2400, 4800)
    assert [step[1:] for step in told.history[5:-3]] == [(2.0, 6.0)] * (len(told.history) - 8)
    assert (told.history[0][0], len(told.history)) == (999_997, 62)
    page = made(tmp_path / "a.html", *files)
    assert page.tiles["answer tokens in the journals"] == "4,800"
    assert "1970-01-12 13:46:43: 2.0" in page.texts["title"]


def test_repeated_texts_are_estimated_from_a_sample_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "_MOST_TEXTS", 1000)
    texts, largest = figures.Texts(), 0
    for i in range(40_000):
        texts.add(f"text {i % 10_000}")
        largest = max(largest, len(texts.kept))
    assert (largest, texts.every, texts.total) == (1000, 16, 40_000)
    assert 9_900 < texts.different < 10_100


def test_names_and_rows_that_are_kept_are_few_however_many_there_are(tmp_path: Path) -> None:
    rows = [{"language": f"l{i}", "verification": {"status": f"s{i % 900}"}} for i in range(3000)]
    told = figures.Figures(
        ReportSettings(inputs=[str(written(tmp_path / "a.jsonl", rows))], rows=5)
    )
    assert len(told.counts["Languages"]) == 201
    assert told.counts["Languages"]["other"] == 2800
    assert max(len(kept) for kept in told._samples.values()) == 5
    assert len(told.sample()) == 5


def test_similarity_is_that_of_the_closest_other_text() -> None:
    texts = figures.Texts()
    for i in range(40):
        word = "abcdefghijklmnopqrstuvwxyz"[i % 26] * (i + 3)
        texts.add(f"{word}1 {word}2 {word}3 {word}4")
    assert texts.similarity() == Counter({0: 20})
    for i in range(40):
        texts.add(f"write a function that sorts the list number {i}")
    assert set(texts.similarity()) == {0, 89}


def test_no_file_is_replaced_but_an_earlier_page(tmp_path: Path) -> None:
    rows, page = written(tmp_path / "a.jsonl", [{}]), tmp_path / "a.html"
    made(page, rows)
    made(page, rows)
    done = codesynth("report", rows, "-o", rows)
    assert (done.code, f"{rows} exists and is not a report page" in done.err) == (2, True)
    assert rows.read_bytes() == b"{}\n"


def test_the_page_goes_to_standard_output_by_default(tmp_path: Path) -> None:
    done = codesynth("report", stdin=b'{"instruction": "Add."}\n')
    assert (done.code, done.err) == (0, "")
    assert Page(done.out.decode()).tiles["rows ok"] == "1"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_opens_the_page_without_a_complaint(tmp_path: Path, bad: Path) -> None:
    made(tmp_path / "a.html", bad)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"]
    where = [f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/a.html"]
    done = subprocess.run(
        [str(CHROMIUM), *options, *where], capture_output=True, timeout=60, check=True
    )
    assert b"CONSOLE" not in done.stderr
    page = Page(done.stdout.decode())
    assert page.texts["title"][0] == "codesynth report"
    assert page.tags["details"] == len(hostile.rows())
