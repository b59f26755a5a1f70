"""Figures of the layout and the language of the code, from git's files: run `python tools/structure.py` in a checkout.

Units are the modules and folders directly inside a package. An edge is an import from one unit into another; layers are
the length of the longest chain of edges, a cycle counted as one unit. Tests are not counted. Functions are the public
functions of the modules that users call: all of `reference` and `impl`, and the suite's adapter and entry points.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import networkx

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "reference": "dreamer4_reference",
    "impl": "dreamer4_impl",
    "conformance": "dreamer4_conformance",
}
#: Modules and folders of the suite that users call; the checks and the zoo are called by the suite alone.
CALLED = ("adapter", "runner.py", "pytest_items.py")


def unit_graph(package: str) -> networkx.DiGraph:
    """Imports between the units of a package, imports under TYPE_CHECKING left out."""
    modules = grimp.build_graph(package, exclude_type_checking_imports=True)
    units = networkx.DiGraph()
    units.add_nodes_from(module.split(".")[1] for module in modules.find_children(package))
    for importer in modules.modules - {package}:
        for imported in modules.find_modules_directly_imported_by(importer) - {package}:
            units.add_edge(importer.split(".")[1], imported.split(".")[1])
    units.remove_edges_from(list(networkx.selfloop_edges(units)))
    return units


def sources(folder: str) -> list[Path]:
    """Python files of a folder that git tracks, tests excluded."""
    listed = subprocess.run(["git", "ls-files", f"{folder}/*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / line for line in listed.stdout.splitlines() if "/tests/" not in line]
    return [path for path in paths if path.exists()]


def is_called(path: Path) -> bool:
    """True for a module of the suite that users call."""
    return any(name in path.relative_to(ROOT / "conformance").parts for name in CALLED)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Public functions and methods of public classes, nested functions excluded."""
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        yield from (m for m in members if isinstance(m, ast.FunctionDef) and not m.name.startswith("_"))


def code_lines(source: str) -> int:
    """Lines without blanks, comments and docstrings."""
    tree = ast.parse(source)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(text.strip()) and not text.lstrip().startswith("#") and n not in skipped for n, text in lines)


def figures(folder: str, package: str) -> dict[str, int]:
    """All figures of one package, by name."""
    paths = sources(folder)
    texts = [path.read_text(encoding="utf-8") for path in paths]
    trees = [ast.parse(text) for text in texts]
    units = unit_graph(package)
    cycles = [component for component in networkx.strongly_connected_components(units) if len(component) > 1]
    called = [tree for path, tree in zip(paths, trees, strict=True) if folder != "conformance" or is_called(path)]
    public = [function for tree in called for function in functions(tree)]
    with_arguments = [
        f for f in public if {a.arg for a in ast.walk(f.args) if isinstance(a, ast.arg)} - {"self", "cls"}
    ]
    raising = [f for f in public if any(isinstance(node, ast.Raise) for node in ast.walk(f))]
    defined = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = [ast.get_docstring(node) for tree in trees for node in ast.walk(tree) if isinstance(node, defined)]
    return {
        "units": units.number_of_nodes(),
        "layers": networkx.dag_longest_path_length(networkx.condensation(units)) + 1,
        "edges": units.number_of_edges(),
        "cycles": len(cycles),
        "lines over 120": sum(len(line) > 120 for text in texts for line in text.splitlines()),
        "functions with arguments and without Args": sum(
            "Args:" not in (ast.get_docstring(f) or "") for f in with_arguments
        ),
        "functions that raise without Raises": sum("Raises:" not in (ast.get_docstring(f) or "") for f in raising),
        "docstrings of three words or fewer": sum(len(text.split()) <= 3 for text in docstrings if text),
        "lines of code": sum(map(code_lines, texts)),
    }


def main() -> None:
    """Print a table, one column per package."""
    sys.path[:0] = [str(ROOT / folder) for folder in PACKAGES]
    columns = {folder: figures(folder, package) for folder, package in PACKAGES.items()}
    print("| figure | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(str(column[name]) for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
