"""Programming languages: their names, and whether a text is valid in one."""

from __future__ import annotations

import importlib
import re
import warnings
from functools import cache
from typing import Any

from codesynth.errors import ConfigError

PYTHON = "python"
# Characters; longer texts count as invalid: `compile` takes 6 s for 12,000 lines `def f(): pass`
_MOST_PYTHON, _MOST_OTHER = 50_000, 10_000

_NAMES = """
ada assembly/asm/nasm awk bash/sh/shell/zsh batch/bat/cmd c/h clojure/clj cobol cpp/c++/cc/cxx/hpp
crystal csharp/c#/cs css/scss dart dockerfile/docker elixir/ex/exs elm erlang/erl fortran/f90
fsharp/f#/fs go/golang graphql groovy haskell/hs html/htm/vue java javascript/js/jsx/mjs/node json
julia/jl kotlin/kt/kts latex/tex lisp/common-lisp/elisp lua makefile/make markdown/md matlab/octave
nim objective-c/objc/objectivec ocaml/ml pascal/delphi perl/pl/pm php powershell/ps1 prolog
python/py/python3/py3/python2/ipython/pyi r racket/rkt ruby/rb rust/rs scala scheme/scm solidity/sol
sql/postgresql/postgres/mysql/sqlite/plsql/plpgsql swift tcl terraform/tf/hcl text/txt/plaintext
toml typescript/ts/tsx vb/vbnet/vb.net/vba verilog/systemverilog vhdl xml yaml/yml zig
"""
_ALIASES = {name: names.split("/")[0] for names in _NAMES.split() for name in names.split("/")}

BESIDE_CODE = {
    *("bash", "batch", "console", "csv", "diff", "ini", "json", "log", "markdown", "output"),
    *("powershell", "pycon", "text", "toml", "xml", "yaml"),
}
"""Languages of commands, data, output and notes, which answers have in addition to code."""


def find_language(name: str) -> str:
    """Find the main name of a language by any of its names; ConfigError if it is unknown."""
    known = _ALIASES.get(name.strip().lower())
    if known is None:
        raise ConfigError(f'unknown language "{name}"; known: {", ".join(language_names())}')
    return known


def language_names() -> list[str]:
    """List the languages that ``find_language`` knows, in order, each with its main name."""
    return list(dict.fromkeys(_ALIASES.values()))


def language_of(info: str) -> str:
    """Read the language from the words after a fence, which may be a file name; else empty."""
    if info in _ALIASES:
        return _ALIASES[info]
    word = re.search(r"[\w+#][\w+#./-]*", info)
    name = word[0].lower() if word else ""
    return _ALIASES.get(name) or _ALIASES.get(name.rpartition(".")[2], name)


def first_error(code: str) -> int | None:
    """Find the line (from 0) of the first syntax error in Python code."""
    if len(code) > _MOST_PYTHON:
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "<answer>", "exec", dont_inherit=True)
    except SyntaxError as exc:
        return max(0, (exc.lineno or 1) - 1)
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return 0
    return None


def is_valid(code: str, language: str) -> bool:
    """Tell whether a text is valid code; False for a language whose parser is not installed."""
    if language == PYTHON:
        return first_error(code) is None
    data = code.encode("utf-8", "replace")
    trees = (parser.parse(data) for parser in _parsers(language))
    return len(data) <= _MOST_OTHER and any(not tree.root_node.has_error for tree in trees)


@cache
def _parsers(language: str) -> list[Any]:
    """Load the tree-sitter parser of each dialect of a language; none if it is not installed."""
    try:
        tree_sitter = importlib.import_module("tree_sitter")
        grammar = importlib.import_module("tree_sitter_" + re.sub(r"\W", "_", language))
        # PHP in HTML is left out: it would accept any text as HTML.
        dialects = [each for each in dir(grammar) if re.match(r"language(?!_php$)", each)]
        languages = [tree_sitter.Language(getattr(grammar, each)()) for each in dialects]
    except (ImportError, ValueError):  # ValueError: the grammar is of another version
        return []
    return [tree_sitter.Parser(each) for each in languages]
