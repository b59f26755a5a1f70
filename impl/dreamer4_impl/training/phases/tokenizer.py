"""Sec. 3.1: phase 1a of Algorithm 1, the tokenizer.

    L = L_MSE + 0.2 L_LPIPS   (Eq. 5), on normalised terms, of frames whose patches are dropped at random

Without LPIPS weights at hand, which are downloaded by packages that this one does not depend on, the options say "none", and
L = L_MSE.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import Settings
from dreamer4_impl.data.clips import Batch, as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq05_tokenizer_loss import tokenizer_loss
from dreamer4_impl.generation.draws import dropout_draws
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.perceptual import Lpips, Perceptual, TorchmetricsLpips
from dreamer4_impl.models.tokenizer import Tokenizer
from dreamer4_impl.training.phase import PartialMean, Plan
from dreamer4_impl.training.sample_groups import Part, add_means, parts
from dreamer4_impl.training.step_plan import plan_step

PERCEPTUAL = {"lpips": Lpips, "torchmetrics": TorchmetricsLpips}
WITHOUT_LPIPS: Final = (
    "the tokenizer is trained on the mean square error alone, as tokenizer.perceptual says: without LPIPS"
)


def mean_frame(dataset: Dataset) -> tuple[Float[Tensor, "H W C"], float]:
    """The mean of all frames of a dataset, and the root mean square of their deviations from it over all pixels.

    In float64 over whole episodes: exact up to its rounding, whatever the order.
    """
    total, squares, count = torch.zeros(()), torch.zeros(()), 0
    for number, episode in enumerate(dataset.episodes):
        frames = torch.tensor(dataset.clip(number, 0, episode.length).frames).double() / 255
        total, squares = total + frames.sum(0), squares + frames.square().sum(0)
        count += episode.length
    mean = total / count
    return mean.float(), float((squares / count - mean.square()).mean().clamp(min=0).sqrt())


def reconstruction_means(
    tokenizer: Tokenizer,
    video: Float[Tensor, "B T H W C"],
    dropped: Bool[Tensor, "B T N"],
    perceptual: Perceptual | None = None,
    weight: Float[Tensor, "B T"] | None = None,
) -> dict[str, PartialMean]:
    """The terms of Eq. (5), means over frames.

    Args:
        tokenizer: as it is trained.
        video: in [0, 1].
        dropped: the patches that the encoder does not see.
        perceptual: None leaves L_LPIPS out.
        weight: of every frame's square error; None is 1. Where it is 0 the perceptual term must be absent too.
    """
    video_hat = tokenizer.decode(tokenizer.encode(video, dropped))
    means = {"mse": PartialMean.of((video_hat.float() - video).square().mean(dim=(2, 3, 4)), weight)}
    if perceptual is not None:
        frames = means["mse"].count
        means["lpips"] = PartialMean(perceptual(_coloured(video_hat), _coloured(video)).float() * frames, frames)
    return means


class TokenizerPhase:
    """The tokenizer's part in `phase.Phase`.

    Args:
        settings: of the run.
        perceptual: L_LPIPS; None for none.
    """

    name = "tokenizer"

    def __init__(self, settings: Settings, perceptual: Perceptual | None = None) -> None:
        self.settings, self.perceptual = settings, perceptual
        self.term_names: tuple[str, ...] = ("mse",) if perceptual is None else ("mse", "lpips")
        self.one_mean = perceptual is None
        self.notes: tuple[str, ...] = (WITHOUT_LPIPS,) if perceptual is None else ()

    def prepare(self, model: Dreamer4, dataset: Dataset) -> None:
        """Give a model that asks for it the mean frame of the data; once, before the first step."""
        if model.config.tokenizer.standardise:
            mean, std = mean_frame(dataset)
            # Frames that are all alike have no unit of their own.
            model.tokenizer.standardise(mean.to(model.tokenizer.pixel_mean), std or 1.0)

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """The tokenizer."""
        return [(f"tokenizer.{name}", parameter) for name, parameter in model.tokenizer.named_parameters()]

    def companions(self, model: Dreamer4) -> Mapping[str, nn.Module]:
        """None."""
        return {}

    def plan(self, step: int) -> Plan:
        """Alternating lengths, and a share of separate images."""
        return plan_step(self.settings, step)

    def means(self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]) -> dict[str, PartialMean]:
        """Eq. (5) of these samples, with patches dropped."""
        if batch.video is None:
            raise ValueError("batch.video must be there to train the tokenizer; got latents alone")
        video = as_video(batch.video)
        keys = [(self.name, step, index) for index in indices]
        patches, most = model.config.tokenizer.patches, self.settings.tokenizer.most_dropped
        dropped = dropout_draws(self.settings.seed, keys, video.shape[1], patches, most=most).to(video.device)
        return add_means(
            self._part_means(model.tokenizer, part, video, dropped) for part in parts(self.plan(step).image, indices)
        )

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All of them."""
        return {name: means[name] for name in self.term_names}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Eq. (5), of its first term alone where there is no second."""
        mse = terms["mse"]
        return tokenizer_loss(mse, terms.get("lpips", torch.zeros_like(mse)))

    def _part_means(self, tokenizer: Tokenizer, part: Part, video: Tensor, dropped: Tensor) -> dict[str, PartialMean]:
        video, dropped = part.take(video), part.take(dropped)
        return reconstruction_means(tokenizer, video, dropped, self.perceptual, part.weight(video[:, :, 0, 0, 0]))


def make_phase(settings: Settings, device: torch.device) -> TokenizerPhase:
    """The phase as a run's settings have it, its perceptual network on the device."""
    options = settings.tokenizer
    if options.perceptual == "none":
        return TokenizerPhase(settings)
    return TokenizerPhase(settings, PERCEPTUAL[options.perceptual](options.net).to(device))


def _coloured(video: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W 3"]:
    """Grey frames in three equal channels, as the perceptual networks take them."""
    return video.expand(*video.shape[:-1], 3) if video.shape[-1] == 1 else video
