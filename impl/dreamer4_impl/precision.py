"""Precision: half-precision inputs are computed in float32, float64 stays float64."""

from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of the arithmetic: at least float32, and float64 as soon as one tensor is.

    >>> compute_dtype(torch.zeros(2, dtype=torch.bfloat16)), compute_dtype(torch.zeros(2, dtype=torch.float64))
    (torch.float32, torch.float64)
    """
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """What is computed inside has the dtype that it is given, under autocast too.

    >>> with torch.autocast("cpu", torch.bfloat16), without_autocast(torch.device("cpu")):
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    return torch.autocast(device.type, enabled=False) if _has_autocast(device.type) else nullcontext()


def casts_automatically(device: torch.device) -> bool:
    """Whether autocast is on for this kind of device.

    >>> casts_automatically(torch.device("cpu")), casts_automatically(torch.device("meta"))
    (False, False)
    """
    return _has_autocast(device.type) and torch.is_autocast_enabled(device.type)


@torch.compiler.assume_constant_result
def _has_autocast(kind: str) -> bool:
    """Evaluated while torch.compile traces, because the Dynamo of torch 2.11 cannot trace the call inside."""
    return torch.amp.is_autocast_available(kind)
