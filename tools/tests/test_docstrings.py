"""Public functions document their arguments, their result and the exceptions that they raise."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = "conformance/dreamer4_conformance"
#: Of the suite, the interfaces that users call.
SOURCES = {
    "reference": sorted(ROOT.glob("reference/dreamer4_reference/**/*.py")),
    "implementation": sorted(ROOT.glob("impl/dreamer4_impl/**/*.py")),
    "suite": [
        *sorted((ROOT / SUITE / "adapter").glob("*.py")),
        *(ROOT / SUITE / f"{module}.py" for module in ("jax", "pytest_items", "runner")),
    ],
}
FILLERS = {"a", "an", "for", "in", "its", "of", "that", "the", "this", "to"}
#: Their arguments are tensors' addresses and strides, listed once in the module docstring.
KERNELS = ROOT / "impl/dreamer4_impl/attention/triton/kernels.py"


def public_functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """Public functions of a module, and public methods of its public classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield from [child] if isinstance(child, ast.FunctionDef) else public_functions(child)


def entries(docstring: str, section: str) -> set[str]:
    """Names listed in a section of a Google-style docstring; {""} if the section has text but no names."""
    text = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return set(re.findall(r"^    (?:([\w.]+): )?", text[1], re.MULTILINE)) if text else set()


def raised(function: ast.FunctionDef) -> set[str]:
    """Exceptions that a function raises itself; private ones stay inside their module."""
    names = {ast.unparse(n.exc).split("(")[0] for n in ast.walk(function) if isinstance(n, ast.Raise) and n.exc}
    return {name for name in names if not name.startswith("_")}


def missing_entries(function: ast.FunctionDef) -> Iterator[str]:
    """Arguments, exceptions and "Returns" that the docstring of a function lacks."""
    docstring = ast.get_docstring(function) or ""
    arguments = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)} - {"self", "cls"}
    yield from sorted(arguments - entries(docstring, "Args"))
    yield from sorted(raised(function) - entries(docstring, "Raises"))
    is_property = any(ast.unparse(decorator) == "property" for decorator in function.decorator_list)
    returns_none = ast.unparse(function.returns or ast.Constant(None)) == "None"
    if not (is_property or returns_none or entries(docstring, "Returns")):
        yield "Returns"


@pytest.mark.parametrize("package", SOURCES)
def test_public_functions_document_arguments_result_and_exceptions(package: str) -> None:
    missing = [
        f"{source.relative_to(ROOT)}: {function.name}: {entry}"
        for source in SOURCES[package]
        if source != KERNELS
        for function in public_functions(ast.parse(source.read_text(encoding="utf-8")))
        for entry in missing_entries(function)
    ]
    assert missing == []


def restated(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    """Arguments and attributes whose text has no word that is not in their name."""
    sections = re.findall(r"^(?:Args|Attributes):\n((?:    .*\n|\n)+)", f"{ast.get_docstring(node)}\n", re.MULTILINE)
    for name, text in re.findall(r"^    (\w+): (.*\n(?:     +.*\n)*)", "".join(sections), re.MULTILINE):
        words = {word.removesuffix("s") for word in re.findall(r"\w+", text.lower())} - FILLERS
        if words and words <= {word.removesuffix("s") for word in name.lower().split("_")}:
            yield name


@pytest.mark.parametrize("package", SOURCES)
def test_text_of_an_argument_says_more_than_its_name(package: str) -> None:
    repeating = [
        f"{source.relative_to(ROOT)}: {node.name}: {name}"
        for source in SOURCES[package]
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for name in restated(node)
    ]
    assert repeating == []


def exceptions_with_calls(package: str) -> dict[str, tuple[ast.FunctionDef, set[str]]]:
    """Functions of a package with the exceptions that they raise, or that a function that they call by name raises."""
    trees = [ast.parse(source.read_text(encoding="utf-8")) for source in SOURCES[package]]
    functions = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    errors = {name: raised(function) for name, function in functions.items()}
    for _ in functions:  # at most as many rounds as a chain of calls is long
        for name, function in functions.items():
            calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
            names = [call.id for call in calls if isinstance(call, ast.Name)]
            errors[name].update(*(errors.get(called, set()) for called in names))
    return {name: (function, errors[name]) for name, function in functions.items() if not name.startswith("_")}


def test_reference_documents_exceptions_of_the_functions_that_it_calls() -> None:
    missing = [
        f"{name}: {error}"
        for name, (function, errors) in exceptions_with_calls("reference").items()
        for error in sorted(errors - entries(ast.get_docstring(function) or "", "Raises"))
    ]
    assert missing == []
