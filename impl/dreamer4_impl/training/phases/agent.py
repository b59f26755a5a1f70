"""Sec. 3.3: phase 2 of Algorithm 1, agent finetuning of the whole world model with task inputs.

    L = w(τ) · shortcut forcing loss (Eq. 7 and 8)        on the uniform sequences alone
      − Σₙ ln p(a_{t+n} | h_t)   (Eq. 9)                  on the relevant sequences alone
      − Σₙ ln p(r_{t+n} | h_t)   (Eq. 9)                  on all sequences

each term on its normalised scale. h is the agent token's output in the very call that Eq. (7) makes of the network: it sees
the frames corrupted, each at its own τ. Read as: the paper says for which sequences the first two are; the reward is learned
from all, or it would never see failure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import Settings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.eq01_corruption import per_frame
from dreamer4_impl.equations.eq09_multi_token import multi_token_targets
from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.training.phase import PartialMean, Plan
from dreamer4_impl.training.phases.dynamics import DynamicsPhase, Sequences, forcing_means
from dreamer4_impl.training.sample_groups import add_means
from dreamer4_impl.training.step_plan import plan_step


class ReadNetwork:
    """The dynamics as Eq. (7) calls it, keeping what the agent token says in the last call, the student's.

    Args:
        dynamics: with an agent token.

    Called with `actions` = {"actions", "task", "uniform"}. No gradient flows through ẑ₁ of the sequences that are not uniform.
    """

    def __init__(self, dynamics: Dynamics) -> None:
        self.dynamics = dynamics
        self.h: Tensor | None = None

    def __call__(self, z: Tensor, tau: Tensor, d: Tensor, given: Mapping[str, Any]) -> Tensor:
        """ẑ₁."""
        z1_hat, self.h = self.dynamics(z, tau, d, given["actions"], given["task"])
        return torch.where(per_frame(given["uniform"], z1_hat), z1_hat, z1_hat.detach())


def head_means(
    agent: Agent,
    h: Float[Tensor, "B T W"],
    taken: Mapping[str, Tensor],
    known: Bool[Tensor, "B T"],
    rewards: Float[Tensor, "B T"],
    of_policy: Bool[Tensor, "B T"],
    of_reward: Bool[Tensor, "B T"],
) -> dict[str, PartialMean]:
    """The terms of Eq. (9), a mean over positions for every distance n: "policy/n" and "reward/n".

    Args:
        agent: its heads.
        h: output of the agent token.
        taken: a_t, the action taken at frame t, by component.
        known: where it is known.
        rewards: r_t.
        of_policy, of_reward: the positions whose h teaches the heads.
    """
    known_ahead, _ = multi_token_targets(known, agent.length)
    log_p_action, action_there = agent.policy_log_prob(h, taken)
    log_p_reward, reward_there = agent.reward_log_prob(h, rewards)
    return {
        **_by_distance("policy", log_p_action, action_there & known_ahead & of_policy[..., None]),
        **_by_distance("reward", log_p_reward, reward_there & of_reward[..., None]),
    }


class AgentPhase(DynamicsPhase):
    """The part of agent finetuning in `phase.Phase`.

    Args:
        settings: of the run.
    """

    name = "agent"
    term_names: tuple[str, ...] = ("dynamics", "policy", "reward")
    one_mean = False

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """The dynamics with its agent token, and the heads of policy and reward."""
        return [(name, parameter) for name, parameter in model.named_parameters() if name.startswith(TRAINED)]

    def plan(self, step: int) -> Plan:
        """Alternating lengths, a share of separate images, a share of relevant sequences."""
        return plan_step(self.settings, step, relevant_share=self.settings.agent.relevant_share)

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Eq. (7), and the two sums over distances of Eq. (9)."""
        sums = {
            term: torch.stack([mean for name, mean in means.items() if name.startswith(f"{term}/")]).sum()
            for term in ("policy", "reward")
        }
        return {"dynamics": means["dynamics"], **sums}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Their sum."""
        return terms["dynamics"] + terms["policy"] + terms["reward"]

    def means(self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]) -> dict[str, PartialMean]:
        """Eq. (7) and Eq. (9) of these samples."""
        return add_means(
            self._agent_means(model, found, batch) for found in self.sequences(model, batch, step, indices)
        )

    def _agent_means(self, model: Dreamer4, found: Sequences, batch: Batch) -> dict[str, PartialMean]:
        part, weight, time = found.part, found.weight(), batch.rewards.shape[1]
        relevant = part.of_sample(batch.relevant, time)
        task = part.of_sample(batch.task, time) if model.config.dynamics.tasks else None
        network = ReadNetwork(model.dynamics)
        means = forcing_means(
            network,
            found.z1,
            {"actions": found.actions, "task": task, "uniform": ~relevant},
            found.draws,
            k_max=model.config.dynamics.k_max,
            teacher_rows=found.teacher_rows((~relevant).tolist()),
            weight=weight * ~relevant[:, None],
        )
        assert model.agent is not None
        assert network.h is not None
        assert batch.taken_labelled is not None
        taken = {name: part.take(values) for name, values in batch.taken.items()}
        known, rewards, counts = part.take(batch.taken_labelled), part.take(batch.rewards), weight > 0
        return means | head_means(model.agent, network.h, taken, known, rewards, counts & relevant[:, None], counts)


#: What agent finetuning trains, by the beginning of the names in the model; the value head waits for imagination.
TRAINED = ("dynamics.", "agent.policy.", "agent.reward.")


def make_phase(settings: Settings, device: torch.device) -> AgentPhase:
    """The phase as a run's settings have it."""
    return AgentPhase(settings)


def _by_distance(term: str, log_prob: Float[Tensor, "B T N"], counted: Bool[Tensor, "B T N"]) -> dict[str, PartialMean]:
    return {
        f"{term}/{n}": PartialMean.of(-log_prob[:, :, n], counted[:, :, n].to(log_prob.dtype))
        for n in range(log_prob.shape[2])
    }
