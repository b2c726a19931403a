"""Run the code of rows against their tests, in sandboxes."""

from codesynth.verify.sandbox import SandboxSettings
from codesynth.verify.serving import SandboxServing
from codesynth.verify.task import STATUSES, VerifyTask

__all__ = ["STATUSES", "SandboxServing", "SandboxSettings", "VerifyTask"]
