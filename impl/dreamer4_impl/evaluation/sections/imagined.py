"""Imagined returns of the policy and the behaviour-cloned prior, from the same recorded frames."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.evaluation.held_out import Clips
from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.results import SectionResult, SkippedError
from dreamer4_impl.generation.imagination import imagine
from dreamer4_impl.models.agent import Agent
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead


@torch.no_grad()
def imagined_returns(
    model: Dreamer4,
    prior: PolicyHead | None,
    contexts: Clips,
    options: ImagineOptions,
    rollouts: int,
    batch: int,
    seed: int,
) -> SectionResult:
    """Roll out policy and prior in the world model and compare their returns.

    A return is the discounted sum of predicted rewards, up to the predicted end if the agent has a head for ends;
    values are not used. Rollout i of the policy and rollout i of the prior share context and noise.

    Args:
        model: model with an agent, in evaluation mode.
        prior: behaviour-cloned policy head, or None if the checkpoint has none.
        contexts: recorded clips to start from; reused, with different noise, if there are fewer than rollouts.
        options: horizon, context, K and γ of imagination.
        rollouts: number of rollouts of each policy, 1 or more.
        batch: rollouts per batch, 1 or more.
        seed: seed of the noise, 0 or more.

    Returns:
        Measures `imagined.policy`, `imagined.prior` and `imagined.difference` (returns, the difference paired), and
        `imagined.kl` (KL of the policy to the prior in nats, mean over the states that the policy visits).

    Raises:
        SkippedError: if the model has no agent, or there is no prior.
        ValueError: if the actions do not have the shapes or names of the model.
    """
    if model.agent is None:
        raise SkippedError("the model has no agent")
    if prior is None:
        raise SkippedError(
            "the checkpoint has no prior in addition to its policy; training in the phase imagine adds one"
        )
    columns = []
    for first in range(0, rollouts, batch):
        numbers = range(first, min(first + batch, rollouts))
        selected = contexts.select([number % len(contexts) for number in numbers])
        columns.append(torch.stack(_paired(model, prior, selected, options, seed, numbers)))
    of_policy, of_prior, kl = torch.cat(columns, dim=1).double().cpu().numpy()
    result = SectionResult()
    result.measures["imagined.policy"] = estimate(lambda mean: mean, of_policy)
    result.measures["imagined.prior"] = estimate(lambda mean: mean, of_prior)
    result.measures["imagined.difference"] = estimate(lambda a, b: a - b, of_policy, of_prior)
    result.measures["imagined.kl"] = estimate(lambda mean: mean, kl, unit="nats")
    result.notes.append(
        f"{rollouts} pairs of rollouts of {options.horizon} frames; a pair shares its recorded frames and its noise; "
        f"{min(rollouts, len(contexts))} different contexts; γ = {options.gamma:g}."
    )
    return result


def predicted_returns(agent: Agent, h: Float[Tensor, "B H+1 W"], gamma: float) -> Float[Tensor, "B"]:
    """Sum the predicted rewards of rollouts, without values.

    Args:
        agent: heads of rewards and, possibly, ends.
        h: outputs of the agent token at the last recorded frame and at each imagined one, (B, H+1, W).
        gamma: discount factor of a frame, in [0, 1].

    Returns:
        Σ γᵗ rₜ for t in [0, H), rₜ weighted with the predicted probability that no end lies before it, (B,).

    Raises:
        TypeError: if h is not a floating-point tensor.
        ValueError: if h is not of shape (B, H+1, W).
    """
    rewards = agent.reward.predict(h[:, 1:])
    rewards = rewards * gamma ** torch.arange(rewards.shape[1], device=h.device)
    if agent.continues is not None:
        rewards[:, 1:] *= agent.continues.predict(h[:, 1:-1]).cumprod(1)
    return rewards.sum(1)


def _paired(
    model: Dreamer4, prior: PolicyHead, contexts: Clips, options: ImagineOptions, seed: int, numbers: Sequence[int]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Returns of the policy, returns of the prior, and KL of the policy to the prior."""
    assert model.agent is not None
    device, policy = model.dynamics.registers.device, model.agent.policy
    z, actions = model.tokenizer.encode(contexts.pixels(device)), contexts.actions_on(device)
    task = contexts.task.to(device) if model.dynamics.config.tasks else None
    keys, returns, kl = [("evaluation", number) for number in numbers], [], []
    for head in (policy, prior):
        h = imagine(model, head, z, actions, task, options, seed, keys).h
        returns.append(predicted_returns(model.agent, h, options.gamma))
        kl.append(policy.act(h[:, :-1]).kl(prior.act(h[:, :-1])).mean(1))
    return returns[0], returns[1], kl[0]
