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
    from codesynth.ray_data import BatchCommand
    from codesynth.serving.client import APILLMServing
    from codesynth.serving.offline import PracticeEndpoint
    from codesynth.settings import CodeSettings
    from codesynth.storage import JSONLStorage

_HOMES = {
    "codesynth.journal": ("Journal", "JournaledServing"),
    "codesynth.models": ("Endpoint", "SamplingParams"),
    "codesynth.operators.dataflow": (
        "CodeCodeToInstructionGenerator",
        "CodeEnhancementInstructionGenerator",
        "CodeInstructionGenerator",
        "CodeInstructionToCodeGenerator",
        "PromptedGenerator",
    ),
    "codesynth.ray_data": ("BatchCommand",),
    "codesynth.serving.client": ("APILLMServing",),
    "codesynth.serving.offline": ("PracticeEndpoint",),
    "codesynth.settings": ("CodeSettings",),
    "codesynth.storage": ("JSONLStorage",),
}

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

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
