"""Precision: half-precision inputs are computed in float32, float64 stays float64."""

from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Final

import torch
from torch import Tensor

#: Types of device with autocast, looked up at the import: the Dynamo of torch 2.11 cannot trace the look-up.
_AUTOCAST_DEVICES: Final = frozenset(
    kind for kind in ("cpu", "cuda", "hpu", "mps", "mtia", "xla", "xpu") if torch.amp.is_autocast_available(kind)
)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Dtype in which a function computes: float64 if any tensor is float64, else float32.

    Args:
        tensors: inputs of the function, any shape and dtype.

    Returns:
        The promotion of their dtypes and float32.

    Example:
        >>> compute_dtype(torch.zeros(2, dtype=torch.bfloat16)), compute_dtype(torch.zeros(2, dtype=torch.float64))
        (torch.float32, torch.float64)
    """
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Context in which autocast is off, so that computations keep the dtype of their inputs.

    Args:
        device: device of the computation.

    Returns:
        A context manager; a null context on a device without autocast.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), without_autocast(torch.device("cpu")):
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.float32
    """
    return torch.autocast(device.type, enabled=False) if device.type in _AUTOCAST_DEVICES else nullcontext()


def casts_automatically(device: torch.device) -> bool:
    """Whether autocast is on for this type of device.

    Args:
        device: device of the computation; its index does not matter.

    Returns:
        False on a device without autocast.

    Example:
        >>> casts_automatically(torch.device("cpu")), casts_automatically(torch.device("meta"))
        (False, False)
    """
    return device.type in _AUTOCAST_DEVICES and torch.is_autocast_enabled(device.type)
