"""Sec. 3.1 and 4: frames as rows of square patches, padded to an even number of patches along each side.

    360×640 → 384×640 → 24×40 patches of 16×16,   256×256 → 16×16 patches

Read as: 384 is the least even number of patches, 24; 23 would have been enough. The padding is black and lies below and
to the right (the paper does not say where); decoding crops it off.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_rank, require_shape

#: Rows and columns of patches are multiples of this number: the least that pads 360 to 384 and not to 368.
GRID_MULTIPLE: Final = 2


def patch_grid(height: int, width: int, patch: int = 16) -> tuple[int, int]:
    """Compute the grid of patches that covers a frame.

    Args:
        height: pixels, 1 or more.
        width: pixels, 1 or more.
        patch: side of a patch in pixels, 1 or more.

    Returns:
        Rows and columns of patches, even numbers.

    Raises:
        ValueError: if an argument is below 1.

    Example:
        >>> patch_grid(360, 640), patch_grid(256, 256)
        ((24, 40), (16, 16))
    """
    if height < 1 or width < 1 or patch < 1:
        raise ValueError(f"height, width and patch must be 1 or more; got {height!r}, {width!r} and {patch!r}")
    side = patch * GRID_MULTIPLE
    return -(-height // side) * GRID_MULTIPLE, -(-width // side) * GRID_MULTIPLE


def patchify(video: Float[Tensor, "B T H W C"], patch: int = 16) -> Float[Tensor, "B T N P"]:
    """Cut each frame into N = rows · columns patches, row by row, each flattened to P = patch · patch · C values.

    Exact; differentiable; compiles without graph breaks; no host synchronisation.

    Args:
        video: frames, floating, of any range, (B, T, H, W, C); padded with 0 below and to the right.
        patch: side of a patch in pixels, 1 or more.

    Returns:
        Patches in the dtype of the video.

    Raises:
        TypeError: if the video is not a floating-point tensor.
        ValueError: if the video has another number of axes than five or no pixels, or the side is below 1.

    Example:
        >>> patchify(torch.arange(6.0).reshape(1, 1, 2, 3, 1), patch=2).tolist()
        [[[[0.0, 1.0, 3.0, 4.0], [2.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]
    """
    require_floating(video=video)
    require_rank("video", video, 5, "(B, T, H, W, C)")
    batch, time, height, width, channels = video.shape
    rows, columns = patch_grid(height, width, patch)
    padding = (0, 0, 0, columns * patch - width, 0, rows * patch - height)
    video = torch.nn.functional.pad(video, padding).reshape(batch, time, rows, patch, columns, patch, channels)
    return video.transpose(3, 4).reshape(batch, time, rows * columns, patch * patch * channels)


def unpatchify(
    patches: Float[Tensor, "B T N P"], height: int, width: int, patch: int = 16
) -> Float[Tensor, "B T height width C"]:
    """Invert `patchify`, with the same numerical contract.

    Args:
        patches: as returned by `patchify`, (B, T, N, P), floating.
        height: of the frames in pixels, 1 or more.
        width: of the frames in pixels, 1 or more.
        patch: side of a patch in pixels, 1 or more.

    Returns:
        Frames without the padding, in the dtype of the patches.

    Raises:
        TypeError: if the patches are not a floating-point tensor.
        ValueError: if height, width or side is below 1, or does not match the shape of the patches.

    Example:
        >>> video = torch.rand(1, 2, 5, 7, 3)
        >>> torch.equal(unpatchify(patchify(video, 4), 5, 7, 4), video)
        True
    """
    require_floating(patches=patches)
    require_rank("patches", patches, 4, "(B, T, N, P)")
    batch, time = patches.shape[:2]
    rows, columns = patch_grid(height, width, patch)
    channels = max(patches.shape[3] // (patch * patch), 1)
    shape = (batch, time, rows * columns, patch * patch * channels)
    require_shape("patches", patches, shape, "(B, T, rows · columns, patch · patch · C)", like=patches)
    video = patches.reshape(batch, time, rows, columns, patch, patch, channels).transpose(3, 4)
    return video.reshape(batch, time, rows * patch, columns * patch, channels)[:, :, :height, :width]
