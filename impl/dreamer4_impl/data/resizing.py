"""Resizing by area averaging: every pixel contributes, so that a ball of two pixels stays visible."""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8


def resize(frame: UInt8[np.ndarray, "H W C"], height: int, width: int) -> UInt8[np.ndarray, "h w C"]:
    """Resize a frame; every new pixel is the mean of the area that it covers.

    Args:
        frame: values in [0, 255], (H, W, C).
        height: h, pixels, 1 or more.
        width: w, pixels, 1 or more.

    Returns:
        (h, w, C), computed in float32 and rounded to uint8; deterministic. The frame itself if the size is the same.

    Example:
        >>> resize(np.array([[[0], [90], [30]]], np.uint8), 1, 2).ravel().tolist()
        [30, 50]
    """
    if frame.shape[:2] == (height, width):
        return frame
    rows, columns = _coverage(frame.shape[0], height), _coverage(frame.shape[1], width)
    planes = np.moveaxis(frame, 2, 0).astype(np.float32)
    averaged = np.moveaxis(rows @ planes @ columns.T, 0, 2)
    return np.ascontiguousarray(np.rint(averaged).astype(np.uint8))


def grey(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 1"]:
    """Convert RGB to luminance by ITU-R BT.601.

    Args:
        frame: red, green and blue in [0, 255], (H, W, 3).

    Returns:
        Luminance in [0, 255], (H, W, 1), rounded to uint8.

    Example:
        >>> grey(np.array([[[255, 255, 255], [0, 255, 0]]], np.uint8)).ravel().tolist()
        [255, 150]
    """
    luminance = frame @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(luminance).astype(np.uint8)[..., None]


@lru_cache(maxsize=16)
def _coverage(old: int, new: int) -> Float32[np.ndarray, "new old"]:
    """Row i holds the weights of the old pixels in new pixel i, which add up to 1."""
    edges: np.ndarray[Any, Any] = np.linspace(0, old, new + 1)
    lows, highs = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)
    overlap = np.minimum(highs, pixels + 1) - np.maximum(lows, pixels)
    return (np.clip(overlap, 0, None) / (highs - lows)).astype(np.float32)
