"""Make training data for code models: new instructions from few-shot examples, and code for them.

>>> import codesynth
>>> serving = codesynth.APILLMServing("http://offline/v1", transport=codesynth.PracticeEndpoint())
>>> storage = codesynth.JSONLStorage("samples/seeds.jsonl", "/dev/null")
>>> codesynth.CodeInstructionGenerator(serving, num_generate=2).run(storage)
['generated_instruction']
"""

from __future__ import annotations

from codesynth.version import __version__

TYPE_CHECKING = False  # typing alone would take as long to load as --help does
if TYPE_CHECKING:
    from codesynth.journal import Journal, JournaledServing
    from codesynth.models import Endpoint, SamplingParams
    from codesynth.operators.dataflow import (
        CodeCodeToInstructionGenerator,
        CodeEnhancementInstructionGenerator,
        CodeInstructionGenerator,
        CodeInstructionToCodeGenerator,
        PromptedGenerator,
    )
    from codesynth.scale.ray_data import BatchCommand
    from codesynth.serving.client import APILLMServing
    from codesynth.serving.offline import PracticeEndpoint
    from codesynth.settings import CodeSettings
    from codesynth.storage import JSONLStorage

_HOMES = {
    "APILLMServing": "codesynth.serving.client",
    "BatchCommand": "codesynth.scale.ray_data",
    "CodeSettings": "codesynth.settings",
    "Endpoint": "codesynth.models",
    "JSONLStorage": "codesynth.storage",
    "Journal": "codesynth.journal",
    "JournaledServing": "codesynth.journal",
    "PracticeEndpoint": "codesynth.serving.offline",
    "SamplingParams": "codesynth.models",
}
"""The module of each public name but the operators."""

__all__ = [
    "APILLMServing",
    "BatchCommand",
    "CodeCodeToInstructionGenerator",
    "CodeEnhancementInstructionGenerator",
    "CodeInstructionGenerator",
    "CodeInstructionToCodeGenerator",
    "CodeSettings",
    "Endpoint",
    "JSONLStorage",
    "Journal",
    "JournaledServing",
    "PracticeEndpoint",
    "PromptedGenerator",
    "SamplingParams",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: the command line starts without most of them."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "codesynth.operators.dataflow")), name)


def __dir__() -> list[str]:
    return __all__
