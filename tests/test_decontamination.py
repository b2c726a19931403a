import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesynth.errors import ConfigError, InputError
from codesynth.quality.decontamination import Decontaminator
from codesynth.quality.mixing import mix
from codesynth.serving.grammar import solve, write_stub

SEEDS = Path(__file__).parents[1] / "samples" / "seeds.jsonl"
PROMPTS = [json.loads(line)["prompt"] for line in SEEDS.read_text("utf-8").splitlines()]
ALPHABET = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november "
    "oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu"
)


@pytest.fixture(scope="module")
def seeds() -> Decontaminator:
    return Decontaminator([str(SEEDS)])


def benchmark(folder: Path, *items: object, name: str = "bench.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    return str(path)


def letters(start: int, stop: int) -> str:
    return " ".join(ALPHABET.split()[start:stop])


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
def test_every_prompt_of_a_benchmark_is_found(
    seeds: Decontaminator, disguise: Callable[[str], str]
) -> None:
    for number, prompt in enumerate(PROMPTS):
        found = seeds.judge(disguise(prompt))
        assert found is not None
        assert (found.where, found.item) == (f"{SEEDS}:{number + 1}", f"samples/{number}")


def test_a_renamed_copy_is_found_where_every_run_holds_the_name(tmp_path: Path) -> None:
    stub = (
        'def is_prime(n):\n    """Tell whether n is prime.\n\n    >>> is_prime(6)\n    False"""\n'
    )
    bench = Decontaminator([benchmark(tmp_path, {"prompt": stub})])
    assert bench.judge(stub) is not None
    assert bench.judge(stub.replace("is_prime", "prime")) is not None
    assert bench.judge(stub.replace("whether n is prime", "if n is even")) is None


def test_what_a_benchmark_does_not_hold_is_let_through(seeds: Decontaminator) -> None:
    rng = random.Random(1)
    stubs = [write_stub(rng) for _ in range(150)]
    assert [found for stub in stubs if (found := seeds.judge(stub))] == []
    assert [found for stub in stubs if (found := seeds.judge(str(solve(stub))))] == []


def test_items_of_a_benchmark_do_not_reject_each_other(tmp_path: Path) -> None:
    for number, prompt in enumerate(PROMPTS):
        others = [{"prompt": other} for other in PROMPTS if other != prompt]
        path = benchmark(tmp_path, *others, name=f"{number}.jsonl")
        assert Decontaminator([path]).judge(prompt) is None


def test_n_words_in_a_row_are_evidence_and_fewer_are_not(tmp_path: Path) -> None:
    path = benchmark(tmp_path, {"id": 7, "text": letters(0, 26)})
    at_13, at_5 = Decontaminator([path]), Decontaminator([path], ngram=5)
    assert at_13.judge(f"so {letters(4, 16)} on") is None
    found = at_13.judge(f"so {letters(4, 17)} on")
    assert str(found) == f'shared with {path}:1 (7): "{letters(4, 17)}"'
    assert at_5.judge(f"so {letters(4, 8)} on") is None
    assert at_5.judge(f"so {letters(4, 9)} on") is not None


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_run_is_found_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    items = data.draw(st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=1))
    text = data.draw(st.lists(st.sampled_from("abcde"), max_size=12))
    n = data.draw(st.integers(3, 7))
    spell = {letter: f"{letter}word" for letter in "abcde"}
    runs = {tuple(item[i : i + n]) for item in items for i in range(len(item) - n + 1)}
    shared = {tuple(text[i : i + n]) for i in range(len(text) - n + 1)} & runs
    path = benchmark(
        tmp_path_factory.mktemp("runs"),
        {"text": "some words so that it is not empty"},
        *({"text": " ".join(map(spell.__getitem__, item))} for item in items),
    )
    expected = any(
        len(set(run)) >= 3 and sum(run in _runs(item, n) for item in items) <= 10 for run in shared
    )
    found = Decontaminator([path], n).judge(" ".join(map(spell.__getitem__, text)))
    assert (found is not None) == expected


def _runs(item: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(item[i : i + n]) for i in range(len(item) - n + 1)}


def test_a_whole_string_of_eight_words_is_evidence_and_part_of_it_is_not(tmp_path: Path) -> None:
    item = {"solution": letters(0, 8), "name": "short", "entry_point": "add", "by": letters(8, 15)}
    bench = Decontaminator([benchmark(tmp_path, item)])
    found = bench.judge(f"here is {letters(0, 8)} in a text")
    assert found is not None
    assert (found.item, found.overlap) == ("short", letters(0, 8))
    assert bench.judge(f"here is {letters(0, 7)} in a text") is None
    assert bench.judge(f"here is {letters(8, 15)} in a text") is None
    assert bench.judge("add") is None


def test_a_whole_text_of_eight_words_within_an_item_is_evidence(tmp_path: Path) -> None:
    bench = Decontaminator([benchmark(tmp_path, {"text": letters(0, 26)})])
    assert bench.judge(letters(3, 11)) is not None
    assert bench.judge(letters(3, 10)) is None
    assert bench.judge(f"{letters(3, 11)} more") is None


def test_words_of_two_strings_are_no_run(tmp_path: Path) -> None:
    bench = Decontaminator([benchmark(tmp_path, {"a": letters(0, 7), "b": letters(7, 14)})])
    assert bench.judge(letters(0, 14)) is None


def test_unknown_words_break_a_run(tmp_path: Path) -> None:
    bench = Decontaminator([benchmark(tmp_path, {"a": letters(0, 10), "b": letters(11, 26)})])
    assert bench.judge(f"{letters(0, 7)} unknown {letters(11, 19)}") is None


@pytest.mark.parametrize("items", [10, 11])
def test_what_more_than_ten_items_share_is_no_evidence(tmp_path: Path, items: int) -> None:
    rows = [{"text": f"{letters(0, 20)} {n} {letters(n, n + 14)}"} for n in range(items)]
    bench = Decontaminator([benchmark(tmp_path, *rows)])
    assert (bench.judge(letters(0, 20)) is None) == (items > 10)
    assert bench.judge(rows[5]["text"]) is not None


def test_the_same_item_in_many_files_is_evidence(tmp_path: Path) -> None:
    paths = [benchmark(tmp_path, {"a": letters(0, 20)}, name=f"{n}.jsonl") for n in range(12)]
    found = Decontaminator(paths).judge(letters(0, 20))
    assert found is not None
    assert found.where == f"{paths[0]}:1"


@pytest.mark.parametrize(
    "run", ["1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14", "0x0 " * 14, "a b c d e f g " * 2]
)
def test_numbers_and_letters_in_a_row_are_no_evidence(tmp_path: Path, run: str) -> None:
    bench = Decontaminator([benchmark(tmp_path, {"test": f"assert f({run})"})])
    assert bench.judge(f">>> g([{run}])") is None


def test_nested_strings_and_json_in_strings_are_read(tmp_path: Path) -> None:
    inner = json.dumps([{"code": f"{letters(0, 7)}\n{letters(7, 14)}"}])
    item = {"a": [{"b": [1, None, {"c": letters(12, 26)}]}], "solutions": inner}
    bench = Decontaminator([benchmark(tmp_path, item)])
    assert bench.judge(letters(12, 26)) is not None
    assert bench.judge(letters(0, 14)) is not None


def test_one_array_over_many_lines_is_read_by_its_elements(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    elements = [{"task_id": n, "text": f"{letters(n, n + 9)}\n{letters(n, n + 9)}"} for n in (2, 9)]
    path.write_text(json.dumps(elements, indent=2), "utf-8")
    found = Decontaminator([str(path)]).judge(elements[1]["text"])
    assert found is not None
    assert (found.where, found.item) == (f"{path}:2", "9")


def test_runs_go_over_the_lines_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "bench.txt"
    path.write_text(f"# Title\n\n{letters(0, 6)}\n{letters(6, 13)}\n{letters(13, 21)}\n", "utf-8")
    bench = Decontaminator([str(path)])
    found = bench.judge(f"well, {letters(1, 14)}")
    assert found is not None
    assert (found.where, found.item) == (f"{path}:3", None)
    line = bench.judge(f"well, {letters(13, 21)} then")
    assert line is not None
    assert line.where == f"{path}:5"


def test_lines_that_are_no_json_are_taken_for_text(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_bytes(b'{"a": 1}\n{"text": "' + letters(0, 14).encode() + b" \xff\n{}\n")
    assert Decontaminator([str(path)]).judge(letters(0, 14)) is not None


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": letters(0, 14)}).encode()))
    assert Decontaminator([str(path)]).judge(letters(0, 14)) is not None


def test_han_is_compared_by_characters(tmp_path: Path) -> None:
    text = "给定一个整数列表和一个目标值,返回两个元素的下标"
    bench = Decontaminator([benchmark(tmp_path, {"prompt": text})])
    assert bench.judge(f"请写代码: {text}。") is not None


@given(st.text())
@settings(max_examples=50, deadline=None)
def test_any_text_can_be_judged(text: str) -> None:
    assert Decontaminator([str(SEEDS)]).judge(text) is None


@pytest.mark.parametrize("content", ["", "\n \n", "{}\n", '{"n": 1}\n', "...\n"])
def test_a_benchmark_without_words_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=r"bench\.jsonl: there are no words to compare with"):
        Decontaminator([str(path)])


def test_a_missing_benchmark_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Decontaminator([str(tmp_path / "none.jsonl")])


@pytest.mark.parametrize("ngram", [2, 0, -1])
def test_an_ngram_too_short_is_refused(ngram: int) -> None:
    with pytest.raises(ConfigError, match="3 at least"):
        Decontaminator([str(SEEDS)], ngram)


def test_examples_are_mixed_in_the_ratio_and_none_is_taken_twice() -> None:
    for i in range(50):
        chosen = mix(1, i, 20, 5, (6, 2))
        assert len(set(chosen)) == 8
        assert sum(n < 20 for n in chosen) == 6
        assert max(chosen) < 25


def test_a_mix_depends_on_seed_and_number_alone_and_draws_all_rows_evenly() -> None:
    choices = [mix(3, i, 10, 10, (3, 1)) for i in range(1000)]
    assert [mix(3, i, 10, 10, (3, 1)) for i in reversed(range(1000))] == choices[::-1]
    assert mix(4, 0, 10, 10, (3, 1)) != choices[0]
    drawn = Counter(n for chosen in choices for n in chosen)
    assert all(250 < drawn[n] < 350 for n in range(10))
    assert all(60 < drawn[n] < 140 for n in range(10, 20))
    machine_at = Counter(next(p for p, n in enumerate(chosen) if n >= 10) for chosen in choices)
    assert all(200 < machine_at[p] < 300 for p in range(4))


@pytest.mark.parametrize("ratio", [(4, 0), (0, 3)])
def test_a_pool_too_small_for_the_ratio_is_an_error(ratio: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="larger than population"):
        mix(1, 0, 3, 2, ratio)
