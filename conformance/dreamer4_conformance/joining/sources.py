"""Functions of a user's package, read from its syntax trees: nothing of the package is imported or executed."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from itertools import islice
from pathlib import Path

MAX_FILES = 2000
SKIPPED = {"__pycache__", "build", "dist", "docs", "node_modules", "site-packages", "test", "tests", "venv", "env"}
"""Directories without an implementation; hidden ones are skipped too."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Attributes:
        name: as written.
        required: True without a default.
        keyword_only: True if it cannot be passed by position.
    """

    name: str
    required: bool
    keyword_only: bool


@dataclass(frozen=True)
class Passed:
    """An argument in a call: its keyword, None by position, and the variable that it is computed from."""

    keyword: str | None
    variable: str


@dataclass(frozen=True)
class ModelCall:
    """A call of a parameter in a function's body, as `model(z, tau, d, actions)`.

    Attributes:
        model: name of the parameter.
        arguments: what is passed, in order.
        results: number of values that the result is unpacked into; 1 if it is not.
    """

    model: str
    arguments: tuple[Passed, ...]
    results: int


@dataclass(frozen=True)
class Function:
    """A function of a module, or a method of one of its classes.

    Attributes:
        module: dotted name by which it is imported.
        name: as it is called; "Class.method" for a method.
        parameters: without `self`; `*args` and `**kwargs` are left out.
        bound: True for a method that needs an instance.
        file: where it is defined.
        line: of the definition.
        root: the directory from which `module` is imported.
        returned: variables of the tuple that it returns; empty if a return statement has no tuple.
        model_calls: calls of its own parameters, in order.
    """

    module: str
    name: str
    parameters: tuple[Parameter, ...]
    bound: bool
    file: Path
    line: int
    root: Path
    returned: tuple[str, ...] = ()
    model_calls: tuple[ModelCall, ...] = ()


@dataclass
class Sources:
    """What the files of a package contain.

    Attributes:
        functions: of all modules, in the order of the files.
        imports: top-level names of the modules that are imported anywhere.
        constants: numbers that are bound to a name, or are a parameter's default, by lower-case name.
        unreadable: files that are not Python, with the reason.
    """

    functions: list[Function] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    constants: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def read_sources(package: str, directory: Path, ignored: Iterable[Path] = ()) -> Sources:
    """Read the functions of a package.

    Args:
        package: a directory, a Python file, or the dotted name of a module that can be imported from `directory` or is
            installed.
        directory: where relative paths and modules are looked for.
        ignored: files that are not part of the package, although they lie in its directory.

    Returns:
        Its functions, imports and constants.

    Raises:
        ValueError: if there is no such package, it has no Python file, or more than `MAX_FILES` of them.
    """
    sources, left_out = Sources(), {path.resolve() for path in ignored}
    for file in _python_files(package, _located(package, directory)):
        if file.resolve() not in left_out:
            _read_file(file, sources)
    return sources


# Location


def _located(package: str, directory: Path) -> Path:
    path = directory / package
    if path.is_dir() or (path.is_file() and path.suffix == ".py"):
        return path.resolve()
    if not path.exists() and all(map(str.isidentifier, package.split("."))):
        module = _module_path(package, directory)
        if module is not None:
            return module
    raise ValueError(f"PACKAGE is {package!r}; it needs a directory, a Python file, or a module that can be imported")


def _module_path(module: str, directory: Path) -> Path | None:
    """File or directory of a module. Only the top-level name is looked up, because a submodule's look-up imports it."""
    top, *rest = module.split(".")
    importlib.invalidate_caches()  # files may be newer than the listings of their directories
    spec = PathFinder.find_spec(top, [str(directory.resolve()), *sys.path]) or _installed_spec(top)
    if spec is None or (not spec.submodule_search_locations and not spec.origin):
        return None
    folders = list(spec.submodule_search_locations or [])
    path = Path(folders[0] if folders else str(spec.origin))
    for name in rest:
        path = path / name if (path / name).is_dir() else path / f"{name}.py"
    return path.resolve() if path.is_dir() or (path.suffix == ".py" and path.is_file()) else None


def _installed_spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ValueError, ImportError):  # a module without a specification, such as __main__
        return None


def _python_files(package: str, path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(islice(_walk(path), MAX_FILES + 1))
    if not files:
        raise ValueError(f"PACKAGE is {package!r}, in which there is no Python file")
    if len(files) > MAX_FILES:
        raise ValueError(f"PACKAGE is {package!r}, with more than {MAX_FILES} Python files; name a smaller directory")
    return files


def _walk(path: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
        code = (name for name in names if name.endswith(".py") and name not in ("setup.py", "conftest.py"))
        yield from (Path(folder, name) for name in code if not name.startswith("test_"))


def _module_name(file: Path) -> tuple[str, Path]:
    """Dotted name of a file's module, and the directory from which it is imported."""
    root = file.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), root


# Syntax trees


def _read_file(file: Path, sources: Sources) -> None:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError) as error:
        sources.unreadable.append(f"{file.name}: {error}")
        return
    sources.imports |= set(_imports(tree))
    for name, value in _numbers(tree):
        sources.constants.setdefault(name.lower(), value)
    module, root = _module_name(file)
    for node, name, bound in _definitions(tree):
        parameters = tuple(_parameters(node, bound))
        sources.functions.append(
            Function(module, name, parameters, bound, file, node.lineno, root, _returned(node), _model_calls(node))
        )


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def _numbers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that are bound to a whole number, by assignment or as a default."""
    for node in ast.walk(tree):
        for name, value in _bound(node):
            if isinstance(value, ast.Constant) and type(value.value) is int:
                yield name, value.value


def _bound(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    match node:
        case ast.Assign(targets=[ast.Name(name)], value=value) | ast.AnnAssign(target=ast.Name(name), value=value):
            yield name, value
        case ast.arguments(posonlyargs=first, args=second, defaults=defaults, kwonlyargs=keywords, kw_defaults=values):
            positional = [*first, *second][len(first) + len(second) - len(defaults) :]
            pairs = zip([*positional, *keywords], [*defaults, *values], strict=True)
            yield from ((argument.arg, value) for argument, value in pairs)


def _definitions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, str, bool]]:
    """Functions and methods of a module: the node, its name, and whether it needs an instance."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node, node.name, False
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    yield method, f"{node.name}.{method.name}", not _is_static(method)


def _is_static(method: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in method.decorator_list)


def _parameters(node: ast.FunctionDef, bound: bool) -> Iterator[Parameter]:
    positional = [*node.args.posonlyargs, *node.args.args]
    first_default = len(positional) - len(node.args.defaults)
    for index, argument in enumerate(positional):
        if index or not bound:
            yield Parameter(argument.arg, index < first_default, keyword_only=False)
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        yield Parameter(argument.arg, default is None, keyword_only=True)


def _returned(node: ast.FunctionDef) -> tuple[str, ...]:
    values = [statement.value for statement in _returns(node)]
    tuples = [value for value in values if isinstance(value, ast.Tuple)]
    return tuple(map(variable, tuples[-1].elts)) if tuples and len(tuples) == len(values) else ()


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """Return statements of a function, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _returns(child)


def _model_calls(node: ast.FunctionDef) -> tuple[ModelCall, ...]:
    parameters = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
    unpacked = {
        id(assignment.value): len(target.elts)
        for assignment in ast.walk(node)
        if isinstance(assignment, ast.Assign)
        for target in assignment.targets
        if isinstance(target, ast.Tuple)
    }
    calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
    called = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in parameters]
    called.sort(key=lambda call: (call.lineno, call.col_offset))
    return tuple(ModelCall(variable(call.func), tuple(_passed(call)), unpacked.get(id(call), 1)) for call in called)


def _passed(call: ast.Call) -> Iterator[Passed]:
    yield from (Passed(None, variable(argument)) for argument in call.args)
    yield from (Passed(keyword.arg, variable(keyword.value)) for keyword in call.keywords if keyword.arg)


def variable(node: ast.expr) -> str:
    """The variable that an expression is computed from; empty if it has none.

    Args:
        node: the expression.

    Returns:
        The name of the first variable: that of an attribute is its last part, that of a call is its first argument's.

    Example:
        >>> [variable(ast.parse(code, mode="eval").body) for code in ("batch.tau + d / 2", "one_hot(step)", "1 - t")]
        ['tau', 'step', 't']
    """
    match node:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
        case ast.Call(args=[first, *_]):
            return variable(first)
        case ast.Call(func=ast.Attribute(value=inner)) | ast.Subscript(value=inner) | ast.UnaryOp(operand=inner):
            return variable(inner)
        case ast.BinOp(left=left, right=right):
            return variable(left) or variable(right)
    return ""
