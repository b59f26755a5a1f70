"""Sec. 3.3: phase 3 of Algorithm 1, policy and value learning on what the world model and the policy imagine.

    policy: PMPO with the frozen prior (Eq. 11),   value: −ln p(R_t | h_t) of λ-returns (Eq. 10)

Only these two heads are trained. Read as: r_t is what a_t brings, read from the frame that it leads to (A15), as the reward
head was taught (A32). The paper's heads do not predict the end of an episode, so that c = 1.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import Settings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.equations.eq10_lambda_return import advantages, lambda_returns, value_loss
from dreamer4_impl.equations.eq11_pmpo import frozen_prior, log_prob_and_kl
from dreamer4_impl.generation.imagination import Imagined, imagine
from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead
from dreamer4_impl.models.policy import Policy
from dreamer4_impl.training.phase import PartialMean, Plan
from dreamer4_impl.training.phases.dynamics import representation
from dreamer4_impl.training.step_plan import plan_step


def policy_means(
    policy: Policy, prior: Policy, actions: Mapping[str, Tensor], advantage: Float[Tensor, "B H"]
) -> dict[str, PartialMean]:
    """The three sums of Eq. (11): ln π over D⁺ and over D⁻, and KL[π ‖ π_prior] over all states.

    Args:
        policy: π at every state, with a gradient.
        prior: π_prior there.
        actions: those taken.
        advantage: A; its sign alone matters.
    """
    log_prob, kl = log_prob_and_kl(policy.factors(), prior.factors(), policy.factor_actions(actions))
    above, below = ((advantage >= 0).to(kl.dtype), (advantage < 0).to(kl.dtype))
    return {
        "above": PartialMean.of(log_prob, above),
        "below": PartialMean.of(log_prob, below),
        "kl": PartialMean.of(kl),
    }


def policy_term(means: Mapping[str, Tensor], alpha: float, beta: float) -> Float[Tensor, ""]:
    """Eq. (11) from its three means.

    >>> means = {"above": torch.tensor(-2.0), "below": torch.tensor(-1.0), "kl": torch.tensor(0.5)}
    >>> policy_term(means, alpha=0.5, beta=1.0)
    tensor(1.)
    """
    return (1 - alpha) * means["below"] - alpha * means["above"] + beta * means["kl"]


class ImaginePhase:
    """The part of imagination training in `phase.Phase`.

    Args:
        settings: of the run.
    """

    name = "imagine"
    term_names: tuple[str, ...] = ("policy", "value")
    one_mean = False
    notes: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._prior: nn.Module | None = None

    def prepare(self, model: Dreamer4, dataset: Dataset) -> None:
        """Nothing."""

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """The heads of policy and value."""
        return [(name, parameter) for name, parameter in model.named_parameters() if name.startswith(TRAINED)]

    def companions(self, model: Dreamer4) -> Mapping[str, nn.Module]:
        """The prior: a frozen copy of the policy as it is now."""
        self._prior = frozen_prior(_agent(model).policy)
        return {"prior": self._prior}

    def plan(self, step: int) -> Plan:
        """Contexts of one length, uniform and relevant ones as in agent finetuning."""
        share, length = self.settings.agent.relevant_share, self.settings.imagine.context
        return plan_step(self.settings, step, length=length, relevant_share=share)

    def means(self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]) -> dict[str, PartialMean]:
        """Eq. (10) and Eq. (11) on rollouts from these samples."""
        agent, options = _agent(model), self.settings.imagine
        keys = [(self.name, step, index) for index in indices]
        task = batch.task if model.config.dynamics.tasks else None
        z = representation(model, batch)
        imagined = imagine(model, agent.policy, z, batch.actions, task, options, self.settings.seed, keys)
        return self.head_means(agent, imagined)

    def head_means(self, agent: Agent, imagined: Imagined) -> dict[str, PartialMean]:
        """Eq. (10) and Eq. (11) on rollouts, and what they bring."""
        options, h, states = self.settings.imagine, imagined.h, imagined.h[:, :-1]
        assert isinstance(self._prior, PolicyHead), "companions() comes before the first step"
        logits = agent.value(h)
        with torch.no_grad():
            reward, value = agent.reward.predict(h[:, 1:]), agent.value.twohot.decode(logits)
            trajectory = reward, value, torch.ones_like(reward), options.gamma, options.lam
            returns, advantage = lambda_returns(*trajectory), advantages(*trajectory)
            prior = self._prior.act(states)
        policy = agent.policy.act(states)
        loss = value_loss(logits[:, :-1], returns, agent.value.twohot, reduction="none")
        return {
            **policy_means(policy, prior, imagined.actions, advantage),
            "value": PartialMean.of(loss),
            "reward": PartialMean.of(reward),
            "return": PartialMean.of(returns),
            "entropy": PartialMean.of(policy.entropy().detach()),
        }

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Eq. (11) and Eq. (10)."""
        options = self.settings.imagine
        return {"policy": policy_term(means, options.alpha, options.beta), "value": means["value"]}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Their sum; they share no parameters."""
        return terms["policy"] + terms["value"]


#: What imagination trains, by the beginning of the names in the model.
TRAINED = ("agent.policy.", "agent.value.")


def make_phase(settings: Settings, device: torch.device) -> ImaginePhase:
    """The phase as a run's settings have it."""
    return ImaginePhase(settings)


def _agent(model: Dreamer4) -> Agent:
    if model.agent is None:
        raise ValueError("model must have an agent to imagine; its configuration has none")
    return model.agent
