"""The task of verify: what is sent to a sandbox, and what is told to the filters."""

from collections import Counter
from typing import Any

from codesynth.codec import loads
from codesynth.models import Failure, Question, Record, Request, Response
from codesynth.verify import VerifyTask

VERDICT = b'{"status":"failed","tests_run":1,"tests_passed":0,"message":"no","results":"F"}'


def asked(task: VerifyTask, **fields: Any) -> Any:
    ask = task.make_question(Record(0, b"", fields))
    return loads(ask.body) if isinstance(ask, Question) else ask.kind


def test_a_trial_has_the_code_the_tests_and_the_instruction() -> None:
    task = VerifyTask(test_key="test")
    trial = asked(task, generated_code="x = 1", test="assert x", prompt="Set x.", entry_point="x")
    told = {"code": "x = 1", "instruction": "Set x.", "test": "assert x", "entry_point": "x"}
    assert trial == {**told, "language": None}


def test_the_first_instruction_column_is_taken_unless_one_is_named() -> None:
    columns = {"generated_code": "", "prompt": "c", "generated_instruction": "b", "question": "d"}
    assert asked(VerifyTask(), **columns)["instruction"] == "b"
    assert asked(VerifyTask(instruction_key="question"), **columns)["instruction"] == "d"


def test_a_row_without_code_or_with_a_verdict_fails() -> None:
    assert asked(VerifyTask(), instruction="x") == "missing_key"
    assert asked(VerifyTask(), generated_code=["x"]) == "not_a_string"
    assert asked(VerifyTask(), generated_code="x", verification={}) == "existing_key"


def test_the_verdict_becomes_the_column_and_is_counted() -> None:
    task = VerifyTask(output_key="checked")
    request = Request(Record(0, b"", {}), 0, b"")
    columns = task.columns(Response(request, VERDICT))
    assert not isinstance(columns, Failure)
    assert columns == {"checked": loads(VERDICT)}
    assert task.statuses == Counter(failed=1)


def test_answers_to_one_instruction_are_one_group() -> None:
    task = VerifyTask()
    columns = {"verification": loads(VERDICT)}

    def group(index: int, **fields: str) -> Any:
        return loads(task.subject(Record(index, b"", fields), columns))["group"]

    assert group(0, instruction="a") == group(1, instruction="a") != group(2, instruction="b")
    assert group(3) != group(4)
