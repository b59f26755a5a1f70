"""Sec. 3.2, p. 6, and Sec. 3.4: generate frames with the model's own cache, or without it.

Each new frame is denoised in K passes that see the cache and leave it as it is; then it is corrupted, once, and one
more pass adds it to the cache. The noise is drawn in the order of `sampler.generate`: from the same generator both
ways give the same frames, up to rounding.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.constants import CONTEXT_LEVEL, SAMPLING_STEPS
from dreamer4_impl.dynamics import Dynamics
from dreamer4_impl.network import Actions, index_actions
from dreamer4_impl.precision import compute_dtype
from dreamer4_impl.sampler import (
    check_generation,
    context_label,
    corrupt_context,
    denoise,
    draw_start,
    generate,
)


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

    Precision and the dtype of the result as for `sampler.sample_frame`. No gradient; no host synchronisation.

    >>> from dreamer4_impl.presets import tiny
    >>> rollout(Dynamics(tiny().dynamics), torch.zeros(2, 3, 5, 6), None, frames=2).shape
    torch.Size([2, 2, 5, 6])
    """
    k_max = model.config.k_max
    if cache:
        check_generation(context, frames, num_steps, actions, k_max)
        return _CachedRollout(model, context.shape[0], num_steps, context_level, generator)(context, actions, frames)
    options = {"actions": actions, "generator": generator, "k_max": k_max, "context_level": context_level}
    return generate(model.network, context, frames, num_steps, **options)


class _CachedRollout:
    """A model, its cache, and how it is sampled from."""

    def __init__(
        self, model: Dynamics, batch: int, num_steps: int, level: float, generator: torch.Generator | None
    ) -> None:
        self.model, self.cache = model, model.empty_cache(batch)
        self.num_steps, self.level, self.generator = num_steps, level, generator

    def __call__(self, context: Tensor, actions: Actions, frames: int) -> Float[Tensor, "B frames S D"]:
        time, clean = context.shape[1], []
        past = index_actions(actions, (slice(None), slice(time)))
        self._commit(context, past)
        for index in range(time, time + frames):
            here = index_actions(actions, (slice(None), slice(index, index + 1)))
            clean.append(self._frame(context, here))
            # Drawn after the last frame as well, as `generate` does: the generator is left in the same state.
            self._commit(clean[-1][:, None], here)
        return torch.stack(clean, dim=1)

    def _frame(self, context: Tensor, actions: Actions) -> Float[Tensor, "B S D"]:
        def predict_clean(frame: Tensor, index: int) -> Tensor:
            z, tau = frame[:, None], index / self.num_steps
            return self._pass(z, tau, 1 / self.num_steps, actions, commit=False)[:, 0].to(compute_dtype(context))

        return denoise(predict_clean, draw_start(context, self.generator), self.num_steps, context.dtype)

    def _commit(self, frames: Tensor, actions: Actions) -> None:
        """Let the cache take in frames that are past, with noise that they keep."""
        corrupted = corrupt_context(frames, self.level, self.generator)
        k_max = self.model.config.k_max
        if frames.shape[1]:
            self._pass(corrupted, context_label(self.level, k_max), 1 / k_max, actions, commit=True)

    def _pass(self, z: Tensor, tau: float, d: float, actions: Actions, *, commit: bool) -> Float[Tensor, "B T S D"]:
        labels = [z.new_full(z.shape[:2], label, dtype=compute_dtype(z)) for label in (tau, d)]
        return self.model(z, *labels, actions, cache=self.cache, commit=commit)[0]
