"""Validation of an adapter before any clause is judged: declarations, device and dtype.

Operations are not called here: one that fails on ordinary input fails its own clauses (`instruments.smoke_calls`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from dreamer4_conformance.adapter import OPERATIONS, Adapter, JaxAdapter, TorchAdapter, provides
from dreamer4_conformance.adapters.importing import NEEDED, describe, target_of
from dreamer4_conformance.clauses import BY_ID as CLAUSES
from dreamer4_conformance.instruments.faults import describe_error
from dreamer4_conformance.instruments.guard import Guard
from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.readings import resolve
from dreamer4_conformance.verdicts import AdapterError


def examine(
    adapter: Adapter | type[Adapter],
    *,
    device: str | None = None,
    dtype: str | None = None,
    guard: Guard | None = None,
) -> Subject:
    """Validates the adapter and binds it to its readings.

    Args:
        adapter: an instance or a subclass of `Adapter`.
        device: overrides the adapter's `device`, for a class before its constructor runs.
        dtype: overrides the adapter's `dtype` in the same way.
        guard: of the calls of operations; None for code that is trusted.

    Returns:
        The adapter with its readings resolved.

    Raises:
        AdapterError: with every problem that was found.
    """
    instance = _instance(adapter, {"device": device, "dtype": dtype})
    _refuse(instance, _problems(instance))
    return Subject(instance, guard, target=target_of(instance))


def _problems(adapter: Adapter) -> list[str]:
    try:
        return [*_declarations(adapter), *_surroundings(adapter)]
    except (Exception, SystemExit, GeneratorExit) as error:  # raised by a property
        return [f"reading its attributes raised {describe_error(error)}"]


def _refuse(adapter: Adapter, problems: list[str]) -> None:
    if problems:
        separator = " " if len(problems) == 1 else "\n  "
        raise AdapterError(f"adapter {type(adapter).__name__}:{separator}" + separator.join(problems))


def _instance(adapter: Any, overrides: dict[str, str | None]) -> Adapter:
    values = {name: value for name, value in overrides.items() if value is not None}
    if isinstance(adapter, type) and issubclass(adapter, Adapter):
        overriding = type(adapter.__name__, (adapter,), {"__module__": adapter.__module__, **values})
        try:
            adapter = overriding()
        except (Exception, SystemExit, GeneratorExit) as error:
            raise AdapterError(f"{adapter.__name__}() raised {describe_error(error)}") from error
    if not isinstance(adapter, Adapter):
        raise AdapterError(f"the adapter is {describe(adapter)}; it needs {NEEDED}")
    for name, value in values.items():  # an instance has had its constructor, and a constructor may set them
        setattr(adapter, name, value)
    return adapter


# Declarations


def _declarations(adapter: Adapter) -> Iterator[str]:
    for name in ("name", "version", "device"):
        if not isinstance(getattr(adapter, name), str):
            yield f"{name} is {getattr(adapter, name)!r}; it needs a string"
    if adapter.level not in ("signal", "noise"):
        yield f"level is {adapter.level!r}; it needs 'signal' (tau = 1 is clean) or 'noise' (tau = 1 is noise)"
    if not _is_integer(adapter.k_max, 1) or adapter.k_max & (adapter.k_max - 1):
        yield f"k_max is {adapter.k_max!r}; it needs a whole number that is a power of two"
    yield from _readings(adapter)
    yield from _expected_failures(adapter)
    yield from _not_testable(adapter)
    yield from _numbers(adapter)


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _readings(adapter: Adapter) -> Iterator[str]:
    if not isinstance(adapter.readings, Mapping):
        yield f"readings is {describe(adapter.readings)}; it needs a dict from reading to option"
        return
    for reading, option in adapter.readings.items():
        try:
            resolve({reading: option})
        except ValueError as error:
            yield str(error)
    if adapter.readings.get("A2") == "split" and adapter.d_min_share is None:
        yield "readings: A2 = 'split' needs d_min_share, the share of rows at d_min"


def _expected_failures(adapter: Adapter) -> Iterator[str]:
    if not isinstance(adapter.expected_failures, Mapping):
        yield f"expected_failures is {describe(adapter.expected_failures)}; it needs a dict from clause to reason"
        return
    for clause, reason in adapter.expected_failures.items():
        if clause not in CLAUSES:
            close = get_close_matches(str(clause), CLAUSES, n=2)
            hint = f"; did you mean {' or '.join(close)}?" if close else "; `dreamer4-conformance list` prints them all"
            yield f"expected_failures: {clause!r} is no clause{hint}"
        elif not isinstance(reason, str):
            yield f"expected_failures: the reason for {clause} is {describe(reason)}; it needs a string"


def _not_testable(adapter: Adapter) -> Iterator[str]:
    if not isinstance(adapter.not_testable, Mapping):
        yield f"not_testable is {describe(adapter.not_testable)}; it needs a dict from operation to reason"
        return
    for operation, reason in adapter.not_testable.items():
        if operation not in OPERATIONS:
            close = get_close_matches(str(operation), OPERATIONS, n=2)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            yield f"not_testable: {operation!r} is no operation{hint}"
        elif provides(adapter, operation):
            yield f"not_testable: {operation} is provided; leave it out of one or the other"
        elif not isinstance(reason, str):
            yield f"not_testable: the reason for {operation} is {describe(reason)}; it needs a string"


def _numbers(adapter: Adapter) -> Iterator[str]:
    if adapter.registers is not None and not _is_integer(adapter.registers, 0):
        yield f"registers is {adapter.registers!r}; it needs a whole number of at least 0, or None"
    for name in ("min_batch", "min_time"):
        if not _is_integer(getattr(adapter, name), 1):
            yield f"{name} is {getattr(adapter, name)!r}; it needs a whole number of at least 1"
    if not _is_integer(adapter.rms_warmup, 0):
        yield f"rms_warmup is {adapter.rms_warmup!r}; it needs a whole number of at least 0"
    if isinstance(adapter.backends, str) or not all(isinstance(name, str) for name in adapter.backends):
        yield f"backends is {adapter.backends!r}; it needs a list of names, empty where attention has one way only"
    if adapter.context_frames is not None and not _is_integer(adapter.context_frames, 1):
        frames = f"context_frames is {adapter.context_frames!r}"
        yield f"{frames}; it needs a whole number of at least 1, or None without a window"
    share = adapter.d_min_share
    if share is not None and (not _number(share, 0, 1) or share in (0, 1)):
        yield f"d_min_share is {share!r}; it needs a number between 0 and 1, both left out"
    if not _number(adapter.context_level, 0, 1):
        yield f"context_level is {adapter.context_level!r}; it needs a signal level in [0, 1]"


# Device and dtype


def _surroundings(adapter: Adapter) -> list[str]:
    if adapter.dtype not in EPS:
        return [f"dtype is {adapter.dtype!r}; it needs one of {', '.join(EPS)}"]
    if adapter.dtype not in adapter.dtypes:
        return [f"dtype is {adapter.dtype!r}; this adapter runs in {' or '.join(map(str, adapter.dtypes))} (`dtypes`)"]
    unavailable = _device(adapter)
    return [unavailable] if unavailable else _arrays(adapter)


def _device(adapter: Adapter) -> str | None:
    device = adapter.device
    if not isinstance(device, str):
        return None
    if isinstance(adapter, TorchAdapter):
        return _torch_device(device)
    if isinstance(adapter, JaxAdapter):
        return _jax_device(device)
    return None if device == "cpu" else f"device is {device!r}; NumPy arrays live on 'cpu'"


def _torch_device(device: str) -> str | None:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        return f"device is {device!r}, and PyTorch finds no GPU here; it needs one, or device 'cpu'"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return f"device is {device!r}, on which PyTorch cannot make a tensor: {_first_line(error)}"
    return None


def _jax_device(device: str) -> str | None:
    try:
        import jax
    except ImportError as error:
        return f"a JaxAdapter needs JAX: {_first_line(error)}"
    try:
        jax.devices(device.partition(":")[0])
    except RuntimeError as error:
        return f"device is {device!r}, which JAX does not find here: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _arrays(adapter: Adapter) -> list[str]:
    values = np.array([[0.5, -2.0, 0.0]])
    try:
        returned = adapter.to_numpy(adapter.to_native(values))
    except (Exception, SystemExit, GeneratorExit) as error:
        return [f"to_native or to_numpy raised {describe_error(error)}"]
    if not isinstance(returned, np.ndarray) or returned.dtype != np.float64 or not np.array_equal(returned, values):
        return [f"to_numpy(to_native(x)) is {returned!r} for x = {values.tolist()}; it needs x itself, in float64"]
    return []
