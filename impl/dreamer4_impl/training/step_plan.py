"""Sec. 3.4 and 3.3: lengths of the batches, separate images, and the mixture of uniform and relevant sequences.

    T1 T1 T1 T1 T1 T1 T1 T2   T1 …            many short batches, every eighth of them long
    T2 T2 T2 …                                at the end, the last tenth of the run, long ones only

All of it is a pure function of settings and step: every process, and a run that resumes, finds the same.
"""

import math

import torch

from dreamer4_impl.checkpoints.settings import Batches, Settings
from dreamer4_impl.generation.draws import keyed_generator
from dreamer4_impl.training.phase import Plan


def batch_length(step: int, steps: int, batches: Batches, short: int, long: int) -> int:
    """T1 or T2, frames of the clips of a step of a run of so many steps.

    >>> [batch_length(step, 9, Batches(long_every=3, long_only=0.2), 64, 256) for step in range(9)]
    [64, 64, 256, 64, 64, 256, 64, 256, 256]
    """
    if step >= steps - round(batches.long_only * steps):
        return long
    every = batches.long_every
    return long if every and step % every == every - 1 else short


def marked(share: float, seed: int, step: int, size: int, what: str) -> tuple[bool, ...]:
    """Mark a share of the samples of a step, at places drawn anew.

    The number of marks is the share rounded so that nothing is lost: over the first n samples of a run, counted through
    its steps, it is ⌊n · share⌋ wherever a step ends.

    >>> [sum(marked(0.3, 0, step, 4, "image")) for step in range(5)]
    [1, 1, 1, 1, 2]
    """
    # The margin keeps 10 · 0.3 = 3 from being 2.9999….
    before, after = (math.floor(n * size * share + 1e-6) for n in (step, step + 1))
    order = torch.randperm(size, generator=keyed_generator(seed, "plan", step, what)).tolist()
    chosen = set(order[: after - before])
    return tuple(sample in chosen for sample in range(size))


def plan_step(settings: Settings, step: int, *, length: int | None = None, relevant_share: float = 0.0) -> Plan:
    """The plan of a step: its length, which samples are separate images, which are relevant.

    Args:
        settings: of the run.
        step: from 0.
        length: of every step, where the phase does not alternate; there are no images then.
        relevant_share: of the samples.

    >>> from dreamer4_impl.models.presets import tiny
    >>> plan_step(Settings("dynamics", tiny(), batches=Batches(size=2, image_share=0.5)), step=0).length
    4
    """
    batches, seed = settings.batches, settings.seed
    image_share = batches.image_share if length is None else 0.0
    if length is None:
        length = batch_length(step, settings.steps, batches, settings.short_length, settings.model.long_length)
    return Plan(
        length,
        marked(image_share, seed, step, batches.size, "image"),
        marked(relevant_share, seed, step, batches.size, "relevant"),
    )
