"""The files that `init` writes: adapter, test and workflow, from the templates of this package."""

from __future__ import annotations

import inspect
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from dreamer4_conformance.adapter import OPERATIONS, Adapter
from dreamer4_conformance.joining.calls import candidate_call, network_wrapper, operation_call
from dreamer4_conformance.joining.conventions import Conventions
from dreamer4_conformance.joining.matching import Candidates, Match, Matches

ADAPTER, WORKFLOW = "my_adapter.py", ".github/workflows/dreamer4.yml"
BASES = {"torch": "TorchAdapter", "jax": "JaxAdapter", "numpy": "Adapter"}
EXTRAS = {"torch": "torch", "jax": "jax,torch", "numpy": "torch"}
"""Extras of this package for each framework; without torch, failures are reported without the mistake they resemble."""
LOCAL = frozenset({"model", "tau", "d", "torch", "jax", "jnp", "np", "sys", "Path", "Mine", *BASES.values()})
"""Names of the adapter that a module must not have, in addition to the operations' arguments."""
CANDIDATES = 2
"""Number of candidates that are listed for one operation."""
SECTIONS = {
    (inspect.getdoc(section) or "").splitlines()[0]: [name for name in vars(section) if name in OPERATIONS]
    for section in Adapter.__bases__
}
"""Operations by section of the paper, in its order."""


@dataclass(frozen=True)
class Plan:
    """What the files are written from.

    Attributes:
        name: of the implementation, shown in reports.
        directory: where the files are written.
        conventions: of the code.
        matches: functions by operation.
        candidates: functions whose name fits an operation without a match.
    """

    name: str
    directory: Path
    conventions: Conventions
    matches: Matches
    candidates: Candidates

    @property
    def references(self) -> dict[str, str]:
        """Module → its name in the adapter: the last part of the dotted name, unless that is ambiguous there."""
        modules = sorted({match.function.module for match in self.matches.values()})
        last = Counter(module.rpartition(".")[2] for module in modules)
        taken = LOCAL.union(*(inspect.signature(getattr(Adapter, name)).parameters for name in self.matches))
        short = {module: module.rpartition(".")[2] for module in modules}
        return {module: name if last[name] == 1 and name not in taken else module for module, name in short.items()}

    @property
    def imports(self) -> list[str]:
        """Import statements of these modules."""
        return [
            f"import {module}" if name == module else f"from {module.rpartition('.')[0]} import {name}"
            for module, name in self.references.items()
        ]

    @property
    def roots(self) -> list[str]:
        """Directories of these modules that Python does not search, relative to the adapter."""
        searched = {Path(entry or os.curdir).resolve() for entry in sys.path} - {Path.cwd()}
        roots = {match.function.root for match in self.matches.values()} - searched - {self.directory.resolve()}
        return sorted(os.path.relpath(root, self.directory.resolve()) for root in roots)


def written_files(plan: Plan) -> dict[Path, str]:
    """Render all files.

    Args:
        plan: what they are written from.

    Returns:
        Path → text.
    """
    tests = plan.directory / "tests"
    test = (tests if tests.is_dir() else plan.directory) / "test_dreamer4.py"
    adapter = plan.directory / ADAPTER
    values = {"plan": plan, "level": os.path.relpath(plan.directory, test.parent)}
    return {
        adapter: _render("my_adapter.py.jinja", **values, **_adapter_values(plan)),
        test: _render("test_dreamer4.py.jinja", **values),
        plan.directory / WORKFLOW: _render("dreamer4.yml.jinja", **values, **_workflow_values(plan)),
    }


def _render(template: str, **values: object) -> str:
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    source = files(__package__).joinpath("templates", template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


# The adapter


@dataclass(frozen=True)
class Method:
    """An operation as the template writes it.

    Attributes:
        name: of the operation.
        signature: its parameters, without annotations.
        contract: the first line of its docstring.
        body: lines of the call; empty without a match.
        source: where the function is; empty without a match.
        candidates: functions that may be the operation, with the reason why they are not called.
        proposal: the call of the first candidate, to be completed.
    """

    name: str
    signature: str
    contract: str
    body: list[str]
    source: str
    candidates: list[str]
    proposal: str


def _adapter_values(plan: Plan) -> dict[str, object]:
    methods = [_method(name, plan) for section in SECTIONS.values() for name in section]
    unmatched = {method.name: method for method in methods if not method.body}
    return {
        "base": BASES[plan.conventions.framework],
        "matched": [method for method in methods if method.body],
        "unmatched": {
            title: [unmatched[name] for name in section if name in unmatched] for title, section in SECTIONS.items()
        },
        "framework_imports": list(_framework_imports(plan, methods)),
    }


def _method(name: str, plan: Plan) -> Method:
    match, candidates = plan.matches.get(name), plan.candidates.get(name, [])[:CANDIDATES]
    return Method(
        name,
        _signature(name),
        (inspect.getdoc(getattr(Adapter, name)) or "").splitlines()[0],
        [] if match is None else list(_body(name, match, plan)),
        "" if match is None else location(match, plan.directory),
        [f"{c.function.module}.{c.function.name}: {c.reason}" for c in candidates],
        candidate_call(name, candidates[0], plan.conventions) if candidates else "return ...",
    )


def _body(name: str, match: Match, plan: Plan) -> Iterator[str]:
    reference = f"{plan.references[match.function.module]}.{match.function.name}"
    yield from network_wrapper(match, plan.conventions)
    yield from operation_call(name, reference, match, plan.conventions)


def _signature(name: str) -> str:
    """Parameters of an operation, without annotations."""
    signature = inspect.signature(getattr(Adapter, name))
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(bare))


def location(match: Match, directory: Path) -> str:
    """File and line of a match's function.

    Args:
        match: the match.
        directory: to which the path is relative, if the file is below it.

    Returns:
        "path:line".
    """
    function = match.function
    inside = function.file.is_relative_to(directory.resolve())
    return f"{function.file.relative_to(directory.resolve()) if inside else function.file.name}:{function.line}"


def _framework_imports(plan: Plan, methods: list[Method]) -> Iterator[str]:
    code = "\n".join(line for method in methods for line in method.body)
    modules = {"jax.": "jax", "jnp.": "jax.numpy as jnp", "np.": "numpy as np", "torch.": "torch"}
    yield from (module for prefix, module in modules.items() if prefix in code.replace("_" + prefix, ""))


# The workflow


def _workflow_values(plan: Plan) -> dict[str, object]:
    return {
        "adapter": f"{ADAPTER}:Mine",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "install": _install_command(plan.directory),
        "extras": EXTRAS[plan.conventions.framework],
        "reference": _release(),
    }


def _install_command(directory: Path) -> str:
    if (directory / "pyproject.toml").is_file() or (directory / "setup.py").is_file():
        return "pip install -e ."
    return "pip install -r requirements.txt" if (directory / "requirements.txt").is_file() else ""


def _release() -> str:
    """The tag of the installed release; "main" for a version between releases."""
    try:
        installed = version("dreamer4-conformance")
    except PackageNotFoundError:
        return "main"
    return f"v{installed}" if installed.replace(".", "").isdecimal() and installed != "0.0.0" else "main"
