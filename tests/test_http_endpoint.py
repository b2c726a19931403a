"""One endpoint: its URL, its headers and secrets, redirects, and errors in words."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from support.asking import in_loop
from support.endpoint import (
    OK,
    Endpoint,
    Received,
    Reply,
    closed_port,
    echo,
    says,
    server_tls,
    unanswering,
)

from codesynth import models
from codesynth.errors import ConfigError
from codesynth.serving.http import EndpointClient, NoReplyError


def client(url: str, key: str = "", **headers: str) -> EndpointClient:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return EndpointClient(models.Endpoint(url, key, named), connect_timeout=60.0)


BODY = b'{"messages": [{"role": "user", "content": "x"}]}'


async def post(endpoint: EndpointClient) -> int:
    try:
        reply = await endpoint.request("POST", "/chat/completions", BODY, timeout=60.0)
        return reply.status
    finally:
        await endpoint.aclose()


async def failure(endpoint: EndpointClient) -> NoReplyError:
    with pytest.raises(NoReplyError) as caught:
        await post(endpoint)
    return caught.value


# The URL.


@pytest.mark.parametrize(
    ("url", "words"),
    [
        *((each, "Example: http://localhost:8000/v1") for each in ("", "host:80", "http://")),
        *((f"{each}u:hunter2@host/v1", "Example: ") for each in ("", "ftp://")),
        ("http://u:hunter2@[::1", "Example: "),
        ("http://host:0/v1", "port 0 is not between 1 and 65535"),
        ("http://u:hunter2@host:99999/v1", "port 99999 is not between 1 and 65535"),
        ("http://host:port/v1?key=hunter2", "base URL"),
    ],
)
def test_url_that_cannot_be_used_is_a_config_error_without_its_password(
    url: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        client(url)
    assert "hunter2" not in str(caught.value)


def test_repr_of_an_endpoint_holds_no_secret() -> None:
    endpoint = models.Endpoint("http://user:hunter2@host/v1", "sk-hunter2", {"api-key": "hunter2"})
    assert "hunter2" not in repr(endpoint)


@in_loop
async def test_path_follows_the_base_url_and_its_query_stays() -> None:
    async with Endpoint() as endpoint:
        await post(client(f"{endpoint.base_url}/?api-version=1"))
    assert endpoint.received[0].path == "/v1/chat/completions?api-version=1"


# Headers and secrets.


def sent(endpoint: Endpoint) -> dict[str, str]:
    return dict(endpoint.received[0].headers)


@in_loop
async def test_own_headers_are_sent_and_win() -> None:
    async with Endpoint() as endpoint:
        await post(client(endpoint.base_url, "k", api_key="secret-1", Accept="x", user_agent="me"))
    headers = sent(endpoint)
    assert headers["authorization"] == "Bearer k"
    assert (headers["api-key"], headers["accept"], headers["user-agent"]) == ("secret-1", "x", "me")
    async with Endpoint() as endpoint:
        await post(client(endpoint.base_url.replace("//", "//user:p%40s%3As@"), "unused"))
    assert sent(endpoint)["authorization"] == "Basic dXNlcjpwQHM6cw=="  # user:p@s:s


@in_loop
async def test_key_of_the_environment_is_sent_unless_one_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env\n")
    seen = []
    for given in (None, "own", ""):
        async with Endpoint() as endpoint:
            at = models.Endpoint(endpoint.base_url, given)
            await post(EndpointClient(at, connect_timeout=60.0))
        seen.append(sent(endpoint).get("authorization"))
    assert seen == ["Bearer sk-env", "Bearer own", None]


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        *((key, "x", "y") for key in ("sk-hunter\n1", "sk-hunter\u00e9")),
        *(("", name, "hunter") for name in ("a b", "x\n", "Host")),
        ("", "x", "hunter\r\n2"),
    ],
)
def test_key_or_header_that_cannot_be_sent_is_a_config_error(
    key: str, name: str, value: str
) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY" if key else "header") as caught:
        client("http://localhost/v1", key, **{name: value})
    assert "hunter" not in str(caught.value)


def test_secrets_are_taken_out_of_any_text() -> None:
    endpoint = client(
        "http://user:hunter2@host/v1", "k", api_key="azure-key", authorization="Token t0ken-9"
    )
    text = endpoint.secrets.hide("hunter2 azure-key t0ken-9 Token t0ken-9 k")
    assert text == "[secret] [secret] [secret] [secret] [secret]"
    assert client("http://host/v1", "", x="true").secrets.hide("is it true?") == "is it true?"


def test_keys_are_taken_out_of_kept_bodies_and_words_are_not() -> None:
    headers = {"api_key": "az-12345", "referer": "https://x"}
    endpoint = client("http://u:pass-word1@host/v1", "sk-secret", **headers)
    body = b"sk-secret az-12345 pass-word1 https://x"
    assert endpoint.secrets.hide_in_body(body) == b"[secret] [secret] [secret] https://x"
    for key, kept in (("EMPTY", b"x = EMPTY"), ("x", b"x = 1")):
        assert client("http://host/v1", key).secrets.hide_in_body(kept) == kept


# Redirects.


def redirecting(status: int, location: str) -> Callable[[Received], Reply]:
    def plan(request: Received) -> Reply:
        if "/moved" in request.path:
            return echo(request)
        return Reply(status, headers={"location": location})

    return plan


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@in_loop
async def test_redirect_on_the_same_host_is_followed(status: int) -> None:
    async with Endpoint(redirecting(status, "/moved")) as endpoint:
        assert await post(client(endpoint.base_url, "key")) == 200


@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.2:1/moved", "http://127.0.0.1:1/moved", "ftp://127.0.0.1/", "//"),
        *("http://[:", "file:///etc/hostname", "/v1/chat/completions"),
    ],
)
@in_loop
async def test_redirect_elsewhere_or_in_a_circle_is_the_reply(location: str) -> None:
    async with Endpoint(redirecting(307, location)) as endpoint:
        assert await post(client(endpoint.base_url, "key")) == 307


# Errors in words.


@in_loop
async def test_refused_connection_is_named_by_the_endpoint() -> None:
    with closed_port() as reserved:
        url = f"http://localhost:{reserved.getsockname()[1]}/v1"
        error = await failure(client(url, "local"))  # a key that is part of the URL by chance
    assert error.message == f"cannot connect to {url}: connection refused"
    assert (error.kind, error.cause) == ("connection", "unreachable")


@in_loop
async def test_unknown_host_is_named_and_permanent() -> None:
    error = await failure(client("http://nowhere.invalid/v1"))
    assert "Errno" not in error.message
    assert "no such host" in error.message or "cannot be looked up" in error.message
    assert (error.cause == "hopeless") == ("no such host" in error.message)


@in_loop
async def test_untrusted_certificate_names_the_fix_and_is_permanent() -> None:
    async with Endpoint(script=says(OK), tls=server_tls()) as peer:
        error = await failure(client(peer.base_url))
    assert "its certificate is not trusted" in error.message
    assert "SSL_CERT_FILE" in error.message
    assert error.cause == "hopeless"


@in_loop
async def test_https_to_an_http_port_says_so_and_is_permanent() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Endpoint(script=script) as peer:
        error = await failure(client(peer.base_url.replace("http:", "https:")))
    assert "TLS failed" in error.message
    assert "operation not permitted" not in error.message
    assert error.cause == "hopeless"


@pytest.mark.parametrize("scheme", ["http", "https"])
@in_loop
async def test_dead_proxy_is_blamed_by_its_variable(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed_port() as reserved:
        port = reserved.getsockname()[1]
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://user:hunter2@127.0.0.1:{port}")
        error = await failure(client(f"{scheme}://api.example/v1"))
    assert f"the proxy http://127.0.0.1:{port} (from {scheme.upper()}_PROXY)" in error.message
    assert "connection refused" in error.message
    assert "NO_PROXY=api.example" in error.message
    assert "hunter2" not in error.message
    assert error.cause == "hopeless"


@in_loop
async def test_proxy_that_does_not_answer_is_a_connect_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with unanswering("127.0.0.1") as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        error = await failure(EndpointClient("http://host/v1", connect_timeout=0.1))
    assert error.message.startswith(f"cannot connect to the proxy http://127.0.0.1:{port}")
    assert (error.kind, error.cause) == ("timeout", "unreachable")


@in_loop
async def test_proxy_that_refuses_a_tunnel_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    async with Endpoint(script=says(refusal)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        error = await failure(client("https://api.example/v1"))
    assert "HTTPS_PROXY" in error.message
    assert "407" in error.message


@in_loop
async def test_each_request_has_a_time_limit_of_its_own() -> None:
    async with Endpoint(lambda request: Reply(end="hang", raw=())) as endpoint:
        at = client(endpoint.base_url)

        async def ask(timeout: float) -> None:
            with pytest.raises(NoReplyError, match=f"within {timeout:g} s") as caught:
                await at.request("POST", "/chat/completions", b"{}", timeout=timeout)
            assert (caught.value.kind, caught.value.cause) == ("timeout", "timeout")

        patient = asyncio.create_task(ask(3600))
        await asyncio.gather(ask(0.1), ask(0.05))
        assert not patient.done()
        patient.cancel()
        await at.aclose()


# Any transport.


@in_loop
async def test_given_transport_gets_whole_requests() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.content, request.extensions["key"]) == (b"{}", b"7")
        assert (request.headers["content-length"], request.headers["host"]) == ("2", "offline")
        return httpx.Response(200, json={"ok": True})

    transport = httpx.MockTransport(answer)
    at = EndpointClient("http://offline/v1", connect_timeout=1.0, transport=transport)
    reply = await at.request("POST", "/chat/completions", b"{}", timeout=5.0, key=b"7")
    assert (reply.status, reply.body) == (200, b'{"ok":true}')


@in_loop
async def test_given_transport_may_have_a_proxy_that_refuses() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ProxyError("407")

    transport = httpx.MockTransport(refuse)
    at = EndpointClient("http://host/v1", connect_timeout=1.0, transport=transport)
    assert (await failure(at)).message == "the proxy refuses: 407"
