"""Any template over any rows: a text, or the fields of a JSON object."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.codec import dumps
from codesynth.models import Failure, Question, Record
from codesynth.operators.chat import Parsed
from codesynth.operators.generic import json_task, text_task


def fill(record: Record, _: str) -> str:
    return f"Judge {record.fields['code']}"


def read(answer: str, prefix: str = "", **require: str) -> dict[str, Any] | Failure:
    parsed = json_task(fill, require, prefix).parse(answer, "")
    return parsed if isinstance(parsed, Failure) else parsed.columns


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n{"score": 4, "reason": "good"}\n```',
        'Sure! Here it is:\n\n```\n{\n  "score": 4,\n  "reason": "good",\n}\n```\nHope it helps.',
        'The set {1, 2} is fine, so:\n```\n{"score": 4, "reason": "good"}\n```',
        'The set {1, 2} is fine, so:\n{"score": 4,\n "reason": "good"} as asked.',
        '{"score": 4, "reason": "good"}\n\nThe code returns {} for the empty text, as it must.',
    ],
)
def test_an_object_is_found_in_fences_and_prose_and_with_trailing_commas(answer: str) -> None:
    assert read(answer, score="integer", reason="string") == {"score": 4, "reason": "good"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("I would give it a four.", "no JSON object"),
        ('{"score": NaN}', "NaN is not JSON"),
        ('{"score": "four"}', '"score" must be of type integer, but is "four"'),
        ('{"score": true}', '"score" must be of type integer, but is true'),
        ('{"points": 4}', 'has no "score"; found points'),
        ('{"score": 4', "cannot be read"),
        ("{'score': 4, 'why': {\"score\": 5}}", "cannot be read"),
        ('The set {1, 2} is fine, so: {"score": 4}', "cannot be read"),
        ("{}", "is empty"),
        ("{" + '\\"' * 200_000 + "}", "cannot be read"),
        ('{"score":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_such_object_is_bad_json_with_a_reason(answer: str, words: str) -> None:
    failure = read(answer, score="integer")
    assert isinstance(failure, Failure)
    assert failure.kind == "bad_json"
    assert words in failure.message


def test_values_stay_as_they_are_and_the_prefix_stands_before_the_names() -> None:
    assert read('{"a": "x, ]", "b": [1, {"c": 1e3}, ], }') == {"a": "x, ]", "b": [1, {"c": 1000.0}]}
    assert read('{"n": 12345678901234567890123}') == {"n": 12345678901234567890123}
    assert read('{"id": 1}', prefix="judge_") == {"judge_id": 1}
    assert json_task(fill, {"id": ""}, "judge_").new_columns == ("judge_id",)


@given(st.text(st.characters() | st.sampled_from('{}[]",:\\`'), max_size=300))
def test_any_answer_is_read_or_refused(answer: str) -> None:
    found = read(answer)
    assert isinstance(found, Failure) or dumps(found)


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.booleans(), min_size=1))
def test_an_object_comes_back_whatever_prose_stands_around_it(fields: dict[str, Any]) -> None:
    assert read(f"Well:\n```json\n{dumps(fields).decode()}\n```\nDone.") == fields


def test_a_text_is_the_whole_answer() -> None:
    task = text_task(fill, "review")
    question = task.make_question(Record(0, b"{}", {"code": "x = 1"}))
    assert isinstance(question, Question)
    assert question.messages == [{"role": "user", "content": "Judge x = 1"}]
    assert task.parse("  Fine.\n", "") == Parsed({"review": "Fine."})
