"""Conversion of frames to PNG files."""

from io import BytesIO
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

#: Fastest level of zlib, because frames are small and latency matters.
COMPRESSION: Final = 1


def quantised(frame: Float[Tensor, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """Clip a frame to [0, 1] and round it to 256 levels.

    Args:
        frame: frame of any floating dtype, on any device, (H, W, C).

    Returns:
        Levels, uint8 on the CPU, (H, W, C).

    Example:
        >>> quantised(torch.tensor([[[-1.0], [0.5], [2.0]]])).flatten().tolist()
        [0, 128, 255]
    """
    levels: np.ndarray = (frame.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return levels


def png(frame: UInt8[np.ndarray, "H W C"]) -> bytes:
    """Encode a frame as a PNG file.

    Args:
        frame: frame of 1 channel (grey) or 3 channels (RGB), uint8, (H, W, C).

    Returns:
        Content of the file.

    Raises:
        ValueError: if the frame does not have 1 or 3 channels.

    Example:
        >>> png(np.zeros((2, 3, 1), np.uint8))[1:4]
        b'PNG'
    """
    if frame.ndim != 3 or frame.shape[2] not in (1, 3):
        raise ValueError(f"frame must have 1 or 3 channels, (H, W, C); got {frame.shape}")
    file = BytesIO()
    Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame).save(file, "PNG", compress_level=COMPRESSION)
    return file.getvalue()
