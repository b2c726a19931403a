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
REACH = "__codesynth_reach__"
OTHER_LANGUAGE = re.compile(
    r"\s*(#include|#!.*\b(ba)?sh\b|<\?php|//|/\*|package \w|using [\w.]+;|import .*[;'\"{]|public "
    r"|(pub )?fn \w|func \w|(export )?(async )?function\b|(const|let|var) \w|use [\w:]+;|struct \w)"
)
"""How code in another language than Python begins."""
ONLY_PYTEST = re.compile(
    r"pytest\.(mark\.(?!asyncio)|fixture|param)|from pytest|pytest as|def (setup|teardown)_"
    r"|(?m:^class Test\w*(\(object\)|\(\))?:)|(?m:^(async )?def test\w*\([^)=]*[\w\]](,\s*)?\))"
)
"""What only pytest can run: marks, fixtures, classes that are not unittest's, arguments."""


def parse(text: str) -> ast.Module | SyntaxError:
    """Parse a program and see that it compiles; return what is wrong with one that does not."""
    try:
        tree = ast.parse(text)
        compile(tree, "", "exec", dont_inherit=True)
    except SyntaxError as exc:
        return exc
    except (ValueError, RecursionError, MemoryError) as exc:
        return SyntaxError(str(exc) or type(exc).__name__)
    return tree


def without_guard(tree: ast.Module) -> ast.Module:
    """Leave out ``if __name__ == "__main__"``."""
    guards = [
        one for one in tree.body if isinstance(one, ast.If) and "__name__" in ast.dump(one.test)
    ]
    tree.body = [one for one in tree.body if one not in guards]
    return tree


def program(code: str, instruction: str) -> tuple[list[ast.stmt], ast.Module]:
    """Read code, and what of the instruction is to run before it.

    If the instruction is a stub, code may be its body, as in HumanEval, or use its imports. Raises
    the code's own SyntaxError where nothing compiles.
    """
    own, stub = parse(code), parse(instruction)
    if isinstance(stub, ast.Module) and any(isinstance(one, DEFINITIONS) for one in stub.body):
        if isinstance(own, ast.Module):
            return [one for one in stub.body if not isinstance(one, ast.Expr)], own
        for body in (code, textwrap.indent(textwrap.dedent(code), "    ")):
            whole = parse(f"{instruction.rstrip()}\n{body}")
            if isinstance(whole, ast.Module):
                return [], whole
    if isinstance(own, SyntaxError):
        raise own
    return [], own


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
    """A text of tests, taken apart. Raises SyntaxError where it is no Python.

    Attributes:
        steps: statements to run, each with whether it is a test by itself: whether it has asserts,
            or calls a function that has. ``check(candidate)`` is replaced by its statements, and
            what calls a test function is left out.
        argument: the name of the candidate; empty where there is no ``check``.
        functions, classes: names of test functions and of classes.
        count: of the tests, but for those in classes and those that pytest makes.
    """

    def __init__(self, text: str) -> None:
        tree = without_guard(ast.parse(text))
        self.text, self.imports, self.argument = text, imports(tree), ""
        functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        for one in tree.body:
            if isinstance(one, FUNCTIONS):  # a list of tests may hold two of one name
                one.name += f"_{len(functions)}" * (one.name in functions)
                functions[one.name] = one
        self.functions = [name for name in functions if name.startswith("test")]
        self.classes = [one.name for one in tree.body if isinstance(one, ast.ClassDef)]
        self.needs_pytest = ONLY_PYTEST.search(text) is not None
        asserting = {name for name, one in functions.items() if has_assert(one)}
        body, check = tree.body, functions.get("check")
        if check is not None and check.args.args and "Return(" not in ast.dump(check):
            self.argument = check.args.args[0].arg
            body = [one for one in body if "check" not in called(one)] + check.body
        steps = [(one, called(one)) for one in body]
        self.steps = [
            (one, not isinstance(one, DEFINITIONS) and (bool(asserting & calls) or has_assert(one)))
            for one, calls in steps
            if not calls & {*self.functions, "main"}
        ]
        self.count = sum(is_test for _, is_test in self.steps)
        self.count += 0 if self.needs_pytest else len(self.functions)

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        """Put ``REACH()`` before an assert."""
        reach = ast.Expr(ast.Call(ast.Name(REACH, ast.Load()), [], []))
        return [ast.fix_missing_locations(ast.copy_location(reach, node)), node]


def has_assert(node: ast.AST) -> bool:
    """Tell whether there is an assert in a piece of Python."""
    return any(isinstance(one, ast.Assert) for one in ast.walk(node))


def called(node: ast.stmt) -> set[str]:
    """Name the functions and methods that a statement calls itself."""
    if isinstance(node, DEFINITIONS):
        return set()
    calls = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    names = {one.id for one in calls if isinstance(one, ast.Name)}
    return names | {one.attr for one in calls if isinstance(one, ast.Attribute)}
