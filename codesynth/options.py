"""The options of the commands: their names, help and values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from codesynth.serving.budget import Price

IN, ASK, CHECK, MODEL, SPEED, OUT, MORE = (
    "Input and output",
    "What to ask",
    "What to check",
    "Endpoint and model",
    "Speed and patience",
    "Stop and go on",
    "Other",
)

OURS = ("messages", "model", "n", "stream")  # of a request's body; the rest is the user's


def option(group: str, *names: str, **more: Any) -> Any:
    """Declare an option in a named group of the help."""
    return typer.Option(*names, rich_help_panel=group, show_default=False, **more)


def number(group: str, *names: str, **more: Any) -> Any:
    """Declare an option that takes a number; nan and inf are none."""
    return option(group, *names, callback=finite, **more)


def finite(value: float | None) -> float | None:
    """Refuse nan and inf."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("it is no number")
    return value


def concurrency(text: str) -> int:
    """Read ``auto`` (0) or a number from 1."""
    if text == "auto":
        return 0
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter("it is a number from 1, or auto")


def ratio(text: str) -> tuple[int, int]:
    """Read ``H:M``."""
    human, _, machine = text.partition(":")
    if human.isdecimal() and machine.isdecimal() and int(human) + int(machine) > 0:
        return int(human), int(machine)
    raise typer.BadParameter("it is H:M, two numbers such as 6:2")


def shard(text: str) -> tuple[int, int]:
    """Read ``I/N``."""
    part, slash, parts = text.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and int(part) < int(parts):
        return int(part), int(parts)
    raise typer.BadParameter("it is I/N with I from 0 to N - 1, such as 0/8")


def price(text: str) -> Price:
    """Read ``IN,OUT``."""
    from codesynth.serving.budget import Price

    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        prompt = completion = -1.0
    if not (0 <= prompt < float("inf") and 0 <= completion < float("inf")):
        raise typer.BadParameter("it is IN,OUT, two numbers such as 0.15,0.6")
    return Price(prompt, completion)


def body(text: str) -> dict[str, Any]:
    """Read a JSON object that may be merged into a request."""
    from codesynth.codec import loads

    try:
        value = loads(text)
    except ValueError as exc:
        raise typer.BadParameter(f"it is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise typer.BadParameter("it is not a JSON object")
    for name in OURS:
        if name in value:
            raise typer.BadParameter(f'"{name}" is not to be changed here')
    return value


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[INPUT]...", rich_help_panel=IN, help="JSONL files, .gz too; - is standard input."
    ),
]
Out = Annotated[
    str | None,
    option(IN, "-o", "--output", metavar="PATH", help="Where rows go. Default: stdout."),
]
Failures = Annotated[
    str | None,
    option(
        IN,
        "--failures",
        metavar="PATH",
        help="Where rows go that failed. Default with -o: OUT.failures.jsonl.",
    ),
]
Limit = Annotated[
    int | None, option(IN, "--limit", min=1, metavar="N", help="The first N rows only.")
]
Shard = Annotated[
    Any,
    option(
        IN,
        "--shard",
        parser=shard,
        metavar="I/N",
        help="Every N-th request, from number I (0-based): one part of an array job.",
    ),
]
Unordered = Annotated[
    bool, option(IN, "--unordered", help="Rows as they finish. Default: in input order.")
]
Meta = Annotated[bool, option(IN, "--meta", help="Add how each row was made, as _codesynth.")]
Template = Annotated[
    str | None,
    option(
        ASK,
        "-t",
        "--prompt-template",
        metavar="NAME|PATH",
        help="A text with {placeholders}. Default: the built-in one.",
    ),
]
System = Annotated[
    str | None,
    option(ASK, "--system-prompt", metavar="TEXT|@FILE", help="Sent before each prompt."),
]
Temperature = Annotated[
    float | None, number(ASK, "--temperature", metavar="T", help="Default: not sent.")
]
TopP = Annotated[float | None, number(ASK, "--top-p", metavar="P", help="Default: not sent.")]
MaxTokens = Annotated[
    int | None,
    option(ASK, "--max-tokens", min=1, metavar="N", help="Of an answer. Default: not sent."),
]
ExtraBody = Annotated[
    Any,
    option(
        ASK, "--extra-body", parser=body, metavar="JSON", help="Merged into each request's body."
    ),
]
Model = Annotated[
    str | None,
    option(
        MODEL,
        "--model",
        metavar="NAME",
        help="Default: CODESYNTH_MODEL, else the only one the endpoint lists.",
    ),
]
BaseUrl = Annotated[
    list[str] | None,
    option(
        MODEL,
        "--base-url",
        metavar="URL",
        help="With its /v1. Default: OPENAI_BASE_URL, else OpenAI's. The key is read from "
        "OPENAI_API_KEY. Several share the load.",
    ),
]
Offline = Annotated[
    bool,
    option(MODEL, "--offline", help="Practise: a small grammar answers. No network, no key."),
]
Concurrency = Annotated[
    Any,
    option(
        SPEED,
        "-j",
        "--concurrency",
        parser=concurrency,
        metavar="N|auto",
        help="Most requests in flight. Default: auto, what the endpoint takes.",
    ),
]
Rpm = Annotated[
    float | None, number(SPEED, "--rpm", min=0.01, metavar="N", help="Most requests a minute.")
]
Tpm = Annotated[
    float | None, number(SPEED, "--tpm", min=1, metavar="N", help="Most tokens a minute.")
]
Timeout = Annotated[
    float,
    number(
        SPEED,
        "--timeout",
        min=0.001,
        metavar="S",
        help="Seconds for one attempt, to its last byte. Default: 600.",
    ),
]
ConnectTimeout = Annotated[
    float,
    number(SPEED, "--connect-timeout", min=0.001, metavar="S", help="Seconds. Default: 10."),
]
MaxRetries = Annotated[
    int,
    option(SPEED, "--max-retries", min=0, metavar="N", help="After the first attempt. Default: 5."),
]
MaxOutage = Annotated[
    float,
    number(
        OUT,
        "--max-outage",
        min=0,
        metavar="S",
        help="Stop when nobody was answered for so many seconds. Default: 300.",
    ),
]
JournalPath = Annotated[
    str | None,
    option(
        OUT,
        "--journal",
        metavar="PATH",
        help="Where answers are kept for a rerun. Default with -o: OUT.journal.",
    ),
]
NoJournal = Annotated[
    bool, option(OUT, "--no-journal", help="Keep none: a rerun asks, and pays, again.")
]
Overwrite = Annotated[bool, option(OUT, "--overwrite", help="Start afresh and replace the output.")]
MaxTime = Annotated[
    float | None,
    number(
        OUT, "--max-time", min=0, metavar="S", help="Stop cleanly after so many seconds, exit 5."
    ),
]
MaxCost = Annotated[
    float | None,
    number(
        OUT,
        "--max-cost",
        min=0,
        metavar="C",
        help="Stop cleanly before more is spent, earlier runs counted, exit 5. Give --max-tokens "
        "too: then it holds exactly.",
    ),
]
PriceOption = Annotated[
    Any,
    option(
        OUT,
        "--price",
        parser=price,
        metavar="IN,OUT",
        help="Currency units per million tokens, of prompts and of answers.",
    ),
]
Decontaminate = Annotated[
    list[str] | None,
    option(
        CHECK,
        "--decontaminate",
        metavar="FILE",
        help="Reject what overlaps with this benchmark: JSONL or text; several times.",
    ),
]
Ngram = Annotated[
    int,
    option(CHECK, "--ngram", min=3, metavar="N", help="Words that make an overlap. Default: 13."),
]
DryRun = Annotated[
    bool,
    option(MORE, "--dry-run", help="Print the requests as OpenAI batch lines; send nothing."),
]
Quiet = Annotated[bool, option(MORE, "-q", "--quiet", help="Say errors only.")]
Verbose = Annotated[bool, option(MORE, "-v", "--verbose", help="Tell of every retry.")]


def statuses(text: str) -> frozenset[str]:
    """Read names of verification statuses with commas between them."""
    from codesynth.verify import STATUSES

    names = frozenset(text.split(","))
    if not names <= set(STATUSES):
        raise typer.BadParameter(f"it is one or more of {','.join(STATUSES)}")
    return names
