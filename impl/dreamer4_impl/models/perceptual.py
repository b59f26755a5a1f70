"""Sec. 3.1, p. 5: the perceptual distance of Eq. (5).

The tokenizer's loss takes any function of two videos. The published LPIPS networks come from packages that this one
does not depend on: `Lpips` from `lpips`, `TorchmetricsLpips` from `torchmetrics`.
"""

import importlib
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_floating, require_rank, require_shape


@runtime_checkable
class Perceptual(Protocol):
    """Distance between two videos."""

    def __call__(self, video_hat: Tensor, video: Tensor, /) -> Tensor:
        """Compute the distance of a reconstruction to the data; gradient flows to the reconstruction.

        Args:
            video_hat: reconstruction, values around [0, 1], (B, T, H, W, 3).
            video: data in [0, 1], (B, T, H, W, 3).

        Returns:
            Scalar, the mean over all frames.
        """
        ...


class Lpips(nn.Module):
    """LPIPS with the weights of the package `lpips`.

    The parameters are frozen. The package may download the weights of the backbone.

    Args:
        net: "vgg", "alex" or "squeeze", as the package names them.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """

    def __init__(self, net: str = "vgg") -> None:
        super().__init__()
        self.network = _frozen(_import("lpips").LPIPS(net=net, verbose=False))

    def forward(self, video_hat: Float[Tensor, "B T H W 3"], video: Float[Tensor, "B T H W 3"]) -> Float[Tensor, ""]:
        """Compute the mean distance over all frames.

        Args:
            video_hat: reconstruction, floating, (B, T, H, W, 3).
            video: data in [0, 1], floating, (B, T, H, W, 3).

        Returns:
            Scalar in the dtype of the network.

        Raises:
            TypeError: if a video is not a floating-point tensor.
            ValueError: if shapes or devices do not match.
        """
        return self.network(*_images(video_hat, video), normalize=True).mean()


class TorchmetricsLpips(nn.Module):
    """LPIPS with the weights of the package `torchmetrics`, which needs `torchvision`.

    The parameters are frozen. The package may download the weights of the backbone.

    Args:
        net: "vgg", "alex" or "squeeze", as the package names them.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """

    def __init__(self, net: str = "vgg") -> None:
        super().__init__()
        metric = _import("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity(net_type=net)
        self.network = _frozen(metric.net)

    def forward(self, video_hat: Float[Tensor, "B T H W 3"], video: Float[Tensor, "B T H W 3"]) -> Float[Tensor, ""]:
        """Compute the mean distance over all frames.

        Args:
            video_hat: reconstruction, floating, (B, T, H, W, 3).
            video: data in [0, 1], floating, (B, T, H, W, 3).

        Returns:
            Scalar in the dtype of the network.

        Raises:
            TypeError: if a video is not a floating-point tensor.
            ValueError: if shapes or devices do not match.
        """
        return self.network(*_images(video_hat, video), normalize=True).mean()


def _import(module: str) -> ModuleType:
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the perceptual network of {package} needs its package ({error}): pip install {package}; "
            "or set tokenizer.perceptual=none, or pass any function of two videos instead"
        ) from error


def _frozen(network: Any) -> nn.Module:
    frozen: nn.Module = network.requires_grad_(False).eval()
    return frozen


def _images(*videos: Tensor) -> list[Float[Tensor, "N 3 H W"]]:
    for video in videos:
        require_floating(video=video)
        require_rank("video", video, 5, "(B, T, H, W, 3)")
        require_shape("video", video, (*videos[0].shape[:4], 3), "(B, T, H, W, 3)", like=videos[0])
    return [video.flatten(0, 1).movedim(-1, 1) for video in videos]
