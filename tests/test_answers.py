"""Whole answers as models write them -> the code that a careful reader would copy."""

import re
import time
from pathlib import Path

import pytest

from codesynth.models import Failure
from codesynth.operators.languages import find_language
from codesynth.operators.parsing import parse_code

PROMPT = Path(__file__).parents[1] / "prompts" / "code_instruction_to_code.txt"
USUAL = "Write a Python function that does it."


def answers() -> dict[str, tuple[str, str | None, str, str]]:
    """Read (instruction, language, answer, code) by name."""
    text = (Path(__file__).parent / "answered" / "answers.txt").read_text(encoding="utf-8")
    found = {}
    for case in re.split(r"(?m)^##### ", text)[1:]:
        head, answer = case.split("=== answer\n")
        name, _, asked = head.partition("\n")
        instruction, _, language = asked.partition("=== in ")
        given, _, code = answer.partition("\n=== code\n")
        found[name] = (instruction.strip() or USUAL, language.strip() or None, given, code)
    return found


ANSWERS = answers()


@pytest.mark.parametrize("name", ANSWERS)
def test_the_code_of_an_answer_is_what_a_careful_reader_would_copy(name: str) -> None:
    instruction, language, answer, code = ANSWERS[name]
    prompt = PROMPT.read_text(encoding="utf-8").replace("{instruction}", instruction)
    found = parse_code(answer, prompt, find_language(language) if language else None)
    if isinstance(found, Failure):
        assert (found.kind, code.strip()) == ("no_code", "")
    else:
        assert found == code.rstrip("\n")


@pytest.mark.parametrize(
    "part",
    [
        "</s>",
        "<|im_end|> ",
        "<answer>\n",
        "> ```\n",
        ": ```py\n",
        "```python\nx(\n```\n",
        "Alternatively:\n```python\ndef f():\n    return g()\n```\n",
    ],
)
def test_what_surrounds_an_answer_takes_linear_time_to_take_off(part: str) -> None:
    text = part * (200_000 // len(part))
    started = time.process_time()
    parse_code(text, "Write a Python function.")
    assert time.process_time() - started < 2
