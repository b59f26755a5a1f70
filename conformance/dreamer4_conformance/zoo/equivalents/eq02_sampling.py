"""Other ways to sample a frame by Eq. (2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, Network, TorchAdapter
from dreamer4_conformance.zoo.base import TextbookEquations, TextbookSampler
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("sampler-x-space")
class SamplerXSpace(TextbookSampler):
    """Each step as a mixture of state and prediction, without a velocity."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        """z + (ẑ1 − z)/(K − s)."""
        return torch.lerp(z, z1_hat, d / (1 - tau))


@equivalent("sampler-clamped")
class SamplerClamped(TextbookSampler):
    """Predictions and the returned frame are clamped to [−1, 1], the range of tanh latents."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return super().move(z, z1_hat.clamp(-1, 1), tau, d, start)

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        return super().sample_frame(network, context, num_steps, seed, actions).clamp(-1, 1)


@equivalent("sampler-first-action-empty")
class SamplerFirstActionEmpty(TextbookSampler):
    """The first frame of a sequence has no action, because the one before it is outside the sequence."""

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        return None if actions is None else torch.cat([torch.zeros_like(actions[:, :1]), actions[:, 1:]], dim=1)


@equivalent("sampler-noise-levels")
class SamplerNoiseLevels(TorchAdapter):
    """Noise levels from 1 to 0; context labels rounded to the nearest level; context noise drawn before the start."""

    level = "noise"

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        """dz/dσ = (z − ẑ1)/σ."""
        batch, time = context.shape[:2]
        past = context + 0.1 * (torch.randn_like(context) - context)
        z = torch.randn(batch, 1, *context.shape[2:]).to(context)
        d = torch.tensor([1 / self.k_max] * time + [1 / num_steps]).expand(batch, -1)
        for left in range(num_steps, 0, -1):
            label = [round(0.1 * self.k_max) / self.k_max] * time + [left / num_steps]
            sigma = torch.tensor(label).expand(batch, -1)
            z1_hat = network(torch.cat([past, z], 1), sigma, d, actions)[:, -1:]
            z = z - (z - z1_hat) / left
        return z[:, 0]


@equivalent("sampler-with-passes")
class SamplerWithPasses(TextbookSampler):
    """Prefill pass over the context and commit pass over the finished frame, as with a cache; labels rounded down."""

    def context_label(self, step: int, steps: int) -> float:
        return int(self.level_of_context() * self.k_max) / self.k_max

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        label = torch.full(context.shape[:2], self.context_label(0, num_steps))
        d = torch.full_like(label, 1 / self.k_max)
        if context.shape[1]:
            network(context, self.signal(label), d, None if actions is None else actions[:, :-1])
        frame = super().sample_frame(network, context, num_steps, seed, actions)
        network(frame[:, None], self.signal(torch.full((len(frame), 1), 0.875)), torch.ones(len(frame), 1), None)
        return frame


@equivalent("sampler-cropped")
class SamplerCropped(TextbookSampler):
    """A context of at most two frames, with their actions."""

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        recent = None if actions is None else actions[:, -3:]
        return super().sample_frame(network, context[:, -2:], num_steps, seed, recent)


@equivalent("sampler-frame-by-frame-cache")
class SamplerFrameByFrame(TextbookSampler):
    """The context is passed once, then only the new frame, as with a cache, to a network without one."""

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        if context.shape[1]:
            past = self.corrupt_context(context)
            tau, d = self.labels(past, 0, num_steps)
            network(past, self.signal(tau[:, :-1]), d[:, :-1], None if actions is None else actions[:, :-1])
        last = None if actions is None else actions[:, -1:]
        return super().sample_frame(network, context[:, :0], num_steps, seed, last)


@equivalent("sampler-prefill-by-frame")
class SamplerPrefillByFrame(TextbookSampler):
    """The context is passed frame by frame, then only the new frame, as with a cache."""

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        past = self.corrupt_context(context)
        tau, d = self.labels(past, 0, num_steps)
        for t in range(context.shape[1]):
            now = slice(t, t + 1)
            network(past[:, now], self.signal(tau[:, now]), d[:, now], None if actions is None else actions[:, now])
        last = None if actions is None else actions[:, -1:]
        return super().sample_frame(network, context[:, :0], num_steps, seed, last)


@equivalent("sampler-row-by-row")
class SamplerRowByRow(TextbookSampler):
    """One sequence after another, each in its own calls."""

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        frames = []
        for row in range(len(context)):
            its_actions = None if actions is None else actions[row : row + 1]
            frames.append(super().sample_frame(network, context[row : row + 1], num_steps, seed, its_actions))
        return torch.cat(frames)


@equivalent("sampler-unconditional")
class SamplerUnconditional(TorchAdapter):
    """No actions anywhere, and no sequence of fewer than two frames before the generated one."""

    def sample_frame(  # type: ignore[override]
        self, network: Network, context: Tensor, num_steps: int, seed: int
    ) -> Tensor:
        if context.shape[1] < 2:
            raise ValueError("the model needs two frames")
        return TextbookSampler().sample_frame(lambda z, tau, d, _: network(z, tau, d), context, num_steps, seed)


@equivalent("sampler-low-label")
class SamplerLowLabel(TextbookSampler):
    """Pure noise is labelled 0.001, embedded as level 0."""

    def level_label(self, step: int, steps: int) -> float:
        return max(step / steps, 0.001)


@equivalent("sampler-folded")
class SamplerFolded(TextbookSampler):
    """Tokens and channels side by side in one axis, from d instead of K, as a velocity in float64."""

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        d, shape = 1 / num_steps, context.shape[2:]
        past = self.corrupt_context(context)
        z = self.start_noise(context).flatten(1).double()
        for step in range(round(1 / d)):
            tau, label = self.labels(past, step, num_steps)
            frames = torch.cat([past, z.to(context).reshape(len(z), 1, *shape)], dim=1)
            z1_hat = network(frames, self.signal(tau), label, actions)[:, -1].flatten(1).double()
            z = z + d * (z1_hat - z) / (1 - step * d)
        return z.to(context).reshape(len(z), *shape)


@equivalent("sampler-context-generated")
def sampler_context_generated() -> Adapter:
    """Context noise drawn for every generated frame (A28)."""
    return TextbookSampler(A28="generated")


@equivalent("sampler-context-redrawn")
def sampler_context_redrawn() -> Adapter:
    """Context noise redrawn in each evaluation, labelled with the current step, at level 0.75 (A28, A11, A9)."""
    adapter = TextbookSampler(A28="evaluation", A11="current", A9="level")
    adapter.context_level = 0.75
    return adapter


@equivalent("sampler-context-clean")
def sampler_context_clean() -> Adapter:
    """Clean context, labelled as clean (A9, A12)."""
    return TextbookSampler(A9="none", A12="own")


@equivalent("textbook-bfloat16")
def textbook_bfloat16() -> Adapter:
    """The textbook sampler in bfloat16."""
    adapter = TextbookEquations()
    adapter.dtype = "bfloat16"
    return adapter


@equivalent("textbook-float64")
def textbook_float64() -> Adapter:
    """Everything in float64, in noise levels."""
    adapter = TextbookEquations("noise")
    adapter.dtype = "float64"
    return adapter


@equivalent("sampler-numpy")
class SamplerNumpy(Adapter):
    """NumPy, from a generator with this seed; one d per sequence, so the context has the current one (A11)."""

    readings = {"A11": "current"}  # noqa: RUF012

    def sample_frame(
        self, network: Network, context: np.ndarray, num_steps: int, seed: int, actions: np.ndarray | None = None
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        batch, time = context.shape[:2]
        noise = rng.standard_normal((batch, time + 1, *context.shape[2:])).astype(context.dtype)
        sequence = noise
        sequence[:, :-1] = 0.1 * noise[:, :-1] + 0.9 * context
        tau = np.full((batch, time + 1), round(0.9 * self.k_max) / self.k_max)
        for step in range(num_steps):
            tau[:, -1] = step / num_steps
            z1_hat = network(sequence.copy(), tau.copy(), np.full(batch, 1 / num_steps), actions)[:, -1]
            sequence[:, -1] += (z1_hat - sequence[:, -1]) / (num_steps - step)
        return sequence[:, -1]
