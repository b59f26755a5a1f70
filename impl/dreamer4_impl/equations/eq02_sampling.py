"""Eq. (2), Sec. 2, p. 3, and Sec. 3.2, p. 6: Euler sampling of frames, with slightly corrupted context.

    z_{τ+d} = z_τ + v̂ d,   v̂ = (ẑ₁ − z_τ)/(1 − τ),   τ = 0, d, …, 1 − d,   d = 1/K,   z_0 ~ N(0, 1)

Read as: past frames carry 10 % noise (A9), labelled with the nearest grid level (A10) below 1 (A12) and d_min (A11);
that noise is drawn once for each frame and stays the same (A28).
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

    Args:
        context_level: signal level in [0, 1].
        k_max: K_max, a power of two.

    Returns:
        The level, a multiple of 1/k_max below 1.

    Raises:
        ValueError: if an argument is out of range.

    Example:
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

    The frame is computed in float32 (float64 for float64); the network receives it in the dtype of `context`.
    Deterministic given the noise and the network; no gradient; compiles without graph breaks when `generator` is None;
    no host synchronisation. Each call of the network receives a new tensor that is not changed afterwards.

    Args:
        network: `network(z, tau, d, actions) -> z1_hat`, called on (B, T+1, S, D) with the new frame last.
        context: clean past frames, floating, (B, T, S, D); T may be 0. Determines shape, dtype and device of the
            result.
        num_steps: K, a power of two up to k_max.
        actions: None, a tensor (B, T+1, …), or a tuple or mapping of such; passed to every call.
        generator: source of the start noise, then of the context's; None is torch's global state.
        k_max: K_max, a power of two.
        context_level: signal level of the corrupted context, in [0, 1]; 1 leaves it clean.
        noise: start of the frame, floating, (B, S, D); None draws it from N(0, 1).

    Returns:
        The clean frame in the dtype of context, (B, S, D).

    Raises:
        TypeError: if context, noise or the network's output is not floating-point, or actions are not tensors.
        ValueError: if shapes or devices do not match, or a number is out of range.

    Example:
        >>> sample_frame(lambda z, tau, d, a: torch.full_like(z, 3.0), torch.zeros(1, 2, 1, 2)).tolist()
        [[[3.0, 3.0]]]
    """
    _require_sampling(context, num_steps, k_max)
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
    """Sample frames one after the other, each after the context and the frames before it.

    The noise of a frame is drawn once, when it becomes context, and stays the same for all later frames. The numerical
    contract is that of `sample_frame`.

    Args:
        network: `network(z, tau, d, actions) -> z1_hat`, called on (B, t+1, S, D) with the new frame last.
        context: clean past frames, floating, (B, T, S, D); T may be 0.
        frames: number of new frames, 1 or more.
        num_steps: K, a power of two up to k_max.
        actions: None, a tensor (B, T+frames, …), or a tuple or mapping of such; every call receives those of its
            frames.
        generator: source of the context's noise, then for each frame of its start and of its noise as context; None is
            torch's global state.
        k_max: K_max, a power of two.
        context_level: signal level of the corrupted context, in [0, 1]; 1 leaves it clean.

    Returns:
        The new clean frames in the dtype of context, (B, frames, S, D).

    Raises:
        TypeError: if context or the network's output is not floating-point, or actions are not tensors.
        ValueError: if shapes or devices do not match, or a number is out of range.

    Example:
        >>> generate(lambda z, tau, d, a: torch.full_like(z, 3.0), torch.zeros(1, 0, 1, 1), frames=2).flatten().tolist()
        [3.0, 3.0]
    """
    require_generation(context, frames, num_steps, actions, k_max)
    label = context_label(context_level, k_max)
    past, clean = corrupt_context(context, context_level, generator), []
    for time in range(context.shape[1] + 1, context.shape[1] + frames + 1):
        past_actions = index_actions(actions, (slice(None), slice(time)))
        start = draw_start(context, generator)
        clean.append(_denoise_last(network, past, start, num_steps, past_actions, k_max, label))
        past = torch.cat([past, corrupt_context(clean[-1][:, None], context_level, generator)], dim=1)
    return torch.stack(clean, dim=1)


def denoise(
    predict_clean: Callable[[Float[Tensor, "B S D"], int], Float[Tensor, "B S D"]],
    start: Float[Tensor, "B S D"],
    num_steps: int,
    dtype: torch.dtype,
) -> Float[Tensor, "B S D"]:
    """Integrate from noise to a frame by K Euler steps of Eq. (2).

    Args:
        predict_clean: `predict_clean(z_tau, index) -> z1_hat` at τ = index/K for index in [0, K), in the dtype of
            start; z_tau is passed in `dtype`.
        start: z_0, standard normal, in the dtype of the computation, (B, S, D).
        num_steps: K, 1 or more.
        dtype: dtype of the predictions' inputs and of the result.

    Returns:
        The frame in `dtype`, (B, S, D). Between the steps it has the dtype of start.

    Example:
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
    """`denoise` with a network that receives the whole past, with the frame last."""
    levels, steps = _labels(past, num_steps, k_max, label)

    def _predict_clean(frame: Tensor, index: int) -> Tensor:
        z = torch.cat([past, frame[:, None]], dim=1)
        return predict(network, z, levels[index], steps, actions)[:, -1]

    return denoise(_predict_clean, start.to(compute_dtype(past)), num_steps, past.dtype)


def _labels(past: Tensor, num_steps: int, k_max: int, label: float) -> tuple[list[Tensor], Tensor]:
    """τ of each evaluation, and d, (B, T+1) each; filled on the device, so that the host does not wait."""
    batch, time = past.shape[:2]
    steps = past.new_full((batch, time + 1), 1 / k_max, dtype=compute_dtype(past))
    steps[:, -1].fill_(1 / num_steps)
    levels = [torch.full_like(steps, label) for _ in range(num_steps)]
    for index, tau in enumerate(levels):
        tau[:, -1].fill_(index / num_steps)
    return levels, steps


def draw_start(context: Float[Tensor, "B T S D"], generator: torch.Generator | None) -> Float[Tensor, "B S D"]:
    """Draw the standard normal start of the frame after `context`.

    Args:
        context: past frames, (B, T, S, D); only shape, dtype and device are used.
        generator: source of the noise; None is torch's global state.

    Returns:
        Noise in float32 (float64 for float64), (B, S, D).

    Example:
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
    """Corrupt past frames to a signal level with noise that is drawn here.

    Args:
        frames: clean frames, floating, (B, T, S, D).
        level: signal level in [0, 1]; 1 leaves them clean.
        generator: source of the noise; None is torch's global state.

    Returns:
        The corrupted frames in the dtype of frames, (B, T, S, D).

    Raises:
        TypeError: if frames is not a floating-point tensor.
        ValueError: if frames lacks the axes (B, T, …).

    Example:
        >>> corrupt_context(torch.ones(1, 1, 1, 1), 1.0, None).item()
        1.0
    """
    compute = compute_dtype(frames)
    z0 = torch.randn(frames.shape, generator=generator, device=frames.device, dtype=compute)
    return corrupt(z0, frames, frames.new_full(frames.shape[:2], level, dtype=compute))


def require_generation(context: Tensor, frames: int, num_steps: int, actions: Actions, k_max: int) -> None:
    """Raise unless frames can be sampled after `context` with these arguments of `generate`.

    Args:
        context: clean past frames, (B, T, S, D).
        frames: number of new frames, 1 or more.
        num_steps: K, Euler steps of a frame, a power of two in [1, k_max].
        actions: None, a tensor (B, T+frames, …), or a tuple or mapping of such.
        k_max: K_max, a power of two.

    Raises:
        TypeError: if context is not floating-point or actions are not tensors.
        ValueError: if shapes do not match or a number is out of range.

    Example:
        >>> require_generation(torch.zeros(1, 0, 2, 3), frames=2, num_steps=4, actions=None, k_max=64)
    """
    _require_sampling(context, num_steps, k_max)
    if frames < 1:
        raise ValueError(f"frames must be 1 or more; got {frames!r}")
    require_actions(actions, (context.shape[0], context.shape[1] + frames), "(B, T+frames)")


def _require_sampling(context: Tensor, num_steps: int, k_max: int) -> None:
    require_floating(context=context)
    require_rank("context", context, 4, "(B, T, S, D)")
    require_power_of_two("k_max", k_max)
    require_power_of_two("num_steps", num_steps)
    require_between("num_steps", num_steps, 1, k_max)
