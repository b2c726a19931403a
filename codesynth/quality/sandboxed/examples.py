"""Find the doctests in code and in instructions; none of it is run."""

import ast
import doctest
import re
from collections.abc import Iterator


def docstring_examples(tree: ast.Module) -> Iterator[tuple[str, list[doctest.Example]]]:
    """Find the doctests of a module: (name, examples) of each docstring that has some."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node, clean=False)):
            examples = text_examples(text)
            if examples:
                yield getattr(node, "name", "module"), examples


def text_examples(text: str) -> list[doctest.Example]:
    """Find the doctests in a text; none where they are malformed."""
    try:
        return doctest.DocTestParser().get_examples(text)
    except ValueError:
        return []


def instruction_examples(
    text: str | None, tree: ast.Module | None
) -> list[tuple[str, list[doctest.Example]]]:
    """Find the doctests of an instruction: Python with docstrings, or prose with examples.

    In prose a code fence or the closing quotes of a docstring end an expected output.
    """
    if tree is not None:
        return list(docstring_examples(tree))
    blanked = re.sub(r"""(?m)^[ \t]*(?:```|~~~|\"{3}|'{3}).*$""", "", text or "")
    examples = text_examples(blanked)
    return [("instruction", examples)] if examples else []
