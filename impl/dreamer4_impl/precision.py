"""Precision: half-precision inputs are computed in float32, float64 stays float64."""

from functools import reduce

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of the arithmetic: at least float32, and float64 as soon as one tensor is.

    >>> compute_dtype(torch.zeros(2, dtype=torch.bfloat16)), compute_dtype(torch.zeros(2, dtype=torch.float64))
    (torch.float32, torch.float64)
    """
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
