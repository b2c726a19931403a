"""Write the answer to a prompt; the prompt alone decides what is answered.

A prompt that asks for JSON gets the fields that it lists. In other prompts, the first request
outside of fences counts: tests, an instruction ("Write ONE new instruction", "Rewrite the task
below"), or code.
"""

from __future__ import annotations

import re
from random import Random

from codesynth.codec import dumps
from codesynth.serving.offline.problems import draw, read

_REQUEST = re.compile(
    r"""(?ix)\b(?:
    (?:writ(?:e|ing)|rewrite|creat(?:e|ing)|generat(?:e|ing)|inspiration\ for)\s+
        (?:[\w*-]+,?\s+){0,8}?
        (?: (?P<tests>tests?|asserts?)
          | (?P<instruction>instructions?|directive|task|problem|exercise)
          | code|solution|program|script|for|to|that )
    | solve|complete|implement|only\ the\ code )\b"""
)
_WANTS_JSON = re.compile(r"(?i)\b(?:answer|respond|reply|output)\b[^.\n]{0,80}\bjson\b")
_FIELD = re.compile(r'"(\w{1,60})" ?: *([^\n]*?)(?=,? *"\w{1,60}" ?:|\n|\Z)')
_ENDS_AS_STUB = re.compile(r'"""[ \t]*(?:\n(?![ \t])|\Z)')
"""A docstring without a statement after it."""


def answer(prompt: str, rng: Random, wrong_code: float, wrong_tests: float) -> str:
    """Write the answer to a prompt; ``rng`` makes the choices.

    Args:
        wrong_code: share of the answers with code that are wrong.
        wrong_tests: share of the tests that are wrong.
    """
    if "json" in prompt.lower() and (fields := _fields(prompt)):
        return dumps({name: _value(about, rng) for name, about in fields}).decode()
    outside = "".join(prompt.split("```")[::2])
    request = _REQUEST.search(outside)
    kind = request.lastgroup if request else None
    if request and kind == "instruction":
        return _instruction(prompt, rng, outside[request.start() : request.end() + 40].lower())
    return _tests(prompt, rng, wrong_tests) if kind == "tests" else _code(prompt, rng, wrong_code)


def _fields(prompt: str) -> list[tuple[str, str]]:
    """Find the names and descriptions of fields in the first paragraph that lists some."""
    wish = _WANTS_JSON.search(prompt)
    paragraphs = prompt[wish.end() :].split("\n\n") if wish else []
    return next(filter(None, map(_FIELD.findall, paragraphs)), [])


def _value(about: str, rng: Random) -> int | str:
    is_number = re.search(r"\b(?:int|number|\d)", about)
    return rng.randint(1, 5) if is_number else "Drawn at random by the practice endpoint."


def _instruction(prompt: str, rng: Random, request: str) -> str:
    """Write a new problem, or the prompt's only problem again, in the form that is asked for."""
    found = [] if "new" in request else [*read(prompt)]
    problem = found[0] if len(found) == 1 else draw(rng)
    is_stub = "stub" in request or _ENDS_AS_STUB.search(prompt)
    return problem.stub(rng) if is_stub else problem.plain()


def _code(prompt: str, rng: Random, wrong: float) -> str:
    if problem := next(read(prompt), None):
        solved = problem.misread(rng) if rng.random() < wrong else problem
        code = f"{problem.signature}:\n{solved.statements()}"
        return f"The steps, one a line:\n\n```python\n{code}```"
    code = "def solution(*args, **kwargs):\n    raise NotImplementedError"
    return f"The practice endpoint solves its own problems only.\n\n```python\n{code}\n```"


def _tests(prompt: str, rng: Random, wrong: float) -> str:
    problem = next(read(prompt), None)
    if problem is None:
        return "The practice endpoint knows tests for its own problems only."
    number = re.search(r"\b(\d{1,3}) tests\b", prompt)
    arguments = problem.arguments(rng, max(1, int(number[1])) if number else 8)
    name, results = problem.name, [problem.run(argument) for argument in arguments]
    lines = [f"{problem.signature}: ..."] if ": ..." in prompt else []
    for argument, result in zip(arguments, results, strict=True):
        others = [other for other in results if other != result] if rng.random() < wrong else []
        expected = rng.choice(others or [result])
        lines.append(f"assert {name}({argument!r}) == {expected!r}")
    return "```python\n{}\n```".format("\n".join(lines))
