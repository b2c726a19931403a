"""Bytes on sockets: one endpoint, reached through any ``httpx.AsyncBaseTransport``."""

from httpx import AsyncBaseTransport

from codesynth.serving.http.endpoint import EndpointClient
from codesynth.serving.http.failures import NoReplyError
from codesynth.serving.http.reply import Reply

__all__ = ["AsyncBaseTransport", "EndpointClient", "NoReplyError", "Reply"]
