"""Resizing by area averaging: every pixel contributes, so that a ball of two pixels stays visible."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8


def resize(frame: UInt8[np.ndarray, "H W C"], height: int, width: int) -> UInt8[np.ndarray, "h w C"]:
    """Resize a frame; every new pixel is the mean of the area that it covers.

    Args:
        frame: values in [0, 255], (H, W, C).
        height: h, pixels, 1 or more.
        width: w, pixels, 1 or more.

    Returns:
        (h, w, C), rounded to uint8, ties to even. At sizes such as 210×160 to 64×64 all sums are exact in float32, so
        that every machine gives the same. The frame itself if the size is the same.

    Example:
        >>> resize(np.array([[[0], [90], [30]]], np.uint8), 1, 2).ravel().tolist()
        [30, 50]
    """
    if frame.shape[:2] == (height, width):
        return frame
    rows, columns = _coverage(frame.shape[0], height), _coverage(frame.shape[1], width)
    planes = frame.transpose(2, 0, 1).astype(np.float32)
    channels, _, old_width = planes.shape
    planes = rows @ planes.reshape(channels, -1, rows.shape[1], old_width)
    planes = planes.reshape(-1, columns.shape[1]) @ columns.T
    sums = planes.reshape(channels, height, width).transpose(1, 2, 0)
    return np.ascontiguousarray(np.rint(sums / (rows.shape[1] * columns.shape[1])).astype(np.uint8))


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
    """Row i tells how much of each old pixel lies in new pixel i, in units that make all numbers integers.

    The rows repeat gcd(old, new) times, shifted; these are the first. Each adds up to its number of old pixels.
    """
    parts = math.gcd(old, new)
    old, new = old // parts, new // parts
    lows, pixels = np.arange(new)[:, None] * old, np.arange(old) * new
    overlap = np.minimum(lows + old, pixels + new) - np.maximum(lows, pixels)
    return np.clip(overlap, 0, None).astype(np.float32)
