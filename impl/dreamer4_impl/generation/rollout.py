"""Sec. 3.2, p. 6, and Sec. 3.4: generate frames with the model's own cache, or without it.

Each new frame is denoised in K passes that see the cache and leave it as it is; then it is corrupted, once, and one
more pass adds it to the cache. The noise is drawn in the order of `sampler.generate`: from the same generator both
ways give the same frames, up to rounding.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.constants import CONTEXT_LEVEL, SAMPLING_STEPS
from dreamer4_impl.equations.eq02_sampling import check_generation, generate
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
    """Sample `frames` frames one after the other, each on the context and the frames before it.

    Args:
        model: the dynamics. Its agent token, if any, is told no task, and nothing depends on it.
        context: clean past frames; T may be 0. Gives shape, dtype and device.
        actions: None, or the components of all T + frames timesteps, (B, T+frames, …).
        frames: how many, 1 or more.
        num_steps: K, a power of two up to the model's k_max.
        generator: where the noise comes from; None is torch's global state.
        cache: K + 1 passes over one frame for each frame, whatever came before; otherwise K passes over everything.
        context_level: signal level of the past, in [0, 1]; 1 leaves it clean.

    Precision and the dtype of the result as for `sampler.sample_frame`. No gradient; no host synchronisation, but for
    recording: with a cache on a GPU every call records a CUDA graph, which a `FrameDecoder` that is kept does once.

    >>> from dreamer4_impl.models.presets import tiny
    >>> rollout(Dynamics(tiny().dynamics), torch.zeros(2, 3, 5, 6), None, frames=2).shape
    torch.Size([2, 2, 5, 6])
    """
    k_max = model.config.k_max
    if cache:
        check_generation(context, frames, num_steps, actions, k_max)
        batch = context.shape[0]
        engine = FrameDecoder(model, batch, num_steps=num_steps, context_level=context_level, generator=generator)
        return engine.generate(context, actions, frames).to(context.dtype)
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
