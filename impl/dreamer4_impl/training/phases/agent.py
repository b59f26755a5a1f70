"""Sec. 3.3: phase 2 of Algorithm 1, agent finetuning of the whole world model with task inputs.

    L = w(τ) · shortcut forcing loss (Eq. 7 and 8)        on the uniform sequences only, see `agent.dynamics`
      − Σₙ ln p(a_{t+n} | h_t)   (Eq. 9)                  on the relevant sequences only
      − Σₙ ln p(r_{t+n} | h_t)   (Eq. 9)                  on all sequences
      − ln p(c_t | h_t)                                   on all sequences, if the agent has a head for ends

Each term is normalised. h is the output of the agent token in the student's call of Eq. (7), whose frames are
corrupted, each at its own τ; with `agent.levels = "context"`, that of a call at the level of the context. Read as: the
paper names the sequences of the first two terms; the reward is learned from all sequences, because the relevant ones
contain no failures.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.eq01_corruption import corrupt, per_frame
from dreamer4_impl.equations.eq02_sampling import context_label
from dreamer4_impl.equations.eq09_multi_token import multi_token_targets
from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.training.phase import PartialMean, Phase
from dreamer4_impl.training.phases.dynamics import LatentSequences, forcing_means, latent_sequences
from dreamer4_impl.training.sample_groups import add_means
from dreamer4_impl.transfer import to_device

TRAINED = ("dynamics.", "agent.policy.", "agent.reward.", "agent.continues.")
"""Prefixes of the parameters that agent finetuning trains; the value head is trained in imagination."""


class RecordingNetwork:
    """The dynamics as Eq. (7) calls it, with the output of the agent token in the last call, which is the student's.

    Called with `inputs` = {"actions", "task", "counted"}. No gradient flows through ẑ₁ of sequences that the dynamics
    loss does not count.

    Args:
        dynamics: with an agent token.

    Attributes:
        h: output of the agent token in the last call, (B, T, W); None before the first call.
    """

    def __init__(self, dynamics: Dynamics) -> None:
        self.dynamics = dynamics
        self.h: Tensor | None = None

    def __call__(self, z: Tensor, tau: Tensor, d: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Return ẑ₁, and keep the output of the agent token as `h`."""
        z1_hat, self.h = self.dynamics(z, tau, d, inputs["actions"], inputs["task"])
        return torch.where(per_frame(inputs["counted"], z1_hat), z1_hat, z1_hat.detach())


def context_output(
    dynamics: Dynamics, sequences: LatentSequences, task: Tensor | None, level: float
) -> Float[Tensor, "N t W"]:
    """Compute the output of the agent token for frames at the signal level of the context, as in imagination.

    Args:
        dynamics: with an agent token.
        sequences: latents and noise; their τ and d are not used.
        task: index of each sequence's task, int64, (N,); None for a model without tasks.
        level: signal level in [0, 1].

    Returns:
        h, with a gradient.
    """
    k_max, (z1, draws) = dynamics.config.k_max, (sequences.z1, sequences.draws)
    label = torch.full_like(draws.tau, context_label(level, k_max))
    frames = corrupt(draws.z0, z1, torch.full_like(draws.tau, level)).to(z1.dtype)
    return dynamics(frames, label, torch.full_like(draws.d, 1 / k_max), sequences.actions, task)[1]


def head_weights(
    labelled: Bool[Tensor, "B T"],
    policy_positions: Bool[Tensor, "B T"],
    reward_positions: Bool[Tensor, "B T"],
    length: int,
) -> dict[str, Bool[Tensor, "B T"]]:
    """Positions that the terms of Eq. (9) count, by term and distance: "policy/n" and "reward/n" for n in [0, length].

    Args:
        labelled: True where the action taken at frame t is known, bool, (B, T).
        policy_positions: positions whose h trains the policy, bool, (B, T).
        reward_positions: positions whose h trains the reward head, all but padding and placeholders, bool, (B, T);
            targets lie on these too.
        length: L, the longest distance, 0 or more.

    Returns:
        Masks of the positions whose target lies inside the sequence, is known, and is trained on.

    Raises:
        ValueError: if length is negative or there are no positions.
    """
    labelled_ahead, inside = multi_token_targets(labelled, length)
    inside = inside & multi_token_targets(reward_positions, length)[0]
    policy = inside & labelled_ahead & policy_positions[..., None]
    reward = inside & reward_positions[..., None]
    masks = {"policy": policy, "reward": reward}
    return {f"{term}/{n}": mask[:, :, n] for term, mask in masks.items() for n in range(length + 1)}


def head_means(
    agent: Agent,
    h: Float[Tensor, "B T W"],
    taken: Mapping[str, Tensor],
    labelled: Bool[Tensor, "B T"],
    rewards: Float[Tensor, "B T"],
    policy_positions: Bool[Tensor, "B T"],
    reward_positions: Bool[Tensor, "B T"],
) -> dict[str, PartialMean]:
    """Terms of Eq. (9), a mean over positions for every distance n: "policy/n" and "reward/n".

    Args:
        agent: heads of policy and reward.
        h: output of the agent token, floating, (B, T, W).
        taken: a_t, the action taken at frame t, by component, (B, T, …) each.
        labelled: True where that action is known, bool, (B, T).
        rewards: r_t, received on arriving at frame t, floating, (B, T).
        policy_positions: as for `head_weights`.
        reward_positions: as for `head_weights`.

    Returns:
        Partial means of −ln p with gradient, in float32.

    Raises:
        ValueError: if shapes do not match or there are no positions.
    """
    masks = head_weights(labelled, policy_positions, reward_positions, agent.length)
    log_probs = {"policy": agent.policy_log_prob(h, taken)[0], "reward": agent.reward_log_prob(h, rewards)[0]}
    return {
        f"{term}/{n}": PartialMean.from_values(-log_prob[:, :, n], masks[f"{term}/{n}"].to(log_prob.dtype))
        for term, log_prob in log_probs.items()
        for n in range(agent.length + 1)
    }


class AgentInputs(NamedTuple):
    """Sequences of one sample group with the targets of the heads.

    Args:
        sequences: latents and draws.
        relevant: for each sequence, True if it is relevant, else uniform, bool, (N,).
        counted: for each sequence, True if the dynamics loss counts it, bool, (N,).
        counted_rows: the same, known to the host.
        task: index of each sequence's task, int64, (B,); None for a model without tasks.
        taken: a_t by component, (N, t, …) each.
        labelled: True where a_t is known, bool, (N, t).
        rewards: r_t of each frame, floating, (N, t).
        continues: c_t, False where the episode terminated, bool, (N, t).
    """

    sequences: LatentSequences
    relevant: Bool[Tensor, " N"]
    counted: Bool[Tensor, " N"]
    counted_rows: tuple[bool, ...]
    task: Tensor | None
    taken: dict[str, Tensor]
    labelled: Bool[Tensor, "N t"]
    rewards: Float[Tensor, "N t"]
    continues: Bool[Tensor, "N t"]

    def dynamics_weight(self) -> Float[Tensor, "N t"]:
        """Select the timesteps that the dynamics loss averages over.

        Returns:
            (N, t): 0 for padding, for placeholders and for sequences that it does not count, else 1.
        """
        return self.sequences.weight * self.counted[:, None]

    def head_positions(self) -> tuple[Bool[Tensor, "N t"], Bool[Tensor, "N t"]]:
        """Positions whose h trains the heads.

        Returns:
            Masks for the policy (relevant sequences) and for the reward head (all sequences), without padding and
            placeholders.
        """
        counted = self.sequences.weight > 0
        return counted & self.relevant[:, None], counted


class AgentPhase(Phase[list[AgentInputs]]):
    """Agent finetuning; see `phase.Phase`.

    Args:
        settings: settings of the run.
    """

    name = "agent"
    term_names: tuple[str, ...] = ("dynamics", "policy", "reward")
    clones = True

    def __init__(self, settings: TrainingSettings) -> None:
        super().__init__(settings)
        self.relevant_share = settings.agent.relevant_share
        if settings.model.agent is not None and settings.model.agent.continues:
            self.term_names = (*self.term_names, "continues")

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """List the parameters of the dynamics with its agent token, and of the heads of policy and reward.

        Args:
            model: the whole model.

        Returns:
            Parameters with their names in the model.
        """
        return [(name, parameter) for name, parameter in model.named_parameters() if name.startswith(TRAINED)]

    def inputs(
        self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]
    ) -> tuple[list[AgentInputs], dict[str, Tensor]]:
        """Encode the frames, draw τ, d and noise, and collect the targets of the heads.

        Args:
            model: the whole model, with an agent.
            batch: clips with the actions taken.
            step: from 0.
            indices: indices of the samples in the global batch.

        Returns:
            Inputs of every sample group, and the number of positions by mean.

        Raises:
            ValueError: if the batch has neither frames nor latents.
        """
        assert model.agent is not None
        assert batch.taken_labelled is not None
        time, inputs = batch.rewards.shape[1], []
        for sequences in latent_sequences(self, model, batch, step, indices):
            group = sequences.group
            task = group.take_per_sample(batch.task, time) if model.config.dynamics.tasks else None
            taken = {name: group.take(values) for name, values in batch.taken.items()}
            labelled, rewards = group.take(batch.taken_labelled), group.take(batch.rewards)
            marks, continues = group.take_per_sample(batch.relevant, time), group.take(batch.continues)
            counts = torch.ones_like(marks) if self.settings.agent.dynamics == "all" else ~marks
            relevant, counted = to_device(marks, rewards.device), to_device(counts, rewards.device)
            rows = tuple(counts.tolist())
            inputs.append(AgentInputs(sequences, relevant, counted, rows, task, taken, labelled, rewards, continues))
        weights = [
            {"dynamics": x.dynamics_weight()} | head_weights(x.labelled, *x.head_positions(), model.agent.length)
            for x in inputs
        ]
        if model.agent.continues is not None:
            weights = [w | {"continues": x.sequences.weight} for w, x in zip(weights, inputs, strict=True)]
        return inputs, {name: torch.stack([w[name].sum() for w in weights]).sum() for name in weights[0]}

    def means(self, model: Dreamer4, inputs: list[AgentInputs]) -> dict[str, PartialMean]:
        """Compute Eq. (7) and Eq. (9), and the likelihood of ends.

        Args:
            model: the whole model, with an agent.
            inputs: result of `inputs`.

        Returns:
            "dynamics", "flow", "bootstrap", "policy/n" and "reward/n"; "continues" if the agent has a head for ends.
        """
        return add_means(self._group_means(model, group) for group in inputs)

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Select Eq. (7) and the likelihood of ends, and add up the distances of Eq. (9).

        Args:
            means: scalars by name.

        Returns:
            "dynamics", "policy" and "reward"; "continues" if the agent has a head for ends.
        """
        sums = {
            term: torch.stack([mean for name, mean in means.items() if name.startswith(f"{term}/")]).sum()
            for term in ("policy", "reward")
        }
        ends = {"continues": means["continues"]} if "continues" in self.term_names else {}
        return {"dynamics": means["dynamics"], **sums, **ends}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Add up the terms.

        Args:
            terms: normalised terms by name, scalars.

        Returns:
            Scalar loss.
        """
        return sum((terms[name] for name in self.term_names[1:]), start=terms["dynamics"])

    def _group_means(self, model: Dreamer4, inputs: AgentInputs) -> dict[str, PartialMean]:
        sequences = inputs.sequences
        network = RecordingNetwork(model.dynamics)
        means = forcing_means(
            network,
            sequences.z1,
            {"actions": sequences.actions, "task": inputs.task, "counted": inputs.counted},
            sequences.draws,
            k_max=model.config.dynamics.k_max,
            teacher_rows=sequences.teacher_rows(inputs.counted_rows),
            weight=inputs.dynamics_weight(),
        )
        assert model.agent is not None
        h = network.h
        if self.settings.agent.levels == "context":
            h = context_output(model.dynamics, sequences, inputs.task, self.settings.imagine.context_level)
        assert h is not None
        positions = inputs.head_positions()
        means |= head_means(model.agent, h, inputs.taken, inputs.labelled, inputs.rewards, *positions)
        if model.agent.continues is not None:
            loss = model.agent.continue_loss(h, inputs.continues)
            means["continues"] = PartialMean.from_values(loss, sequences.weight)
        return means
