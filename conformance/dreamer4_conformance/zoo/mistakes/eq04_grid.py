"""Mistakes in Eq. (4): the step sizes and the grid of signal levels."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake

SCHEDULE = ("sample_tau_d", "dynamics_loss")


@mistake("grid-free", clause="eq04.grid", operations=SCHEDULE)
class GridFree(TextbookEquations):
    """τ ~ U(0, 1), independent of d."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        return torch.rand(d.shape, generator=generator, device=d.device)


@mistake("grid-finest", clause="eq04.grid", operations=SCHEDULE)
class GridFinest(TextbookEquations):
    """τ is drawn from the finest grid, whatever d is."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        return super().draw_level(generator, torch.full_like(d, 1 / self.k_max))


@mistake("grid-wrong-end", clause="eq04.grid-range", operations=SCHEDULE)
class GridWrongEnd(TextbookEquations):
    """The grid includes clean data and excludes pure noise: it was not flipped with the convention."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        return super().draw_level(generator, d) + d


@mistake("grid-includes-one", clause="eq04.grid-range", operations=SCHEDULE)
class GridIncludesOne(TextbookEquations):
    """The grid includes τ = 1."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        return self.draw_integer(generator, 1 / d + 1) * d


@mistake("levels-low", clause="eq04.grid-law", operations=SCHEDULE)
class LevelsLow(TextbookEquations):
    """Low signal levels are drawn more often than high ones."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        share = torch.rand(d.shape, generator=generator, device=d.device)
        return (share**2 / d).floor().clamp(max=1 / d - 1) * d


@mistake("steps-inverse", clause="eq04.step-law", operations=SCHEDULE)
class StepsInverse(TextbookEquations):
    """P(d) ∝ 1/d: 1/d is drawn uniformly from the integers below 2 K_max and rounded down to a power of two."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return (self.draw_integer(generator, torch.full((batch, time), 2.0 * self.k_max - 1)) + 1).log2().floor()


@mistake("steps-no-one", clause="eq04.step-support", operations=SCHEDULE)
class StepsNoOne(TextbookEquations):
    """d = 1 is never drawn, and the other step sizes equally often: the end of `randint` is exclusive."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        exponent = super().draw_exponent(generator, batch, time)
        below_one = 1 + self.draw_integer(generator, torch.full((batch, time), self.k_max.bit_length() - 1.0))
        return torch.where(exponent == 0, below_one, exponent)


@mistake("steps-no-min", clause="eq04.step-support", operations=SCHEDULE)
class StepsNoMin(TextbookEquations):
    """d_min is never drawn, so the shortcut recursion has no base case."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        finest = self.k_max.bit_length() - 1
        return self.draw_integer(generator, torch.full((batch, time), float(finest)))


@mistake("small-batch-one-step", clause="eq04.step-support", operations=SCHEDULE)
class SmallBatchOneStep(TextbookEquations):
    """Timesteps are divided among the step sizes by integer division; the remainder, a small batch, has d = 1."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        sizes, count = self.k_max.bit_length(), batch * time
        exponent = torch.zeros(count)
        exponent[: count // sizes * sizes] = torch.arange(float(sizes)).repeat_interleave(count // sizes)
        return exponent[torch.randperm(count, generator=generator)].reshape(batch, time)


@mistake("steps-by-position", clause="eq04.step-law", operations=SCHEDULE)
class StepsByPosition(TextbookEquations):
    """Step sizes become finer along the sequence; only over all timesteps together are they equally frequent."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        position = (torch.arange(time) + torch.rand((batch, time), generator=generator)) / time
        return (position * self.k_max.bit_length()).floor().clamp(max=self.k_max.bit_length() - 1.0)


@mistake("steps-shared-by-frames", clause="eq04.granularity", operations=SCHEDULE)
class StepsSharedByFrames(TextbookEquations):
    """Two neighbouring timesteps share a step size, the first timestep apart."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return super().draw_exponent(generator, batch, time // 2 + 1).repeat_interleave(2, 1)[:, 1 : time + 1]


@mistake("steps-off-ladder", clause="eq04.step-support", operations=SCHEDULE)
class StepsOffLadder(TextbookEquations):
    """1/d is any integer up to K_max, not only powers of two."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return (self.draw_integer(generator, torch.full((batch, time), float(self.k_max))) + 1).log2()


@mistake("levels-by-position", clause="eq06.iid-levels", operations=SCHEDULE)
class LevelsByPosition(TextbookEquations):
    """τ decreases along the sequence, so that later frames are noisier."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        time = d.shape[1]
        position = (time - 1 - torch.arange(time, device=d.device) + torch.rand(d.shape, generator=generator)) / time
        return (position / d).floor().clamp(max=1 / d - 1) * d


@mistake("levels-by-horizon", clause="eq04.grid", operations=SCHEDULE)
class LevelsByHorizon(TextbookEquations):
    """Frames before a random horizon have τ = 0.9, those after it fall evenly to pure noise."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        batch, time = d.shape
        horizon = 1 + self.draw_integer(generator, torch.full((batch, 1), float(max(time - 1, 1))))
        distance = (torch.arange(time, device=d.device) - horizon).clamp(min=0)
        return 0.9 * (1 - distance / (time - 1 - horizon).clamp(min=1))


@mistake("first-frame-as-context", clause="eq04.grid", operations=SCHEDULE)
class FirstFrameAsContext(TextbookEquations):
    """The first frame is always trained as context: at τ = 0.9, off the grid, and with d_min."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        exponent = super().draw_exponent(generator, batch, time)
        exponent[:, :1] = self.k_max.bit_length() - 1
        return exponent

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        return torch.cat([torch.full_like(d[:, :1], 0.9), super().draw_level(generator, d)[:, 1:]], 1)


@mistake("levels-random-walk", clause="eq06.iid-levels", operations=SCHEDULE)
class LevelsRandomWalk(TextbookEquations):
    """τ follows a random walk along the sequence."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        start, drift = (torch.rand(shape, generator=generator) for shape in ((len(d), 1), d.shape))
        position = (start + 0.25 * (drift - 0.5).cumsum(1)) % 1
        return (position / d).floor().clamp(max=1 / d - 1) * d


@mistake("levels-periodic", clause="eq06.iid-levels", operations=SCHEDULE)
class LevelsPeriodic(TextbookEquations):
    """Timesteps t and t + 2 share their position on the grid."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        position = torch.rand((len(d), 2), generator=generator).repeat(1, -(-d.shape[1] // 2))[:, : d.shape[1]]
        return (position / d).floor() * d


@mistake("levels-shared-by-rows", clause="eq06.iid-levels", operations=SCHEDULE)
class LevelsSharedByRows(TextbookEquations):
    """The second half of a batch has the positions on the grid of the first half."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        half = -(-len(d) // 2)
        position = torch.rand((half, d.shape[1]), generator=generator).repeat(2, 1)[: len(d)]
        return (position / d).floor() * d


@mistake("levels-per-sequence", clause="eq04.granularity", operations=SCHEDULE)
class LevelsPerSequence(TextbookEquations):
    """One level for the whole sequence, rounded down to the grid of each timestep."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        position = torch.rand((len(d), 1), generator=generator, device=d.device)
        return (position / d).floor() * d


@mistake("global-rng", clause="eq04.generator", operations=("sample_tau_d",))
class GlobalRng(TextbookEquations):
    """The seed is ignored: draws come from one generator that continues from call to call."""

    shared = torch.Generator().manual_seed(0)

    def generator(self, seed: int) -> torch.Generator:
        return self.shared


@mistake("seed-fixed", clause="eq04.generator", operations=("sample_tau_d",))
class SeedFixed(TextbookEquations):
    """The draw is the same for every seed."""

    def generator(self, seed: int) -> torch.Generator:
        return super().generator(0)


@mistake("steps-frozen", clause="eq04.generator", operations=("sample_tau_d",))
class StepsFrozen(TextbookEquations):
    """The step sizes are the same for every seed; only the levels follow it."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return super().draw_exponent(super().generator(0), batch, time)
