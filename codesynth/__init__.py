"""Training data for code models: new instructions from few-shot examples, and code for them."""

from __future__ import annotations

from codesynth.version import __version__

TYPE_CHECKING = False  # typing alone would take as long to load as --help does
if TYPE_CHECKING:
    from codesynth.models import Endpoint, SamplingParams
    from codesynth.operators import CodeInstructionGenerator, CodeInstructionToCodeGenerator
    from codesynth.serving.client import APILLMServing
    from codesynth.serving.offline import OfflineEndpoint
    from codesynth.storage import JSONLStorage

_HOMES = {
    "APILLMServing": "codesynth.serving.client",
    "CodeInstructionGenerator": "codesynth.operators",
    "CodeInstructionToCodeGenerator": "codesynth.operators",
    "Endpoint": "codesynth.models",
    "JSONLStorage": "codesynth.storage",
    "OfflineEndpoint": "codesynth.serving.offline",
    "SamplingParams": "codesynth.models",
}

__all__ = [
    "APILLMServing",
    "CodeInstructionGenerator",
    "CodeInstructionToCodeGenerator",
    "Endpoint",
    "JSONLStorage",
    "OfflineEndpoint",
    "SamplingParams",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: the command line starts without most of them."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
