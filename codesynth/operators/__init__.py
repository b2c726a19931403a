"""Pure operators: prompts out, rows back."""
