"""Sec. 3.3: phase 3 of Algorithm 1, policy and value learning on imagined rollouts.

    policy: PMPO with the frozen prior (Eq. 11),   value: −ln p(R_t | h_t) of λ-returns (Eq. 10)

Only these two heads are trained. Read as: r_t is the reward of a_t, predicted at the frame that a_t leads to (A15), as
the reward head was trained (A32). The paper's heads do not predict the end of an episode, so c = 1. With a head for
ends, c_t is its probability at the same frame, and a state is weighted with the probability that no end lies before it.
A rollout from a frame at which its episode terminated has weight 0: no recording shows what follows such a frame.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer4_impl.checkpoints.settings import TrainingSettings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.eq10_lambda_return import advantages, lambda_returns, value_loss
from dreamer4_impl.equations.eq11_pmpo import frozen_prior, log_prob_and_kl
from dreamer4_impl.generation.imagination import Imagined, imagine
from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead
from dreamer4_impl.models.policy import Policy
from dreamer4_impl.training.phase import PartialMean, Phase
from dreamer4_impl.training.phases.dynamics import representation

TRAINED = ("agent.policy.", "agent.value.")
"""Prefixes of the parameters that imagination trains."""


def policy_weights(
    advantage: Float[Tensor, "B H"], weight: Float[Tensor, "B H"] | None = None
) -> dict[str, Float[Tensor, "B H"]]:
    """Weights of the three means of Eq. (11).

    Args:
        advantage: A, floating, (B, H); only its sign matters, and 0 belongs to D⁺.
        weight: weight of every state, 0 or above, floating, (B, H); None is 1.

    Returns:
        The weight of the state: "above" on D⁺, "below" on D⁻, "kl" everywhere; elsewhere 0.
    """
    weight = torch.ones_like(advantage) if weight is None else weight
    return {"above": weight * (advantage >= 0), "below": weight * (advantage < 0), "kl": weight}


def policy_means(
    policy: Policy,
    prior: Policy,
    actions: Mapping[str, Tensor],
    advantage: Float[Tensor, "B H"],
    weight: Float[Tensor, "B H"] | None = None,
) -> dict[str, PartialMean]:
    """Means of Eq. (11): ln π over D⁺ and over D⁻, and KL[π ‖ π_prior] over all states.

    Args:
        policy: π at every state, with a gradient.
        prior: π_prior at every state.
        actions: actions taken, by component, (B, H, …) each.
        advantage: A, floating, (B, H); only its sign matters.
        weight: weight of every state, 0 or above, floating, (B, H); None is 1.

    Returns:
        "above", "below" and "kl", in float32 (float64 for float64) with gradient.
    """
    log_prob, kl = log_prob_and_kl(policy.factors(), prior.factors(), policy.factor_actions(actions))
    weights, values = policy_weights(advantage, weight), {"above": log_prob, "below": log_prob, "kl": kl}
    return {name: PartialMean.from_values(values[name], weight) for name, weight in weights.items()}


def policy_term(means: Mapping[str, Tensor], alpha: float, beta: float) -> Float[Tensor, ""]:
    """Combine the three means of Eq. (11).

    Args:
        means: "above", "below" and "kl", scalars.
        alpha: weight of D⁺, in [0, 1].
        beta: weight β of the KL, 0 or more.

    Returns:
        Scalar loss term.

    Example:
        >>> means = {"above": torch.tensor(-2.0), "below": torch.tensor(-1.0), "kl": torch.tensor(0.5)}
        >>> policy_term(means, alpha=0.5, beta=1.0)
        tensor(1.)
    """
    return (1 - alpha) * means["below"] - alpha * means["above"] + beta * means["kl"]


class ImagineInputs(NamedTuple):
    """Rollouts and what the heads learn from them, without gradient.

    Args:
        imagined: rollouts of H steps.
        rewards: r_t for t in [0, H), predicted at the frame that a_t leads to, floating, (B, H).
        continues: c_t for t in [0, H), predicted at the same frame, floating, (B, H).
        returns: λ-returns R_t for t in [0, H), floating, (B, H).
        advantage: R_t − v_t, floating, (B, H).
        prior: π_prior at every state.
        weight: probability that the episode has not ended before the state or at it, floating, (B, H).
        policy_weight: the same where the policy is learned, and 0 in the first `value_steps` steps, floating, (B, H).
    """

    imagined: Imagined
    rewards: Float[Tensor, "B H"]
    continues: Float[Tensor, "B H"]
    returns: Float[Tensor, "B H"]
    advantage: Float[Tensor, "B H"]
    prior: Policy
    weight: Float[Tensor, "B H"]
    policy_weight: Float[Tensor, "B H"]


class ImaginePhase(Phase[ImagineInputs]):
    """Imagination training; see `phase.Phase`.

    Args:
        settings: settings of the run.
    """

    name = "imagine"
    term_names = ("policy", "value")

    def __init__(self, settings: TrainingSettings) -> None:
        super().__init__(settings)
        self.relevant_share, self.length = settings.agent.relevant_share, settings.imagine.context
        self._prior: nn.Module | None = None

    def trained(self, model: Dreamer4) -> Sequence[tuple[str, nn.Parameter]]:
        """List the parameters of the heads of policy and value.

        Args:
            model: the whole model.

        Returns:
            Parameters with their names in the model.
        """
        return [(name, parameter) for name, parameter in model.named_parameters() if name.startswith(TRAINED)]

    def companions(self, model: Dreamer4) -> Mapping[str, nn.Module]:
        """Create the prior, a frozen copy of the current policy.

        Args:
            model: model with the weights that the phase starts from.

        Returns:
            "prior".

        Raises:
            ValueError: if the model has no agent.
        """
        self._prior = frozen_prior(_agent(model).policy)
        return {"prior": self._prior}

    def inputs(
        self, model: Dreamer4, batch: Batch, step: int, indices: Sequence[int]
    ) -> tuple[ImagineInputs, dict[str, Tensor]]:
        """Roll the policy out from these samples.

        Args:
            model: the whole model, with an agent.
            batch: contexts with frames or latents.
            step: from 0.
            indices: indices of the samples in the global batch.

        Returns:
            Rollouts with their returns, and the counts of "above", "below", "kl" and "value".

        Raises:
            ValueError: if the model has no agent, or the batch has neither frames nor latents.
        """
        agent, options = _agent(model), self.settings.imagine
        keys = [(self.name, step, index) for index in indices]
        task = batch.task if model.config.dynamics.tasks else None
        z = representation(model, batch)
        lengths = None if batch.valid is None else batch.valid.sum(1)
        imagined = imagine(model, agent.policy, z, batch.actions, task, options, self.settings.seed, keys, lengths)
        begun = batch.continues if batch.valid is None else batch.continues | ~batch.valid
        inputs = self.evaluated(agent, imagined, begun.all(1))
        if step < options.value_steps:
            inputs = inputs._replace(policy_weight=torch.zeros_like(inputs.weight))
        weights = policy_weights(inputs.advantage, inputs.policy_weight)
        return inputs, {name: weights[name].sum() for name in weights} | {"value": inputs.weight.sum()}

    @torch.no_grad()
    def evaluated(self, agent: Agent, imagined: Imagined, begun: Bool[Tensor, " B"] | None = None) -> ImagineInputs:
        """Compute rewards, λ-returns (Eq. 10), advantages and the prior of rollouts.

        Args:
            agent: heads of reward and value.
            imagined: rollouts.
            begun: False where the episode has terminated before the rollout, bool, (B,); None is True.

        Returns:
            Inputs of `means`.

        Raises:
            TypeError: if rewards or values are not floating-point.
            ValueError: if shapes do not match.
        """
        assert isinstance(self._prior, PolicyHead), "companions() comes before the first step"
        options, h = self.settings.imagine, imagined.h
        rewards, value = agent.reward.predict(h[:, 1:]), agent.value.predict(h)
        continues = torch.ones_like(rewards) if agent.continues is None else agent.continues.predict(h[:, 1:])
        trajectory = rewards, value, continues, options.gamma, options.lam
        returns, advantage = lambda_returns(*trajectory), advantages(*trajectory)
        first = torch.ones_like(rewards[:, :1]) if begun is None else begun[:, None].to(rewards.dtype)
        weight = torch.cat([first, continues[:, :-1]], dim=1).cumprod(1)
        prior = self._prior.act(h[:, :-1])
        return ImagineInputs(imagined, rewards, continues, returns, advantage, prior, weight, weight)

    def means(self, model: Dreamer4, inputs: ImagineInputs) -> dict[str, PartialMean]:
        """Compute Eq. (10) and Eq. (11).

        Args:
            model: the whole model, with an agent.
            inputs: result of `inputs`.

        Returns:
            "above", "below", "kl" and "value"; for logging "reward", "return" and "entropy".

        Raises:
            TypeError: if returns are not floating-point.
            ValueError: if the model has no agent.
        """
        agent, states = _agent(model), inputs.imagined.h[:, :-1]
        policy = agent.policy.act(states)
        loss = value_loss(agent.value(states), inputs.returns, agent.value.twohot, reduction="none")
        return {
            **policy_means(policy, inputs.prior, inputs.imagined.actions, inputs.advantage, inputs.policy_weight),
            "value": PartialMean.from_values(loss, inputs.weight),
            "reward": PartialMean.from_values(inputs.rewards, inputs.weight),
            "return": PartialMean.from_values(inputs.returns, inputs.weight),
            "entropy": PartialMean.from_values(policy.entropy().detach(), inputs.weight),
        }

    def terms(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute Eq. (11), and select Eq. (10).

        Args:
            means: scalars by name.

        Returns:
            "policy" and "value".
        """
        options = self.settings.imagine
        return {"policy": policy_term(means, options.alpha, options.beta), "value": means["value"]}

    def combine(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Add up the terms, which share no parameters.

        Args:
            terms: normalised terms by name, scalars.

        Returns:
            Scalar loss.
        """
        return terms["policy"] + terms["value"]


def _agent(model: Dreamer4) -> Agent:
    if model.agent is None:
        raise ValueError("model must have an agent to imagine; its configuration has none")
    return model.agent
