"""The environment chooses a proxy and whom to trust."""

import asyncio
from pathlib import Path

import httpx
import pytest
from support.asking import ask, in_loop
from support.endpoint import OK, Endpoint, read_request

from codesynth.errors import ConfigError
from codesynth.serving.http.proxies import create_transport


@pytest.mark.parametrize("proxy", ["", "http://localhost:1"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_bad_certificate_file_is_a_config_error(
    content: str | None, proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    path = tmp_path / "certificates.pem"
    if content:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        create_transport(httpx.URL("https://localhost/v1"), connect_timeout=1)


PROXY = {"HTTP_PROXY": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("url", "environment", "proxied"),
    [
        ("http://host/v1", {}, False),
        ("http://host/v1", PROXY, True),
        ("https://host/v1", PROXY, False),
        ("https://host/v1", {"https_proxy": "proxy:3128"}, True),
        ("https://host/v1", {"ALL_PROXY": "http://proxy:3128"}, True),
        ("http://host/v1", PROXY | {"NO_PROXY": "*"}, False),
        ("http://host/v1", PROXY | {"NO_PROXY": "other, HOST"}, False),
        ("http://host/v1", PROXY | {"no_proxy": "ost"}, True),
        ("http://api.host/v1", PROXY | {"NO_PROXY": ".host"}, False),
        ("http://host:8000/v1", PROXY | {"NO_PROXY": "host:8000"}, False),
        ("http://host:8001/v1", PROXY | {"NO_PROXY": "host:8000"}, True),
        ("http://127.0.0.1/v1", PROXY | {"NO_PROXY": "127.0.0.1"}, False),
    ],
)
def test_environment_chooses_the_proxy(
    url: str, environment: dict[str, str], proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    transport, _ = create_transport(httpx.URL(url), connect_timeout=1)
    assert isinstance(transport, httpx.AsyncHTTPTransport) == proxied


@pytest.mark.parametrize(
    "proxy",
    [
        *("ftp://proxy", "http://proxy:port", "http://proxy:65536", "http://[::1"),
        "http://user:secret/@proxy:1",
    ],
)
def test_proxy_that_cannot_be_used_is_a_config_error_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match="proxy") as caught:
        create_transport(httpx.URL("http://host/v1"), connect_timeout=1)
    assert "secret" not in str(caught.value)


@in_loop
async def test_proxy_is_sent_as_many_requests_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    many = 101  # one more than httpx allows by itself
    all_there = asyncio.Barrier(many)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await all_there.wait()
        writer.write(OK)

    async with Endpoint(script=script) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://localhost:{proxy.port}")
        async with create_transport(httpx.URL("http://host/v1"), connect_timeout=60)[
            0
        ] as transport:
            await asyncio.gather(*(ask(transport, "http://host/v1") for _ in range(many)))
