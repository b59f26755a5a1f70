"""The API reference: one page for each part of a package, from the docstrings of its modules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dreamer4_conformance
import dreamer4_impl
from docs.generator.markdown import preformatted
from docs.generator.repository import ROOT
from docs.generator.subjects import SUBJECTS

ROOTS = {"dreamer4_impl": "impl", "dreamer4_conformance": "conformance"}
LEFT_OUT = ("adapters", "suite", "zoo", "__main__")
"""Parts without an interface of their own: shipped adapters, the pytest door, and the zoo, which has its catalogue."""


ADAPTERS = ["importing", "randomisation", "validation"]
"""Modules of `dreamer4_conformance.adapters` that concern every adapter."""


def api_pages() -> dict[str, str]:
    """Path and Markdown of every page of the API reference."""
    parts = {package: list(_parts(package)) for package in ROOTS}
    pages = {
        f"api/{package}.{folder}.md": _page(package, folder, modules)
        for package, listed in parts.items()
        for folder, modules in listed
    }
    shared = [f"dreamer4_conformance.adapters.{name}" for name in ADAPTERS]
    pages["api/dreamer4_conformance.adapters.md"] = _page("dreamer4_conformance", "adapters", shared)
    pages["api/dreamer4_conformance_plugin.md"] = _modules_page(
        "dreamer4_conformance_plugin", ["dreamer4_conformance_plugin"]
    )
    return {"api/index.md": _index(list(pages)), **pages}


def _parts(package: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the modules and folders of a package, each with the names of all modules inside."""
    folder = ROOT / ROOTS[package] / package
    for path in sorted(folder.iterdir()):
        if path.stem in LEFT_OUT or path.name.startswith("__"):
            continue
        if path.suffix == ".py":
            yield path.stem, [f"{package}.{path.stem}"]
        elif (path / "__init__.py").exists():
            yield path.name, [_dotted(package, inner) for inner in sorted(path.rglob("*.py"))]


def _dotted(package: str, path: Path) -> str:
    parts = path.relative_to(ROOT / ROOTS[package]).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _page(package: str, folder: str, modules: list[str]) -> str:
    return _modules_page(f"{package}.{folder}", [name for name in modules if not name.endswith("__main__")])


def _modules_page(title: str, modules: list[str]) -> str:
    blocks = [f"# {title}"]
    for name in modules:
        if len(modules) > 1:
            blocks.append(f"## {name.removeprefix(title).removeprefix('.') or name}")
        blocks.append(preformatted(f".. automodule:: {name}\n   :members:\n   :ignore-module-all:", "{eval-rst}"))
    return "\n\n".join(blocks) + "\n"


def _index(pages: list[str]) -> str:
    reference = "\n".join(f"- [{subject.stem}](/spec/{subject.stem}.md)" for subject in SUBJECTS)
    names = "\n".join(sorted(Path(page).stem for page in pages))
    return "\n\n".join(
        [
            "# API reference",
            "Four packages. The public names of each are those that its top level exports; the pages below have all "
            "documented modules.",
            "## dreamer4_reference",
            f"Its pages are those of the [specification](/spec/index.md), text and code side by side:\n\n{reference}",
            "## dreamer4_impl",
            f"Public names: {_public(dreamer4_impl)}.",
            "## dreamer4_conformance",
            f"Public names: {_public(dreamer4_conformance)}. Operations of an adapter: "
            "[adapter](dreamer4_conformance.adapter.md).",
            "## dreamer4_conformance_plugin",
            "The pytest plugin: [options and hooks](dreamer4_conformance_plugin.md).",
            f"## All modules\n\n```{{toctree}}\n:maxdepth: 1\n\n{names}\n```",
        ]
    )


def _public(package: object) -> str:
    names = package.__all__  # type: ignore[attr-defined]
    return ", ".join(f"{{py:obj}}`{name} <{_qualified(getattr(package, name))}>`" for name in names)


def _qualified(member: object) -> str:
    return f"{member.__module__}.{member.__qualname__}"  # type: ignore[attr-defined]
