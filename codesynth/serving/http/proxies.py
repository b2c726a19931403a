"""Choose the transport by the environment: ours, or httpx's own if a proxy is set."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import urllib.request

import httpx

from codesynth.errors import ConfigError
from codesynth.serving.http.connect_errors import explain_connect_error, find_cause
from codesynth.serving.http.transport import IDLE_SECONDS, Transport, create_ssl_context


class _ProxiedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport; its pool is slow for hundreds of requests at once."""

    def __init__(self, proxy: str, variable: str, connect_timeout: float) -> None:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS)
        super().__init__(proxy=proxy, limits=limits)
        url = httpx.URL(proxy)
        if (url.port or 0) > 65535:  # connecting would raise an OverflowError
            raise ValueError(f"there is no port {url.port}")
        self._name = f"the proxy {url.copy_with(userinfo=b'')} (from {variable})"
        self._connect_timeout = connect_timeout

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; ``httpx.ProxyError`` where the proxy is at fault."""
        request.extensions["timeout"] = {"connect": self._connect_timeout}
        try:
            return await super().handle_async_request(request)
        except httpx.ConnectError as exc:
            if isinstance(find_cause(exc), ssl.SSLError):  # behind the proxy
                raise
            why = f"cannot connect to {self._name}: {explain_connect_error(exc)[0]}"
            fix = f"To go without it, set NO_PROXY={request.url.host}"
            raise httpx.ProxyError(f"{why}. {fix}") from exc
        except httpx.ProxyError as exc:
            raise httpx.ProxyError(f"{self._name} refuses: {exc}") from exc


def create_transport(
    url: httpx.URL, *, connect_timeout: float, streaming: bool = False
) -> httpx.AsyncBaseTransport:
    """Create the transport for a URL; with ``streaming`` or a proxy it is httpx's own.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY choose a proxy, SSL_CERT_FILE and SSL_CERT_DIR
    the certificates to trust instead of certifi's.

    Raises:
        ConfigError: one of these cannot be used.
    """
    proxy, variable = _find_proxy(url)
    try:
        if proxy:
            return _ProxiedTransport(proxy, variable, connect_timeout)
        if streaming:
            return httpx.AsyncHTTPTransport(verify=create_ssl_context())
        ssl_context = create_ssl_context() if url.scheme == "https" else None
    except OSError as exc:
        path, why = os.environ.get("SSL_CERT_FILE"), exc.strerror or exc
        raise ConfigError(f"SSL_CERT_FILE: {path}: cannot be read as certificates: {why}") from exc
    except ImportError as exc:  # socks5 needs another package
        raise ConfigError(f"the proxy for {url.host}: {exc}") from exc
    except (httpx.InvalidURL, ValueError) as exc:  # not in the message: it may quote a password
        text = f"its URL, from {variable}, is not http, https or socks5, or its port is wrong"
        raise ConfigError(f"the proxy for {url.host}: {text}") from exc
    return Transport(connect_timeout=connect_timeout, ssl_context=ssl_context)


def _find_proxy(url: httpx.URL) -> tuple[str, str]:
    """Choose a proxy by the environment; return it and its variable's name, or two empty texts.

    NO_PROXY may hold networks (10.0.0.0/8) too, as curl allows.
    """
    proxies = urllib.request.getproxies()
    scheme = url.scheme if proxies.get(url.scheme) else "all"
    proxy = proxies.get(scheme)
    port = url.port or (443 if url.scheme == "https" else 80)
    if not proxy or urllib.request.proxy_bypass(f"{url.host}:{port}"):
        return "", ""
    for entry in proxies.get("no", "").split(","):
        with contextlib.suppress(ValueError):  # one of them is a name
            network = ipaddress.ip_network(entry.strip(" []"), strict=False)
            if ipaddress.ip_address(url.host) in network:
                return "", ""
    return proxy if "://" in proxy else f"http://{proxy}", f"{scheme.upper()}_PROXY"
