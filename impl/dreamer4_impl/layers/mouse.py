"""Sec. 4: Minecraft's mouse as one categorical of 121 = 11×11 μ-law classes.

    compand(m) = limit · sign(m) ln(1 + μ |m|/limit) / ln(1 + μ),   bin = round((compand(m) + limit)/2 · 10/limit)
    class = 11 · bin of the first axis + bin of the second

Read as: the public convention of the VPT contractor data: limit 10 degrees, μ = 10, movements beyond the limit are
clipped. Class 60 is no movement. The paper gives only the number of classes and "μ-law".
"""

import math
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_integer
from dreamer4_impl.constants import MOUSE_BINS, MOUSE_LIMIT, MOUSE_MU
from dreamer4_impl.precision import compute_dtype

#: Classes of both axes together.
MOUSE_CLASSES: Final = MOUSE_BINS * MOUSE_BINS


def mouse_class(movement: Float[Tensor, "*batch 2"]) -> Int[Tensor, "*batch"]:
    """Classify movements of the mouse.

    Computed in float32 (float64 for float64). Deterministic; no host synchronisation.

    Args:
        movement: degrees along the two axes of the mouse, floating, of any size, (…, 2); clipped to ±10.

    Returns:
        Classes in [0, 121), int64.

    Raises:
        TypeError: if the movement is not a floating-point tensor.
        ValueError: if its last axis has another length than 2.

    Example:
        >>> mouse_class(torch.tensor([[0.0, 0.0], [-10.0, -10.0], [0.0, 99.0]])).tolist()
        [60, 0, 65]
    """
    require_floating(movement=movement)
    _require_pair(movement)
    share = movement.to(compute_dtype(movement)).clamp(-MOUSE_LIMIT, MOUSE_LIMIT) / MOUSE_LIMIT
    companded = share.sign() * (MOUSE_MU * share.abs()).log1p() / math.log1p(MOUSE_MU)
    bins = ((companded + 1) / 2 * (MOUSE_BINS - 1)).round().long()
    return MOUSE_BINS * bins[..., 0] + bins[..., 1]


def class_movement(mouse: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch 2"]:
    """Return the movement at the middle of each class. Deterministic; no host synchronisation.

    Args:
        mouse: classes in [0, 121), integer, any shape; not checked.

    Returns:
        Degrees in [−10, 10] along the two axes of the mouse, float32.

    Raises:
        TypeError: if the classes are not an integer tensor.

    Example:
        >>> class_movement(torch.tensor(60)).tolist(), mouse_class(class_movement(torch.tensor(7))).item()
        ([0.0, 0.0], 7)
    """
    require_integer(mouse=mouse)
    bins = torch.stack([mouse // MOUSE_BINS, mouse % MOUSE_BINS], dim=-1)
    companded = 2 * bins.float() / (MOUSE_BINS - 1) - 1
    return companded.sign() * (companded.abs() * math.log1p(MOUSE_MU)).expm1() / MOUSE_MU * MOUSE_LIMIT


def _require_pair(movement: Tensor) -> None:
    if movement.ndim == 0 or movement.shape[-1] != 2:
        raise ValueError(f"movement must have 2 axes of the mouse last, (…, 2); got {tuple(movement.shape)}")
