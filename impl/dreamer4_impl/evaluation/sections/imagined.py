"""Imagined returns: the policy against the behaviour-cloned prior, in the world model, from the same recorded frames."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.evaluation.held_out import Clips
from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.results import Findings, SkippedError
from dreamer4_impl.generation.imagination import imagine
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
) -> Findings:
    """`imagined.policy`, `imagined.prior`, `imagined.difference`: discounted sums of predicted rewards; `imagined.kl`.

    Args:
        model: with an agent, in evaluation mode.
        prior: the behaviour-cloned policy.
        contexts: recorded frames to start from.
        options: horizon, context, K and γ of imagination.
        rollouts: of each of the two; where there are fewer contexts, they serve again, with other noise.
        batch: rollouts at a time.
        seed: of the noise, which rollout i of the policy shares with rollout i of the prior.

    Nothing but the reward head is believed: values do not enter. The KL to the prior is the mean over the states that
    the policy visits, and its interval is over rollouts.
    """
    if model.agent is None:
        raise SkippedError("the model has no agent")
    if prior is None:
        raise SkippedError("the checkpoint has no prior beside its policy: the phase imagine adds one")
    columns = []
    for first in range(0, rollouts, batch):
        numbers = range(first, min(first + batch, rollouts))
        some = contexts.take([number % len(contexts) for number in numbers])
        columns.append(torch.stack(_paired(model, prior, some, options, seed, numbers)))
    of_policy, of_prior, kl = torch.cat(columns, dim=1).double().cpu().numpy()
    found = Findings()
    found.measures["imagined.policy"] = estimate(lambda mean: mean, of_policy)
    found.measures["imagined.prior"] = estimate(lambda mean: mean, of_prior)
    found.measures["imagined.difference"] = estimate(lambda a, b: a - b, of_policy, of_prior)
    found.measures["imagined.kl"] = estimate(lambda mean: mean, kl, unit="nats")
    found.notes.append(
        f"{rollouts} pairs of rollouts of {options.horizon} frames, each pair from the same recorded frames with the same "
        f"noise; {min(rollouts, len(contexts))} different contexts; γ = {options.gamma:g}."
    )
    return found


def _paired(
    model: Dreamer4, prior: PolicyHead, contexts: Clips, options: ImagineOptions, seed: int, numbers: Sequence[int]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Returns of policy and prior, and the policy's KL to the prior."""
    assert model.agent is not None
    device, policy = model.dynamics.registers.device, model.agent.policy
    z, actions = model.tokenizer.encode(contexts.pixels(device)), contexts.actions_on(device)
    task = contexts.task.to(device) if model.dynamics.config.tasks else None
    discount = options.gamma ** torch.arange(options.horizon, device=device)
    keys, returns, kl = [("evaluation", number) for number in numbers], [], []
    for head in (policy, prior):
        h = imagine(model, head, z, actions, task, options, seed, keys).h
        returns.append((model.agent.reward.predict(h[:, 1:]) * discount).sum(1))
        kl.append(policy.act(h[:, :-1]).kl(prior.act(h[:, :-1])).mean(1))
    return returns[0], returns[1], kl[0]
