"""Sec. 3.2: phase 1b of Algorithm 1, the dynamics on the latents of the frozen tokenizer.

    L = w(τ) · shortcut forcing loss (Eq. 7 and 8), with actions where the data have them

τ, d and the noise are drawn for each sample separately; the latents of a separate image are those of its frame in the
video.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.data.clips import Batch, as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.latents import encode_episode
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss_at
from dreamer4_impl.equations.network_types import Actions, Network
from dreamer4_impl.generation.draws import ShortcutDraws, shortcut_draws
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.tokenizer import Tokenizer
from dreamer4_impl.training.phase import AnyPhase, PartialMean, Phase
from dreamer4_impl.training.sample_groups import SampleGroup, add_means, sample_groups
from dreamer4_impl.transfer import to_device


def forcing_means(
    network: Network,
    z1: Float[Tensor, "B T S D"],
    actions: Actions,
    draws: ShortcutDraws,
    *,
    k_max: int,
    teacher_rows: Sequence[int],
    weight: Float[Tensor, "B T"],
) -> dict[str, PartialMean]:
    """Eq. (7) as a mean over timesteps, and separately over the timesteps at d_min and above it.

    Args:
        network: as for `shortcut_forcing_loss_at`.
        z1: clean latents, floating, (B, T, S, D).
        actions: actions of the same sequences.
        draws: τ, d and z₀, on the device of z1.
        k_max: K_max, a power of two; d_min = 1 / K_max.
        teacher_rows: sequences with a timestep above d_min that counts, and at least one in any case, so that every
            call of this function calls the network three times.
        weight: weight of every timestep, floating, (B, T); where it is 0 the loss may be NaN.

    Returns:
        "dynamics" with gradient, "flow" (at d_min) and "bootstrap" (above) without, in float32.

    Raises:
        TypeError: if latents or draws are not floating-point.
        ValueError: if shapes or devices do not match.
    """
    loss = shortcut_forcing_loss_at(
        network,
        z1,
        draws.z0,
        draws.tau,
        draws.d,
        actions,
        k_max=k_max,
        reduction="none",
        teacher_rows=to_device(torch.tensor(teacher_rows), z1.device),
    )
    at_d_min = weight * (draws.d <= 1 / k_max)
    return {
        "dynamics": PartialMean.from_values(loss, weight),
        "flow": PartialMean.from_values(loss.detach(), at_d_min),
        "bootstrap": PartialMean.from_values(loss.detach(), weight - at_d_min),
    }


@torch.no_grad()
def representation(model: Dreamer4, batch: Batch) -> Float[Tensor, "B T S D"]:
    """Latents of a batch: the cached ones if the batch has them, else those of the frozen tokenizer.

    Args:
        model: its tokenizer encodes frames.
        batch: clips with frames or latents.

    Returns:
        z, float32, without gradient.

    Raises:
        ValueError: if the batch has neither frames nor latents.
    """
    if batch.latents is not None:
        return batch.latents.float()
    if batch.video is None:
        raise ValueError("batch must hold video or latents; got neither")
    return model.tokenizer.encode(as_video(batch.video)).float()


def latent_moments(tokenizer: Tokenizer, dataset: Dataset, episodes: int = 32) -> tuple[Float[Tensor, "S D"], float]:
    """Mean of z over frames of a dataset, and the root mean square of the deviations from it over all entries.

    Args:
        tokenizer: on any device.
        dataset: at least one episode.
        episodes: number of episodes that are encoded, evenly over the dataset, 1 or more.

    Returns:
        Mean of z, float32, and the root mean square; both are accumulated in float64.
    """
    count = min(episodes, len(dataset.episodes))
    numbers = [index * len(dataset.episodes) // count for index in range(count)]
    frames = (dataset.clip(number, 0, dataset.episodes[number].length).frames for number in numbers)
    z = torch.cat([encode_episode(tokenizer, clip) for clip in frames]).double()
    mean = z.mean(0)
    return mean.float(), float((z - mean).square().mean().sqrt())


class LatentSequences(NamedTuple):
    """Sequences of one sample group, and the draws of Eq. (7) for them.

    Args:
        group: the samples.
        z1: clean latents, floating, (B, T, S, D).
        actions: actions that led to the frames, by component, (N, t, …) each.
        draws: τ, d and z₀.
        above: for each sequence, True if it has a timestep above d_min.
        weight: 1 for timesteps that count, 0 for padding and placeholders, floating, (N, t).
    """

    group: SampleGroup
    z1: Float[Tensor, "N t S D"]
    actions: dict[str, Tensor]
    draws: ShortcutDraws
    above: tuple[bool, ...]
    weight: Float[Tensor, "N t"]

    def teacher_rows(self, counted: Sequence[bool] | None = None) -> list[int]:
        """Sequences that need the teacher of Eq. (7).

        Args:
            counted: for each sequence, True if the loss counts it; None is all.

        Returns:
            Rows of the counted sequences with a timestep above d_min; row 0 if there are none.
        """
        counted = self.above if counted is None else counted
        return [row for row, marks in enumerate(zip(self.above, counted, strict=True)) if all(marks)] or [0]


def latent_sequences(
    phase: AnyPhase, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]
) -> list[LatentSequences]:
    """Draw τ, d and noise for the samples of a phase, as videos and as separate images.

    Args:
        phase: its name, settings and plan determine the draws.
        model: the whole model.
        batch: clips with frames or latents.
        step: from 0.
        indices: indices of the samples in the global batch.

    Returns:
        Sequences of every sample group.

    Raises:
        ValueError: if the batch has neither frames nor latents.
    """
    z1, options, k_max = representation(model, batch), phase.settings.dynamics, model.config.dynamics.k_max
    keys = [(phase.name, step, index) for index in indices]
    shape = (z1.shape[1], z1.shape[2], z1.shape[3])
    draws = shortcut_draws(
        phase.settings.seed, keys, shape, k_max=k_max, per=options.per, d_min_share=options.d_min_share
    )
    sequences = []
    for group in sample_groups(phase.plan(step).image, indices):
        above = tuple((group.take(draws.d) > 1 / k_max).any(dim=1).tolist())
        own = ShortcutDraws(*(to_device(group.take(draw), z1.device) for draw in draws))
        weight = group.weight(own.tau, batch.valid)
        sequences.append(LatentSequences(group, group.take(z1), group.actions(batch.actions), own, above, weight))
    return sequences


class DynamicsPhase(Phase[list[LatentSequences]]):
    """Training of the dynamics; the agent token and the tokenizer stay as they are. See `phase.Phase`.

    Args:
        settings: settings of the run.
    """

    name = "dynamics"
    term_names = ("dynamics",)

    def __init__(self, settings: TrainingSettings) -> None:
        super().__init__(settings)
        self.relevant_share = settings.dynamics.rewarded_share

    def prepare(self, model: Dreamer4, dataset: Dataset) -> None:
        """Set origin and unit of z from the data, if the tokenizer is configured to have them and has none yet.

        Args:
            model: changed in place.
            dataset: data to train on; a sample of its episodes suffices.
        """
        tokenizer = model.tokenizer
        if tokenizer.config.standardise_latents and float(tokenizer.latent_std) == 1:
            mean, std = latent_moments(tokenizer, dataset)
            # The deviation is 0 if all frames are equal.
            tokenizer.standardise_latents(mean, std or 1.0)

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """List the parameters of the dynamics without the agent token, which has no effect before agent finetuning.

        Args:
            model: the whole model.

        Returns:
            Parameters with their names in the model.
        """
        named = model.dynamics.named_parameters()
        return [(f"dynamics.{name}", parameter) for name, parameter in named if not name.startswith("agent.")]

    def inputs(
        self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]
    ) -> tuple[list[LatentSequences], dict[str, Tensor]]:
        """Encode the frames and draw τ, d and noise.

        Args:
            model: the whole model.
            batch: clips with frames or latents.
            step: from 0.
            indices: indices of the samples in the global batch.

        Returns:
            Sequences of every sample group, and the number of timesteps as "dynamics".

        Raises:
            ValueError: if the batch has neither frames nor latents.
        """
        inputs = latent_sequences(self, model, batch, step, indices)
        return inputs, {"dynamics": torch.stack([sequences.weight.sum() for sequences in inputs]).sum()}

    def means(self, model: Dreamer4, inputs: list[LatentSequences]) -> dict[str, PartialMean]:
        """Compute Eq. (7).

        Args:
            model: the whole model.
            inputs: result of `inputs`.

        Returns:
            "dynamics", "flow" and "bootstrap".

        Raises:
            TypeError: if latents or draws are not floating-point.
            ValueError: if shapes or devices do not match.
        """
        return add_means(
            forcing_means(
                model.dynamics.network,
                sequences.z1,
                sequences.actions,
                sequences.draws,
                k_max=model.config.dynamics.k_max,
                teacher_rows=sequences.teacher_rows(),
                weight=sequences.weight,
            )
            for sequences in inputs
        )

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Select Eq. (7), one mean over all timesteps (A27).

        Args:
            means: scalars by name.

        Returns:
            "dynamics".
        """
        return {"dynamics": means["dynamics"]}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the only term.

        Args:
            terms: normalised terms by name, scalars.

        Returns:
            Scalar loss.
        """
        return terms["dynamics"]
