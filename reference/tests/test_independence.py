"""The reference is an oracle of its own: it imports NumPy and jaxtyping, and nothing that it is compared with."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dreamer4_reference

SOURCES = sorted(Path(str(dreamer4_reference.__file__)).parent.glob("*.py"))
ALLOWED = {"numpy", "jaxtyping", "dreamer4_reference"} | set(sys.stdlib_module_names)
FOREIGN = ("torch", "jax", "dreamer4_impl", "dreamer4_conformance", "beartype", "sympy")


def imported(source: Path) -> set[str]:
    """Every package that a file names in an import, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name} imports relatively"
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_module_imports_only_numpy_and_jaxtyping(source: Path) -> None:
    assert imported(source) <= ALLOWED


def test_importing_every_module_loads_nothing_foreign() -> None:
    modules = ", ".join(f"dreamer4_reference.{source.stem}" for source in SOURCES if source.stem != "__init__")
    program = f"import sys, {modules}\nprint([name for name in {FOREIGN} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_every_equation_stands_in_the_index() -> None:
    for source in SOURCES:
        if source.stem != "__init__":
            assert f"`{source.stem}`" in str(dreamer4_reference.__doc__)
