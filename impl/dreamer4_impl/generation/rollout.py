"""Sec. 3.2, p. 6, and Sec. 3.4: generate frames with or without a cache.

With a cache, `FrameDecoder` runs K + 1 passes over each new frame; without one, `eq02_sampling.generate` runs K passes
over the whole sequence. Both draw noise in the same order: from the same generator they give the same frames, up to
rounding.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.constants import CONTEXT_LEVEL, SAMPLING_STEPS
from dreamer4_impl.equations.eq02_sampling import generate, require_generation
from dreamer4_impl.equations.network_types import Actions
from dreamer4_impl.generation.decoder import FrameDecoder
from dreamer4_impl.models.dynamics import Dynamics


@torch.no_grad()
def rollout(
    model: Dynamics,
    context: Float[Tensor, "B T S D"],
    actions: Actions,
    frames: int,
    num_steps: int = SAMPLING_STEPS,
    generator: torch.Generator | None = None,
    *,
    cache: bool = True,
    context_level: float = CONTEXT_LEVEL,
) -> Float[Tensor, "B frames S D"]:
    """Sample frames one after the other, each after the context and the frames before it.

    The precision is that of `eq02_sampling.sample_frame`. No gradient; no host synchronisation except while recording:
    with a cache on a GPU every call records a CUDA graph, a reused `FrameDecoder` only once.

    Args:
        model: dynamics. Its agent token, if any, gets no task; frames do not depend on it.
        context: clean past frames, floating, (B, T, S, D); T may be 0. Determines dtype and device of the result.
        actions: None, or the components of all T + frames timesteps, (B, T+frames, …) each.
        frames: number of new frames, 1 or more.
        num_steps: K, a power of two up to the model's k_max.
        generator: source of the noise, on the device of the model; None is torch's global state.
        cache: True runs K + 1 passes over one frame for each new frame; False runs K passes over the whole sequence.
        context_level: signal level of the past, in [0, 1]; 1 leaves it clean.

    Returns:
        The new clean frames in the dtype of context, (B, frames, S, D).

    Raises:
        TypeError: if a tensor has a wrong dtype, or an action component a wrong type.
        ValueError: if shapes, devices or names do not match, or a number is out of range.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> rollout(Dynamics(tiny().dynamics), torch.zeros(2, 3, 5, 6), None, frames=2).shape
        torch.Size([2, 2, 5, 6])
    """
    k_max = model.config.k_max
    if cache:
        require_generation(context, frames, num_steps, actions, k_max)
        batch = context.shape[0]
        decoder = FrameDecoder(model, batch, num_steps=num_steps, context_level=context_level, generator=generator)
        return decoder.generate(context, actions, frames).to(context.dtype)
    return generate(
        model.network,
        context,
        frames,
        num_steps,
        actions=actions,
        generator=generator,
        k_max=k_max,
        context_level=context_level,
    )
