"""Verify HumanEval: its own solutions must pass, and functions that return a constant must not.

    python tests/benchmarks/human_eval.py HumanEval.jsonl

The file is that of https://github.com/openai/human-eval, unpacked. Each solution is tried as a body
and as the whole function. Exits 1 if a verdict is wrong.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.verify import verify

CONSTANTS = ("None", "0", "True", "[]", "''")


def main() -> None:
    parser = argparse.ArgumentParser(description="Verify HumanEval.")
    parser.add_argument("file", type=Path)
    lines = parser.parse_args().file.read_text(encoding="utf-8").splitlines()
    rows, right = [], []
    for task in map(json.loads, lines):
        given = {"instruction": task["prompt"], **{n: task[n] for n in ("test", "entry_point")}}
        body = task["canonical_solution"]
        codes = {body: True, task["prompt"] + body: True}
        codes |= {f"    return {constant}\n": False for constant in CONSTANTS}
        rows += [{"generated_code": code, **given} for code in codes]
        right += codes.values()
    passed = [verdict["status"] == "passed" for verdict in verify(rows)]
    good = sum(a and b for a, b in zip(passed, right, strict=True))
    bad = sum(passed) - good
    print(f"{good} of {sum(right)} solutions pass; {bad} of {right.count(False)} constants pass")
    sys.exit(passed != right)


if __name__ == "__main__":
    main()
