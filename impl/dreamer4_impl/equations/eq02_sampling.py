"""Eq. (2), Sec. 2, p. 3, and Sec. 3.2, p. 6: Euler sampling of frames, with slightly corrupted context.

    z_{τ+d} = z_τ + v̂ d,   v̂ = (ẑ₁ − z_τ)/(1 − τ),   τ = 0, d, …, 1 − d,   d = 1/K,   z_0 ~ N(0, 1)

Read as: past frames carry 10 % noise (A9), labelled with the nearest grid level (A10) below 1 (A12) and d_min (A11);
that noise is drawn once for each frame and kept (A28).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.arguments import (
    require_between,
    require_floating,
    require_power_of_two,
    require_rank,
    require_shape,
)
from dreamer4_impl.constants import CONTEXT_LEVEL, K_MAX, SAMPLING_STEPS
from dreamer4_impl.equations.eq01_corruption import corrupt
from dreamer4_impl.equations.network_types import Actions, Network, index_actions, predict, require_actions
from dreamer4_impl.precision import compute_dtype


def context_label(context_level: float, k_max: int = K_MAX) -> float:
    """Nearest level of the grid {0, 1/k_max, …, 1 − 1/k_max} to the signal level of the context.

    >>> context_label(0.9), context_label(1.0)
    (0.90625, 0.984375)
    """
    require_power_of_two("k_max", k_max)
    require_between("context_level", context_level, 0.0, 1.0)
    return min(round(context_level * k_max), k_max - 1) / k_max


@torch.no_grad()
def sample_frame(
    network: Network,
    context: Float[Tensor, "B T S D"],
    num_steps: int = SAMPLING_STEPS,
    *,
    actions: Actions = None,
    generator: torch.Generator | None = None,
    k_max: int = K_MAX,
    context_level: float = CONTEXT_LEVEL,
    noise: Float[Tensor, "B S D"] | None = None,
) -> Float[Tensor, "B S D"]:
    """Sample the frame that follows `context` in `num_steps` evaluations of the network.

    Args:
        network: `network(z, tau, d, actions) -> z1_hat`, called on (B, T+1, S, D) with the new frame last.
        context: clean past frames; T may be 0. Gives shape, dtype and device.
        num_steps: K, a power of two up to k_max.
        actions: None, a tensor (B, T+1, …), or a tuple or mapping of such; handed to every call.
        generator: draws the start noise, then the context's; None is torch's global state.
        context_level: signal level of the corrupted context, in [0, 1]; 1 leaves it clean.
        noise: the start, in place of a standard normal draw.

    The frame is computed in float32 (float64 for float64) and returned in the dtype of `context`, in which the network
    is given it. Deterministic given the noise and the network; no gradient; compiles without graph breaks when
    `generator` is None; no host synchronisation. Each call gets a tensor of its own, never changed afterwards.

    >>> sample_frame(lambda z, tau, d, a: torch.full_like(z, 3.0), torch.zeros(1, 2, 1, 2)).tolist()
    [[[3.0, 3.0]]]
    """
    _check(context, num_steps, k_max)
    require_actions(actions, (context.shape[0], context.shape[1] + 1), "(B, T+1)")
    start = draw_start(context, generator) if noise is None else noise
    require_floating(noise=start)
    require_shape("noise", start, (context.shape[0], *context.shape[2:]), "(B, S, D)", like=context)
    past = corrupt_context(context, context_level, generator)
    return _denoise_last(network, past, start, num_steps, actions, k_max, context_label(context_level, k_max))


@torch.no_grad()
def generate(
    network: Network,
    context: Float[Tensor, "B T S D"],
    frames: int,
    num_steps: int = SAMPLING_STEPS,
    *,
    actions: Actions = None,
    generator: torch.Generator | None = None,
    k_max: int = K_MAX,
    context_level: float = CONTEXT_LEVEL,
) -> Float[Tensor, "B frames S D"]:
    """Sample `frames` frames one after the other, each on the context and the frames before it.

    Args:
        frames: how many, 1 or more.
        actions: as for `sample_frame`, for all T + frames timesteps: (B, T+frames, …).
        the others: as for `sample_frame`, whose numerical contract holds here too.

    A frame's corruption is drawn once, when it becomes context, and kept for all later frames.

    >>> generate(lambda z, tau, d, a: torch.full_like(z, 3.0), torch.zeros(1, 0, 1, 1), frames=2).flatten().tolist()
    [3.0, 3.0]
    """
    check_generation(context, frames, num_steps, actions, k_max)
    label = context_label(context_level, k_max)
    past, clean = corrupt_context(context, context_level, generator), []
    for time in range(context.shape[1] + 1, context.shape[1] + frames + 1):
        seen = index_actions(actions, (slice(None), slice(time)))
        clean.append(_denoise_last(network, past, draw_start(context, generator), num_steps, seen, k_max, label))
        past = torch.cat([past, corrupt_context(clean[-1][:, None], context_level, generator)], dim=1)
    return torch.stack(clean, dim=1)


def denoise(
    predict_clean: Callable[[Float[Tensor, "B S D"], int], Float[Tensor, "B S D"]],
    start: Float[Tensor, "B S D"],
    num_steps: int,
    dtype: torch.dtype,
) -> Float[Tensor, "B S D"]:
    """Move the start to a frame by K = num_steps Euler steps of Eq. (2).

    Args:
        predict_clean: (z_τ, index) → ẑ₁ at τ = index/K.
        start: z_0, in the dtype of the computation, in which the frame is kept between the steps.
        dtype: of the frame, and of what `predict_clean` is given.

    >>> denoise(lambda z, index: torch.full_like(z, 3.0), torch.zeros(1, 1, 1), 4, torch.float32)
    tensor([[[3.]]])
    """
    frame, d = start, 1 / num_steps
    for index in range(num_steps):
        z1_hat = predict_clean(frame.to(dtype), index)
        frame = frame + (z1_hat - frame) / (1 - index * d) * d
    return frame.to(dtype)


def _denoise_last(
    network: Network, past: Tensor, start: Tensor, num_steps: int, actions: Actions, k_max: int, label: float
) -> Float[Tensor, "B S D"]:
    """`denoise`, the network being given all of the past with the frame last."""
    levels, steps = _labels(past, num_steps, k_max, label)

    def predict_clean(frame: Tensor, index: int) -> Tensor:
        z = torch.cat([past, frame[:, None]], dim=1)
        return predict(network, z, levels[index], steps, actions)[:, -1]

    return denoise(predict_clean, start.to(compute_dtype(past)), num_steps, past.dtype)


def _labels(past: Tensor, num_steps: int, k_max: int, label: float) -> tuple[list[Tensor], Tensor]:
    """τ of each evaluation, and d, (B, T+1) each; made by fills on the device, so that the host never waits."""
    batch, time = past.shape[:2]
    steps = past.new_full((batch, time + 1), 1 / k_max, dtype=compute_dtype(past))
    steps[:, -1].fill_(1 / num_steps)
    levels = [torch.full_like(steps, label) for _ in range(num_steps)]
    for index, tau in enumerate(levels):
        tau[:, -1].fill_(index / num_steps)
    return levels, steps


def draw_start(context: Float[Tensor, "B T S D"], generator: torch.Generator | None) -> Float[Tensor, "B S D"]:
    """Standard normal start of the frame after `context`, in the dtype of the computation.

    >>> draw_start(torch.zeros(2, 0, 3, 4), None).shape
    torch.Size([2, 3, 4])
    """
    batch, _, space, channels = context.shape
    return torch.randn(
        (batch, space, channels), generator=generator, device=context.device, dtype=compute_dtype(context)
    )


def corrupt_context(
    frames: Float[Tensor, "B T S D"], level: float, generator: torch.Generator | None
) -> Float[Tensor, "B T S D"]:
    """Past frames at signal level `level`, their noise drawn here, once.

    >>> corrupt_context(torch.ones(1, 1, 1, 1), 1.0, None).item()
    1.0
    """
    compute = compute_dtype(frames)
    z0 = torch.randn(frames.shape, generator=generator, device=frames.device, dtype=compute)
    return corrupt(z0, frames, frames.new_full(frames.shape[:2], level, dtype=compute))


def check_generation(context: Tensor, frames: int, num_steps: int, actions: Actions, k_max: int) -> None:
    """Raise unless `frames` frames can be sampled after `context`.

    >>> check_generation(torch.zeros(1, 0, 2, 3), frames=2, num_steps=4, actions=None, k_max=64)
    """
    _check(context, num_steps, k_max)
    if frames < 1:
        raise ValueError(f"frames must be 1 or more; got {frames!r}")
    require_actions(actions, (context.shape[0], context.shape[1] + frames), "(B, T+frames)")


def _check(context: Tensor, num_steps: int, k_max: int) -> None:
    require_floating(context=context)
    require_rank("context", context, 4, "(B, T, S, D)")
    require_power_of_two("k_max", k_max)
    require_power_of_two("num_steps", num_steps)
    require_between("num_steps", num_steps, 1, k_max)
