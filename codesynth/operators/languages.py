"""Programming languages: their names, which one is asked for, whether a text parses in it."""

from __future__ import annotations

import ast
import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from codesynth.errors import ConfigError

_MOST_PYTHON, _MOST_OTHER = 50_000, 10_000
"""Characters; of longer texts it is not known whether they parse. Grammars of tree-sitter can take
time that grows with the square of the length."""

_NAMES = {
    "bash": "sh shell zsh ksh",
    "cpp": "c++ cc cxx hpp",
    "csharp": "c# cs",
    "elixir": "ex exs",
    "fsharp": "f# fs",
    "go": "golang",
    "haskell": "hs",
    "javascript": "js jsx mjs cjs node nodejs",
    "julia": "jl",
    "kotlin": "kt kts",
    "markdown": "md",
    "perl": "pl",
    "powershell": "ps1 pwsh",
    "python": "py python3 py3 python2 py2 ipython ipython3",
    "ruby": "rb",
    "rust": "rs",
    "sql": "postgresql postgres mysql sqlite plsql plpgsql tsql",
    "text": "txt plain plaintext none",
    "typescript": "ts tsx",
    "yaml": "yml",
}
_ALIASES = {alias: name for name, aliases in _NAMES.items() for alias in aliases.split()}

_LANGUAGE = re.compile(r"[^\w+#-]*([\w+#-]+)")
_ASIDE = re.compile(
    r"bash|fish|console|shell-?session|terminal|powershell|cmd|bat|text|output|stdout|logs?"
    r"|markdown|mermaid|json[c5l]?|yaml|toml|ini|[ct]sv|diff|pycon|python-repl|doctest"
)
_WORDS = frozenset({"", "text", "markdown", "output", "stdout"})

_STUB = re.compile(r"def \w+\((?:[^\n]{0,200}[:,])?[ \t]*$", re.MULTILINE)
_PYTHON = re.compile(
    r"ython(?<=\b[Pp]ython)(?:(?<=\b[Ii]n [Pp]ython)\b| ?[\d.]*\s(?:[\w-]+\s){0,2}?(?:function"
    r"|method|class|program|script|code|module|generator|decorator|implementation|solution)\b)"
)
_TOKEN = re.compile(r"[\w+#]+")
_OTHERS = """
bash shell command terminal powershell sql json yaml yml toml xml html css csv markdown docker
dockerfile makefile java javascript typescript node rust golang kotlin swift ruby php perl scala
haskell lua julia matlab translate convert port transpile c++ c#
"""
_ELSEWHERE = frozenset(_OTHERS.split())
"""Words of prompts that may want something else than Python, or more than that."""
_LETTERS = frozenset({"Go", "C", "R"})
_COMPOUND = re.compile(r"^(?:async |@)?(?:def|class|for|while|if|with|try|match)\b", re.MULTILINE)
_REMARK_LINES = re.compile(r"(?<![^\r\n])[ \t]*[^ \t\r\n#]")


@dataclass(frozen=True, slots=True)
class Language:
    """A programming language by the name that its aliases stand for.

    Attributes:
        parses: tells whether a text is code in it; None where there is nothing to tell it by.
    """

    name: str
    parses: Callable[[str], bool] | None = None


def find_language(name: str) -> Language:
    """Find a language by any of its names, and its parser if that is installed.

    Raises:
        ConfigError: its parser is installed in a version that cannot be used.

    >>> find_language("Python3").name
    'python'
    >>> find_language("C++").name
    'cpp'
    """
    name = name.strip().lower()
    name = _ALIASES.get(name, name)
    return PYTHON if name == "python" else Language(name, _grammar(name))


def name_of(info: str) -> str:
    """Name the language of a fence by its info string; empty where there is none.

    >>> name_of("{.py .numberLines}")
    'python'
    """
    found = _LANGUAGE.match(info)
    name = found[1].lower() if found else ""
    return _ALIASES.get(name, name)


def is_aside(name: str) -> bool:
    """Whether a language is that of what stands beside code: commands, output, data, notes."""
    return _ASIDE.fullmatch(name) is not None


def may_be_words(name: str) -> bool:
    """Whether a fence so named may have words to a reader in it, rather than code."""
    return name in _WORDS


def asks_for_python(prompt: str) -> bool:
    """Whether a prompt wants Python and names nothing else; False where that is not clear.

    >>> asks_for_python("Write a Python function that doubles a number.")
    True
    >>> asks_for_python("Translate this Python function to Rust.")
    False
    """
    if not (_PYTHON.search(prompt) or _STUB.search(prompt)):
        return False
    words = set(_TOKEN.findall(prompt))
    return words.isdisjoint(_LETTERS) and _ELSEWHERE.isdisjoint(map(str.lower, words))


def parses_python(text: str) -> bool:
    """Whether a text is Python that does more than name values, by this interpreter's parser.

    >>> parses_python("print(1)"), parses_python("Hello"), parses_python("It is so.")
    (True, False, False)
    """
    if len(text) > _MOST_PYTHON:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(_does_something(node) for node in tree.body)


def _does_something(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Expr):
        return True
    acts = (ast.Call, ast.Lambda, ast.comprehension, ast.Await)
    return any(isinstance(inner, acts) for inner in ast.walk(node))


def is_surely_python(text: str) -> bool:
    """Whether a text parses as Python and could hardly do so in another language."""
    return _COMPOUND.search(text) is not None and parses_python(text)


def is_only_remarks(text: str) -> bool:
    """Whether every line is a comment, where comments start with a hash."""
    return _REMARK_LINES.search(text) is None


def _grammar(name: str) -> Callable[[str], bool] | None:
    """Load the parser of a language out of the extra ``languages``, or any of its kind."""
    module = "tree_sitter_" + re.sub(r"\W", "_", name)
    try:
        tree_sitter = importlib.import_module("tree_sitter")
        grammar = importlib.import_module(module)
    except ImportError:
        return None
    # one for each dialect; that of PHP in HTML would take any text for HTML
    dialects = filter(re.compile(r"language(?!_php$)").match, dir(grammar))
    try:
        languages = [tree_sitter.Language(getattr(grammar, each)()) for each in dialects]
    except ValueError as exc:
        raise ConfigError(f"{module} does not fit tree_sitter: {exc}. Update both") from exc
    parsers = [tree_sitter.Parser(language) for language in languages]

    def parses(text: str) -> bool:
        data = text.encode("utf-8", "replace")
        return len(text) <= _MOST_OTHER and any(
            not parser.parse(data).root_node.has_error for parser in parsers
        )

    return parses if parsers else None


PYTHON = Language("python", parses_python)
