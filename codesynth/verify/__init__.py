"""Run the code of rows against their tests, in sandboxes."""

from codesynth.verify.sandbox import SandboxSettings
from codesynth.verify.serving import SandboxServing
from codesynth.verify.task import INSTRUCTION_KEYS, STATUSES, VerifyTask

__all__ = ["INSTRUCTION_KEYS", "STATUSES", "SandboxServing", "SandboxSettings", "VerifyTask"]
