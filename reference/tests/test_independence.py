"""The reference is independent of what is compared with it: it imports NumPy and jaxtyping only."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dreamer4_reference

SOURCES = sorted(Path(str(dreamer4_reference.__file__)).parent.glob("*.py"))
ALLOWED = {"numpy", "jaxtyping", "dreamer4_reference"} | set(sys.stdlib_module_names)
FOREIGN = ("torch", "jax", "dreamer4_impl", "dreamer4_conformance", "beartype", "sympy")


def imported(source: Path) -> set[str]:
    """Top-level packages in all import statements of a file, those inside functions included."""
    packages = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name} imports relatively"
            packages.add(str(node.module).split(".")[0])
    return packages


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_module_imports_only_numpy_and_jaxtyping(source: Path) -> None:
    assert imported(source) <= ALLOWED


def test_importing_every_module_loads_no_other_framework() -> None:
    modules = ", ".join(f"dreamer4_reference.{source.stem}" for source in SOURCES if source.stem != "__init__")
    program = f"import sys, {modules}\nprint([name for name in {FOREIGN} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_readme_links_exactly_the_modules_of_the_package() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\[`(\w+)`\]\(dreamer4_reference/(\w+)\.py\)", readme)
    assert links == [(name, name) for name, _ in links]
    assert sorted(name for name, _ in links) == [source.stem for source in SOURCES if source.stem != "__init__"]
