import ast
import asyncio
import doctest
import json
import re
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.errors import ConfigError
from codesynth.serving.offline import PracticeEndpoint, read_faults
from codesynth.serving.offline.problems import Problem, draw, read

URL = "http://offline/v1/chat/completions"
PROBLEMS = [draw(Random(seed)) for seed in range(40)]
STUBS = [problem.stub(Random(seed)) for seed, problem in enumerate(PROBLEMS)]
PLAIN = [problem.plain() for problem in PROBLEMS]
HUMAN_STUB = (
    'def f(xs: list[int]) -> int:\n    """Count the ways.\n\n    >>> f([])\n    0\n    """\n'
)

FEW_SHOT = """\
Below are examples of instructions. Write ONE new instruction that could stand among them.

### Example 1
```
{}
```

Answer with the new instruction alone, where they are function stubs, so is it. Show no solution."""
CODE = "Write the code that the instruction below asks for: no tests.\n\nInstruction:\n{}"
TESTS = """\
Write tests for the Python code that the instruction below asks for. The block holds:
1. The first line of what the code must define, such as: def median(xs: list[int]) -> float: ...
2. 12 tests. Each is one assert statement.

Instruction:
{}"""
ENHANCE = "Rewrite the instruction below as a Python function stub with doctests.\n\n{}"
JUDGE = """\
Judge how difficult the task below is.

Answer with one JSON object and nothing else, with these fields:
- "difficulty": an integer from 1 (minutes) to 5 (hours)
- "reason": one sentence

Task:
Write a function that reads {{"name": "x"}}. {}"""


def body(prompt: str, **parameters: Any) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    return json.dumps({"model": "any", "messages": messages, **parameters}).encode()


def ask(endpoint: PracticeEndpoint, body: bytes, key: bytes = b"") -> httpx.Response:
    async def send() -> httpx.Response:
        request = httpx.Request("POST", URL, content=body, extensions={"key": key})
        response = await endpoint.handle_async_request(request)
        await response.aread()
        return response

    return asyncio.run(send())


def failing(faults: str) -> PracticeEndpoint:
    return PracticeEndpoint(read_faults(faults))


def answer(prompt: str, faults: str = "", key: bytes = b"") -> str:
    reply = ask(failing(faults), body(prompt), key)
    assert reply.status_code == 200
    text = reply.json()["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def fenced(text: str) -> str:
    match = re.search(r"```python\n(.*\n)```\Z", text, re.DOTALL)
    assert match
    return match[1]


def function(code: str, problem: Problem) -> Any:
    names: dict[str, Any] = {}
    exec(code, names)
    return names[problem.name]


def test_an_answer_is_a_whole_chat_completion() -> None:
    reply = ask(PracticeEndpoint(), body(FEW_SHOT.format(HUMAN_STUB)))
    completion = reply.json()
    assert reply.headers["content-type"] == "application/json"
    assert completion["object"] == "chat.completion"
    assert completion["id"].startswith("chatcmpl-")
    assert completion["model"] == "offline"
    [choice] = completion["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    characters = len("Be brief.") + len(FEW_SHOT.format(HUMAN_STUB))
    assert characters / 5 < usage["prompt_tokens"] < characters / 3


def test_stubs_are_different_ones_and_their_doctests_hold_under_the_code_for_them() -> None:
    stubs = {answer(FEW_SHOT.format(HUMAN_STUB), key=b"%d" % n) for n in range(100)}
    assert len(stubs) == 100
    for stub in stubs:
        names: dict[str, Any] = {}
        exec(fenced(answer(CODE.format(stub))), names)
        docstring = stub.split('"""')[1]
        test = doctest.DocTestParser().get_doctest(docstring, names, "stub", None, None)
        assert doctest.DocTestRunner().run(test) == (0, 3)


def test_examples_in_plain_words_give_instructions_in_plain_words() -> None:
    prompt = FEW_SHOT.format("Write a class RunningMedian with the methods add and median.")
    made = {answer(prompt, key=b"%d" % n) for n in range(100)}
    assert len(made) == 100
    assert all(len([*read(words)]) == 1 for words in made)


def test_an_answer_depends_on_the_body_and_the_key_alone() -> None:
    requests = [(body(FEW_SHOT.format(STUBS[n % 3])), b"%d" % n) for n in range(20)]
    endpoint = PracticeEndpoint()
    first = [ask(endpoint, *request).content for request in requests]
    again = [ask(PracticeEndpoint(), *request).content for request in reversed(requests)]
    assert first == again[::-1]
    assert len(set(first)) == 20
    warm = body(FEW_SHOT.format(STUBS[0]), temperature=0.5)
    assert ask(endpoint, warm, b"0").content != first[0]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (FEW_SHOT.format(HUMAN_STUB), "stub"),
        (FEW_SHOT.format("Write 3 tests for a parser."), "plain"),
        (f"You are tasked with generating a NEW programming instruction.\n{HUMAN_STUB}", "stub"),
        ("Rewrite the programming task below as a new one. Make it harder.\n\nSort.", "plain"),
        ("Take the code below as inspiration for a new programming task.\n\nx = 1", "plain"),
        ("Analyze the code and generate a single, concise, natural instruction.\nx = 1", "plain"),
        (CODE.format(HUMAN_STUB), "code"),
        (CODE.format("Write a task scheduler."), "code"),
        ("Solve the problem below with a new task queue: write the task.", "code"),
        ("", "code"),
        (TESTS.format(PLAIN[0]), "tests"),
        (TESTS.format("Write a new instruction."), "no tests"),
        (JUDGE.format(""), "json"),
        ("Write a web server that answers with JSON.", "code"),
        (CODE.format('Return JSON such as {"name": "x", "age": 3}.'), "code"),
    ],
)
def test_what_is_asked_for_is_read_from_the_prompt(prompt: str, kind: str) -> None:
    text = answer(prompt)
    found = {
        "stub": text.startswith("def ") and text.endswith('"""'),
        "plain": text.startswith("Write a Python function `"),
        "code": "```python\ndef " in text and "raise NotImplementedError" in text,
        "tests": "```python\ndef " in text and "\nassert " in text,
        "no tests": text == "The practice endpoint knows tests for its own problems only.",
        "json": text.startswith('{"difficulty":'),
    }
    assert [name for name, is_so in found.items() if is_so] == [kind]


def test_an_instruction_that_is_rewritten_stays_the_same_problem() -> None:
    for problem, plain in zip(PROBLEMS, PLAIN, strict=True):
        stub = answer(ENHANCE.format(plain))
        assert stub.startswith(f"{problem.signature}:\n")
        assert [*read(stub)] == [problem]


@given(st.text() | st.text(alphabet="\\\"'`\r\n\x00\ud800é :()defx JSON"))
def test_any_prompt_gets_an_answer(prompt: str) -> None:
    assert ast.parse(fenced(answer(prompt)))


def test_a_judge_gives_the_fields_that_the_prompt_lists() -> None:
    verdicts = [json.loads(answer(JUDGE.format(""), key=b"%d" % n)) for n in range(50)]
    assert all(verdict.keys() == {"difficulty", "reason"} for verdict in verdicts)
    assert {verdict["difficulty"] for verdict in verdicts} == {1, 2, 3, 4, 5}
    assert all(isinstance(verdict["reason"], str) for verdict in verdicts)


def run_tests(text: str, code: str) -> list[bool]:
    """Run the assert statements of an answer one by one."""
    signature, *tests = fenced(text).splitlines()
    assert signature.endswith(": ...")
    passed = []
    for test in tests:
        names: dict[str, Any] = {}
        exec(code, names)
        try:
            exec(test, names)
        except AssertionError:
            passed.append(False)
        else:
            passed.append(True)
    return passed


def test_a_share_of_the_code_is_wrong_on_demand() -> None:
    right = []
    for n in range(200):
        problem = PROBLEMS[n % 40]
        text = answer(CODE.format(PLAIN[n % 40]), "wrong_code=0.25", b"%d" % n)
        solution = function(fenced(text), problem)
        arguments = problem.arguments(Random(n), 12)
        right.append(all(solution(each) == problem.run(each) for each in arguments))
    assert 30 <= right.count(False) <= 65


def test_tests_are_as_many_as_asked_for_and_a_share_is_wrong_on_demand() -> None:
    right, passed = list[bool](), list[bool]()
    for stub, plain in zip(STUBS, PLAIN, strict=True):
        for instruction in (stub, plain):
            code = fenced(answer(CODE.format(instruction)))
            right += run_tests(answer(TESTS.format(instruction)), code)
        passed += run_tests(answer(TESTS.format(plain), "wrong_tests=0.25"), code)
    assert right == [True] * 12 * 2 * len(PLAIN)
    assert 90 <= passed.count(False) <= 150


@pytest.mark.parametrize(
    "request_body",
    [
        *(b"", b"\xff", b"[" * 100_000, b"[]", b"{}", b'{"messages": ["Hi"]}'),
        b'{"messages": [{"role": "system", "content": "Hi"}]}',
        body("Hi", max_tokens="5"),
    ],
)
def test_a_request_that_cannot_be_used_is_400(request_body: bytes) -> None:
    reply = ask(PracticeEndpoint(), request_body)
    assert reply.status_code == 400
    assert reply.json()["error"].keys() == {"message", "type", "param", "code"}


REQUESTS = [body(f"Examples of seed {number}") for number in range(400)]


def test_an_answer_that_is_cut_is_cut_each_time() -> None:
    cutting, reasons = failing("cut=0.5"), []
    for request in REQUESTS[:30]:
        [cut], [whole] = (ask(e, request).json()["choices"] for e in (cutting, PracticeEndpoint()))
        assert ask(cutting, request).json()["choices"] == [cut]
        assert whole["message"]["content"].startswith(cut["message"]["content"])
        assert (cut == whole) == (cut["finish_reason"] == "stop")
        reasons.append(cut["finish_reason"])
    assert set(reasons) == {"stop", "length"}


@pytest.mark.parametrize("pair", ["503=0.1", "429", "500=-0.1", "cut=nan", "429=10%", "cut:1"])
def test_a_fault_that_cannot_be_used_is_named(pair: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_faults(f"latency=0.1,{pair}")
    message = str(caught.value)
    assert message.startswith(f'CODESYNTH_OFFLINE: cannot use "{pair}". Known: 429, 500, cut')


def test_shares_of_faults_are_as_told_and_asking_again_gets_through() -> None:
    endpoint = failing(" 429=0.3, 500 = .2")
    statuses = [ask(endpoint, request).status_code for request in REQUESTS]
    assert 90 <= statuses.count(429) <= 150
    assert 50 <= statuses.count(500) <= 110
    assert any(ask(endpoint, REQUESTS[0]).status_code == 200 for _ in range(20))


def test_faults_speak_as_openai_does() -> None:
    refused, failed = ask(failing("429=1"), body("Hi")), ask(failing("500=1"), body("Hi"))
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "50")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "retry-after" not in failed.headers
    assert failed.json()["error"]["type"] == "server_error"


def test_max_tokens_cuts_the_answer() -> None:
    reply = ask(PracticeEndpoint(), body("Hi", max_tokens=5)).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5
