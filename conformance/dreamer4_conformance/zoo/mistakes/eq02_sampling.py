"""Mistakes in Eq. (2): sampling and its context."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.base.eq06_07_shortcut_forcing import Network
from dreamer4_conformance.zoo.mistakes import mistake

SAMPLER = ("sample_frame",)


@mistake("label-ahead", clause="eq02.calls", operations=SAMPLER)
class LabelAhead(TextbookEquations):
    """The network receives the level after the step instead of the level before it."""

    def level_label(self, step: int, steps: int) -> float:
        return (step + 1) / steps


@mistake("all-labels-ahead", clause="eq02.calls", operations=SAMPLER)
class AllLabelsAhead(TextbookEquations):
    """All frames, past ones too, are labelled with the level after the step, at most the last level of the grid."""

    def level_label(self, step: int, steps: int) -> float:
        return min((step + 1) / steps, 1 - 1 / self.k_max)

    def context_label(self, step: int, steps: int) -> float:
        return self.level_label(step, steps)


@mistake("levels-end-early", clause="eq02.calls", operations=SAMPLER)
class LevelsEndEarly(TextbookEquations):
    """The K levels are spread over [0, 0.9] instead of [0, 1]; after the last step the prediction is returned."""

    def level_label(self, step: int, steps: int) -> float:
        return 0.9 * step / steps

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return z1_hat if tau + d >= 1 else super().move(z, z1_hat, 0.9 * tau, 0.9 * d, start)


@mistake("sampler-labels-noise", clause="eq02.calls", operations=SAMPLER)
class SamplerLabelsNoise(TextbookEquations):
    """The sampler labels all frames with their noise levels, although the network was trained with signal levels."""

    def labels(self, past: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        tau, d = super().labels(past, step, steps)
        return 1 - tau, d


@mistake("label-finest-step", clause="eq02.calls", operations=SAMPLER)
class LabelFinestStep(TextbookEquations):
    """The step size passed to the network is always d_min, whatever the number of steps."""

    def step_label(self, steps: int) -> float:
        return 1 / self.k_max


@mistake("one-step-too-many", clause="eq02.calls", operations=SAMPLER)
class OneStepTooMany(TextbookEquations):
    """The network is evaluated K + 1 times."""

    def count(self, num_steps: int) -> int:
        return num_steps + 1


@mistake("renoise-sampler", clause="eq02.step", operations=SAMPLER)
class RenoiseSampler(TextbookEquations):
    """Each step mixes the prediction with fresh noise at the next level instead of an Euler step."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return (1 - tau - d) * torch.randn_like(z) + (tau + d) * z1_hat


@mistake("frozen-noise-sampler", clause="eq02.step", operations=SAMPLER)
class FrozenNoiseSampler(TextbookEquations):
    """Each step mixes the prediction with the initial noise at the next level instead of an Euler step."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return (1 - tau - d) * start + (tau + d) * z1_hat


@mistake("sampler-velocity", clause="eq02.step", operations=SAMPLER)
class SamplerVelocity(TextbookEquations):
    """The network's output is used as the velocity instead of as the prediction of z1."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return z + z1_hat * d


@mistake("sampler-unnormalised", clause="eq02.step", operations=SAMPLER)
class SamplerUnnormalised(TextbookEquations):
    """The velocity lacks its factor 1/(1 − τ)."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return z + (z1_hat - z) * d


@mistake("sampler-clipped", clause="eq02.step", operations=SAMPLER)
class SamplerClipped(TextbookEquations):
    """The state, noise included, is clipped to ±2 before every step."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return super().move(z.clamp(-2, 2), z1_hat, tau, d, start)


@mistake("steps-capped", clause="eq02.calls", operations=SAMPLER)
class StepsCapped(TextbookEquations):
    """No more than 8 steps are taken, whatever K is."""

    def count(self, num_steps: int) -> int:
        return min(num_steps, 8)


@mistake("stops-short", clause="eq02.endpoint", operations=SAMPLER)
class StopsShort(TextbookEquations):
    """The last step ends at signal level 0.9."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return super().move(z, z1_hat, tau, max(min(d, 0.9 - tau), 0.0), start)


@mistake("single-step-refused", clause="eq02.endpoint", operations=SAMPLER)
class SingleStepRefused(TextbookEquations):
    """Sampling with one step, K = 1, raises."""

    def count(self, num_steps: int) -> int:
        if num_steps == 1:
            raise ValueError("num_steps must be at least 2")
        return super().count(num_steps)


@mistake("sampler-unseeded", clause="eq02.deterministic", operations=SAMPLER)
class SamplerUnseeded(TextbookEquations):
    """The seed is ignored: the initial noise comes from one generator that continues from call to call."""

    shared = torch.Generator().manual_seed(0)

    def start_noise(self, context: Tensor) -> Tensor:
        return torch.randn((context.shape[0], *context.shape[2:]), generator=self.shared).to(context)


@mistake("start-uniform", clause="eq02.start-law", operations=SAMPLER)
class StartUniform(TextbookEquations):
    """The initial noise is uniform with mean 0 and variance 1, not normal."""

    def start_noise(self, context: Tensor) -> Tensor:
        return 12**0.5 * (torch.rand_like(super().start_noise(context)) - 0.5)


@mistake("start-shared", clause="eq02.start-law", operations=SAMPLER)
class StartShared(TextbookEquations):
    """Pairs of sequences in the batch start from the same noise."""

    def start_noise(self, context: Tensor) -> Tensor:
        return super().start_noise(context[::2]).repeat_interleave(2, dim=0)[: len(context)]


@mistake("start-shared-by-halves", clause="eq02.start-law", operations=SAMPLER)
class StartSharedByHalves(TextbookEquations):
    """The second half of the batch starts from the noise of the first half."""

    def start_noise(self, context: Tensor) -> Tensor:
        return super().start_noise(context[: -(-len(context) // 2)]).repeat(2, 1, 1)[: len(context)]


@mistake("start-seed-plus-row", clause="eq02.start-law", operations=SAMPLER)
class StartSeedPlusRow(TextbookEquations):
    """Row b is seeded with seed + b: the next seed repeats all rows but one."""

    def sample_frame(
        self, network: Network, context: Tensor, num_steps: int, seed: int, actions: Tensor | None = None
    ) -> Tensor:
        self._seed = seed
        return super().sample_frame(network, context, num_steps, seed, actions)

    def start_noise(self, context: Tensor) -> Tensor:
        generators = [torch.Generator().manual_seed(self._seed + row) for row in range(len(context))]
        return torch.stack([torch.randn(context.shape[2:], generator=g) for g in generators]).to(context)


@mistake("start-clipped", clause="eq02.start-law", operations=SAMPLER)
class StartClipped(TextbookEquations):
    """The initial noise is clipped to ±2.5."""

    def start_noise(self, context: Tensor) -> Tensor:
        return super().start_noise(context).clamp(-2.5, 2.5)


@mistake("start-from-last-frame", clause="eq02.start-law", operations=SAMPLER)
class StartFromLastFrame(TextbookEquations):
    """The initial noise contains the last frame of the context."""

    def start_noise(self, context: Tensor) -> Tensor:
        noise = super().start_noise(context)
        if not context.shape[1]:
            return noise
        last = context[:, -1] / context[:, -1].square().mean().sqrt().clamp(min=1e-3)
        return 0.8 * noise + 0.6 * last


@mistake("start-fixed", clause="eq02.start-law", operations=SAMPLER)
class StartFixed(TextbookEquations):
    """The initial noise is the same for every seed."""

    def start_noise(self, context: Tensor) -> Tensor:
        fixed = torch.Generator().manual_seed(0)
        return torch.randn((context.shape[0], *context.shape[2:]), generator=fixed).to(context)


@mistake("start-zero", clause="eq02.start-law", operations=SAMPLER)
class StartZero(TextbookEquations):
    """Sampling starts from zeros."""

    def start_noise(self, context: Tensor) -> Tensor:
        return torch.zeros_like(super().start_noise(context))


@mistake("actions-once", clause="eq02.actions", operations=SAMPLER)
class ActionsOnce(TextbookEquations):
    """Actions are passed to the first evaluation only."""

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        return actions if step == 0 or actions is None else torch.zeros_like(actions)


@mistake("actions-dropped", clause="eq02.actions", operations=SAMPLER)
class ActionsDropped(TextbookEquations):
    """The sampler passes no actions, although the loss does."""

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        return None


@mistake("actions-late", clause="eq02.actions", operations=SAMPLER)
class ActionsLate(TextbookEquations):
    """Every frame receives the action of the previous frame."""

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        return None if actions is None else actions.roll(1, dims=1)


@mistake("actions-past-dropped", clause="eq02.actions", operations=SAMPLER)
class ActionsPastDropped(TextbookEquations):
    """Actions are passed as classes, and those of past frames are dropped."""

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        if actions is None:
            return None
        classes = (actions[..., :1] > 0).to(actions) + 1
        classes[:, :-1] = 0
        return classes


@mistake("context-literal", clause="ctx.corruption", operations=SAMPLER)
class ContextLiteral(TextbookEquations):
    """The context is corrupted to 90 % noise."""

    def level_of_context(self) -> float:
        return 0.1


@mistake("context-label-mismatch", clause="ctx.corruption", operations=SAMPLER)
class ContextLabelMismatch(TextbookEquations):
    """The context is corrupted but labelled as clean."""

    def context_label(self, step: int, steps: int) -> float:
        return 1 - 1 / self.k_max


@mistake("context-label-current", clause="ctx.corruption", operations=SAMPLER)
class ContextLabelCurrent(TextbookEquations):
    """The context is labelled with the level of the frame being generated."""

    def context_label(self, step: int, steps: int) -> float:
        return step / steps


@mistake("context-added-noise", clause="ctx.corruption", operations=SAMPLER)
class ContextAddedNoise(TextbookEquations):
    """Noise is added to the context without scaling the signal down."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        return context + 0.1 * torch.randn_like(context)


@mistake("context-noise-shared", clause="ctx.corruption", operations=SAMPLER)
class ContextNoiseShared(TextbookEquations):
    """All frames of the context share one noise sample."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        level = torch.full_like(context[..., :1, :1], self.level_of_context())
        return self.mix(torch.randn_like(context[:, :1]).expand_as(context), context, level)


@mistake("context-noise-shared-by-sequences", clause="ctx.corruption", operations=SAMPLER)
class ContextNoiseSharedBySequences(TextbookEquations):
    """All sequences of the batch share the noise of their context."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        level = torch.full_like(context[..., :1, :1], self.level_of_context())
        return self.mix(torch.randn_like(context[:1]).expand_as(context), context, level)


@mistake("context-corrupted-twice", clause="ctx.corruption", operations=SAMPLER)
class ContextCorruptedTwice(TextbookEquations):
    """Noise is added to the context by the sampler, and again by the model: signal level 0.81, labelled 0.9."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        return super().corrupt_context(super().corrupt_context(context))


@mistake("context-noise-is-the-start", clause="ctx.corruption", operations=SAMPLER)
class ContextNoiseIsTheStart(TextbookEquations):
    """The noise of the last frame of the context is the initial noise of the generated frame."""

    def start_noise(self, context: Tensor) -> Tensor:
        self._start = super().start_noise(context)
        return self._start

    def corrupt_context(self, context: Tensor) -> Tensor:
        corrupted = super().corrupt_context(context)
        level = context.new_tensor(self.level_of_context())
        return torch.cat([corrupted[:, :-1], self.mix(self._start[:, None], context[:, -1:], level)], dim=1)


@mistake("context-step-label-changes", clause="ctx.corruption", operations=SAMPLER)
class ContextStepLabelChanges(TextbookEquations):
    """The step size of the context is labelled d_min in the first evaluation, and with the frame's d afterwards."""

    def labels(self, past: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        tau, d = super().labels(past, step, steps)
        return tau, d if step == 0 else torch.full_like(d, self.step_label(steps))


@mistake("context-clean-first", clause="ctx.fixed", operations=SAMPLER)
class ContextCleanFirst(TextbookEquations):
    """The first evaluation receives the uncorrupted context."""

    def past_of(self, past: Tensor, context: Tensor, step: int) -> Tensor:
        return context if step == 0 else self.corrupt_context(context) if step == 1 else past


@mistake("context-ignored", clause="ctx.used", operations=SAMPLER)
class ContextIgnored(TextbookEquations):
    """Past frames are replaced by zeros."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        return super().corrupt_context(torch.zeros_like(context))


@mistake("context-dropped", clause="ctx.used", operations=SAMPLER)
class ContextDropped(TextbookEquations):
    """Past frames are dropped: the network receives the generated frame only."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        return context[:, :0]

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        return None if actions is None else actions[:, -1:]


@mistake("context-last-frame", clause="ctx.used", operations=SAMPLER)
class ContextLastFrame(TextbookEquations):
    """Of the context only the last frame reaches the network."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        return super().corrupt_context(context[:, -1:])

    def actions_at_step(self, actions: Tensor | None, step: int) -> Tensor | None:
        return None if actions is None else actions[:, -2:]


@mistake("context-of-first-sequence", clause="ctx.used", operations=SAMPLER)
class ContextOfFirstSequence(TextbookEquations):
    """All sequences of a batch continue the context of the first one."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        return super().corrupt_context(context[:1].expand_as(context))


@mistake("context-dropped-at-batch-one", clause="ctx.used", operations=SAMPLER)
class ContextDroppedAtBatchOne(TextbookEquations):
    """The context of a single sequence is replaced by zeros."""

    def corrupt_context(self, context: Tensor) -> Tensor:
        return super().corrupt_context(context if len(context) > 1 else torch.zeros_like(context))
