"""Imagined returns: the policy against the behaviour-cloned prior, in the world model, from the same recorded frames."""

from torch import nn

from dreamer4_impl.evaluation.findings import Findings, SkippedError
from dreamer4_impl.evaluation.held_out import Clips
from dreamer4_impl.model import Dreamer4


def imagined_returns(
    model: Dreamer4,
    prior: nn.Module | None,
    clips: Clips,
    context: int,
    rollouts: int,
    frames: int,
    batch: int,
    seed: int,
) -> Findings:
    raise SkippedError("not yet")
