"""Image metrics of video frames with values in [0, 1].

    PSNR = −10 log₁₀ MSE
    SSIM = mean over positions and channels of (2 μ_x μ_y + c₁)(2 σ_xy + c₂) / ((μ_x² + μ_y² + c₁)(σ_x² + σ_y² + c₂))

c₁ = 0.01², c₂ = 0.03²; μ and σ are moments under a Gaussian window of 11×11 pixels with σ = 1.5, at every position
where the window lies inside the frame (Wang, Bovik, Sheikh, Simoncelli 2004).
"""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from dreamer4_impl.arguments import require_floating, require_shape

#: Side of the SSIM window in pixels; SSIM of smaller frames is undefined.
WINDOW: Final = 11
_SIGMA: Final = 1.5
_C1: Final = 0.01**2
_C2: Final = 0.03**2


def squared_error(
    video_hat: Float[Tensor, "*lead H W C"], video: Float[Tensor, "*lead H W C"]
) -> Float[Tensor, "*lead"]:
    """Mean square error of each frame, differentiable.

    Args:
        video_hat: predicted frames, floating, (…, H, W, C).
        video: true frames, shaped like video_hat.

    Returns:
        Errors in the promoted dtype of the arguments, (…).

    Raises:
        TypeError: if an argument is not a floating tensor.
        ValueError: if shapes or devices differ, or the frames are empty.

    Example:
        >>> squared_error(torch.zeros(2, 4, 4, 1), torch.full((2, 4, 4, 1), 0.5)).tolist()
        [0.25, 0.25]
    """
    _require_frames(video_hat, video)
    return (video_hat - video).square().mean(dim=(-3, -2, -1))


def decibels(mse: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """PSNR of a mean square error, for a peak value of 1.

    Args:
        mse: mean square errors ≥ 0, any shape.

    Returns:
        PSNR in dB, infinite where the error is 0, shaped like mse.

    Example:
        >>> decibels(np.array([0.01, 0.0])).tolist()
        [20.0, inf]
    """
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def decibel_gap(worse: Float[np.ndarray, "*shape"], better: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """PSNR gain of one predictor over another.

    Args:
        worse: mean square errors of the predictor that is compared against, any shape.
        better: mean square errors of the other predictor, shaped like worse.

    Returns:
        PSNR of better minus PSNR of worse in dB; 0 where the errors are equal, also where both are 0.

    Example:
        >>> decibel_gap(np.array([0.1, 0.0]), np.array([0.01, 0.0])).tolist()
        [10.0, 0.0]
    """
    with np.errstate(invalid="ignore"):
        return np.where(worse == better, 0.0, decibels(better) - decibels(worse))


def ssim(video_hat: Float[Tensor, "*lead H W C"], video: Float[Tensor, "*lead H W C"]) -> Float[Tensor, "*lead"]:
    """Structural similarity of each frame.

    Computed in the dtype of the arguments; deterministic on the CPU; differentiable.

    Args:
        video_hat: predicted frames in [0, 1], floating, at least 11×11 pixels, (…, H, W, C).
        video: true frames in [0, 1], shaped like video_hat.

    Returns:
        SSIM in [-1, 1], 1 for equal frames, (…).

    Raises:
        TypeError: if an argument is not a floating tensor.
        ValueError: if shapes or devices differ, or the frames are smaller than the window.

    Example:
        >>> ssim(torch.ones(2, 12, 12, 3), torch.ones(2, 12, 12, 3)).tolist()
        [1.0, 1.0]
    """
    _require_frames(video_hat, video)
    height, width, channels = video.shape[-3:]
    if min(height, width) < WINDOW:
        raise ValueError(f"video must have frames of at least {WINDOW}×{WINDOW} pixels; got {height}×{width}")
    x, y = (v.reshape(-1, height, width, channels).movedim(-1, 1).flatten(0, 1)[:, None] for v in (video_hat, video))
    mean_x, mean_y, square_x, square_y, product = (_blur(image) for image in (x, y, x * x, y * y, x * y))
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    variances = square_x - mean_x * mean_x + (square_y - mean_y * mean_y)
    structure = (2 * (product - mean_x * mean_y) + _C2) / (variances + _C2)
    return (luminance * structure).reshape(*video.shape[:-3], -1).mean(-1)


def _blur(images: Float[Tensor, "N 1 H W"]) -> Float[Tensor, "N 1 h w"]:
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=images.device) - WINDOW // 2
    weights = (-offsets.square() / (2 * _SIGMA**2)).exp()
    weights = (weights / weights.sum()).to(images.dtype)
    return conv2d(conv2d(images, weights[None, None, :, None]), weights[None, None, None, :])


def _require_frames(video_hat: Tensor, video: Tensor) -> None:
    require_floating(video_hat=video_hat, video=video)
    if video.ndim < 3 or video.numel() == 0:
        raise ValueError(f"video must have shape (…, H, W, C) with at least one pixel; got {tuple(video.shape)}")
    require_shape("video_hat", video_hat, video.shape, "of video", like=video)
