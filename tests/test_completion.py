"""The body of a chat completion, as servers write it -> answer, reasoning, usage, failure.

Shapes are those of the named servers; the words are ours.
"""

import json
from typing import Any

import pytest

from codesynth.errors import one_line
from codesynth.models import Answer, Failure, Usage
from codesynth.serving.answers import read_completion, split_reasoning


def body(
    message: dict[str, Any] | None = None, finish: str | None = "stop", **fields: Any
) -> bytes:
    message = {"role": "assistant", "content": "print(1)"} if message is None else message
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"choices": [choice], **fields}).encode()


def answer_of(data: bytes) -> Answer:
    answer, failure = read_completion(data)
    assert failure is None
    assert answer is not None
    return answer


def failure_of(data: bytes) -> tuple[Answer | None, Failure]:
    answer, failure = read_completion(data)
    assert failure is not None
    return answer, failure


OPENAI = body(
    {"role": "assistant", "content": "print(1)", "refusal": None, "annotations": []},
    id="chatcmpl-1",
    object="chat.completion",
    created=1733126996,
    model="gpt-4o-mini-2024-07-18",
    service_tier="default",
    system_fingerprint="fp_1",
    usage={
        "prompt_tokens": 54,
        "completion_tokens": 79,
        "total_tokens": 133,
        "prompt_tokens_details": {"cached_tokens": 12, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 64,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
)


def test_all_that_openai_sends_is_read() -> None:
    assert answer_of(OPENAI) == Answer(
        text="print(1)",
        reasoning=None,
        finish_reason="stop",
        model="gpt-4o-mini-2024-07-18",
        usage=Usage(54, 79, 64, 12),
    )


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("DeepSeek, vLLM before 0.12, SGLang", {"reasoning_content": "Hm.", "content": "print(1)"}),
        ("OpenRouter, vLLM", {"reasoning": "Hm.", "content": "print(1)"}),
        ("vLLM", {"reasoning": "Hm.", "reasoning_content": None, "content": "print(1)"}),
        ("some gateways", {"reasoning_content": "", "reasoning": "Hm.", "content": "print(1)"}),
        ("DeepSeek-R1 without a parser", {"content": "<think>\nHm.\n</think>\n\nprint(1)"}),
        ("QwQ, whose template opens the block", {"content": "Hm.\n</think>\n\nprint(1)"}),
        ("Seed-OSS", {"content": "<seed:think>Hm.</seed:think>print(1)"}),
        (
            "Mistral",
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "print(1)"},
                ]
            },
        ),
        (
            "both, as some proxies send it",
            {"reasoning_content": "Hm.", "content": "<think>Hm.</think>print(1)"},
        ),
    ],
)
def test_reasoning_is_told_from_the_text(server: str, message: dict[str, Any]) -> None:
    answer = answer_of(body(message))
    assert (answer.text, answer.reasoning) == ("print(1)", "Hm."), server


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("\n<think>a</think>b", ("a", "b")),
        ("<think>\n\n</think>\n\nno_think", ("", "no_think")),
        ("<think>cut off", ("cut off", "")),
        ("a\n</think>\n\n    indented()", ("a", "    indented()")),
        ("<think>a <think> b</think>c", ("a <think> b", "c")),
    ],
)
def test_leading_reasoning_is_split_off(text: str, parts: tuple[str, str]) -> None:
    assert split_reasoning(text) == parts


@pytest.mark.parametrize(
    "part", ["<think>x</think>", "<think>", "</think>x", "\n", "</think> \t ", "</think>\n"]
)
@pytest.mark.parametrize("first", ["", "```\n"])
def test_splitting_takes_linear_time(first: str, part: str) -> None:
    split_reasoning(first + part * (400_000 // len(part)) + "x")  # else this would take hours


THOUGHT = {"completion_tokens": 400, "completion_tokens_details": {"reasoning_tokens": 390}}


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (
            body({"content": ""}, "length", usage=THOUGHT),
            "truncated",
            "finish_reason length: the answer was cut (400 tokens, 390 of them reasoning). Try a",
        ),
        (
            body({"content": "<think>so lo"}, "length", usage={"completion_tokens": 400}),
            "truncated",
            "finish_reason length: the answer was cut (5 characters of reasoning). Try a larger",
        ),
        (body({"content": "a"}, "max_tokens"), "truncated", "finish_reason max_tokens: the answer"),
        (
            body({"content": None}, "content_filter", usage=THOUGHT),
            "filtered",
            "finish_reason content_filter (400 tokens, 390 of them reasoning)",
        ),
        (body({"content": None, "refusal": "I can't."}), "refused", "I can't."),
        (
            body({"content": [{"type": "refusal", "refusal": "I can't."}]}, usage=THOUGHT),
            "refused",
            "I can't. (400 tokens, 390 of them reasoning)",
        ),
        (
            body({"content": None, "reasoning_content": "hm"}),
            "empty",
            "the answer has no text (2 characters of reasoning)",
        ),
        (body({"content": "<think>a</think>\n"}), "empty", "the answer has no text"),
        (body({"content": " \u3000\n"}), "empty", "the answer has no text"),
    ],
)
def test_answer_of_no_use_is_kept_with_its_reason(data: bytes, kind: str, words: str) -> None:
    answer, failure = failure_of(data)
    assert answer is not None
    assert failure.kind == kind
    assert failure.message.startswith(words)


ODD_CHOICES = (b"[]", b"null", b"{}", b'["x"]', b'[{"message": null}]', b'[{"message": "x"}]')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the response is empty"),
        (b"<html><h1>502 Bad Gateway</h1></html>", "the response is not JSON: 502 Bad Gateway"),
        (OPENAI[:-10], "the response is not JSON"),
        (b"data: " + OPENAI + b"\n\ndata: [DONE]\n\n", "the response is not JSON"),
        (b"[" * 200_000, "the response is"),
        (OPENAI.replace(b"print", b"\xff\xfe"), "the response is not JSON"),
        (b"[]", "the response is not a JSON object"),
        (b'{"choices": [{"text": "old"}]}', "the response has no choices with a message"),
        *((b'{"choices": %s}' % odd, "the response has no choices") for odd in ODD_CHOICES),
        (body({"content": 7}), "the response has no choices with a message"),
        (b'{"error": {"message": "upstream"}}', "upstream"),
        (body({"content": "x"}, error="upstream is gone"), "upstream is gone"),
        (b'{"error": true}', '{"error": true}'),
        (body({"content": "x"}, "error"), "finish_reason error: the server broke off"),
    ],
)
def test_what_is_no_completion_is_a_bad_response(data: bytes, words: str) -> None:
    answer, failure = failure_of(data)
    assert answer is None
    assert failure.kind == "bad_response"
    assert failure.message.startswith(words)


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices": [{"message": {"content": "print(1)"}}]}',
        body(error=None, model=None, id=None),
        body(finish=None),
        body(finish="eos_token"),
        b"\r\n\t  " + OPENAI + b"\n\n",
        b"\xef\xbb\xbf" + OPENAI,
    ],
)
def test_what_is_left_out_or_unknown_does_no_harm(data: bytes) -> None:
    assert answer_of(data).text == "print(1)"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ("much", None),
        ({}, Usage()),
        ({"prompt_tokens": "11", "completion_tokens": None}, Usage()),
        ({"prompt_tokens": 1.5, "completion_tokens": -3}, Usage()),
        ({"prompt_tokens": 10**30}, Usage()),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(3)),
    ],
)
def test_usage_is_read_as_far_as_it_makes_sense(usage: Any, expected: Usage | None) -> None:
    assert answer_of(body(usage=usage)).usage == expected


def test_secrets_are_taken_out_before_a_message_is_cut() -> None:
    data = body({"content": None, "refusal": "x" * 290 + " sk-secret-key and more"})
    _, failure = read_completion(data, lambda text: text.replace("sk-secret-key", "[secret]"))
    assert failure is not None
    assert "sk-" not in failure.message


def test_a_strangers_text_becomes_one_line() -> None:
    assert one_line("a\n\x1b[31m b\u2028c\x00") == "a [31m b c"
    assert len(one_line("x" * 1000)) == 300
