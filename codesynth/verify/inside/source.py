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
OTHER_LANGUAGE = (
    r"\s*(#include|#!.*\b(ba)?sh\b|<\?php|//|/\*|package \w|using [\w.]+;|import .*[;'\"{]|public "
    r"|(pub )?fn \w|func \w|(export )?(async )?function\b|(const|let|var) \w|use [\w:]+;|struct \w)"
)
PYTEST = re.compile(
    r"pytest\.(mark\.(?!asyncio)|fixture|param)|from pytest|pytest as|def (setup|teardown)_"
    r"|(?m:^class Test\w*(\(object\)|\(\))?:)"
)
"""What only pytest can run."""


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


def without_guards(body: list[ast.stmt]) -> list[ast.stmt]:
    """Leave out ``if __name__ == "__main__"``."""
    return [one for one in body if not isinstance(one, ast.If) or "__name__" not in ast.dump(one.test)]


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


def is_other_language(code: str, told: object) -> bool:
    """Tell whether code that is no Python begins like another language, or is said to be one."""
    is_said = isinstance(told, str) and not told.lower().startswith(("py", "en"))
    return is_said or re.match(OTHER_LANGUAGE, code) is not None


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
        setup: is run first: what is no unit.
        units: statements with asserts, of the text and of its ``check(candidate)``: one test each.
        argument: of ``check``; empty if there is none.
        functions: names of test functions. Statements that call them are left out.
        classes: names of classes.
    """

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.text, self.imports = text, imports(tree)
        functions = {one.name: one for one in tree.body if isinstance(one, FUNCTIONS)}
        self.functions = [name for name in functions if name.startswith("test")]
        self.classes = [one.name for one in tree.body if isinstance(one, ast.ClassDef)]
        self.needs_pytest = bool(PYTEST.search(text)) or any(
            len(functions[one].args.args) > len(functions[one].args.defaults) for one in self.functions
        )
        self.argument, body = "", without_guards(tree.body)
        check = functions.get("check")
        if check is not None and check.args.args and not _returns(check):
            self.argument = check.args.args[0].arg
            called = [one for one in body if "check" in _called(one)]
            body = [one for one in body if one is not check and one not in called] + check.body
        asserting = {name for name, one in functions.items() if _has_assert(one)}
        out = {*self.functions, "unittest.main", "main"}
        self.steps = [
            (
                not isinstance(one, DEFINITIONS) and (_has_assert(one) or bool(asserting & _called(one))),
                ast.fix_missing_locations(self.visit(ast.Module([one], []))),
            )
            for one in body
            if not out & _called(one)
        ]
        self.units = sum(is_unit for is_unit, _ in self.steps)

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:  # noqa: N802
        """Put ``REACH()`` before an assert."""
        reach = ast.Expr(ast.Call(ast.Name(REACH, ast.Load()), [], []))
        return [ast.copy_location(reach, node), node]


def _has_assert(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Assert) for one in ast.walk(node))


def _returns(node: ast.AST) -> bool:
    return any(isinstance(one, (ast.Return, ast.Yield, ast.Nonlocal)) for one in ast.walk(node))


def _called(node: ast.stmt) -> set[str]:
    """Name the functions that a statement calls itself."""
    calls = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    is_call = not isinstance(node, DEFINITIONS)
    return {ast.unparse(one) for one in calls if is_call and isinstance(one, (ast.Name, ast.Attribute))}
