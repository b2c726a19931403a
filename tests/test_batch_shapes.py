"""Providers' wordings of the Batch API, on what their documentation and their servers show.

What OpenAI's says otherwise is seen in ``test_batch``: its server speaks so.
"""

import json
from typing import Any

import pytest

from codesynth.serving.batch.shapes import (
    OPENAI,
    TOGETHER,
    UNREADABLE,
    BatchShape,
    read_result,
    read_state,
    read_states,
    shape_for,
)

KEY = bytes(range(16))

# https://docs.together.ai/reference/batch-create
TOGETHER_JOB: dict[str, Any] = {
    "id": "01234567-8901-2345-6789-012345678901",
    "input_file_id": "file-input123abc456def",
    "status": "IN_PROGRESS",
    "created_at": "2024-01-15T14:30:00Z",
    "progress": 75,
    "output_file_id": "file-output789xyz012ghi",
    "error_file_id": "file-errors456def789jkl",
    "error": "<string>",
}
# https://docs.together.ai/docs/inference/batch/manage
TOGETHER_ERROR = {"message": "Invalid model specified", "code": "invalid_model"}
TOGETHER_BODY = {"choices": [{"message": {"content": "Hello!"}}], "usage": {"prompt_tokens": 12}}


@pytest.mark.parametrize(
    ("url", "shape"),
    [
        ("https://api.together.xyz/v1", TOGETHER),
        ("https://api.openai.com/v1", OPENAI),
        ("https://together.ai.example.com/v1", OPENAI),
    ],
)
def test_the_wording_is_chosen_by_the_host(url: str, shape: BatchShape) -> None:
    assert shape_for(url) is shape


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("validating", "open"),
        ("cancelling", "open"),
        ("something_new", "open"),
        ("EXPIRED", "expired"),
        ("CANCELED", "cancelled"),
    ],
)
def test_only_the_four_ends_of_a_batch_are_ends(word: str, status: str) -> None:
    assert read_state({"id": "batch_abc123", "status": word}).status == status


@pytest.mark.parametrize("strange", ["3/3", ["3"], {"completed": "3"}, None])
def test_counts_and_metadata_of_another_shape_are_left_out(strange: object) -> None:
    state = read_state({"id": "b", "request_counts": strange, "metadata": "x"})
    assert (state.results, state.uuid) == (None, "")


def test_together_uploads_and_creates_as_its_documentation_says() -> None:
    assert (TOGETHER.upload_path, TOGETHER.form["purpose"]) == ("/files/upload", "batch-api")
    window = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert TOGETHER.create("file-1", "uuid") == {"input_file_id": "file-1", **window}
    line = json.loads(TOGETHER.line(KEY, b'{"model":"m"}'))
    assert line == {"custom_id": KEY.hex(), "body": {"model": "m"}}
    assert len(line["custom_id"]) <= 64


def test_together_reads_a_batch_as_it_is_made_as_it_is_asked_for_and_in_a_list() -> None:
    [state], query = read_states([TOGETHER_JOB])
    for reply in (TOGETHER_JOB, {"job": TOGETHER_JOB, "warning": "<string>"}):
        assert read_state(reply) == state
    assert (state.id, state.status, state.results) == (TOGETHER_JOB["id"], "open", None)
    assert state.files == ("file-output789xyz012ghi", "file-errors456def789jkl")
    assert (state.error, state.input_file, query) == ("<string>", "file-input123abc456def", "")


def test_together_reads_its_lines() -> None:
    response = {"status_code": 200, "body": TOGETHER_BODY}
    answered = read_result({"custom_id": KEY.hex(), "response": response})
    assert (answered.key, answered.status) == (KEY, 200)
    assert json.loads(answered.body) == TOGETHER_BODY
    refused = read_result({"custom_id": KEY.hex(), "error": TOGETHER_ERROR})
    assert refused == (KEY, 0, b"", "invalid_model: Invalid model specified")


@pytest.mark.parametrize("line", [None, [], {"custom_id": 5}, {"custom_id": "request-1"}])
def test_what_is_no_result_is_refused(line: Any) -> None:
    with pytest.raises(UNREADABLE):
        read_result(line)


@pytest.mark.parametrize("data", [None, [], {}, {"id": ""}, {"id": 5}, "batch"])
def test_what_is_no_batch_is_refused(data: Any) -> None:
    with pytest.raises(UNREADABLE):
        read_state(data)
