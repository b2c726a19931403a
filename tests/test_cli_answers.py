"""The whole answer: reasoning, text, chats and conversations, online and from the journal."""

import json
from pathlib import Path

import pytest
from support.command import bare, codesynth, instructions, lines
from support.endpoint import Endpoint
from support.replies import Reply, completion


def answered(text: str, **message: object) -> Reply:
    """Answer with further fields in the message, and with reasoning tokens in the usage."""
    reply = completion(text, **message)
    assert isinstance(reply.body, dict)
    details = {"reasoning_tokens": 5}
    return Reply(
        body=reply.body | {"usage": {**reply.body["usage"], "completion_tokens_details": details}}
    )


KEYS = ("--reasoning-key", "why", "--answer-key", "said", "--messages-key", "chat")
CODE = "```python\nx = 1\n```"


@pytest.mark.parametrize(
    "reply",
    [
        answered(CODE, reasoning_content="Because."),
        answered(CODE, reasoning="Because."),
        answered(f"<think>Because.</think>{CODE}"),
    ],
    ids=["reasoning_content", "reasoning", "think"],
)
def test_reasoning_answer_and_chat_become_columns_without_asking_again(
    reply: Reply, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.plan = lambda _: reply
    (tmp_path / "in.jsonl").write_bytes(instructions("Set x."))
    command = ("gen-code", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl")
    first = codesynth(*command, endpoint=endpoint)
    assert (first.code, "71 % of the answers reasoning" in first.err) == (0, True)
    assert codesynth(*command, *KEYS, endpoint=endpoint).code == 0
    row = json.loads((tmp_path / "out.jsonl").read_bytes())
    assert row["why"].strip() == "Because."
    assert (row["generated_code"].strip(), row["said"].strip()) == ("x = 1", CODE)
    assert row["chat"] == [
        {"role": "user", "content": "Set x."},
        {"role": "assistant", "content": row["generated_code"]},
    ]
    assert len(endpoint.received) == 1


def test_an_answer_without_reasoning_has_null(endpoint: Endpoint) -> None:
    done = codesynth("gen-code", *KEYS, stdin=instructions("a"), endpoint=endpoint)
    assert [row["why"] for row in done.rows] == [None]


def test_a_list_of_messages_is_sent_as_that_conversation(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    turns = [
        {"role": "user", "content": "Write f."},
        {"role": "assistant", "content": "Which one?"},
        {"role": "user", "content": "Any."},
    ]
    options = ("-t", bare(tmp_path), "--system-prompt", "Be brief.", "--messages-key", "chat")
    done = codesynth("gen-code", *options, stdin=lines({"instruction": turns}), endpoint=endpoint)
    [request] = endpoint.received
    assert request.json["messages"] == [{"role": "system", "content": "Be brief."}, *turns]
    assert done.rows[0]["chat"][:3] == turns
    wrong = lines({"instruction": []}, {"instruction": ["a"]}, {"instruction": 7})
    failed = codesynth("gen-code", stdin=wrong, endpoint=endpoint)
    assert (failed.code, len(failed.rows), len(endpoint.received)) == (3, 0, 1)


@pytest.mark.parametrize("command", ["gen", "gen-instructions"])
def test_without_an_instruction_the_chat_begins_with_the_prompt(
    endpoint: Endpoint, command: str
) -> None:
    rows = lines({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    template = ("-t", "snippet_to_instruction") if command == "gen" else ("-n", 1)
    rows = rows if command == "gen-instructions" else lines({"code": "x = 1"})
    done = codesynth(command, *template, "--messages-key", "chat", stdin=rows, endpoint=endpoint)
    [request] = endpoint.received
    assert done.rows[0]["chat"][:1] == request.json["messages"]


def test_a_message_of_parts_stays_as_it_is(endpoint: Endpoint) -> None:
    turn = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    rows = lines({"instruction": [turn]})
    done = codesynth("gen-code", "--messages-key", "chat", stdin=rows, endpoint=endpoint)
    assert done.rows[0]["chat"][0] == turn


def test_an_empty_instruction_is_its_own_turn(endpoint: Endpoint) -> None:
    done = codesynth(
        "gen-code", "--messages-key", "chat", stdin=instructions(""), endpoint=endpoint
    )
    assert done.rows[0]["chat"][0] == {"role": "user", "content": ""}


def test_a_cut_or_empty_answer_says_how_much_went_into_reasoning(endpoint: Endpoint) -> None:
    endpoint.plan = lambda _: answered("", reasoning_content="Because.")
    done = codesynth("gen-code", stdin=instructions("a"), endpoint=endpoint)
    assert done.code == 3
    assert "5 of" in done.err or "5 tokens" in done.err


def test_an_estimate_keeps_its_answers_and_touches_no_output(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(instructions(*map(str, range(20))))
    command = ("gen-code", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl")
    done = codesynth(*command, "--estimate", 5, "--price", "1,2", endpoint=endpoint)
    assert (done.code, done.out, (tmp_path / "out.jsonl").exists()) == (0, b"", False)
    assert "for 20 rows, estimated from 5 answers:" in done.err
    assert "money" in done.err
    assert len(endpoint.received) == 5
    assert codesynth(*command, endpoint=endpoint).code == 0
    assert len(endpoint.received) == 20
    assert codesynth("gen-code", "--estimate", 5, stdin=b"", endpoint=endpoint).code == 2
