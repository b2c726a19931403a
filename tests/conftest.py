"""Fixtures for every test."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from support.endpoint import Endpoint

# A slow or busy machine is no failure, and a run finds what the run before it has found.
settings.register_profile(
    "codesynth",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("codesynth")

# nohup, and a shell that starts the tests in the background, have signals ignored; the commands
# that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


OTHERS = ("OPENAI_", "CODESYNTH_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """Keep keys, endpoints, proxies and terminal settings of the caller out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(OTHERS) or name.upper().endswith("_PROXY"):
                patch.delenv(name)
        yield


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Run an endpoint that answers every prompt; set ``endpoint.plan`` for anything else."""
    with Endpoint() as running:
        yield running
