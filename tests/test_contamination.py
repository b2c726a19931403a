import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.errors import InputError
from codesynth.filters.contamination import ContaminationFilter
from codesynth.serving.offline.problems import draw

SEEDS = Path(__file__).parents[1] / "samples" / "seeds.jsonl"
PROMPTS = [json.loads(line)["prompt"] for line in SEEDS.read_text("utf-8").splitlines()]
ALPHABET = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november "
    "oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu"
)


def of_text(text: str, name: str = "bench") -> dict[str, list[tuple[int, bytes]]]:
    """Number the lines of a benchmark's text; blank lines are left out, as where files are read."""
    lines = enumerate(text.encode("utf-8", "surrogateescape").split(b"\n"), 1)
    return {name: [(number, line) for number, line in lines if line.strip()]}


def benchmark(*items: object, ngram: int = 13) -> ContaminationFilter:
    return ContaminationFilter(of_text("\n".join(map(json.dumps, items))), ngram)


def message(contamination: ContaminationFilter, text: str) -> str | None:
    found = contamination.reject(text)
    assert found is None or found.kind == "contaminated"
    return found.message if found else None


def letters(start: int, stop: int) -> str:
    return " ".join(ALPHABET.split()[start:stop])


SEEDS_FILTER = ContaminationFilter(of_text(SEEDS.read_text("utf-8"), "seeds.jsonl"))


@pytest.mark.parametrize(
    "disguise",
    [
        lambda prompt: prompt,
        lambda prompt: prompt.upper().replace(" ", " \n\t"),
        lambda prompt: f"Complete this, please:\n\n```python\n{prompt}```\n\nAnswer with code.",
        lambda prompt: prompt.replace(prompt.partition("def ")[2].partition("(")[0], "renamed"),
        lambda prompt: prompt.partition(">>>")[0].partition('"""')[2],
        lambda prompt: "".join(c if c.isalnum() else " " for c in prompt),
    ],
    ids=["as it is", "case and space", "embedded", "renamed", "docstring", "no punctuation"],
)
def test_every_prompt_of_a_benchmark_is_found(disguise: Callable[[str], str]) -> None:
    for number, prompt in enumerate(PROMPTS):
        found = message(SEEDS_FILTER, disguise(prompt)) or ""
        assert found.startswith(f'shared with seeds.jsonl:{number + 1} (samples/{number}): "')


def test_what_a_benchmark_does_not_hold_is_accepted() -> None:
    problems = [draw(Random(seed)) for seed in range(150)]
    texts = [problem.stub(Random(1)) for problem in problems]
    texts += [f"{problem.signature}:\n{problem.statements()}" for problem in problems]
    assert [found for text in texts if (found := message(SEEDS_FILTER, text))] == []


def test_n_words_in_a_row_are_evidence_and_fewer_are_not() -> None:
    at_13, at_5 = (benchmark({"id": 7, "text": letters(0, 26)}, ngram=n) for n in (13, 5))
    assert message(at_13, f"so {letters(4, 16)} on") is None
    found = message(at_13, f"so {letters(4, 17)} on")
    assert found == f'shared with bench:1 (7): "{letters(4, 17)}"'
    assert message(at_13, f"so {letters(4, 24)} on") == found
    assert message(at_5, f"so {letters(4, 8)} on") is None
    assert message(at_5, f"so {letters(4, 9)} on")


@given(st.data())
def test_a_run_is_found_wherever_it_is(data: st.DataObject) -> None:
    items = data.draw(st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=1))
    text = data.draw(st.lists(st.sampled_from("abcde"), max_size=12))
    n = data.draw(st.integers(3, 7))
    spell = {letter: f"{letter}word" for letter in "abcde"}
    runs = {tuple(item[i : i + n]) for item in items for i in range(len(item) - n + 1)}
    shared = {tuple(text[i : i + n]) for i in range(len(text) - n + 1)} & runs
    bench = benchmark(
        {"text": "some words so that it is not empty"},
        *({"text": " ".join(map(spell.__getitem__, item))} for item in items),
        ngram=n,
    )
    expected = any(len(set(run)) >= 3 for run in shared)
    assert bool(message(bench, " ".join(map(spell.__getitem__, text)))) == expected


def test_a_whole_string_of_eight_words_is_evidence_and_part_of_it_is_not() -> None:
    item = {"solution": letters(0, 8), "name": "short", "entry_point": "add", "by": letters(8, 15)}
    bench = benchmark(item)
    found = message(bench, f"here is {letters(0, 8)} in a text")
    assert found == f'shared with bench:1 (short): "{letters(0, 8)}"'
    assert message(bench, f"here is {letters(0, 7)} in a text") is None
    assert message(bench, f"here is {letters(8, 15)} in a text") is None
    assert message(bench, "add") is None


def test_words_of_two_strings_are_no_run() -> None:
    bench = benchmark({"a": letters(0, 7), "b": letters(7, 14)})
    assert message(bench, letters(0, 14)) is None


def test_of_several_benchmarks_the_one_that_says_it_is_named() -> None:
    both = {**of_text(letters(0, 13), "one.txt"), **of_text(letters(13, 26), "two.txt")}
    contamination = ContaminationFilter(both)
    assert (message(contamination, letters(0, 13)) or "").startswith("shared with one.txt:1: ")
    assert (message(contamination, letters(13, 26)) or "").startswith("shared with two.txt:1: ")
    assert message(contamination, letters(7, 20)) is None


@pytest.mark.parametrize(
    "run", ["1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14", "0x0 " * 14, "a b c d e f g " * 2]
)
def test_numbers_and_letters_in_a_row_are_no_evidence(run: str) -> None:
    bench = benchmark({"test": f"assert f({run})"})
    assert message(bench, f">>> g([{run}])") is None


def test_nested_strings_are_read() -> None:
    bench = benchmark({"a": [{"b": [1, None, {"c": letters(12, 26)}]}]})
    assert message(bench, letters(12, 26))


def test_one_array_over_many_lines_is_read_by_its_elements() -> None:
    elements = [{"task_id": n, "text": f"{letters(n, n + 9)}\n{letters(n, n + 9)}"} for n in (2, 9)]
    for text in (json.dumps(elements, indent=2), json.dumps(elements)):
        contamination = ContaminationFilter(of_text(text))
        found = message(contamination, elements[1]["text"]) or ""
        assert found.startswith('shared with bench:2 (9): "')


def test_what_does_not_begin_as_json_is_one_text() -> None:
    contamination = ContaminationFilter(of_text(f"{letters(6, 13)} \udcff\n{letters(13, 26)}\n"))
    assert message(contamination, f"well, {letters(7, 13)} \ufffd {letters(13, 20)}")


@given(st.text())
def test_any_text_can_be_judged(text: str) -> None:
    assert message(SEEDS_FILTER, text) is None


@pytest.mark.parametrize("content", ["", "\n \n", "{}\n", '{"n": 1}\n', "...\n"])
def test_a_benchmark_without_words_is_an_error(content: str) -> None:
    with pytest.raises(InputError, match=r"bench: it has no words to compare with"):
        ContaminationFilter(of_text(content))


@pytest.mark.parametrize("content", ['{"a": 1}\n{"a"', "[1,\n2"])
def test_a_benchmark_that_is_cut_is_an_error(content: str) -> None:
    with pytest.raises(InputError, match=r"bench: it begins as JSON does, but cannot be read"):
        ContaminationFilter(of_text(content))
