import ast
import asyncio
import doctest
import json
import re
import time
import warnings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codesynth.errors import ConfigError
from codesynth.serving.offline import Faults, OfflineEndpoint

CHAT = "/v1/chat/completions"


def body(prompt: str, **parameters: Any) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    return json.dumps({"model": "any", "messages": messages, **parameters}).encode()


def ask(endpoint: OfflineEndpoint, request: bytes) -> tuple[int, dict[str, str], Any]:
    status, headers, answer = asyncio.run(endpoint("POST", CHAT, request))
    return status, headers, json.loads(answer)


def answer(endpoint: OfflineEndpoint, prompt: str) -> str:
    status, _, reply = ask(endpoint, body(prompt))
    assert status == 200
    text = reply["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def fenced(text: str) -> str:
    match = re.fullmatch(r"[^`]+\n\n(`{3,})python\n(.*)\n\1\n\n[^`]+", text, re.DOTALL)
    assert match
    return match[2]


def statuses(endpoint: OfflineEndpoint, requests: list[bytes]) -> list[int]:
    async def gather() -> list[int]:
        replies = await asyncio.gather(*(endpoint("POST", CHAT, each) for each in requests))
        return [status for status, _, _ in replies]

    return asyncio.run(gather())


def test_models_lists_offline_alone() -> None:
    status, headers, models = asyncio.run(OfflineEndpoint("code")("GET", "/v1/models", b""))
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert [model["id"] for model in json.loads(models)["data"]] == ["offline"]


def test_an_answer_is_a_whole_chat_completion() -> None:
    status, headers, reply = ask(OfflineEndpoint("instruction"), body("Make one."))
    assert status == 200
    assert headers == {"content-type": "application/json"}
    assert reply["object"] == "chat.completion"
    assert reply["id"].startswith("chatcmpl-")
    assert isinstance(reply["created"], int)
    assert reply["model"] == "offline"
    [choice] = reply["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage.values()) > 0


def test_an_instruction_is_made_and_then_solved() -> None:
    for number in range(50):
        stub = answer(OfflineEndpoint("instruction"), f"Examples of seed {number}")
        code = fenced(answer(OfflineEndpoint("code"), f"Write this:\n\n{stub}\n\nAs Python."))
        names: dict[str, Any] = {}
        exec(code, names)
        docstring = stub.split('"""')[1]
        test = doctest.DocTestParser().get_doctest(docstring, names, "stub", None, None)
        failed, attempted = doctest.DocTestRunner().run(test)
        assert not failed
        assert attempted >= 3


def test_the_answer_depends_on_the_body_alone() -> None:
    requests = [body(f"Examples of seed {number}") for number in range(20)]
    endpoint = OfflineEndpoint("instruction")
    first = [ask(endpoint, request) for request in requests]
    again = [ask(OfflineEndpoint("instruction"), request) for request in reversed(requests)]
    assert first == again[::-1]
    assert len({reply["choices"][0]["message"]["content"] for _, _, reply in first}) == 20


STUB = '''\
from typing import List


def f(xs: List[int], sep: str = "a:b",
      *, key=lambda x: x) -> int:
    """Say \\d in "quotes".

    >>> f([])
    0
    """
'''


def test_an_unknown_stub_comes_back_with_an_open_body() -> None:
    code = fenced(answer(OfflineEndpoint("code"), f"Please:\n\n```\n{STUB}```\nThanks: import me."))
    assert code == STUB + "    raise NotImplementedError"


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("Write `def f(x): ...`.", "def f(x):\n    raise NotImplementedError"),
        ("async  def g(): return 1", "async  def g():\n    raise NotImplementedError"),
        ("    def f(self):  # why\n        'One.'\n", "def f(self):\n    'One.'\n    raise"),
        ("def f():\n    '''One'''\n    return 2\n\ndef g(): pass", "def f():\n    '''One'''\n"),
        ("def f(): pass\n\ndef g(): pass", "def g():\n"),
        ('def f():\n    r"""\\N"""\n', 'def f():\n    r"""\\N"""\n'),
        ('def f():\n    """\\N"""\n', "def f():\n    raise"),
        ("def f(x: int)\n  x + 1\nend", "def solution():\n"),
        ("def f(a", "def solution():\n"),
        ("Sum in Rust.", 'def solution():\n    """\n    Sum in Rust.\n    """\n    raise'),
    ],
)
def test_what_is_unknown_is_left_open(prompt: str, code: str) -> None:
    assert fenced(answer(OfflineEndpoint("code"), prompt)).startswith(code)


def test_a_long_text_is_quoted_in_part() -> None:
    assert len(answer(OfflineEndpoint("code"), "Sum. " * 100_000)) < 5_000


@given(st.text() | st.text(alphabet="\\\"'`\r\n\x00\ud800é :()defx "))
@example('"""\r\n').via("quotes end a docstring")
@example("\\N \\x \ud800 \x00 \r\r\n \x0c \x85 \u2028 ````").via("what sources cannot hold")
def test_any_text_is_quoted_as_it_is(prompt: str) -> None:
    code = fenced(answer(OfflineEndpoint("code"), prompt))
    with warnings.catch_warnings(action="ignore"):
        function = ast.parse(code).body[-1]
    assert isinstance(function, ast.FunctionDef)
    assert isinstance(function.body[-1], ast.Raise)
    if function.name == "solution":
        docstring = ast.get_docstring(function, clean=False) or ""
        quoted = re.sub(r"(?m)^    ", "", docstring).strip("\n")
        assert quoted == prompt.replace("\r\n", "\n").strip("\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/engines"), ("GET", CHAT), ("POST", "/v1/models"), ("POST", "/v1/completions")],
)
def test_another_path_is_404(method: str, path: str) -> None:
    status, _, reply = asyncio.run(OfflineEndpoint("code")(method, path, body("Hi")))
    assert status == 404
    assert path in json.loads(reply)["error"]["message"]


def test_a_query_does_not_change_the_path() -> None:
    status, _, _ = asyncio.run(OfflineEndpoint("code")("GET", "/openai/models?api-version=1", b""))
    assert status == 200


@pytest.mark.parametrize(
    "request_body",
    [
        b"",
        b"\xff",
        b"{",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"messages": []}',
        b'{"messages": ["Hi"]}',
        b'{"messages": [{"role": "system", "content": "Hi"}]}',
        b'{"messages": [{"role": "user", "content": null}]}',
        body("Hi", stream=True),
        body("Hi", n=2),
        body("Hi", max_tokens=0),
        body("Hi", max_tokens="5"),
    ],
)
def test_a_request_that_cannot_be_used_is_400(request_body: bytes) -> None:
    status, _, reply = ask(OfflineEndpoint("code"), request_body)
    assert status == 400
    assert reply["error"].keys() == {"message", "type", "param", "code"}
    assert reply["error"]["message"].startswith("cannot use the request body: ")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_answer(name: str) -> None:
    endpoint = OfflineEndpoint("instruction")
    _, _, reply = ask(endpoint, body("Make one.", **{name: 5}))
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 5
    _, _, reply = ask(endpoint, body("Make one.", **{name: 5_000}))
    assert reply["choices"][0]["finish_reason"] == "stop"


REQUESTS = [body(f"Examples of seed {number}") for number in range(400)]


def test_shares_of_faults_are_as_told() -> None:
    counted = statuses(
        OfflineEndpoint("code", Faults(rate_limited=0.3, server_error=0.2)), REQUESTS
    )
    assert 90 <= counted.count(429) <= 150
    assert 50 <= counted.count(500) <= 110
    assert counted.count(200) == 400 - counted.count(429) - counted.count(500)


def test_faults_do_not_depend_on_the_order_of_requests() -> None:
    faults = Faults(rate_limited=0.4, server_error=0.2)
    one, other = OfflineEndpoint("code", faults), OfflineEndpoint("code", faults)
    for _ in range(3):
        assert statuses(one, REQUESTS) == statuses(other, REQUESTS[::-1])[::-1]


def test_asking_again_gets_through() -> None:
    endpoint = OfflineEndpoint("code", Faults(rate_limited=0.5))
    failing = REQUESTS
    for _ in range(20):
        failing = [r for r, s in zip(failing, statuses(endpoint, failing), strict=True) if s != 200]
    assert failing == []


def test_a_share_of_one_never_lets_through() -> None:
    assert set(statuses(OfflineEndpoint("code", Faults(rate_limited=1)), REQUESTS)) == {429}
    assert set(statuses(OfflineEndpoint("code", Faults(server_error=1)), REQUESTS)) == {500}


def test_faults_speak_as_openai_does() -> None:
    status, headers, reply = ask(OfflineEndpoint("code", Faults(rate_limited=1)), body("Hi"))
    assert (status, headers["retry-after"], headers["retry-after-ms"]) == (429, "1", "50")
    assert reply["error"]["code"] == "rate_limit_exceeded"
    status, _, reply = ask(OfflineEndpoint("code", Faults(server_error=1)), body("Hi"))
    assert (status, reply["error"]["type"]) == (500, "server_error")


def test_an_answer_that_is_cut_is_cut_each_time() -> None:
    cutting, whole = OfflineEndpoint("code", Faults(cut=0.5)), OfflineEndpoint("code")
    reasons = []
    for request in REQUESTS[:30]:
        [cut], [uncut] = (ask(each, request)[2]["choices"] for each in (cutting, whole))
        assert ask(cutting, request)[2]["choices"] == [cut]
        assert uncut["message"]["content"].startswith(cut["message"]["content"])
        assert (cut == uncut) == (cut["finish_reason"] == "stop")
        reasons.append(cut["finish_reason"])
    assert set(reasons) == {"stop", "length"}


def test_latency_is_waited_for_side_by_side() -> None:
    endpoint = OfflineEndpoint("code", Faults(latency=0.05))
    start = time.perf_counter()
    assert set(statuses(endpoint, REQUESTS[:50])) == {200}
    assert 0.05 <= time.perf_counter() - start < 0.5


def test_faults_are_read_from_the_environment() -> None:
    env = {"CODESYNTH_OFFLINE": " 429=0.1,500 = 0.05,cut=1,latency=1.5 "}
    assert Faults.from_env(env) == Faults(0.1, 0.05, 1.0, 1.5)
    assert Faults.from_env({}) == Faults.from_env({"CODESYNTH_OFFLINE": " "}) == Faults()


@pytest.mark.parametrize(
    "pair",
    [
        "503=0.1",
        "429",
        "429=",
        "429=2",
        "500=-0.1",
        "cut=nan",
        "latency=inf",
        "429=10%",
        "cut:1",
        "",
    ],
)
def test_a_fault_that_cannot_be_used_is_named(pair: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Faults.from_env({"CODESYNTH_OFFLINE": f"latency=0.1,{pair}"})
    message = str(caught.value)
    assert message.startswith(f'CODESYNTH_OFFLINE: cannot use "{pair}"')
    assert "known, once each: 429, 500, cut (shares from 0 to 1), latency" in message


def test_shares_that_add_up_to_more_than_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="over 1"):
        Faults.from_env({"CODESYNTH_OFFLINE": "429=0.6,500=0.5"})
    with pytest.raises(ConfigError, match="once each"):
        Faults.from_env({"CODESYNTH_OFFLINE": "429=0.1,429=0.2"})
