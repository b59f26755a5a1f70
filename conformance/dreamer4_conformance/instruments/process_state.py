"""State of the process that an adapter's code may change, and that would then change the verdicts on other operations.

A `Setting` is read before and after each call of an operation and restored if it differs. `Originals` restores replaced
callables of libraries that the suite uses, `OwnCode` the suite's own code.
"""

from __future__ import annotations

import builtins
import gc
import json
import locale
import logging
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from operator import itemgetter
from types import ModuleType
from typing import Any, NamedTuple

import hypothesis
import numpy as np

from dreamer4_conformance.adapter import Adapter

State = dict[str, Any]


class Setting(NamedTuple):
    """One setting of the process.

    Attributes:
        read: returns its value.
        restore: sets a value that `read` returned.
    """

    read: Callable[[], Any]
    restore: Callable[[Any], Any]


def _restore_filters(filters: tuple[Any, ...]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    getattr(warnings, "_filters_mutated", int)()  # else the cached decisions stay


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _restore_directory(directory: str | None) -> None:
    if directory is not None:
        os.chdir(directory)


def _environment() -> dict[Any, Any]:
    """Variables as `os.environ` stores them: to decode them all takes a quarter of the time of a guarded call."""
    return dict(getattr(os.environ, "_data", os.environ))


def _restore_path(path: list[str]) -> None:
    sys.path[:] = path


def _restore_environment(variables: dict[Any, Any]) -> None:
    """Restore the variables that differ, and touch no other: a thread that reads one meanwhile may end the process."""
    before = {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()}
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_SIGNALS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGCHLD")]


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _restore_handlers(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


_SMALLEST = sys.float_info.min

SETTINGS: dict[str, Setting] = {
    "the working directory": Setting(_directory, _restore_directory),
    "the umask": Setting(_umask, os.umask),
    "the environment": Setting(_environment, _restore_environment),
    "the locale": Setting(
        lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)
    ),
    "the recursion limit": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    "the garbage collector": Setting(gc.isenabled, lambda value: (gc.disable, gc.enable)[value]()),
    "warnings.showwarning": Setting(
        lambda: warnings.showwarning, lambda value: setattr(warnings, "showwarning", value)
    ),
    "the warnings filters": Setting(lambda: tuple(warnings.filters), _restore_filters),
    "signal handlers": Setting(_handlers, _restore_handlers),
    "sys.path": Setting(lambda: list(sys.path), _restore_path),
    "sys.excepthook": Setting(lambda: sys.excepthook, lambda value: setattr(sys, "excepthook", value)),
    "sys.settrace": Setting(sys.gettrace, sys.settrace),
    "sys.setprofile": Setting(sys.getprofile, sys.setprofile),
    "logging.disable": Setting(lambda: logging.root.manager.disable, logging.disable),
    "np.seterr": Setting(np.geterr, lambda value: np.seterr(**value)),
    "np.set_printoptions": Setting(np.get_printoptions, lambda value: np.set_printoptions(**value)),
}
CHANGED_BY_IMPORTS = {name: SETTINGS[name] for name in ("the environment", "the warnings filters", "sys.path")}
"""Settings that an operation may change by importing a module."""

if hasattr(signal, "setitimer"):
    SETTINGS["a timer"] = Setting(
        lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0, lambda _: signal.setitimer(signal.ITIMER_REAL, 0)
    )
with suppress(ImportError):  # not on Windows
    import resource

    _LIMITS = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)

    def _restore_limits(limits: dict[int, tuple[int, int]]) -> None:
        for limit, (soft, hard) in limits.items():
            resource.setrlimit(limit, (soft, hard))

    SETTINGS["resource limits"] = Setting(
        lambda: {limit: resource.getrlimit(limit) for limit in _LIMITS}, _restore_limits
    )


def stream_settings() -> dict[str, Setting]:
    """Setting of the three standard streams; the descriptors are duplicated here, so that closed ones can be opened."""
    names = ("stdin", "stdout", "stderr")
    duplicates = [os.dup(number) if _file(number) else None for number in range(3)]

    def value() -> list[Any]:
        streams = [getattr(sys, name) for name in names]
        return [(_file(number), stream, getattr(stream, "closed", False)) for number, stream in enumerate(streams)]

    def restore_streams(before: list[Any]) -> None:
        for number, (name, duplicate, (file, stream, closed)) in enumerate(zip(names, duplicates, before, strict=True)):
            if file != _file(number) and duplicate is not None:
                os.dup2(duplicate, number)
            if getattr(stream, "closed", False) and not closed:
                stream = open(number, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115 - a standard stream
            setattr(sys, name, stream)

    return {"standard streams": Setting(value, restore_streams)}


def _file(number: int) -> tuple[int, int] | None:
    """Device and inode of a descriptor; None if it is closed."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def attribute_settings(adapter: Adapter) -> dict[str, Setting]:
    """Setting of the attributes by which an adapter declares itself."""

    def value() -> dict[str, Any]:
        declared = {name: getattr(adapter, name, None) for name in Adapter.__annotations__}
        return {name: dict(x) if isinstance(x, Mapping) else x for name, x in declared.items()}

    def restore_attributes(before: dict[str, Any]) -> None:
        for name, declared in before.items():
            if getattr(adapter, name, None) != declared:
                setattr(adapter, name, declared)

    return {"attributes of the adapter": Setting(value, restore_attributes)}


def torch_settings() -> dict[str, Setting]:
    """Settings of PyTorch; empty unless it is imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    contexts: list[Any] = []  # a context ends when its object is deleted

    def restore_inference(value: bool) -> None:
        contexts.append(torch.inference_mode(value))
        contexts[-1].__enter__()

    def restore_autocast(value: dict[str, tuple[bool, Any]]) -> None:
        for device, (enabled, dtype) in value.items():
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)

    def autocast() -> dict[str, tuple[bool, Any]]:
        kinds = ("cpu", "cuda")
        return {kind: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds}

    return {
        "torch's grad mode": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
        "torch's inference mode": Setting(torch.is_inference_mode_enabled, restore_inference),
        "torch's autocast": Setting(autocast, restore_autocast),
        "torch's default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
        "torch's default device": Setting(
            lambda: torch.empty(0).device.type, lambda kind: torch.set_default_device(None if kind == "cpu" else kind)
        ),
        "torch's number of threads": Setting(torch.get_num_threads, torch.set_num_threads),
        "torch's deterministic algorithms": Setting(
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
        ),
        "torch's matmul precision": Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        "flushing of denormal numbers": Setting(lambda: _SMALLEST / 2 == 0, torch.set_flush_denormal),
    }


def read(settings: Mapping[str, Setting]) -> State:
    """Values of settings by name."""
    return {name: setting.read() for name, setting in settings.items()}


def restore(settings: Mapping[str, Setting], before: State) -> list[str]:
    """Restore what differs from an earlier state.

    Args:
        settings: to compare.
        before: what `read` returned.

    Returns:
        Names of the settings that differed.
    """
    changed = [name for name, setting in settings.items() if setting.read() != before[name]]
    for name in changed:
        with suppress(Exception):  # a limit that was lowered for good, a directory that is gone
            settings[name].restore(before[name])
    return changed


# Replaced callables and code


_TORCH = (
    "arange",
    "empty",
    "from_numpy",
    "full",
    "manual_seed",
    "no_grad",
    "rand",
    "randn",
    "tensor",
    "where",
    "zeros",
)


def _callables(module: ModuleType) -> tuple[str, ...]:
    if module.__name__ == "torch":  # has more than a thousand
        return _TORCH
    return tuple(name for name, value in vars(module).items() if callable(value))


PYTHON = (builtins, hypothesis, json, os, random, time)


def libraries() -> tuple[ModuleType, ...]:
    """Modules whose callables the suite relies on."""
    torch = sys.modules.get("torch")
    return (*PYTHON, np, np.random, *([] if torch is None else [torch]))


class Originals:
    """Callables of modules as they were when this object was created."""

    def __init__(self, modules: Iterable[ModuleType]) -> None:
        self._watched = []
        for module in modules:
            namespace, names = vars(module), _callables(module)
            originals = {name: namespace[name] for name in names}
            values = itemgetter(*names)
            self._watched.append((module.__name__, namespace, values, values(namespace), originals))

    def restore(self) -> list[str]:
        """Restore the callables that were replaced; return their names. Works with any builtin replaced."""
        changed = []
        for library, namespace, values, expected, originals in self._watched:
            try:
                same = values(namespace) == expected
            except KeyError:
                same = False
            if not same:
                replaced = [(n, namespace.get(n)) for n in originals if namespace.get(n) is not originals[n]]
                namespace.update(originals)
                for name, value in replaced:
                    if _is_of(library, value):
                        namespace[name] = originals[name] = value
                    else:
                        changed.append(f"{library}.{name}")
        return changed


def _is_of(library: str, value: Any) -> bool:
    """True for a function that a library replaces itself, as torch does when one of its modules is imported."""
    return (getattr(value, "__module__", None) or "").partition(".")[0] == library.partition(".")[0] != "builtins"


class OwnCode:
    """The suite's own modules, classes and registries as they were when this object was created."""

    def __init__(self) -> None:
        packages = ("dreamer4_conformance", "dreamer4_reference")
        modules = [module for name, module in list(sys.modules.items()) if name.startswith(packages)]
        owners: list[Any] = [*modules]
        for module in modules:
            owners += [x for x in vars(module).values() if isinstance(x, type) and x.__module__ == module.__name__]
        self._attributes = [(owner, name, value) for owner in owners for name, value in _attributes(owner)]
        self._registries = [
            (f"{module.__name__}.{name}", value, dict(value))
            for module in modules
            for name, value in vars(module).items()
            if isinstance(value, dict) and name.isupper()
        ]

    def restore(self) -> list[str]:
        """Restore what was replaced or removed; return its names."""
        replaced = [item for item in self._attributes if vars(item[0]).get(item[1]) is not item[2]]
        for owner, name, value in replaced:
            setattr(owner, name, value)
        changed = [f"{owner.__name__}.{name}" for owner, name, _ in replaced]
        for name, registry, before in self._registries:
            if any(registry.get(key) is not value for key, value in before.items()):
                registry.clear()
                registry.update(before)
                changed.append(name)
        return changed


def _attributes(owner: Any) -> Iterable[tuple[str, Any]]:
    """Functions, classes and properties of a module or a class."""
    for name, value in vars(owner).items():
        if callable(value) or isinstance(value, property | staticmethod | classmethod):
            yield name, value
