"""One endpoint: its URL, its headers and secrets, redirects, and errors in words."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from support.asking import in_loop
from support.endpoint import OK, Endpoint, Received, Reply, closed_port, echo, says, server_tls

from codesynth import models
from codesynth.errors import ConfigError
from codesynth.serving.http import EndpointClient, NoReply


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


async def failure(endpoint: EndpointClient) -> NoReply:
    with pytest.raises(NoReply) as caught:
        await post(endpoint)
    return caught.value


# The URL.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://x/v1",
        "http://",
        "http://[::1",
        "http://x:port/v1",
        "http://xn--/v1",
    ],
)
def test_url_that_cannot_be_used_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="Example: http://localhost:8000/v1"):
        client(url)


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_port_out_of_range_is_a_config_error(port: int) -> None:
    with pytest.raises(ConfigError, match=f"port {port} is not between 1 and 65535"):
        client(f"http://127.0.0.1:{port}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@[::1",
        "http://user:hunter2@host:port/v1",
        "user:hunter2@host/v1",
        "ftp://user:hunter2@host/v1",
        "http://user:hunter2/@host:99999999/v1",
        "http://user:hunter2@host:99999/v1",
        "http://host:port/v1?key=hunter2",
    ],
)
def test_message_about_a_url_holds_no_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
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


@in_loop
async def test_user_and_password_of_the_url_are_sent_as_basic() -> None:
    async with Endpoint() as endpoint:
        await post(client(endpoint.base_url.replace("//", "//user:p%40s%3As@"), "unused"))
    assert sent(endpoint)["authorization"] == "Basic dXNlcjpwQHM6cw=="  # user:p@s:s


@pytest.mark.parametrize("key", ["sk-\n1", "sk-é", "sk-\x7f"])
def test_key_that_no_header_can_carry_is_a_config_error(key: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        client("http://localhost/v1", key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("a b", "x"), ("", "x"), ("x\n", "x"), ("x", "hunter\r\n2"), ("x", "é"), ("Host", "x")],
)
def test_header_that_cannot_be_sent_is_a_config_error(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="header") as caught:
        client("http://localhost/v1", "", **{name: value})
    assert "hunter" not in str(caught.value)


def test_secrets_are_taken_out_of_any_text() -> None:
    endpoint = client(
        "http://user:hunter2@host/v1", "k", api_key="azure-key", authorization="Token t0ken-9"
    )
    text = endpoint.secrets.hide("hunter2 azure-key t0ken-9 Token t0ken-9 k")
    assert text == "[secret] [secret] [secret] [secret] [secret]"


def test_short_value_of_a_header_is_no_secret() -> None:
    endpoint = client("http://host/v1", "", x_feature="true")
    assert endpoint.secrets.hide("is it true?") == "is it true?"


def test_keys_are_taken_out_of_kept_bodies_and_words_are_not() -> None:
    endpoint = client(
        "http://u:pass-word1@host/v1", "sk-secret", api_key="az-12345", referer="https://x"
    )
    body = b"sk-secret az-12345 pass-word1 https://x"
    assert endpoint.secrets.hide_in_body(body) == b"[secret] [secret] [secret] https://x"
    assert client("http://host/v1", "EMPTY").secrets.hide_in_body(b"x = EMPTY") == b"x = EMPTY"
    assert client("http://host/v1", "x").secrets.hide_in_body(b"x = 1") == b"x = 1"


# Redirects.


def redirecting(status: int, location: str) -> Callable[[Received], Reply]:
    def plan(request: Received) -> Reply:
        if "/moved" in request.path:
            return echo(request)
        return Reply(status, headers={"location": location})

    return plan


@pytest.mark.parametrize(("status", "asked"), [(307, 4), (308, 3), (301, 3), (302, 4)])
@in_loop
async def test_redirect_on_the_same_host_is_followed(status: int, asked: int) -> None:
    async with Endpoint(redirecting(status, "/moved")) as endpoint:
        at = client(endpoint.base_url, "key")
        for _ in range(2):
            reply = await at.request("POST", "/chat/completions", BODY, timeout=60.0)
            assert reply.status == 200
        await at.aclose()
    assert len(endpoint.received) == asked


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:1/moved",
        "http://127.0.0.1:1/moved",
        "ftp://127.0.0.1/",
        "//",
        "http://[:",
        "//xn--/",
    ],
)
@in_loop
async def test_redirect_elsewhere_is_the_reply(location: str) -> None:
    async with Endpoint(redirecting(307, location)) as endpoint:
        assert await post(client(endpoint.base_url, "key")) == 307


# Errors in words.


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@in_loop
async def test_refused_connection_is_named_by_the_endpoint(host: str) -> None:
    with closed_port() as reserved:
        url = f"http://{host}:{reserved.getsockname()[1]}/v1"
        error = await failure(client(url))
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
async def test_proxy_that_refuses_a_tunnel_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    async with Endpoint(script=says(refusal)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        error = await failure(client("https://api.example/v1"))
    assert "HTTPS_PROXY" in error.message
    assert "407" in error.message


@in_loop
async def test_an_error_of_httpx_without_words_names_the_endpoint() -> None:
    def break_off(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("")

    broken = EndpointClient(
        "http://host/v1", connect_timeout=60.0, transport=httpx.MockTransport(break_off)
    )
    error = await failure(broken)
    assert (error.message, error.cause) == ("the connection to http://host/v1 broke", "down")


@in_loop
async def test_slow_response_is_a_timeout() -> None:
    async with Endpoint(lambda request: Reply(end="hang", raw=())) as endpoint:
        at = client(endpoint.base_url)
        with pytest.raises(NoReply) as caught:
            await at.request("POST", "/chat/completions", b"{}", timeout=0.5)
        await at.aclose()
    assert caught.value.kind == "timeout"
    assert caught.value.cause == "timeout"


@in_loop
async def test_each_request_has_a_time_limit_of_its_own() -> None:
    async with Endpoint(lambda request: Reply(end="hang", raw=())) as endpoint:
        at = client(endpoint.base_url)

        async def ask(timeout: float) -> None:
            with pytest.raises(NoReply, match=f"within {timeout:g} s"):
                await at.request("POST", "/chat/completions", b"{}", timeout=timeout)

        patient = asyncio.create_task(ask(3600))
        await asyncio.gather(ask(0.1), ask(0.05))
        assert not patient.done()
        patient.cancel()
        await at.aclose()


# Any transport.


@in_loop
async def test_given_transport_gets_whole_requests() -> None:
    got: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        got.append(request)
        return httpx.Response(200, json={"ok": True})

    transport = httpx.MockTransport(answer)
    at = EndpointClient("http://offline/v1", connect_timeout=1.0, transport=transport)
    reply = await at.request("POST", "/chat/completions", b"{}", timeout=5.0, key=b"7")
    assert (reply.status, reply.body) == (200, b'{"ok":true}')
    assert got[0].content == b"{}"
    assert got[0].extensions["key"] == b"7"
    assert got[0].headers["content-length"] == "2"
    assert got[0].headers["host"] == "offline"
