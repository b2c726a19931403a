"""Bytes on sockets: one endpoint, reached through any ``httpx.AsyncBaseTransport``."""

from httpx import AsyncBaseTransport

from codesynth.serving.http.endpoint import EndpointClient
from codesynth.serving.http.reply import NoReply, Reply

__all__ = ["AsyncBaseTransport", "EndpointClient", "NoReply", "Reply"]
