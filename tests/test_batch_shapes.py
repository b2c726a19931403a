"""Providers' wordings of the Batch API, on what their documentation and their servers show."""

import json
from typing import Any

import pytest

from codesynth.serving.batch.shapes import (
    UNREADABLE,
    BatchShape,
    BatchState,
    TogetherShape,
    shape_for,
)

OPENAI, TOGETHER = BatchShape(), TogetherShape()
KEY = bytes(range(16))

# https://platform.openai.com/docs/api-reference/batch/object
OPENAI_BATCH: dict[str, Any] = {
    "id": "batch_abc123",
    "object": "batch",
    "endpoint": "/v1/completions",
    "errors": None,
    "input_file_id": "file-abc123",
    "completion_window": "24h",
    "status": "completed",
    "output_file_id": "file-cvaTdG",
    "error_file_id": "file-HOWS94",
    "created_at": 1711471533,
    "request_counts": {"total": 100, "completed": 95, "failed": 5},
    "metadata": {"customer_id": "user_123456789", "batch_description": "Nightly eval job"},
}
# https://github.com/openai/openai-python/issues/2084
OPENAI_LIMIT = {
    "object": "list",
    "data": [
        {
            "code": "token_limit_exceeded",
            "line": None,
            "message": "Enqueued token limit reached for gpt-4o-mini in organization org-snq6.",
            "param": None,
        }
    ],
}
# https://github.com/openai/openai-openapi/issues/302
OPENAI_ERROR_LINE = {
    "id": "batch_req_YTpodqz4ZJ8arId5Bm73lIEt",
    "custom_id": KEY.hex(),
    "response": {
        "status_code": 400,
        "request_id": "0538a1cc8f8f8500bbe07250e6aa2b26",
        "body": {
            "error": {
                "message": "This model's maximum context length is 128000 tokens.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
    },
    "error": None,
}
# https://docs.together.ai/reference/batch-create
TOGETHER_JOB: dict[str, Any] = {
    "id": "01234567-8901-2345-6789-012345678901",
    "input_file_id": "file-input123abc456def",
    "status": "IN_PROGRESS",
    "created_at": "2024-01-15T14:30:00Z",
    "endpoint": "/v1/chat/completions",
    "progress": 75,
    "model_id": "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
    "output_file_id": "file-output789xyz012ghi",
    "error_file_id": "file-errors456def789jkl",
    "error": "<string>",
    "completed_at": "2024-01-15T15:45:30Z",
}
# https://docs.together.ai/docs/inference/batch/manage
TOGETHER_ERROR_LINE = {
    "custom_id": KEY.hex(),
    "error": {"message": "Invalid model specified", "code": "invalid_model"},
}
TOGETHER_LINE = {
    "custom_id": KEY.hex(),
    "response": {
        "status_code": 200,
        "body": {
            "id": "...",
            "object": "chat.completion",
            "model": "Qwen/Qwen2.5-7B-Instruct-Turbo",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello!"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
        },
    },
}


@pytest.mark.parametrize(
    ("url", "shape"),
    [
        ("https://api.together.xyz/v1", TogetherShape),
        ("https://api.openai.com/v1", BatchShape),
        ("https://together.ai.example.com/v1", BatchShape),
    ],
)
def test_the_wording_is_chosen_by_the_host(url: str, shape: type) -> None:
    assert type(shape_for(url)) is shape


def test_openai_reads_a_batch() -> None:
    assert OPENAI.state(OPENAI_BATCH) == BatchState(
        id="batch_abc123",
        status="completed",
        input_file="file-abc123",
        files=("file-cvaTdG", "file-HOWS94"),
        results=100,
        error="",
        uuid="",
    )
    absent = {**OPENAI_BATCH, "output_file_id": None, "error_file_id": ""}
    assert OPENAI.state(absent).files == ()


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("validating", "open"),
        ("cancelling", "open"),
        ("something_new", "open"),
        ("failed", "failed"),
        ("EXPIRED", "expired"),
        ("CANCELED", "cancelled"),
    ],
)
def test_only_the_four_ends_of_a_batch_are_ends(word: str, status: str) -> None:
    assert OPENAI.state({**OPENAI_BATCH, "status": word}).status == status


def test_openai_reads_why_a_batch_has_failed() -> None:
    error = OPENAI.state({**OPENAI_BATCH, "errors": OPENAI_LIMIT}).error
    words = "Enqueued token limit reached for gpt-4o-mini in organization org-snq6."
    assert error == f"token_limit_exceeded: {words}"


def test_openai_reads_the_lines_of_requests_that_failed() -> None:
    result = OPENAI.result(OPENAI_ERROR_LINE)
    assert (result.key, result.status) == (KEY, 400)
    assert json.loads(result.body)["error"]["code"] == "context_length_exceeded"
    error = {"code": "batch_expired", "message": "not executed before the window expired."}
    line = {"id": "x", "custom_id": KEY.hex(), "response": None, "error": error}
    result = OPENAI.result(line)
    assert result == (KEY, 0, b"", "batch_expired: not executed before the window expired.")


def test_openai_finds_the_next_page_of_a_list() -> None:
    page = {"object": "list", "data": [OPENAI_BATCH], "has_more": True}
    [state], query = OPENAI.states(page)
    assert (state.id, query) == ("batch_abc123", "?after=batch_abc123")
    assert OPENAI.states({**page, "has_more": False})[1] == ""


def test_together_uploads_and_creates_as_its_documentation_says() -> None:
    assert TOGETHER.upload_path == "/files/upload"
    assert TOGETHER.form["purpose"] == "batch-api"
    assert TOGETHER.create("file-1", "uuid") == {
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    line = json.loads(TOGETHER.line(KEY, b'{"model":"m"}'))
    assert line == {"custom_id": KEY.hex(), "body": {"model": "m"}}
    assert len(line["custom_id"]) <= 64


@pytest.mark.parametrize("reply", [TOGETHER_JOB, {"job": TOGETHER_JOB, "warning": "<string>"}])
def test_together_reads_a_batch_as_it_is_made_and_as_it_is_asked_for(reply: Any) -> None:
    state = TOGETHER.state(reply)
    assert (state.id, state.status, state.results) == (TOGETHER_JOB["id"], "open", None)
    assert state.files == ("file-output789xyz012ghi", "file-errors456def789jkl")
    assert state.error == "<string>"


def test_together_lists_batches_without_pages() -> None:
    [state], query = TOGETHER.states([TOGETHER_JOB])
    assert (state.input_file, query) == ("file-input123abc456def", "")


def test_together_reads_its_lines() -> None:
    answered = TOGETHER.result(TOGETHER_LINE)
    assert (answered.key, answered.status) == (KEY, 200)
    assert json.loads(answered.body)["usage"]["completion_tokens"] == 3
    refused = TOGETHER.result(TOGETHER_ERROR_LINE)
    assert refused == (KEY, 0, b"", "invalid_model: Invalid model specified")


@pytest.mark.parametrize("line", [None, [], {"custom_id": 5}, {"custom_id": "request-1"}])
def test_what_is_no_result_is_refused(line: Any) -> None:
    with pytest.raises(UNREADABLE):
        OPENAI.result(line)


@pytest.mark.parametrize("data", [None, [], {}, {"id": ""}, {"id": 5}, "batch"])
def test_what_is_no_batch_is_refused(data: Any) -> None:
    with pytest.raises(UNREADABLE):
        OPENAI.state(data)
