"""Sec. 3.3: rollouts of the policy in the world model.

    a_t ~ π(· | h_t),   z_{t+1} ~ world model given a_t,   z_0, …: a recorded clip

Read as: h_t is the output of the agent token in the pass that commits frame t, so it reads the frame at the signal
level of the context; no further pass is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.generation.draws import Key, normal_draws, uniform_draws
from dreamer4_impl.generation.engine import FrameEngine
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead


@dataclass(frozen=True)
class Imagined:
    """B rollouts of H steps.

    Args:
        h: outputs of the agent token at the last recorded frame and at each imagined one, (B, H+1, W).
        actions: a_t for t in [0, H) by component, taken at h_t, int64, (B, H, …) each.
        z: imagined frames, (B, H, S, D).
    """

    h: Float[Tensor, "B H+1 W"]
    actions: dict[str, Shaped[Tensor, "B H ..."]]
    z: Float[Tensor, "B H S D"]


@torch.no_grad()
def imagine(
    model: Dreamer4,
    policy: PolicyHead,
    context: Float[Tensor, "B T S D"],
    actions: Mapping[str, Tensor],
    task: Tensor | None,
    options: ImagineOptions,
    seed: int,
    keys: Sequence[Key],
) -> Imagined:
    """Roll the policy out in the world model.

    Noise is float32, frames have the dtype of the parameters. Deterministic; no gradient; no graph is recorded.

    Args:
        model: model with an agent token; its dynamics are the environment.
        policy: head that chooses the actions, `model.agent.policy` or another such as the prior.
        context: recorded latent frames, T of 1 or more, (B, T, S, D).
        actions: components of the actions that led to them, (B, T, …) each.
        task: task of each sequence in [0, tasks), integer, (B,); None for a model without tasks.
        options: horizon H, K and the signal level of the context.
        seed: seed of the run.
        keys: key of the draws of each sequence, B in all; equal keys give equal noise to every policy.

    Returns:
        The rollouts.

    Raises:
        ValueError: if task is None and the model has tasks, or shapes do not match.
    """
    if task is None and model.dynamics.config.tasks:
        raise ValueError("task must hold the task of each sequence, because h depends on it; got None")
    engine = FrameEngine(model.dynamics, len(context), options.steps, options.context_level, task=task)
    horizon, device = options.horizon, context.device
    past_noise, start, noise = (
        normal_draws(seed, keys, label, (length, *context.shape[2:])).to(device)
        for label, length in (("past", context.shape[1]), ("start", horizon), ("kept", horizon))
    )
    uniform = {
        component.name: uniform_draws(seed, keys, component.name, component.shape(1, horizon)[1:]).to(device)
        for component in policy.components
    }
    h, frames, actions_taken = [_last(engine.commit(context, past_noise, actions))], [], []
    for t in range(horizon):
        action = policy.act(h[-1][:, None]).quantile({name: u[:, t, None] for name, u in uniform.items()})
        frames.append(engine.denoise(start[:, t], action))
        h.append(_last(engine.commit(frames[-1][:, None], noise[:, t, None], action)))
        actions_taken.append(action)
    by_component = {name: torch.cat([action[name] for action in actions_taken], dim=1) for name in uniform}
    return Imagined(torch.stack(h, dim=1), by_component, torch.stack(frames, dim=1))


def _last(h: Float[Tensor, "B T W"] | None) -> Float[Tensor, "B W"]:
    if h is None:
        raise ValueError("imagination needs a model with an agent token: dynamics.agent must be True; got False")
    return h[:, -1]
