"""The whole answer: reasoning, text, chats and conversations, online and from the journal."""

from pathlib import Path

import pytest
from support.command import bare, codesynth, gen_code, gen_instructions, instructions, lines
from support.endpoint import Endpoint
from support.files import rows_of
from support.replies import USAGE, Reply, completion


def answered(text: str, **message: object) -> Reply:
    """Answer with further fields in the message, and with reasoning tokens in the usage."""
    reply = completion(text, **message)
    assert isinstance(reply.body, dict)
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 5}}
    return Reply(body=reply.body | {"usage": usage})


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
    out, stdin = ("-o", tmp_path / "out.jsonl"), instructions("Set x.")
    first = gen_code(endpoint, *out, stdin=stdin)
    assert (first.code, "71 % of the answers reasoning" in first.err) == (0, True)
    assert gen_code(endpoint, *out, *KEYS, stdin=stdin).code == 0
    [row] = rows_of(tmp_path / "out.jsonl")
    assert row["why"].strip() == "Because."
    assert (row["generated_code"].strip(), row["said"].strip()) == ("x = 1", CODE)
    assert row["chat"] == [
        {"role": "user", "content": "Set x."},
        {"role": "assistant", "content": row["generated_code"]},
    ]
    assert len(endpoint.received) == 1


def test_an_answer_without_reasoning_has_null(endpoint: Endpoint) -> None:
    assert [row["why"] for row in gen_code(endpoint, *KEYS).rows] == [None]


def test_a_list_of_messages_is_sent_as_that_conversation(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Write f."}]},
        {"role": "assistant", "content": "Which one?"},
        {"role": "user", "content": "Any."},
    ]
    options = ("-t", bare(tmp_path), "--system-prompt", "Be brief.", "--messages-key", "chat")
    done = gen_code(endpoint, *options, stdin=lines({"instruction": turns}))
    [request] = endpoint.received
    assert request.json["messages"] == [{"role": "system", "content": "Be brief."}, *turns]
    assert done.rows[0]["chat"][:3] == turns
    wrong = lines({"instruction": []}, {"instruction": ["a"]}, {"instruction": 7})
    failed = gen_code(endpoint, stdin=wrong)
    assert (failed.code, len(failed.rows), len(endpoint.received)) == (3, 0, 1)


def test_the_chat_begins_with_the_instruction_or_else_with_the_prompt(endpoint: Endpoint) -> None:
    chat = ("--messages-key", "chat")
    [row] = gen_code(endpoint, *chat, stdin=instructions("")).rows
    assert row["chat"][0] == {"role": "user", "content": ""}
    template = ("-t", "snippet_to_instruction", *chat)
    code = codesynth("gen", *template, stdin=lines({"code": "x = 1"}), endpoint=endpoint)
    for row in code.rows + gen_instructions(endpoint, "-n", 1, *chat).rows:
        assert row["chat"][:1] in [request.json["messages"] for request in endpoint.received[1:]]


def test_an_estimate_keeps_its_answers_and_touches_no_output(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(instructions(*map(str, range(20))))
    command = (tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl")
    done = gen_code(endpoint, *command, "--estimate", 5, "--price", "1,2")
    assert (done.code, done.out, (tmp_path / "out.jsonl").exists()) == (0, b"", False)
    assert "for 20 rows, estimated from 5 answers:" in done.err
    assert "money" in done.err
    assert len(endpoint.received) == 5
    assert gen_code(endpoint, *command).code == 0
    assert len(endpoint.received) == 20
    assert gen_code(endpoint, "--estimate", 5, stdin=b"").code == 2
