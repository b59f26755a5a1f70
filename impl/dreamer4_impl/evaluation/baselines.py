"""What a model has to beat: the mean frame, and a linear code with as many values as its own."""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dreamer4_impl.evaluation.results import SkippedError

#: Values of the matrix that a linear code is fitted to; more would need more than about 2 GB.
_MOST: Final = 1 << 28


@dataclass(frozen=True)
class LinearCode:
    """A mean frame and orthonormal directions (P, Q) around it, over the P values of a frame."""

    mean: Float[Tensor, "H W C"]
    directions: Float[Tensor, "P Q"]

    def reconstruct(self, video: Float[Tensor, "*lead H W C"]) -> Float[Tensor, "*lead H W C"]:
        """The frames as Q numbers each tell them."""
        frames = (video - self.mean).flatten(-3)
        return (frames @ self.directions @ self.directions.T).reshape(video.shape) + self.mean


def mean_frame(frames: UInt8[Tensor, "N H W C"]) -> Float[Tensor, "H W C"]:
    """Mean of frames, in [0, 1].

    >>> mean_frame(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)).item()
    0.5
    """
    total = frames.sum(dim=0, dtype=torch.float64)
    return (total / (255 * len(frames))).float()


def principal_components(frames: UInt8[Tensor, "N H W C"], values: int, seed: int = 0) -> LinearCode:
    """PCA of frames, randomised: the linear code of `values` numbers that reconstructs them best, nearly.

    Args:
        frames: more than `values` of them.
        values: Q, numbers for each frame.
        seed: of the randomised algorithm.

    >>> frames = torch.randint(256, (50, 4, 4, 1), dtype=torch.uint8)
    >>> code, video = principal_components(frames, 16), frames.float() / 255
    >>> torch.allclose(code.reconstruct(video), video, atol=1e-4)
    True
    """
    if len(frames) <= values:
        raise SkippedError(f"PCA with {values} values for each frame needs more training frames; got {len(frames)}")
    if frames.numel() > _MOST:
        raise SkippedError(f"PCA of {len(frames)} frames of {frames[0].numel()} values takes too much memory")
    mean = mean_frame(frames)
    deviations = (frames.float() / 255 - mean).flatten(1)
    with torch.random.fork_rng(devices=[frames.device] if frames.is_cuda else []):
        torch.manual_seed(seed)
        # Twice as many as are kept: the last ones of a randomised algorithm are poor.
        directions = torch.pca_lowrank(deviations, min(2 * values, *deviations.shape), center=False, niter=4)[2]
    return LinearCode(mean, directions[:, :values])
