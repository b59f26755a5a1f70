"""Fails if identifiers are pronouns, determiners or bare participles: run `python tools/language.py` in a checkout.

Names such as `found`, `one` or `given` do not say what a value is. The tool counts bindings (variables, parameters,
functions, classes) in the Python files that git tracks, except tests, and ignores leading and trailing underscores.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# fmt: off
WORDS = frozenset([
    "one", "ones", "other", "others", "found", "given",
    "each", "both", "some", "told", "asked", "there", "due", "again", "kept", "seen", "known", "place", "what", "part",
    "at", "of", "it", "whole", "apart", "anew",
])
# fmt: on
#: (path, name) → why the word is right in its place.
EXCEPTIONS: dict[tuple[str, str], str] = {
    (f"conformance/dreamer4_conformance/{path}.py", "at"): "parameter of the adapter's operation `resume`"
    for path in ("adapter/training", "adapters/bundled_training", "zoo/base/checkpoints")
}
#: The right operand of a comparison or sum is called `other` everywhere in Python.
OPERATORS = frozenset({"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__add__", "__sub__", "__mul__"})


def bindings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every variable, parameter, function and class that a module binds.

    >>> list(bindings(ast.parse("def f(x):\\n    found = x")))
    [(1, 'f'), (1, 'x'), (2, 'found')]
    """
    operators = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in OPERATORS)
    operands = {id(argument) for operator in operators for argument in operator.args.args}
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.arg() if id(node) not in operands:
                yield node.lineno, node.arg
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name


def main() -> int:
    """Print every banned binding and the rate; exit status 1 if there is any without a reason in `EXCEPTIONS`."""
    listed = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, text=True, check=True).stdout.split()
    paths = [
        path for path in listed if "/tests/" not in path and Path(path).name != "conftest.py" and Path(path).exists()
    ]
    lines, banned = 0, []
    for path in paths:
        source = Path(path).read_text(encoding="utf-8")
        lines += source.count("\n")
        for line, name in bindings(ast.parse(source)):
            if name.strip("_").lower() in WORDS and (path, name) not in EXCEPTIONS:
                banned.append(f"{path}:{line}: {name}")
    print(*banned, sep="\n", end="\n" if banned else "")
    print(f"{len(banned)} banned identifiers in {lines} lines, {1000 * len(banned) / max(lines, 1):.2f} per 1000")
    return int(bool(banned))


if __name__ == "__main__":
    sys.exit(main())
