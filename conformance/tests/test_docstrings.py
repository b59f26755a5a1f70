"""The interfaces that users call document each argument, the result, and the exceptions that they raise themselves."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULES = ("adapter", "pytest_items", "runner")


def _public_functions(source: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.iter_child_nodes(source):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _public_functions(node)


def _entries(docstring: str, section: str) -> set[str]:
    """Names listed in a section of a Google-style docstring; {""} if the section has text but no names."""
    text = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return set(re.findall(r"^    (?:(\w+): )?", text[1], re.MULTILINE)) if text else set()


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_document_arguments_result_and_exceptions(module: str) -> None:
    path = Path(str(importlib.util.find_spec(f"dreamer4_conformance.{module}").origin))  # type: ignore[union-attr]
    missing = []
    for function in _public_functions(ast.parse(path.read_text(encoding="utf-8"))):
        docstring, signature = ast.get_docstring(function) or "", function.args
        variadic = [argument for argument in (signature.vararg, signature.kwarg) if argument is not None]
        arguments = {argument.arg for argument in [*signature.args, *signature.kwonlyargs, *variadic]} - {"self"}
        raised = {ast.unparse(n.exc).split("(")[0] for n in ast.walk(function) if isinstance(n, ast.Raise) and n.exc}
        absent = arguments - _entries(docstring, "Args") | raised - _entries(docstring, "Raises")
        if ast.unparse(function.returns or ast.Constant(None)) != "None" and not _entries(docstring, "Returns"):
            absent.add("Returns")
        missing += [f"{function.name}: {name}" for name in sorted(absent)]
    assert missing == []
