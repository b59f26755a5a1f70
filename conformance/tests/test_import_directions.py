"""Who may import whom: read from the sources, so that no run has to take every path."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

OURS = {"dreamer4_reference", "dreamer4_impl", "dreamer4_conformance", "dreamer4_conformance_plugin"}


def folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            yield node.module or ""


def top_level(package: str) -> set[tuple[str, str]]:
    root = folder(package)
    return {
        (str(path.relative_to(root)), name.split(".")[0])
        for path in sorted(root.rglob("*.py"))
        for name in imported(path)
    }


def modules(package: str) -> set[str]:
    return {module for _, module in top_level(package)}


def test_the_reference_imports_neither_torch_nor_another_package_of_ours() -> None:
    assert "numpy" in modules("dreamer4_reference")
    assert modules("dreamer4_reference") & (OURS | {"torch", "jax"}) == {"dreamer4_reference"}


def test_the_implementation_imports_nothing_of_ours() -> None:
    assert "torch" in modules("dreamer4_impl")
    assert modules("dreamer4_impl") & OURS == {"dreamer4_impl"}


def test_the_suite_imports_the_implementation_in_its_adapters_alone() -> None:
    places = {place for place, module in top_level("dreamer4_conformance") if module == "dreamer4_impl"}
    assert {place for place in places if not place.startswith("adapters")} == set()


@pytest.mark.parametrize("module", ["torch", "numpy", "hypothesis"])
def test_the_plugin_imports_nothing_heavy(module: str) -> None:
    plugin = folder("dreamer4_conformance").with_name("dreamer4_conformance_plugin.py")
    heavy = [name for name in imported(plugin) if name.split(".")[0] == module]
    assert heavy == []
