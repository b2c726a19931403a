"""Read code and tests as text, running none of it."""

from __future__ import annotations

import ast
import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import doctest

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
GIVEN = (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
UNIT, REACH = "__codesynth_unit__", "__codesynth_reach__"
OTHER_LANGUAGE = re.compile(
    r"\s*(#include|#!.*\b(ba)?sh\b|<\?php|//|/\*|package \w|using [\w.]+;|import .*[;'\"{]|public "
    r"|(pub )?fn \w|func \w|(export )?(async )?function\b|(const|let|var) \w|use [\w:]+;|struct \w)"
)
"""How code in another language than Python begins."""
PYTEST = re.compile(r"pytest\.(mark|fixture|param)|from pytest|pytest as|def (setup|teardown)_")
"""What only pytest can run."""


def parse(text: str) -> ast.Module | SyntaxError:
    """Parse a program and see that it compiles; return what is wrong with one that does not."""
    try:
        tree = ast.parse(text)
        compile(tree, "solution.py", "exec", dont_inherit=True)
    except SyntaxError as exc:
        return exc
    except (ValueError, RecursionError, MemoryError) as exc:
        return SyntaxError(str(exc) or type(exc).__name__)
    return tree


def program(code: str, instruction: str) -> ast.Module:
    """Read code; if the instruction is a stub, code may be its body, or use its imports.

    HumanEval's solutions are bodies. Raises the code's own SyntaxError where nothing compiles.
    """
    own, stub = parse(code), parse(instruction)
    is_stub = isinstance(stub, ast.Module) and any(isinstance(n, DEFINITIONS) for n in stub.body)
    if isinstance(own, ast.Module):
        if is_stub and not code.lstrip().startswith("from __future__"):
            own.body = [*(n for n in stub.body if isinstance(n, GIVEN)), *own.body]
        return own
    bodies = (code, textwrap.indent(textwrap.dedent(code), "    ")) if is_stub else ()
    for body in bodies:
        whole = parse(f"{instruction.rstrip()}\n{body}")
        if isinstance(whole, ast.Module):
            return whole
    raise own


def imports(tree: ast.AST) -> dict[str, set[str]]:
    """Map the modules that a program imports, wherever it does, to the names taken from them."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({one.name: set() for one in node.names if one.name not in found})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.setdefault(node.module, set()).update(one.name for one in node.names)
    return found


def examples(text: str) -> list[list[doctest.Example]]:
    """Find the doctests in the docstrings of Python, or in prose, where a fence ends an output."""
    import doctest  # it takes 20 ms, which only rows that need it pay

    tree, found = parse(text), []
    texts = [re.sub(r"""(?m)^[ \t]*(?:```|~~~|\"{3}|'{3}).*$""", "", text)]
    if isinstance(tree, ast.Module):
        nodes = (node for node in ast.walk(tree) if isinstance(node, (*DEFINITIONS, ast.Module)))
        texts = [ast.get_docstring(node, clean=False) or "" for node in nodes]
    for one in texts:
        try:
            found.append(doctest.DocTestParser().get_examples(one))
        except ValueError:
            continue  # malformed: no doctests
    return found


class Tests(ast.NodeTransformer):
    """A text of tests, prepared to be run. Raises SyntaxError where it is no Python.

    A unit is a statement with asserts, of the text itself or of its ``check(candidate)``; it is put
    into ``with UNIT:``, so that one that fails does not hide the next. ``REACH()`` is put before
    each assert. Calls of the tests are taken out, for the tests are called anyway.
    """

    def __init__(self, text: str) -> None:
        self.text, self.tree = text, ast.parse(text)
        self.units = 0
        self.functions = [one for one in self.tree.body if isinstance(one, FUNCTIONS)]
        self.tests = [one.name for one in self.functions if one.name.startswith("test")]
        self.classes = [one.name for one in self.tree.body if isinstance(one, ast.ClassDef)]
        self._asserting = {
            one.name
            for one in self.functions
            if any(isinstance(n, ast.Assert) for n in ast.walk(one))
        } - {"check"}
        calls = [name for one in self.tree.body for name in _called(one)]
        self.has_check = any(one.name == "check" for one in self.functions) and "check" not in calls
        out = {*self.tests, "unittest.main", "main"}
        for holder in (self.tree, *(one for one in self.functions if one.name == "check")):
            holder.body = [self._wrap(one) for one in holder.body if not out & set(_called(one))]
        self.visit(self.tree)
        ast.fix_missing_locations(self.tree)

    @property
    def needs_pytest(self) -> bool:
        """Tell fixtures, parameters and marks, which only pytest knows."""
        arguments = [one.args for one in self.functions if one.name in self.tests]
        return bool(PYTEST.search(self.text)) or any(
            len(one.args) > len(one.defaults) for one in arguments
        )

    def _wrap(self, node: ast.stmt) -> ast.stmt:
        has_assert = any(isinstance(one, ast.Assert) for one in ast.walk(node))
        if isinstance(node, DEFINITIONS) or not (
            has_assert or self._asserting & set(_called(node))
        ):
            return node
        self.units += 1
        return ast.copy_location(ast.With([ast.withitem(ast.Name(UNIT, ast.Load()))], [node]), node)

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:  # noqa: N802
        """Put ``REACH()`` before an assert."""
        reach = ast.Expr(ast.Call(ast.Name(REACH, ast.Load()), [], []))
        return [ast.copy_location(reach, node), node]


def _called(node: ast.stmt) -> list[str]:
    """Name the functions that a statement calls itself."""
    calls = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    is_call = not isinstance(node, DEFINITIONS)
    return [
        ast.unparse(one) for one in calls if is_call and isinstance(one, (ast.Name, ast.Attribute))
    ]
