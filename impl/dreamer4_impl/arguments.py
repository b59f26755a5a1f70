"""Checks of arguments: types, shapes, dtypes and devices, never the values of a tensor.

Reading a value would make the host wait for the device and break a compiled graph, so the ranges of tensors are
documented and tested by the conformance suite instead. Python numbers are checked.
"""

from collections.abc import Collection
from typing import Final

import torch
from torch import Tensor

from dreamer4_impl.precision import casts_automatically


def require_floating(**tensors: Tensor) -> None:
    """Raise unless every argument is a floating-point torch tensor.

    Args:
        tensors: the tensors by the names that the message shows.

    Raises:
        TypeError: if one is no tensor or not floating-point.

    Example:
        >>> require_floating(tau=torch.zeros(3))
    """
    for name, tensor in tensors.items():
        _require_tensor(name, tensor)
        if not tensor.dtype.is_floating_point:
            raise TypeError(f"{name} must be a floating-point tensor; got {tensor.dtype}")


def require_integer(**tensors: Tensor) -> None:
    """Raise unless every argument is an integer torch tensor, of any width; bool is not an integer.

    Args:
        tensors: the tensors by the names that the message shows.

    Raises:
        TypeError: if one is no tensor or not an integer tensor.

    Example:
        >>> require_integer(action=torch.zeros(3, dtype=torch.int64))
    """
    for name, tensor in tensors.items():
        _require_tensor(name, tensor)
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
            raise TypeError(f"{name} must be an integer tensor; got {tensor.dtype}")


def require_shape(name: str, tensor: Tensor, shape: tuple[int, ...], meaning: str, like: Tensor) -> None:
    """Raise unless a tensor has a shape and lies on the device of `like`.

    Args:
        name: name of the argument in the message.
        tensor: the argument's value, any shape and dtype.
        shape: sizes that it must have, axis by axis.
        meaning: the shape in symbols, for the message, such as "(B, T)".
        like: any tensor on the required device.

    Raises:
        ValueError: if shape or device differ.

    Example:
        >>> require_shape("tau", torch.zeros(2, 3), (2, 3), "(B, T)", like=torch.zeros(1))
    """
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {meaning} = {tuple(shape)}; got {tuple(tensor.shape)}")
    require_device(name, tensor, like)


def require_device(name: str, tensor: Tensor, like: Tensor) -> None:
    """Raise unless a tensor lies on the device of `like`.

    Args:
        name: name of the argument in the message.
        tensor: the argument's value, any shape and dtype.
        like: any tensor on the required device.

    Raises:
        ValueError: if the devices differ.

    Example:
        >>> require_device("tau", torch.zeros(2), like=torch.zeros(1))
    """
    if tensor.device != like.device:
        raise ValueError(f"{name} must lie on {like.device} like the other arguments; got {tensor.device}")


def require_dtype(name: str, tensor: Tensor, parameter: Tensor) -> None:
    """Raise unless a tensor has the dtype of a module's parameters, or autocast is on and casts it.

    Args:
        name: name of the argument in the message.
        tensor: the argument's value, any shape and dtype.
        parameter: any parameter of the module.

    Raises:
        TypeError: if the dtypes differ and autocast is off on the device of the tensor.

    Example:
        >>> require_dtype("x", torch.zeros(2), parameter=torch.zeros(3))
    """
    if tensor.dtype != parameter.dtype and not casts_automatically(tensor.device):
        raise TypeError(
            f"{name} must have the dtype of the parameters, {parameter.dtype}, unless autocast is on; "
            f"got {tensor.dtype}"
        )


def require_rank(name: str, tensor: Tensor, rank: int, meaning: str) -> None:
    """Raise unless a tensor has a number of axes.

    Args:
        name: name of the argument in the message.
        tensor: the argument's value, any shape and dtype.
        rank: number of axes that it must have, at least 0.
        meaning: the axes in symbols, for the message, such as "(B, T, S, D)".

    Raises:
        ValueError: if the number differs.

    Example:
        >>> require_rank("z1", torch.zeros(1, 2, 3, 4), 4, "(B, T, S, D)")
    """
    if tensor.ndim != rank:
        raise ValueError(f"{name} must have shape {meaning}; got {tuple(tensor.shape)}")


def require_non_empty(name: str, tensor: Tensor) -> None:
    """Raise if a tensor has no element, because the mean over none is not a number.

    Args:
        name: name of the argument in the message.
        tensor: the argument's value, any shape and dtype.

    Raises:
        ValueError: if it is empty.

    Example:
        >>> require_non_empty("z1", torch.zeros(1, 2))
    """
    if tensor.numel() == 0:
        raise ValueError(f"{name} must have at least one element; got shape {tuple(tensor.shape)}")


def require_power_of_two(name: str, number: int) -> None:
    """Raise unless a number is 1, 2, 4, ….

    Args:
        name: name of the argument in the message.
        number: the argument's value.

    Raises:
        ValueError: if it is no int, or no power of two.

    Example:
        >>> require_power_of_two("k_max", 64)
    """
    if not isinstance(number, int) or number < 1 or number & (number - 1):
        raise ValueError(f"{name} must be a power of two, 1 or more; got {number!r}")


def require_between(name: str, number: int | float, low: int | float, high: int | float) -> None:
    """Raise unless low ≤ number ≤ high.

    Args:
        name: name of the argument in the message.
        number: number to check; NaN is refused.
        low: smallest value allowed.
        high: largest value allowed.

    Raises:
        ValueError: if the number lies outside.

    Example:
        >>> require_between("gamma", 0.997, 0.0, 1.0)
    """
    if not low <= number <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}]; got {number!r}")


def require_at_least(least: int, **numbers: int | float) -> None:
    """Raise unless every number is large enough.

    Args:
        least: smallest value allowed, itself included.
        numbers: numbers to check by argument name; NaN is refused.

    Raises:
        ValueError: if a number is smaller.

    Example:
        >>> require_at_least(1, steps=4, batch=1)
    """
    for name, number in numbers.items():
        if not number >= least:
            raise ValueError(f"{name} must be {least} or more; got {number!r}")


SIZE_LIMIT: Final = 2**20
"""Largest size of a dimension, length or batch. Larger ones are errors that would end in exhausted memory."""


def require_size(least: int = 1, **numbers: int) -> None:
    """Raise unless every number can be the size of something.

    Args:
        least: smallest value allowed.
        numbers: numbers to check by argument name.

    Raises:
        ValueError: if a number is no whole number, too small, or above `SIZE_LIMIT`.

    Example:
        >>> require_size(width=64, depth=4)
    """
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name} must be a whole number, {least} or more; got {number!r}")
        if number > SIZE_LIMIT:
            raise ValueError(f"{name} must be at most {SIZE_LIMIT}; got {number!r}")


def require_option(name: str, option: str, options: Collection[str]) -> None:
    """Raise unless an option is a known one.

    Args:
        name: name of the argument in the message.
        option: the argument's value.
        options: values allowed, for the message in this order.

    Raises:
        ValueError: if it is unknown.

    Example:
        >>> require_option("reduction", "mean", ("mean", "none"))
    """
    if option not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {option!r}")


def _require_tensor(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch tensor; got {type(tensor).__name__}")
