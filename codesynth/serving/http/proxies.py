"""Choose the transport by the environment: ours, or httpx's own if a proxy is set."""

from __future__ import annotations

import os
import urllib.request

import httpx

from codesynth.errors import ConfigError
from codesynth.serving.http.transport import IDLE_SECONDS, Transport, create_ssl_context


def create_transport(
    url: httpx.URL, *, connect_timeout: float, streaming: bool = False
) -> tuple[httpx.AsyncBaseTransport, str]:
    """Create the transport for a URL; with ``streaming`` or a proxy it is httpx's own.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY choose a proxy, SSL_CERT_FILE and SSL_CERT_DIR
    the certificates to trust instead of certifi's.

    Returns:
        the transport; and the name of the proxy for messages, empty if there is none.

    Raises:
        ConfigError: one of these cannot be used.
    """
    proxy, variable = _find_proxy(url)
    try:
        if proxy:
            # Its pool is slow for hundreds of requests at once.
            limits = httpx.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS)
            transport = httpx.AsyncHTTPTransport(proxy=proxy, limits=limits)
            return transport, f"the proxy {_without_password(proxy)} (from {variable})"
        if streaming:
            return httpx.AsyncHTTPTransport(verify=create_ssl_context()), ""
        context = create_ssl_context() if url.scheme == "https" else None
    except OSError as exc:
        path, why = os.environ.get("SSL_CERT_FILE"), exc.strerror or exc
        raise ConfigError(f"SSL_CERT_FILE: {path}: cannot be read as certificates: {why}") from exc
    except ImportError as exc:  # socks5 needs another package
        raise ConfigError(f"the proxy for {url.host}: {exc}") from exc
    except (httpx.InvalidURL, ValueError) as exc:  # not in the message: it may quote a password
        text = f"its URL, from {variable}, is not http, https or socks5, or its port is wrong"
        raise ConfigError(f"the proxy for {url.host}: {text}") from exc
    return Transport(connect_timeout=connect_timeout, ssl_context=context), ""


def _find_proxy(url: httpx.URL) -> tuple[str, str]:
    """Choose a proxy by the environment; return it and its variable's name, or two empty texts."""
    proxies = urllib.request.getproxies()
    scheme = url.scheme if proxies.get(url.scheme) else "all"
    proxy = proxies.get(scheme)
    port = url.port or (443 if url.scheme == "https" else 80)
    if not proxy or urllib.request.proxy_bypass(f"{url.host}:{port}"):
        return "", ""
    return proxy if "://" in proxy else f"http://{proxy}", f"{scheme.upper()}_PROXY"


def _without_password(proxy: str) -> httpx.URL:
    url = httpx.URL(proxy).copy_with(userinfo=b"")
    if (url.port or 0) > 65535:  # connecting would raise an OverflowError
        raise ValueError(f"there is no port {url.port}")
    return url
