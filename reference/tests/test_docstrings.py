"""Every public function documents each argument, its result and the exceptions that it raises."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("dreamer4_reference",)
"""Packages that the rule covers; the sources are parsed, not imported."""


def functions(package: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function and method of a package with the name of its module."""
    folder = Path(str(importlib.util.find_spec(package).origin)).parent  # type: ignore[union-attr]
    for source in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield source.stem, node


def exceptions(package: str) -> dict[str, set[str]]:
    """Exceptions by function: those it raises itself, then those of every function that it calls by name."""
    raised: dict[str, set[str]] = {}
    calls: dict[str, set[str]] = {}
    for _, function in functions(package):
        nodes = list(ast.walk(function))
        errors = {ast.unparse(n.exc).split("(")[0] for n in nodes if isinstance(n, ast.Raise) and n.exc}
        raised.setdefault(function.name, set()).update(errors)
        called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        calls.setdefault(function.name, set()).update(called)
    for _ in raised:  # at most as many rounds as a chain of calls is long
        for name in raised:
            raised[name].update(*(raised.get(called, set()) for called in calls[name]))
    return raised


def entries(docstring: str, section: str) -> set[str]:
    """Names listed in a section of a Google-style docstring; {""} if the section has text but no names."""
    text = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return set(re.findall(r"^    (?:(\w+): )?", text[1], re.MULTILINE)) if text else set()


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_document_arguments_result_and_exceptions(package: str) -> None:
    raised = exceptions(package)
    missing = []
    for module, function in functions(package):
        if function.name.startswith("_"):
            continue
        docstring, signature = ast.get_docstring(function) or "", function.args
        arguments = {a.arg for a in ast.walk(signature) if isinstance(a, ast.arg)} - {"self", "cls"}
        absent = arguments - entries(docstring, "Args") | raised[function.name] - entries(docstring, "Raises")
        if ast.unparse(function.returns or ast.Constant(None)) != "None" and not entries(docstring, "Returns"):
            absent.add("Returns")
        missing += [f"{module}.{function.name}: {name}" for name in sorted(absent)]
    assert missing == []
