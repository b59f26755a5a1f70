"""Sec. 3.1: wrappers of published perceptual networks, tested with stand-ins because their packages are optional."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from dreamer4_impl.models.perceptual import Lpips, Perceptual, TorchmetricsLpips
from dreamer4_impl.models.reconstruction import ReconstructionLoss


class StandIn(nn.Module):
    """Called as those networks are: images (N, 3, H, W), and whether they lie in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.dropout = nn.Dropout(0.5)
        self.calls = []

    def forward(self, images_hat, images, normalize=False):
        self.calls.append((images_hat, images, normalize))
        return self.weight * (self.dropout(images_hat) - images).square().mean(dim=(1, 2, 3), keepdim=True)


@pytest.fixture(params=[Lpips, TorchmetricsLpips])
def adapter(request, monkeypatch):
    lpips, image, metric = ModuleType("lpips"), ModuleType("torchmetrics.image.lpip"), nn.Module()
    lpips.LPIPS = lambda net, verbose: StandIn()
    metric.net = StandIn()
    image.LearnedPerceptualImagePatchSimilarity = lambda net_type: metric
    for name, module in {"lpips": lpips, "torchmetrics": ModuleType("torchmetrics"), image.__name__: image}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return request.param()


def test_every_frame_is_an_image_with_channels_first_in_zero_to_one(adapter):
    video_hat, video = torch.rand(2, 3, 4, 5, 3), torch.rand(2, 3, 4, 5, 3)
    distance = adapter(video_hat, video)
    images_hat, images, normalize = adapter.network.calls[0]
    assert normalize is True
    assert torch.equal(images_hat[3 * 1 + 2], video_hat[1, 2].permute(2, 0, 1))
    assert torch.equal(images[3 * 1 + 2], video[1, 2].permute(2, 0, 1))
    torch.testing.assert_close(distance, 2 * (video_hat - video).square().mean())


def test_the_network_is_frozen_and_the_reconstruction_is_not(adapter):
    video_hat = torch.rand(1, 1, 4, 5, 3, requires_grad=True)
    adapter(video_hat, torch.rand(1, 1, 4, 5, 3)).backward()
    assert video_hat.grad.any()
    assert not any(parameter.requires_grad for parameter in adapter.parameters())
    assert not adapter.network.training


def test_works_in_the_loss_of_equation_5(adapter):
    assert isinstance(adapter, Perceptual)
    assert ReconstructionLoss(adapter)(torch.rand(1, 2, 4, 5, 3), torch.rand(1, 2, 4, 5, 3)).isfinite()


def test_videos_of_wrong_shape_raise(adapter):
    with pytest.raises(ValueError, match=r"video must have shape \(B, T, H, W, 3\) = \(1, 1, 4, 5, 3\); got"):
        adapter(torch.rand(1, 1, 4, 5, 3), torch.rand(1, 2, 4, 5, 3))
    with pytest.raises(ValueError, match=r"video must have shape \(B, T, H, W, 3\) = \(1, 1, 4, 5, 3\); got"):
        adapter(torch.rand(1, 1, 4, 5, 1), torch.rand(1, 1, 4, 5, 1))


@pytest.mark.parametrize(("build", "package"), [(Lpips, "lpips"), (TorchmetricsLpips, "torchmetrics")])
def test_a_missing_package_raises_with_its_name(build, package, monkeypatch):
    for name in ("lpips", "torchmetrics", "torchmetrics.image", "torchmetrics.image.lpip"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}; or set tokenizer.perceptual=none"):
        build()
