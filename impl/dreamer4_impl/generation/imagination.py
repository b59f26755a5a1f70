"""Sec. 3.3: the world model as the policy's environment, and rollouts of the policy in it.

    a_t ~ π(· | h_t),   z_{t+1} ~ world model given a_t,   z_0, …: a recorded clip

Read as: h_t is the agent token's output in the pass that adds frame t to the past, so that it sees what the past holds, the
frame at the context's signal level; no further pass is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.equations.eq01_corruption import corrupt
from dreamer4_impl.equations.eq02_sampling import context_label, denoise
from dreamer4_impl.generation.draws import Key, normal_draws, uniform_draws
from dreamer4_impl.layers.actions import ActionValues
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead


@dataclass(frozen=True)
class Imagined:
    """B rollouts of H steps.

    Args:
        h: outputs of the agent token, at the last recorded frame and at each imagined one.
        actions: a_t by component, taken at h_t.
        z: the imagined frames.
    """

    h: Float[Tensor, "B H+1 W"]
    actions: dict[str, Shaped[Tensor, "B H ..."]]
    z: Float[Tensor, "B H S D"]


class Imagination:
    """The world model as the policy's environment, one frame after the other.

    Args:
        model: with an agent.
        options: K, and the level of the context.
        task: of each sequence; None for a model without tasks.
    """

    def __init__(self, model: Dreamer4, options: ImagineOptions, task: Tensor | None, batch: int) -> None:
        if task is None and model.dynamics.config.tasks:
            raise ValueError("task must say which of the model's tasks each sequence has, as h depends on it; got None")
        self.dynamics, self.options, self.task = model.dynamics, options, task
        self.k_max = model.config.dynamics.k_max
        self.cache = self.dynamics.empty_cache(batch)

    def remember(
        self, z: Float[Tensor, "B T S D"], noise: Float[Tensor, "B T S D"], actions: ActionValues
    ) -> Float[Tensor, "B W"]:
        """Add frames to the past, corrupted with this noise; h at the last of them."""
        level = torch.full(z.shape[:2], self.options.context_level, device=z.device)
        label = torch.full_like(level, context_label(self.options.context_level, self.k_max))
        z = corrupt(noise, z, level)
        _, h = self.dynamics(z, label, torch.full_like(label, 1 / self.k_max), actions, self.task, cache=self.cache)
        last: Tensor = h[:, -1]
        return last

    def next_frame(self, start: Float[Tensor, "B S D"], actions: ActionValues) -> Float[Tensor, "B S D"]:
        """Denoise the frame that the actions, (B, 1, …) each, lead to, from this noise."""
        d = torch.full((len(start), 1), 1 / self.options.steps, device=start.device)

        def predict_clean(frame: Tensor, index: int) -> Tensor:
            given = frame[:, None], index * d, d, actions, self.task
            z1_hat: Tensor = self.dynamics(*given, cache=self.cache, commit=False)[0]
            return z1_hat[:, 0].float()

        return denoise(predict_clean, start, self.options.steps, start.dtype)


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

    Args:
        model: its dynamics are the world.
        policy: who acts; the model's own, or another such as the prior.
        context: recorded latents, T of 1 or more.
        actions: those that led to them, (B, T, …) each.
        task: of each sequence; None for a model without tasks.
        options: horizon H, K, and the level of the context.
        seed, keys: what each sequence draws belongs to; the same keys give the same noise to every policy.

    In float32; no gradient.
    """
    world, horizon, device = Imagination(model, options, task, len(context)), options.horizon, context.device
    past, start, kept = (
        normal_draws(seed, keys, what, (length, *context.shape[2:])).to(device)
        for what, length in (("past", context.shape[1]), ("start", horizon), ("kept", horizon))
    )
    uniform = {
        part.name: uniform_draws(seed, keys, part.name, part.shape(1, horizon)[1:]).to(device)
        for part in policy.components
    }
    h, frames, taken = [world.remember(context, past, actions)], [], []
    for t in range(horizon):
        action = policy.act(h[-1][:, None]).quantile({name: u[:, t, None] for name, u in uniform.items()})
        frames.append(world.next_frame(start[:, t], action))
        h.append(world.remember(frames[-1][:, None], kept[:, t, None], action))
        taken.append(action)
    together = {name: torch.cat([action[name] for action in taken], dim=1) for name in uniform}
    return Imagined(torch.stack(h, dim=1), together, torch.stack(frames, dim=1))
