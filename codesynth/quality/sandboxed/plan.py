"""Read tests, instruction and code, running none of it: what is to be tested, and with what."""

import ast
import builtins
import importlib.util
import sys
import textwrap
from collections import Counter
from collections.abc import Container, Iterable
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
SHORT_NAMES = {"np": "numpy", "pd": "pandas"}
COUNTER = "__asserts__"
"""The name under which a test's own assert statements report that they ran."""


def parse(text: str | None) -> ast.Module | None:
    """Parse Python; None for anything else."""
    try:
        return ast.parse(text) if text else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_stub(function: Function) -> bool:
    """Tell a function whose body is yet to be written: a docstring, pass, and the like."""
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Raise) and "NotImplementedError" in names_read(node))
        for node in function.body
    )


def functions(tree: ast.Module | ast.ClassDef | None) -> list[Function]:
    """List the functions a module defines at its top level, or the methods of a class."""
    return [node for node in tree.body if isinstance(node, Function)] if tree else []


def program(code: str, instruction: str | None, entry: str | None) -> tuple[str, ast.Module]:
    """Choose what the code is meant as: a program, or what follows the stub in the instruction.

    Raises:
        SyntaxError: of the code itself, where nothing compiles.
    """
    meant: list[str] = []
    own = compiled(code)
    given = parse(instruction)
    if instruction is not None and given is not None:
        head = f"{instruction.rstrip()}\n"
        body = head + textwrap.indent(textwrap.dedent(code), "    ")
        if isinstance(own, SyntaxError):
            meant = [head + code, body]
        elif names_wanted([own]) & bound(given) - {entry}:
            meant = [head + code]
        elif entry and entry not in bound(own) and not defined(own):
            meant = [body]
    for source in meant:
        tree = compiled(source)
        if not isinstance(tree, SyntaxError) and not _is_stub_still(tree, entry):
            return source, tree
    if not isinstance(own, SyntaxError):
        return code, own
    for source in meant:
        if not isinstance(tree := compiled(source), SyntaxError):
            return source, tree
    raise own


def compiled(source: str) -> ast.Module | SyntaxError:
    """Parse and compile a program; return what is wrong with one that cannot be."""
    try:
        tree = ast.parse(source)
        compile(tree, "<code>", "exec", dont_inherit=True)
    except SyntaxError as exc:
        return exc
    except (ValueError, RecursionError, MemoryError) as exc:
        return SyntaxError(str(exc) or type(exc).__name__)
    return tree


def bound(tree: ast.Module) -> set[str]:
    """Name what a module binds at its top level by definition, import or assignment."""
    names = defined(tree)
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(bound_name(node, alias) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names.update(one.id for one in _targets(node))
    return names


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.Name]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [one for one in targets if isinstance(one, ast.Name)]


def _is_stub_still(tree: ast.Module, entry: str | None) -> bool:
    return any(one.name == entry and is_stub(one) for one in functions(tree)[-1:])


def entry_point(given: str | None, instruction: ast.Module | None) -> str | None:
    """Name what the code has to define: what the row says, else the instruction's last stub."""
    stubs = [one.name for one in functions(instruction) if is_stub(one)]
    return given or (stubs[-1] if stubs else None)


def trusted(
    instruction: ast.Module | None, code: ast.Module | None, entry: str | None
) -> dict[str, ast.stmt]:
    """Map the names a test may use to statements the judge can run itself.

    These are the instruction's imports, constants and complete helper functions, and of the code
    its imports of whole modules and of things under their own name, so that ``math`` in a test is
    never the code's ``math``. A function the instruction gives whole but the code rewrites is what
    is to be tested, unless the row says that something else is.
    """
    found: dict[str, ast.stmt] = {}
    for node in code.body if code else ():
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level):
            found.update(
                (bound_name(node, alias), _import_of(node, alias))
                for alias in node.names
                if isinstance(node, ast.Import) or alias.asname in (None, alias.name)
            )
    rewritten = {one.name: ast.dump(one) for one in functions(code)}
    for node in instruction.body if instruction else ():
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.update((bound_name(node, one), _import_of(node, one)) for one in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            found.update((one.id, node) for one in _targets(node))
        elif isinstance(node, Function) and not is_stub(node):
            same = rewritten.get(node.name) in (None, ast.dump(node))
            if entry or same:
                found[node.name] = node
    found.pop(entry or "", None)
    return {name: node for name, node in found.items() if not hasattr(builtins, name)}


def bound_name(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """Name what one part of an import statement binds."""
    if isinstance(node, ast.Import) and alias.asname is None:
        return alias.name.partition(".")[0]
    return alias.asname or alias.name


def _import_of(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.stmt:
    if isinstance(node, ast.Import):
        return ast.Import([alias])
    return ast.ImportFrom(node.module, [alias], node.level)


def defined(tree: ast.Module | None) -> set[str]:
    """Name the functions and classes a module defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)} if tree else set()


def classes(tree: ast.Module | None) -> list[ast.ClassDef]:
    """List the classes a module defines."""
    return [node for node in tree.body if isinstance(node, ast.ClassDef)] if tree else []


def root(entry: str) -> str:
    """Name what the code has to define for an entry point, such as ``Solution().add``, to be."""
    return entry.partition(".")[0].partition("(")[0].strip()


def names_read(tree: ast.AST) -> set[str]:
    """Name what a piece of Python reads."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def names_wanted(trees: Iterable[ast.AST]) -> set[str]:
    """Name what pieces of Python read and none of them binds, in whatever scope."""
    read: set[str] = set()
    own: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else own).add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            own.update(bound_name(node, alias) for alias in node.names)
        else:
            own.update(str(getattr(node, field, "")) for field in ("name", "arg"))
    return read - own


def names_called(tree: ast.Module) -> set[str]:
    """Name the functions that statements of the top level call outside of definitions."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    calls = (
        node
        for statement in tree.body
        if not isinstance(statement, kinds)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
    )
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


def modules_meant(trees: Iterable[ast.AST], names: set[str]) -> dict[str, ast.stmt]:
    """Map those names that can only mean a module to its import.

    That is the name of one of the standard library, or a usual short name, which is never read
    but for attributes that the module has. A test that says ``math.isclose`` means that of math,
    whatever the code may call math.
    """
    nodes = [node for tree in trees for node in ast.walk(tree)]
    reads = Counter(node.id for node in nodes if isinstance(node, ast.Name))
    attributes: dict[str, list[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.setdefault(node.value.id, []).append(node.attr)
    found: dict[str, ast.stmt] = {}
    for name in names & attributes.keys() & (sys.stdlib_module_names | SHORT_NAMES.keys()):
        used, module = attributes[name], SHORT_NAMES.get(name, name)
        if len(used) == reads[name] and _has(module, used):
            found[name] = ast.Import([ast.alias(module, name)])
    return found


def _has(module: str, attributes: Iterable[str]) -> bool:
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        return module in SHORT_NAMES.values()  # and the import will say that it is missing
    return all(hasattr(loaded, attribute) for attribute in attributes)


class Instrument(ast.NodeTransformer):
    """Make a test count its asserts, and take the code for a module nobody has.

    ``from solution import add`` names the code under test by whatever name its author gave it.
    """

    def __init__(self, names: Container[str]) -> None:
        self._names = names

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        """Report before and after."""
        return [_call(COUNTER, "begin", node), node, _call(COUNTER, "end", node)]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """Bind names of the code where an import would fail."""
        missing = not node.level and not _is_module(node.module or "")
        if not (missing and all(one.name in self._names or one.name == "*" for one in node.names)):
            return node
        renamed = [alias for alias in node.names if alias.asname and alias.name != "*"]
        binds = [
            ast.Assign([ast.Name(str(one.asname), ast.Store())], ast.Name(one.name, ast.Load()))
            for one in renamed
        ]
        return [ast.fix_missing_locations(ast.copy_location(one, node)) for one in binds] or (
            ast.copy_location(ast.Pass(), node)
        )


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _call(name: str, method: str, like: ast.stmt) -> ast.stmt:
    function = ast.Attribute(ast.Name(name, ast.Load()), method, ast.Load())
    statement = ast.Expr(ast.Call(function, [], []))
    return ast.fix_missing_locations(ast.copy_location(statement, like))


def has_assert(tree: ast.AST) -> bool:
    """Tell whether there is an assert statement anywhere in a piece of Python."""
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))
