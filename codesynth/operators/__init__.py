"""Pure operators: prompts out, rows back."""

from codesynth.operators.code import CodeInstructionToCodeGenerator
from codesynth.operators.instructions import CodeInstructionGenerator

__all__ = ["CodeInstructionGenerator", "CodeInstructionToCodeGenerator"]
