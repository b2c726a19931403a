"""Prompts out, columns back: what each command asks and how its answers are read."""
