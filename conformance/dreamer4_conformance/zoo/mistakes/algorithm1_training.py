"""Mistakes in the contents of batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel, TextbookTraining
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
PLAN = ("training_plan",)


@mistake("lengths-short-only", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class ShortOnly(TextbookTraining):
    """All batches are short (T1 frames); no batch is long."""

    def is_long(self, step: int, steps: int) -> bool:
        return False


@mistake("lengths-below-context", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class BelowContext(TextbookTraining):
    """Batches have 32 or 64 frames, so none is longer than the context."""

    short, long = 32, 64


@mistake("lengths-of-context", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class OfContext(TextbookTraining):
    """Long batches are exactly as long as the context, so none exceeds it."""

    long = 192


@mistake("lengths-long-first", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class LongFirst(TextbookTraining):
    """Training starts with long batches only and ends with short ones."""

    def is_long(self, step: int, steps: int) -> bool:
        return super().is_long(steps - 1 - step, steps)


@mistake("lengths-long-start", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class LongStart(TextbookTraining):
    """The first third of training has long batches only, although most of all batches are short."""

    def is_long(self, step: int, steps: int) -> bool:
        return super().is_long(step, steps) or 3 * step < steps


@mistake("lengths-no-long-end", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class NoLongEnd(TextbookTraining):
    """Short and long batches alternate to the end; training does not finish on long batches only."""

    long_only = 0.0


@mistake("lengths-two-stages", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class TwoStages(TextbookTraining):
    """Short batches only, then long batches only; the first stage has no long batch."""

    def is_long(self, step: int, steps: int) -> bool:
        return step >= (1 - self.long_only) * steps


@mistake("lengths-mostly-long", clause="train.batch-lengths", operations=PLAN, levels=SIGNAL)
class MostlyLong(TextbookTraining):
    """The ratio of short to long batches is inverted: seven of eight are long."""

    def is_long(self, step: int, steps: int) -> bool:
        return step % self.long_every != 0 or step >= (1 - self.long_only) * steps


@mistake("images-none", clause="train.images", operations=PLAN, levels=SIGNAL)
class NoImages(TextbookTraining):
    """No video is treated as separate images."""

    image_share = 0.0


@mistake("images-all", clause="train.images", operations=PLAN, levels=SIGNAL)
class AllImages(TextbookTraining):
    """Every video is treated as separate images."""

    image_share = 1.0


@mistake("images-share-inverted", clause="train.images", operations=PLAN, levels=SIGNAL)
class ImagesInverted(TextbookTraining):
    """70 % of the videos are treated as separate images instead of 30 %."""

    image_share = 0.7


@mistake("images-whole-batches", clause="train.images", operations=PLAN, levels=SIGNAL)
class WholeBatches(TextbookTraining):
    """30 % of the batches consist of images only, the rest of videos only."""

    def images(self, step: int) -> int:
        return self.batch if step % 10 < 3 else 0


@mistake("images-first-half", clause="train.images", operations=PLAN, levels=SIGNAL)
class ImagesFirstHalf(TextbookTraining):
    """60 % images in the first half of the run and none in the second: 30 % over the run."""

    def images(self, step: int) -> int:
        return 6 if step < 512 else 0


@mistake("images-in-short-batches", clause="train.images", operations=PLAN, levels=SIGNAL)
class ImagesInShortBatches(TextbookTraining):
    """Images are taken from short batches only, more of them, so that they are 30 % over the run."""

    long_every, long_only = 2, 0.1

    def images(self, step: int) -> int:
        return 0 if self.is_long(step, 1024) else 6 + (step % 3 > 0)


@mistake("images-see-each-other", clause="train.images", operations=("image_dynamics",), levels=SIGNAL)
class ImagesSeeEachOther(TextbookModel):
    """The images of a video are processed as one sequence, so time attention mixes them."""

    def image_dynamics(self, z: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        return self.of_images(z, tau, d)


@mistake("mixture-uniform-only", clause="train.data-mixture", operations=PLAN, levels=SIGNAL)
class UniformOnly(TextbookTraining):
    """All sequences are sampled uniformly; none is selected as relevant."""

    relevant_share = 0.0


@mistake("mixture-relevant-only", clause="train.data-mixture", operations=PLAN, levels=SIGNAL)
class RelevantOnly(TextbookTraining):
    """All sequences are relevant ones; none is sampled uniformly."""

    relevant_share = 1.0


@mistake("mixture-one-in-ten", clause="train.data-mixture", operations=PLAN, levels=SIGNAL)
class OneInTen(TextbookTraining):
    """Relevant sequences appear at their natural frequency in the data set, not in half of the batch."""

    def chosen(self, count: int, generator: torch.Generator) -> Tensor:
        return super().chosen(1 if count == self.batch // 2 else count, generator)


@mistake("mixture-annealed", clause="train.data-mixture", operations=PLAN, levels=SIGNAL)
class Annealed(TextbookTraining):
    """The share of relevant sequences grows from 0 to 1 during the run, so that it is 50 % over the run alone."""

    def training_plan(self, seed: int, steps: int) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed)
        planned = super().training_plan(seed, steps)
        counts = [round(self.batch * step / (steps - 1)) for step in range(steps)]
        return [row | {"relevant": self.chosen(n, generator)} for row, n in zip(planned, counts, strict=True)]
