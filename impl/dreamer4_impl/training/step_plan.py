"""Sec. 3.4 and 3.3: lengths of the batches, separate images, and the mixture of uniform and relevant sequences.

    T1 T1 T1 T1 T1 T1 T1 T2   T1 …            many short batches, every eighth of them long
    T2 T2 T2 …                                in the last tenth of the run, long ones only

Everything is a pure function of settings and step: it is the same in every process and after a resume.
"""

import math
from dataclasses import dataclass

import torch

from dreamer4_impl.checkpoints.settings import Batches, TrainingSettings
from dreamer4_impl.generation.draws import keyed_generator


@dataclass(frozen=True)
class StepPlan:
    """Samples of one step.

    Args:
        length: T, frames of a clip, 1 or more.
        image: for each of the B samples of the global batch, True if its frames are treated as separate images (A37).
        relevant: for each sample, True if it comes from the relevant sequences.

    Raises:
        ValueError: if there is no sample, the marks differ in number, or the length is below 1.

    >>> StepPlan(length=4, image=(True, False), relevant=(False, True)).samples
    2
    """

    length: int
    image: tuple[bool, ...]
    relevant: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.image) == len(self.relevant) > 0 or self.length < 1:
            raise ValueError(
                f"image and relevant must mark the same samples, at least one, and length be 1 or more; "
                f"got {len(self.image)}, {len(self.relevant)} and {self.length}"
            )

    @property
    def samples(self) -> int:
        """Number of samples.

        Returns:
            B, samples of the global batch.
        """
        return len(self.image)


def batch_length(step: int, steps: int, batches: Batches, short: int, long: int) -> int:
    """Length of the clips of a step.

    Args:
        step: from 0.
        steps: number of steps of the run, 1 or more.
        batches: how often batches are long.
        short: T1, frames of a short batch, 1 or more.
        long: T2, frames of a long batch, 1 or more.

    Returns:
        T1 or T2.

    Example:
        >>> [batch_length(step, 9, Batches(long_every=3, long_only=0.2), 64, 256) for step in range(9)]
        [64, 64, 256, 64, 64, 256, 64, 256, 256]
    """
    if step >= steps - round(batches.long_only * steps):
        return long
    every = batches.long_every
    return long if every and step % every == every - 1 else short


def marked(share: float, seed: int, step: int, size: int, purpose: str) -> tuple[bool, ...]:
    """Mark a share of the samples of a step at random positions.

    The number of marks is rounded so that the remainder carries over: of the first n samples of a run, counted through
    its steps, ⌊n · share⌋ are marked at the end of every step.

    Args:
        share: in [0, 1].
        seed: seed of the run, 0 or more.
        step: from 0.
        size: B, samples of a step, 1 or more.
        purpose: what is marked; different purposes have independent draws.

    Returns:
        B marks.

    Example:
        >>> [sum(marked(0.3, 0, step, 4, "image")) for step in range(5)]
        [1, 1, 1, 1, 2]
    """
    # The margin keeps 10 · 0.3 = 3 from being 2.9999….
    before, after = (math.floor(n * size * share + 1e-6) for n in (step, step + 1))
    order = torch.randperm(size, generator=keyed_generator(seed, "plan", step, purpose)).tolist()
    selected = set(order[: after - before])
    return tuple(sample in selected for sample in range(size))


def clip_lengths(settings: TrainingSettings) -> tuple[int, ...]:
    """Lengths of the clips of a run whose lengths alternate.

    Args:
        settings: settings of the run.

    Returns:
        All values of `batch_length` in the run, in ascending order.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> clip_lengths(TrainingSettings("dynamics", tiny(), steps=3, batches=Batches(long_only=0)))
        (4,)
    """
    # The lengths repeat with a period of long_every steps, up to the last steps, which all have the same length.
    steps = {*range(min(settings.steps, settings.batches.long_every + 1)), settings.steps - 1}
    short, long = settings.short_length, settings.model.long_length
    return tuple(sorted({batch_length(step, settings.steps, settings.batches, short, long) for step in steps}))


def plan_step(
    settings: TrainingSettings, step: int, *, length: int | None = None, relevant_share: float = 0.0
) -> StepPlan:
    """Plan a step: its length, which samples are separate images, which are relevant.

    Args:
        settings: settings of the run.
        step: from 0.
        length: T of every step, for a phase whose lengths do not alternate and that has no images; None alternates.
        relevant_share: share of the relevant samples, in [0, 1].

    Returns:
        The plan.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> plan_step(TrainingSettings("dynamics", tiny(), batches=Batches(size=2, image_share=0.5)), step=0).length
        4
    """
    batches, seed = settings.batches, settings.seed
    image_share = batches.image_share if length is None else 0.0
    if length is None:
        length = batch_length(step, settings.steps, batches, settings.short_length, settings.model.long_length)
    return StepPlan(
        length,
        marked(image_share, seed, step, batches.size, "image"),
        marked(relevant_share, seed, step, batches.size, "relevant"),
    )
