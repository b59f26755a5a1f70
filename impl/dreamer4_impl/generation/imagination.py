"""Sec. 3.3: rollouts of the policy in the world model.

    a_t ~ π(· | h_t),   z_{t+1} ~ world model given a_t,   z_0, …: a recorded clip

Read as: h_t is the output of the agent token in the pass that commits frame t, so it reads the frame at the signal
level of the context; no further pass is needed.

Contexts of different lengths start together at their first frames: the next frame of a sequence is a recorded one up to
the end of its context, and an imagined one from there on. No sequence attends to padding, and every call is for one
frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.equations.eq01_corruption import per_frame
from dreamer4_impl.generation.draws import Key, normal_draws, uniform_draws
from dreamer4_impl.generation.engine import FrameEngine
from dreamer4_impl.layers.actions import LABELLED
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead
from dreamer4_impl.transfer import to_device


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
    lengths: Int[Tensor, "B"] | None = None,
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
        seed: seed of the run, 0 or more.
        keys: key of the draws of each sequence, B in all; equal keys give equal noise to every policy.
        lengths: recorded frames of each context in [1, T], integer, (B,); the frames after them are padding. None is T
            for all. It commits the context in one call; with lengths, T − 1 further frames are denoised.

    Returns:
        The rollouts.

    Raises:
        ValueError: if task is None and the model has tasks, or shapes do not match.
    """
    if task is None and model.dynamics.config.tasks:
        raise ValueError("task must hold the task of each sequence, because h depends on it; got None")
    engine = FrameEngine(model.dynamics, len(context), options.steps, options.context_level, task=task)
    horizon, device = options.horizon, context.device
    draws = _draws(policy, context, horizon, seed, keys)
    recorded = _Recorded(context, draws.past, actions)
    time, first = context.shape[1], context.shape[1] if lengths is None else 1
    ends = torch.full((len(context), 1), time, device=device) if lengths is None else lengths[:, None]
    # The draws of imagined frame t belong to step t of a sequence, which comes later the longer its context is.
    draw = (torch.arange(first, time + horizon, device=device) - ends).clamp(0, horizon - 1)
    start, noise = _columns(draws.start, draw), _columns(draws.noise, draw)
    uniform = {name: _columns(u, draw) for name, u in draws.uniform.items()}
    h, frames, taken = [_last(engine.commit(*recorded.frames(slice(first))))], [], []
    for step in range(draw.shape[1]):
        taken.append(policy.act(h[-1][:, None]).quantile({name: u[:, step, None] for name, u in uniform.items()}))
        frames.append(engine.denoise(start[:, step], taken[-1]))
        following: _Frames = frames[-1][:, None], noise[:, step, None], taken[-1]
        if first + step < time:
            following = recorded.unless(first + step >= ends, first + step, following)
        h.append(_last(engine.commit(*following)))
    by_component = {name: torch.cat([action[name] for action in taken], dim=1) for name in uniform}
    own = ends - first + torch.arange(horizon + 1, device=device)
    return Imagined(
        _columns(torch.stack(h, dim=1), own),
        {name: _columns(values, own[:, :-1]) for name, values in by_component.items()},
        _columns(torch.stack(frames, dim=1), own[:, :-1]),
    )


class _Draws(NamedTuple):
    """Draws of B sequences: noise of recorded frames, first and committed noise of imagined ones, and of actions."""

    past: Float[Tensor, "B T S D"]
    start: Float[Tensor, "B H S D"]
    noise: Float[Tensor, "B H S D"]
    uniform: Mapping[str, Shaped[Tensor, "B H ..."]]


def _draws(policy: PolicyHead, context: Tensor, horizon: int, seed: int, keys: Sequence[Key]) -> _Draws:
    past, start, noise = (
        to_device(normal_draws(seed, keys, label, (length, *context.shape[2:])), context.device)
        for label, length in (("past", context.shape[1]), ("start", horizon), ("kept", horizon))
    )
    uniform = {
        component.name: uniform_draws(seed, keys, component.name, component.shape(1, horizon)[1:])
        for component in policy.components
    }
    return _Draws(past, start, noise, {name: to_device(draw, context.device) for name, draw in uniform.items()})


#: Frames, their noise, and the actions that led to them, as `FrameEngine.commit` takes them.
_Frames: TypeAlias = tuple[Tensor, Tensor, Mapping[str, Tensor]]


class _Recorded(NamedTuple):
    """Recorded frames of B sequences, with the noise that corrupts them and the actions that led to them."""

    context: Float[Tensor, "B T S D"]
    noise: Float[Tensor, "B T S D"]
    actions: Mapping[str, Tensor]

    def frames(self, rows: slice) -> _Frames:
        return self.context[:, rows], self.noise[:, rows], {name: x[:, rows] for name, x in self.actions.items()}

    def unless(self, imagined: Bool[Tensor, "B 1"], t: int, frames: _Frames) -> _Frames:
        """Recorded frame t of each sequence, or the imagined one of `frames`."""

        def _either(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(per_frame(imagined[:, 0], new), new, old.to(new.dtype))

        context, noise, actions = self.frames(slice(t, t + 1))
        labels = {LABELLED: torch.ones_like(imagined)} if LABELLED in actions else {}
        taken = {name: _either(x, actions[name]) for name, x in {**frames[2], **labels}.items()}
        return _either(frames[0], context), _either(frames[1], noise), taken


def _columns(x: Shaped[Tensor, "B N *rest"], index: Int[Tensor, "B M"]) -> Shaped[Tensor, "B M *rest"]:
    """Values at these indices of the second axis, separate for each sequence."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def _last(h: Float[Tensor, "B T W"] | None) -> Float[Tensor, "B W"]:
    if h is None:
        raise ValueError("imagination needs a model with an agent token: dynamics.agent must be True; got False")
    return h[:, -1]
