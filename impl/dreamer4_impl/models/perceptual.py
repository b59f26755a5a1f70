"""Sec. 3.1, p. 5: the perceptual network of Eq. (5), behind an interface.

The tokenizer's loss asks for a function of two videos. The published LPIPS networks come from packages that this one
does not depend on: `Lpips` from `lpips`, `TorchmetricsLpips` from `torchmetrics`. Tests and users may pass any other.
"""

import importlib
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_floating, require_rank, require_shape


@runtime_checkable
class Perceptual(Protocol):
    """A distance between two videos (B, T, H, W, 3) with values in [0, 1]: a scalar, the mean over all frames."""

    def __call__(self, video_hat: Tensor, video: Tensor, /) -> Tensor:
        """Distance of the reconstruction to the data; gradient flows to the reconstruction."""
        ...


class Lpips(nn.Module):
    """LPIPS with the weights that the package `lpips` holds.

    Args:
        net: "vgg", "alex" or "squeeze", as that package names them.

    Its parameters are frozen. Raises ModuleNotFoundError where the package is missing.
    """

    def __init__(self, net: str = "vgg") -> None:
        """Load the network; its backbone's weights may be downloaded by that package."""
        super().__init__()
        self.network = _frozen(_import("lpips").LPIPS(net=net, verbose=False))

    def forward(self, video_hat: Float[Tensor, "B T H W 3"], video: Float[Tensor, "B T H W 3"]) -> Float[Tensor, ""]:
        """Mean distance over all frames, in the dtype of the network."""
        return self.network(*_images(video_hat, video), normalize=True).mean()


class TorchmetricsLpips(nn.Module):
    """LPIPS with the weights that the package `torchmetrics` holds; it needs `torchvision`.

    Args:
        net: "vgg", "alex" or "squeeze", as that package names them.

    Its parameters are frozen. Raises ModuleNotFoundError where the package is missing.
    """

    def __init__(self, net: str = "vgg") -> None:
        """Load the network; its backbone's weights may be downloaded by that package."""
        super().__init__()
        metric = _import("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity(net_type=net)
        self.network = _frozen(metric.net)

    def forward(self, video_hat: Float[Tensor, "B T H W 3"], video: Float[Tensor, "B T H W 3"]) -> Float[Tensor, ""]:
        """Mean distance over all frames, in the dtype of the network."""
        return self.network(*_images(video_hat, video), normalize=True).mean()


def _import(module: str) -> ModuleType:
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this perceptual network needs the package {package!r}, which is not installed ({error}); "
            "install it, or pass any function of two videos instead"
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
