"""Baselines for reconstructions and rollouts: the mean frame, and a linear code with as many values as the latents."""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dreamer4_impl.evaluation.results import SkippedError

#: Largest matrix that PCA is fitted to, in values; 2²⁸ of them take about 2 GB.
_MAX_VALUES: Final = 1 << 28


@dataclass(frozen=True)
class LinearCode:
    """Affine projection of frames, P = H·W·C values each, onto Q directions.

    Args:
        mean: mean frame in [0, 1], float32, (H, W, C).
        directions: orthonormal columns, float32, (P, Q).
    """

    mean: Float[Tensor, "H W C"]
    directions: Float[Tensor, "P Q"]

    def reconstruct(self, video: Float[Tensor, "*lead H W C"]) -> Float[Tensor, "*lead H W C"]:
        """Encode each frame as Q numbers and decode it.

        Args:
            video: frames in [0, 1], float32, (…, H, W, C).

        Returns:
            Reconstructed frames, not clipped to [0, 1], shaped like video.
        """
        frames = (video - self.mean).flatten(-3)
        return (frames @ self.directions @ self.directions.T).reshape(video.shape) + self.mean


def mean_frame(frames: UInt8[Tensor, "N H W C"]) -> Float[Tensor, "H W C"]:
    """Mean of frames, accumulated in float64.

    Args:
        frames: N frames of N ≥ 1, uint8, (N, H, W, C).

    Returns:
        Values in [0, 1], float32, (H, W, C).

    Example:
        >>> mean_frame(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)).item()
        0.5
    """
    total = frames.sum(dim=0, dtype=torch.float64)
    return (total / (255 * len(frames))).float()


def principal_components(frames: UInt8[Tensor, "N H W C"], values: int, seed: int = 0) -> LinearCode:
    """Fit PCA by a randomised algorithm: approximately the linear code with the lowest mean square error.

    The global random state is restored afterwards.

    Args:
        frames: training frames, N > values, uint8, (N, H, W, C).
        values: Q, number of values per frame, 1 or more.
        seed: seed of the randomised algorithm, 0 or more.

    Returns:
        The code, on the device of the frames.

    Raises:
        SkippedError: if there are too few frames, or they need too much memory.

    Example:
        >>> frames = torch.randint(256, (50, 4, 4, 1), dtype=torch.uint8)
        >>> code, video = principal_components(frames, 16), frames.float() / 255
        >>> torch.allclose(code.reconstruct(video), video, atol=1e-4)
        True
    """
    if len(frames) <= values:
        raise SkippedError(f"PCA with {values} values per frame needs more than {values} frames; got {len(frames)}")
    if frames.numel() > _MAX_VALUES:
        raise SkippedError(f"PCA of {len(frames)} frames of {frames[0].numel()} values takes too much memory")
    mean = mean_frame(frames)
    deviations = (frames.float() / 255 - mean).flatten(1)
    with torch.random.fork_rng(devices=[frames.device] if frames.is_cuda else []):
        torch.manual_seed(seed)
        # Twice as many directions as are used: the last ones of a randomised algorithm are inaccurate.
        directions = torch.pca_lowrank(deviations, min(2 * values, *deviations.shape), center=False, niter=4)[2]
    return LinearCode(mean, directions[:, :values])
