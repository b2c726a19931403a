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


def shown(stats: Stats, stream: io.StringIO, *, bar: bool = True) -> str:
    """Run a progress over ``stats`` for 2 seconds and say one line."""
    clock = Clock()
    progress = Progress(stats, 10, name="demo", bar=bar, stream=stream, clock=clock)
    progress.status = lambda: "0 of 4 in flight, no answers: [429] slow down"
    with progress:
        clock.now += 2.0
        progress.tick()
        progress.say("a [bold]line[/] :smile: " + "x" * 10)
    progress.say("done")
    return stream.getvalue()


def test_a_bar_tells_rows_rate_tokens_and_what_the_endpoint_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    stats = Stats(rows=9, ok=6, failures=Counter(empty=2), answered=8, used=Usage(1500))
    text = shown(stats, Terminal())
    assert "6 ok, 2 failed, 4.0 rows/s, 1.5k tokens" in text
    assert "0 of 4 in flight, no answers: [429] slow down" in text
    assert "demo: a [bold]line[/] :smile: xxxxxxxxxx" in text
    assert text.rstrip().endswith("demo: done")


def test_where_there_is_no_terminal_there_are_lines_only() -> None:
    text = shown(Stats(), io.StringIO())
    assert text == "demo: a [bold]line[/] :smile: xxxxxxxxxx\ndemo: done\n"
    assert shown(Stats(), Terminal(), bar=False) == text


@pytest.mark.parametrize("bar", [False, True])
def test_a_terminal_that_is_gone_ends_no_run(bar: bool) -> None:
    stream = Terminal()
    stream.broken = True
    assert shown(Stats(), stream, bar=bar) == ""


def test_the_summary_tells_tokens_and_pending_rows_where_there_are_some() -> None:
    clock = Clock()
    stats = Stats(rows=100, ok=98, failures=Counter(rejected=2), attempts=100)
    stats.used = Usage(41_000)
    progress = Progress(stats, None, name="demo", bar=False, clock=clock)
    clock.now += 72
    assert progress.summary() == "100 in: 98 ok, 2 failed, 41k tokens, 1m12s"
    stats.rows += 3
    stats.attempts = 0
    assert progress.summary("seed 1") == ("103 in: 98 ok, 2 failed, 3 pending, 1m12s, seed 1")


@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        *((duration, 0.04, "0.0s"), (duration, 9.94, "9.9s"), (duration, 10, "10s")),
        *((duration, 59.4, "59s"), (duration, 60, "1m00s"), (duration, 3599, "59m59s")),
        *((duration, 3600, "1h00m"), (duration, 360_000, "100h00m")),
        *((duration, 9.97, "10s"), (duration, 59.7, "1m00s")),  # rounding carries
        *((tokens, 0, "0"), (tokens, 999, "999"), (tokens, 1000, "1.0k"), (tokens, 9_949, "9.9k")),
        *((tokens, 10_000, "10k"), (tokens, 999_400, "999k"), (tokens, 1_000_000, "1.0M")),
        *((tokens, 2_500_000_000, "2.5G"), (tokens, 9_960, "10k"), (tokens, 999_900, "1000k")),
    ],
)
def test_durations_and_tokens_are_worded_in_few_figures(
    words: Any, number: float, expected: str
) -> None:
    found = words(Usage(0, int(number)) if words is tokens else number)
    assert found.removesuffix(" tokens") == expected


def test_rejected_rows_and_reasoning_are_told() -> None:
    stats = Stats(rows=10, ok=6, rejections=Counter(duplicate=3), failures=Counter(empty=1))
    stats.attempts, stats.used = 10, Usage(1000, 4000, reasoning_tokens=3000, cached_tokens=500)
    summary = Progress(stats, None, name="demo", bar=False).summary()
    assert summary.startswith(
        "10 in: 6 ok, 3 rejected, 1 failed, 5.0k tokens "
        "(75 % of the answers reasoning, 50 % of the prompts cached), "
    )


def test_in_a_pipe_of_two_commands_the_second_keeps_the_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
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
        tty.flush()
        text = ""
        while "the end of the first" not in text:
            text += os.read(person, 1 << 16).decode()
    os.close(person)
    assert "second" in text
    assert text.count("first") == 2
    assert "first: the end of the first" in text


def test_a_command_whose_reader_draws_no_bar_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    clock, stream = Clock(), Terminal()
    options = {"name": "demo", "bar": True, "gives_way": True, "stream": stream, "clock": clock}
    with Progress(Stats(), 5, **options) as progress:  # type: ignore[arg-type]  # options of several types
        progress.tick()
        assert stream.getvalue() == ""
        clock.now += 1.0
        progress.tick()
        assert "demo" in stream.getvalue()
