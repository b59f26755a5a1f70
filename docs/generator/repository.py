"""Files of the repository: links to GitHub, sections of Markdown files, and source code without its docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GITHUB = "https://github.com/dreamer4-conformance/dreamer4-conformance/blob/main"

PAGES = {
    "ARCHITECTURE.md": "/project/architecture.md",
    "CONTRIBUTING.md": "/how-to/contribute.md",
    "CHANGELOG.md": "/project/changelog.md",
    "reference/README.md": "/spec/index.md",
    "conformance/walkthrough.md": "/how-to/walkthrough.md",
    "conformance/reports/README.md": "/project/gallery.md",
    "conformance/reports/examples.md": "/how-to/example-reports.md",
    "conformance/dreamer4_conformance/checks/README.md": "/spec/clauses.md",
    "benchmarks/README.md": "/project/benchmarks.md",
    "benchmarks/results/growth.md": "/project/growth.md",
    "benchmarks/results/many_gpus.md": "/how-to/many-gpus.md",
    "studies/atari/README.md": "/project/atari.md",
    "studies/bootstrap/README.md": "/project/bootstrap.md",
    "studies/rooms/README.md": "/project/rooms.md",
    "studies/tokenizer/README.md": "/project/tokenizer.md",
    "vectors/README.md": "/how-to/vectors.md",
}
"""Files of the repository that are pages of the site."""


def read(path: str) -> str:
    """Text of a file of the repository.

    Args:
        path: relative to the repository's root.
    """
    return (ROOT / path).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Section of a Markdown text, without its heading.

    Args:
        text: Markdown with headings of the form `## Title`.
        title: title of the section.

    Returns:
        The lines below the heading, up to the next heading of the same or a higher level.

    Raises:
        ValueError: if there is no such heading.

    Example:
        >>> section("# a\\n## b\\ntext\\n### c\\nmore\\n## d\\n", "b")
        'text\\n### c\\nmore\\n'
    """
    lines = text.splitlines(keepends=True)
    outside = _outside_fences(lines)
    headings = [(i, match) for i in outside if (match := re.match(r"(#+) (.*)", lines[i]))]
    for number, (start, match) in enumerate(headings):
        if match[2].strip() == title:
            ends = (i for i, following in headings[number + 1 :] if len(following[1]) <= len(match[1]))
            return "".join(lines[start + 1 : next(ends, len(lines))])
    raise ValueError(f"no heading {title!r}; the headings are {', '.join(m[2].strip() for _, m in headings)}")


def _outside_fences(lines: list[str]) -> list[int]:
    inside, numbers = False, []
    for number, line in enumerate(lines):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            numbers.append(number)
    return numbers


def with_site_links(text: str, path: str) -> str:
    """Replace the links of a Markdown file by links of the site, or of GitHub where the site has no such page.

    Args:
        text: Markdown, all or a section of the file.
        path: of the file, relative to the repository's root.

    Returns:
        The text with other link targets; images of the repository become paths from the site's root.

    Example:
        >>> with_site_links("[a](ARCHITECTURE.md) [b](https://example.org)", "README.md")
        '[a](/project/architecture.md) [b](https://example.org)'
    """
    return re.sub(r"(!?\[[^\]]*\])\(([^)\s]+)\)", lambda match: f"{match[1]}({_target(match, path)})", text)


def _target(match: re.Match[str], path: str) -> str:
    raw = "https://raw.githubusercontent.com/dreamer4-conformance/dreamer4-conformance/main/"
    target = match[2].removeprefix(raw).replace("/tree/main", "/blob/main").removeprefix(f"{GITHUB}/")
    if target.startswith("#") or re.match(r"\w+:", target):
        return target
    name, _, anchor = target.partition("#")
    base = ROOT if target != match[2] else (ROOT / path).parent
    inside = (base / name).resolve().relative_to(ROOT).as_posix()
    if match[1].startswith("!"):
        return f"/../{inside}"
    page = PAGES.get(inside, f"/{inside.removeprefix('docs/')}" if inside.startswith("docs/") else f"{GITHUB}/{inside}")
    return f"{page}#{anchor}" if anchor else page


def source_link(path: str, line: int | None = None) -> str:
    """Address of a file on GitHub.

    Args:
        path: relative to the repository's root.
        line: line number, None for the file.

    Raises:
        FileNotFoundError: if the repository has no such file.
    """
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"{path} is linked from the site, but is not in the repository")
    return f"{GITHUB}/{path}" + (f"#L{line}" if line else "")


def link_to(subject: Callable[..., Any] | ModuleType) -> str:
    """Address of a function, class or module on GitHub."""
    subject = subject if isinstance(subject, ModuleType) else inspect.unwrap(subject)
    path = Path(inspect.getsourcefile(subject) or "").resolve().relative_to(ROOT).as_posix()
    if isinstance(subject, ModuleType):
        return source_link(path)
    if isinstance(subject, type):
        return source_link(path, _class_lines(path)[subject.__qualname__])
    return source_link(path, subject.__code__.co_firstlineno)


@cache
def _class_lines(path: str) -> dict[str, int]:
    """Line of every class of a file: `inspect` would parse the file again for each."""
    return {node.name: node.lineno for node in ast.walk(ast.parse(read(path))) if isinstance(node, ast.ClassDef)}


def code(subject: Callable[..., Any], *, requirements: bool = True) -> str:
    """Source of a function or class without docstrings.

    Args:
        subject: a function or class.
        requirements: False leaves out the statements that check arguments as well, that is calls of `require_*` and
            conditions whose only consequence is an exception.

    Returns:
        The lines as they stand in the file, without the left-out ones.

    Example:
        >>> print(code(source_link).splitlines()[0])
        def source_link(path: str, line: int | None = None) -> str:
    """
    text = inspect.getsource(subject)
    lines = text.splitlines()
    dropped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for number, statement in enumerate(node.body):
                if (number == 0 and _is_text(statement)) or (not requirements and _is_requirement(statement)):
                    dropped.update(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in dropped)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_requirement(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        return all(isinstance(inner, ast.Raise) for inner in statement.body) and not statement.orelse
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id.lstrip("_").startswith("require_")
    )
