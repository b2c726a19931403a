"""The sample rows: seeds with doctests, instructions in several languages."""

import ast
import doctest
import json
from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "samples"
SEEDS = [json.loads(line) for line in (SAMPLES / "seeds.jsonl").read_text("utf-8").splitlines()]
INSTRUCTIONS = [
    json.loads(line) for line in (SAMPLES / "instructions.jsonl").read_text("utf-8").splitlines()
]


def test_a_seed_is_one_function_with_doctests() -> None:
    for seed in SEEDS:
        function = ast.parse(f"{seed['prompt']}    pass\n").body[-1]
        assert isinstance(function, ast.FunctionDef)
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(function) or "")
        assert len(examples) >= 2, seed["task_id"]


def test_seeds_are_numbered_like_a_benchmark_and_instructions_are_in_several_languages() -> None:
    assert [seed["task_id"] for seed in SEEDS] == [f"samples/{i}" for i in range(len(SEEDS))]
    assert all(seed.keys() == {"task_id", "prompt"} for seed in SEEDS)
    assert all(row.keys() == {"id", "language", "instruction"} for row in INSTRUCTIONS)
    assert len({row["language"] for row in INSTRUCTIONS}) >= 6
