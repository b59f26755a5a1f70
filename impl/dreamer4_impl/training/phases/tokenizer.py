"""Sec. 3.1: phase 1a of Algorithm 1, the tokenizer.

    L = L_MSE + 0.2 L_LPIPS   (Eq. 5), on normalised terms, of frames whose patches are dropped at random

The setting tokenizer.latent_noise adds Gaussian noise to z, which the paper does not.

LPIPS weights come from packages that are not dependencies. Without them the setting tokenizer.perceptual is "none", and
L = L_MSE.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.data.clips import Batch, as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq01_corruption import per_frame
from dreamer4_impl.equations.eq05_tokenizer_loss import tokenizer_loss
from dreamer4_impl.generation.draws import Key, dropout_draws, normal_draws
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.perceptual import Lpips, Perceptual, TorchmetricsLpips
from dreamer4_impl.models.tokenizer import Tokenizer
from dreamer4_impl.training.phase import PartialMean, Phase
from dreamer4_impl.training.sample_groups import SampleGroup, add_means, sample_groups
from dreamer4_impl.transfer import to_device

PERCEPTUAL: Final = {"lpips": Lpips, "torchmetrics": TorchmetricsLpips}
WITHOUT_LPIPS: Final = (
    "tokenizer.perceptual is 'none': the tokenizer is trained on the mean square error alone, without LPIPS"
)


def mean_frame(dataset: Dataset) -> tuple[Float[Tensor, "H W C"], float]:
    """Mean of all frames of a dataset, and the root mean square of their deviations from it over all pixels.

    Args:
        dataset: at least one episode.

    Returns:
        Mean frame with values in [0, 1], float32, and the root mean square in [0, 1]; both are accumulated in float64.
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
    noise: Float[Tensor, "B T S D"] | None = None,
) -> dict[str, PartialMean]:
    """Terms of Eq. (5), means over frames.

    Args:
        tokenizer: tokenizer in training.
        video: values in [0, 1], floating, (B, T, H, W, C).
        dropped: True for patches that are hidden from the encoder, bool, (B, T, N).
        perceptual: distance of two videos, 0 if they are equal; None leaves L_LPIPS out.
        weight: 1 for frames that count, else 0, floating, (B, T); None is 1.
        noise: added to z before the decoder, floating, (B, T, S, D); None is none.

    Returns:
        "mse" and, with a perceptual distance, "lpips", in float32 with gradient.
    """
    z = tokenizer.encode(video, dropped)
    video_hat = tokenizer.decode(z if noise is None else z + noise)
    means = {"mse": PartialMean.from_values((video_hat.float() - video).square().mean(dim=(2, 3, 4)), weight)}
    if perceptual is not None:
        frames, count = video.shape[0] * video.shape[1], means["mse"].count
        if weight is not None:
            # Frames that do not count are equal and constant in both videos: their distance and gradient are 0.
            video_hat, video = (torch.where(per_frame(weight > 0, x), x, 0) for x in (video_hat, video))
        means["lpips"] = PartialMean(perceptual(_coloured(video_hat), _coloured(video)).float() * frames, count)
    return means


class TokenizerInputs(NamedTuple):
    """Frames of one sample group.

    Args:
        group: the samples.
        frames: values in [0, 255], uint8, (N, t, H, W, C).
        dropped: True for patches that are hidden from the encoder, bool, (N, t, P).
        weight: 1 for frames that count, 0 for padding and placeholders, floating, (N, t).
        noise: added to z, floating, (N, t, S, D); None is none.
    """

    group: SampleGroup
    frames: UInt8[Tensor, "N t H W C"]
    dropped: Bool[Tensor, "N t P"]
    weight: Float[Tensor, "N t"]
    noise: Float[Tensor, "N t S D"] | None = None


class TokenizerPhase(Phase[list[TokenizerInputs]]):
    """Training of the tokenizer; see `phase.Phase`.

    Args:
        settings: settings of the run.
        perceptual: distance of L_LPIPS; None leaves it out.
    """

    name = "tokenizer"

    def __init__(self, settings: TrainingSettings, perceptual: Perceptual | None = None) -> None:
        super().__init__(settings)
        self.perceptual = perceptual
        self.term_names = ("mse",) if perceptual is None else ("mse", "lpips")
        self.notes = (WITHOUT_LPIPS,) if perceptual is None else ()

    @classmethod
    def create(cls, settings: TrainingSettings, device: torch.device) -> "TokenizerPhase":
        """Create the phase with the perceptual network of the settings.

        Args:
            settings: settings of the run.
            device: device of the perceptual network.

        Returns:
            The phase.

        Raises:
            ModuleNotFoundError: if the package of the perceptual network is not installed.
        """
        package, net = settings.tokenizer.perceptual, settings.tokenizer.net
        return cls(settings, None if package == "none" else PERCEPTUAL[package](net).to(device))

    def prepare(self, model: Dreamer4, dataset: Dataset) -> None:
        """Set the mean frame of the data, if the tokenizer is configured to use it.

        Args:
            model: changed in place.
            dataset: data to train on.
        """
        if model.config.tokenizer.standardise:
            mean, std = mean_frame(dataset)
            # The deviation is 0 if all frames are equal.
            model.tokenizer.standardise(mean.to(model.tokenizer.pixel_mean), std or 1.0)

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """List the parameters of the tokenizer.

        Args:
            model: the whole model.

        Returns:
            Parameters with their names in the model.
        """
        return [(f"tokenizer.{name}", parameter) for name, parameter in model.tokenizer.named_parameters()]

    def inputs(
        self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]
    ) -> tuple[list[TokenizerInputs], dict[str, Tensor]]:
        """Draw the patches that are dropped, and the noise of the latents.

        Args:
            model: the whole model.
            batch: clips with frames.
            step: from 0.
            indices: indices of the samples in the global batch.

        Returns:
            Inputs of every sample group, and the number of frames by term.

        Raises:
            ValueError: if the batch holds latents only.
        """
        if batch.video is None:
            raise ValueError("batch.video must hold frames to train the tokenizer; got latents only")
        keys = [(self.name, step, index) for index in indices]
        patches, most = model.config.tokenizer.patches, self.settings.tokenizer.most_dropped
        dropped = dropout_draws(self.settings.seed, keys, batch.video.shape[1], patches, most=most)
        dropped = to_device(dropped, batch.video.device)
        noise = self._noise(model, keys, step, batch.video)
        inputs = []
        for group in sample_groups(self.plan(step).image, indices):
            frames = group.take(batch.video)
            weight = group.weight(frames[:, :, 0, 0, 0], batch.valid)
            own = None if noise is None else group.take(noise)
            inputs.append(TokenizerInputs(group, frames, group.take(dropped), weight, own))
        count = torch.stack([group.weight.sum() for group in inputs]).sum()
        return inputs, dict.fromkeys(self.term_names, count)

    def _noise(self, model: Dreamer4, keys: Sequence[Key], step: int, video: Tensor) -> Float[Tensor, "B T S D"] | None:
        options, config = self.settings.tokenizer, model.config.tokenizer
        if not options.latent_noise or step < (1 - options.noise_share) * self.settings.steps:
            return None
        shape = (video.shape[1], config.spatial_tokens, config.spatial_channels)
        return options.latent_noise * to_device(normal_draws(self.settings.seed, keys, "latents", shape), video.device)

    def means(self, model: Dreamer4, inputs: list[TokenizerInputs]) -> dict[str, PartialMean]:
        """Compute the terms of Eq. (5).

        Args:
            model: the whole model.
            inputs: result of `inputs`.

        Returns:
            Partial means by term.
        """
        return add_means(
            reconstruction_means(
                model.tokenizer, as_video(group.frames), group.dropped, self.perceptual, group.weight, group.noise
            )
            for group in inputs
        )

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Select the terms of Eq. (5), which are means.

        Args:
            means: scalars by name.

        Returns:
            Scalars by term.
        """
        return {name: means[name] for name in self.term_names}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Compute Eq. (5); without LPIPS, L_MSE.

        Args:
            terms: normalised terms by name, scalars.

        Returns:
            Scalar loss.

        Raises:
            TypeError: if a term is not floating-point.
            ValueError: if shapes or devices of the terms differ.
        """
        mse = terms["mse"]
        return tokenizer_loss(mse, terms.get("lpips", torch.zeros_like(mse)))


def _coloured(video: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W 3"]:
    """Grey frames in three equal channels, as the perceptual networks take them."""
    return video.expand(*video.shape[:-1], 3) if video.shape[-1] == 1 else video
