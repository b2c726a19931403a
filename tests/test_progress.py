"""What people see of a run."""

import io
import os
import pty
from collections import Counter
from typing import Any

import pytest
from support.asking import Clock

from codesynth.models import Stats, Usage
from codesynth.progress import Progress, duration, tokens


class Terminal(io.StringIO):
    """A stream that says it is a terminal; ``broken`` refuses all writing."""

    broken = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.broken:
            raise OSError(5, "Input/output error")
        return super().write(text)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")


def shown(stats: Stats, stream: io.StringIO, **options: Any) -> str:
    """Run a progress over ``stats`` for 2 seconds and say one line."""
    clock = Clock()
    options = {"bar": True, "status": lambda: "no answers: [429] slow down", **options}
    progress = Progress(stats, 10, name="demo", stream=stream, clock=clock, **options)
    with progress:
        progress.tick()
        clock.now += 2.0
        progress.tick()
        progress.say("a [bold]line[/] :smile:")
    progress.say("done")
    return stream.getvalue()


def test_a_bar_tells_rows_rate_tokens_and_what_the_endpoint_does() -> None:
    stats = Stats(rows=9, ok=6, failures=Counter(empty=2), answered=8, tokens=Usage(1500))
    for gives_way in (False, True):  # nobody else draws a bar
        text = shown(stats, Terminal(), gives_way=gives_way)
        assert "6 ok, 2 failed, 4.0 rows/s, 1.5k tokens, no answers: [429] slow down" in text
        assert "demo: a [bold]line[/] :smile:" in text
        assert text.rstrip().endswith("demo: done")


def test_where_there_is_no_terminal_there_are_lines_only() -> None:
    text = shown(Stats(), io.StringIO())
    assert text == "demo: a [bold]line[/] :smile:\ndemo: done\n"
    assert shown(Stats(), Terminal(), bar=False) == text


@pytest.mark.parametrize("bar", [False, True])
def test_a_terminal_that_is_gone_ends_no_run(bar: bool) -> None:
    stream = Terminal()
    stream.broken = True
    assert shown(Stats(), stream, bar=bar) == ""


def test_the_summary_tells_counts_tokens_and_time() -> None:
    clock = Clock()
    stats = Stats(rows=103, ok=95, rejections=Counter(duplicate=3), failures=Counter(rejected=2))
    stats.attempts, stats.tokens = 100, Usage(1000, 4000, reasoning_tokens=3000, cached_tokens=500)
    progress = Progress(stats, None, name="demo", bar=False, clock=clock)
    clock.now += 72
    assert progress.summary("seed 1") == (
        "103 in: 95 ok, 3 rejected, 2 failed, 3 pending, 5.0k tokens "
        "(75 % of the answers reasoning, 50 % of the prompts cached), 1m12s, seed 1"
    )


@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        *((duration, 0.04, "0.0s"), (duration, 9.97, "10s"), (duration, 59.4, "59s")),
        *((duration, 59.7, "1m00s"), (duration, 3599, "59m59s"), (duration, 3600, "1h00m")),
        *((tokens, 999, "999"), (tokens, 9_949, "9.9k"), (tokens, 9_960, "10k")),
        *((tokens, 1_000_000, "1.0M"), (tokens, 2_500_000_000, "2.5G")),
    ],
)
def test_durations_and_tokens_are_worded_in_few_figures(
    words: Any, number: float, expected: str
) -> None:
    found = words(Usage(0, int(number)) if words is tokens else number)
    assert found.removesuffix(" tokens") == expected


def test_in_a_pipe_of_two_commands_the_second_keeps_the_bar() -> None:
    clock = Clock()
    person, program = pty.openpty()
    with open(program, "w") as tty:
        first, second = (
            Progress(Stats(), 5, name=name, bar=True, gives_way=gives, stream=tty, clock=clock)
            for name, gives in (("first", True), ("second", False))
        )
        with first, second:
            for _ in range(3):
                clock.now += 1.0
                first.tick()
                second.tick()
        first.say("the end of the first")
        text = ""
        while "the end of the first" not in text:
            text += os.read(person, 1 << 16).decode()
    os.close(person)
    assert "second" in text
    assert text.count("first") == 2
