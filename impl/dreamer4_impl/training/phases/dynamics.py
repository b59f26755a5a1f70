"""Sec. 3.2: phase 1b of Algorithm 1, the dynamics on the latents of the frozen tokenizer.

    L = w(τ) · shortcut forcing loss (Eq. 7 and 8), with actions where there are any

τ, d and the noise are drawn for each sample by itself; the latents of a separate image are those of its frame in the video.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import Settings
from dreamer4_impl.data.clips import Batch, as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss_at
from dreamer4_impl.equations.network_types import Actions, Network
from dreamer4_impl.generation.draws import ShortcutDraws, shortcut_draws
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.phase import PartialMean, Plan
from dreamer4_impl.training.sample_groups import Part, add_means, parts
from dreamer4_impl.training.step_plan import plan_step


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
    """Eq. (7), the mean over timesteps as "dynamics", and beside it its two kinds of timesteps by themselves.

    Args:
        network: as for `shortcut_forcing_loss_at`.
        z1: clean latents.
        actions: of the same sequences.
        draws: τ, d and z₀, on the device of z1.
        k_max: K_max.
        teacher_rows: the sequences that have a timestep above d_min which counts; at least one, needed or not, so that every
            call takes the network three times.
        weight: of every timestep. Where it is 0 the loss may be NaN.
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
        teacher_rows=torch.tensor(teacher_rows, device=z1.device),
    )
    at_d_min = weight * (draws.d <= 1 / k_max)
    return {
        "dynamics": PartialMean.of(loss, weight),
        "flow": PartialMean.of(loss.detach(), at_d_min),
        "bootstrap": PartialMean.of(loss.detach(), weight - at_d_min),
    }


@torch.no_grad()
def representation(model: Dreamer4, batch: Batch) -> Float[Tensor, "B T S D"]:
    """z of the clips: the cached latents where the batch has them, otherwise the frozen tokenizer's."""
    if batch.latents is not None:
        return batch.latents.float()
    if batch.video is None:
        raise ValueError("batch must hold video or latents; got neither")
    return model.tokenizer.encode(as_video(batch.video)).float()


class Sequences(NamedTuple):
    """What the dynamics is trained on: one part of a batch, and what was drawn for it."""

    part: Part
    z1: Float[Tensor, "N t S D"]
    actions: dict[str, Tensor]
    draws: ShortcutDraws
    above: tuple[bool, ...]

    def weight(self) -> Float[Tensor, "N t"]:
        """1 for every timestep that counts."""
        return self.part.weight(self.draws.tau)

    def teacher_rows(self, wanted: Sequence[bool] | None = None) -> list[int]:
        """The sequences that the teacher is asked for: any d > d_min, and wanted. The first where there are none."""
        wanted = self.above if wanted is None else wanted
        return [row for row, (above, want) in enumerate(zip(self.above, wanted, strict=True)) if above and want] or [0]


class DynamicsPhase:
    """The part of the dynamics in `phase.Phase`; the agent token and the tokenizer stay as they are.

    Args:
        settings: of the run.
    """

    name = "dynamics"
    term_names: tuple[str, ...] = ("dynamics",)
    one_mean = True
    notes: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def prepare(self, model: Dreamer4, dataset: Dataset) -> None:
        """Nothing."""

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """The dynamics but for the agent token, which nothing reads before agent finetuning."""
        named = model.dynamics.named_parameters()
        return [(f"dynamics.{name}", parameter) for name, parameter in named if not name.startswith("agent.")]

    def companions(self, model: Dreamer4) -> Mapping[str, nn.Module]:
        """None."""
        return {}

    def plan(self, step: int) -> Plan:
        """Alternating lengths, and a share of separate images."""
        return plan_step(self.settings, step)

    def means(self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]) -> dict[str, PartialMean]:
        """Eq. (7) of these samples."""
        return add_means(self._part_means(model, found) for found in self.sequences(model, batch, step, indices))

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Eq. (7): one mean over all timesteps (A27)."""
        return {"dynamics": means["dynamics"]}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """It is the only term."""
        return terms["dynamics"]

    def sequences(self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]) -> list[Sequences]:
        """The samples as videos and as separate images, with what Eq. (7) draws for them."""
        z1, options, k_max = representation(model, batch), self.settings.dynamics, model.config.dynamics.k_max
        keys = [(self.name, step, index) for index in indices]
        shape = (z1.shape[1], z1.shape[2], z1.shape[3])
        drawn = shortcut_draws(
            self.settings.seed, keys, shape, k_max=k_max, per=options.per, d_min_share=options.d_min_share
        )
        return [
            Sequences(
                part,
                part.take(z1),
                part.actions(batch.actions),
                ShortcutDraws(*(part.take(draw).to(z1.device) for draw in drawn)),
                tuple((part.take(drawn.d) > 1 / k_max).any(dim=1).tolist()),
            )
            for part in parts(self.plan(step).image, indices)
        ]

    def _part_means(self, model: Dreamer4, found: Sequences) -> dict[str, PartialMean]:
        weight, k_max = found.weight(), model.config.dynamics.k_max
        return forcing_means(
            model.dynamics.network,
            found.z1,
            found.actions,
            found.draws,
            k_max=k_max,
            teacher_rows=found.teacher_rows(),
            weight=weight,
        )


def make_phase(settings: Settings, device: torch.device) -> DynamicsPhase:
    """The phase as a run's settings have it."""
    return DynamicsPhase(settings)
