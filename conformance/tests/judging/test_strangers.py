"""Mistakes are named in implementations with other shapes, fewer operations or further mistakes than the textbook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Status
from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import MISTAKES

#: Each takes ten seconds or more.
SLOW = pytest.mark.nightly


class LatentsBeforePatches(Adapter):
    """The time layer of an encoder with two latents before three patches: it adds the normalised patches again."""

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        return {"x_encoder": np.random.default_rng(seed).standard_normal((batch, time, 5, 6))}

    def block_zeroed(self, x: np.ndarray, kind: str) -> np.ndarray:
        if kind != "encoder.time":
            raise NotImplementedError(kind)
        normalised = x / np.sqrt(np.square(x).mean(-1, keepdims=True))
        return np.concatenate([x[:, :, :2], (x + normalised)[:, :, 2:]], 2)


class ActionsSeeActions(Adapter):
    """The mask of a frame without registers and agent, in which action tokens see action tokens only."""

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> np.ndarray:
        if kind != "dynamics" or not {"latent", "label", "action"}.issuperset(counts):
            raise ValueError(f"no mask for {kind} with {', '.join(counts)}")
        action = np.array([name == "action" for name, count in counts.items() for _ in range(count)])
        return action | ~action[:, None]


class ShortPrediction(Adapter):
    """Two of the constants, one of them wrong."""

    def constants(self) -> dict[str, float]:
        return {"gamma": 0.997, "mtp_length": 2}


class FreeLevels(MISTAKES["steps-inverse"].adapter):  # type: ignore[name-defined,misc]
    """P(d) ∝ 1/d, and levels that no mistake of the zoo draws."""

    def draw_level(self, generator: torch.Generator, d: Tensor) -> Tensor:
        return 0.9 * torch.rand(d.shape, generator=generator).to(d) ** 2


class OneStepPerBatch(TextbookEquations):
    """All timesteps of a batch have one step size, which is never 1."""

    def draw_exponent(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        finest = self.k_max.bit_length() - 1.0
        return (1 + self.draw_integer(generator, torch.full((1, 1), finest))).expand(batch, time)


class LossOfPredictions(
    MISTAKES["renoise-prediction"].adapter,  # type: ignore[name-defined,misc]
    MISTAKES["bootstrap-x-space"].adapter,  # type: ignore[name-defined,misc]
    MISTAKES["ramp-inverted"].adapter,  # type: ignore[name-defined,misc]
):
    """The loss of a model without actions, with three mistakes; the bootstrap term has no weight (declared, A7)."""

    conditional = False
    sample_frame = Adapter.sample_frame

    def __init__(self) -> None:
        super().__init__("noise", A7="flow")


class WithoutGradients(MISTAKES["ramp-inverted"].adapter):  # type: ignore[name-defined,misc]
    """A loss as a scalar without gradients, from which no single weight can be read."""

    def output_gradients(self, loss: Callable[[Callable[[Any], Any]], Any]) -> tuple[Any, None]:
        return loss(lambda output: output), None


def test_a_failure_is_reported_where_a_signature_cannot_be_measured() -> None:
    assert judge(Subject(WithoutGradients()), BY_ID["eq08.applied"], minimal=False).status is Status.FAIL


class FewBins(MISTAKES["twohot-mixed-space"].adapter):  # type: ignore[name-defined,misc]
    """63 bins."""

    num_bins = 63


class NarrowBins(Adapter):
    """Mouse movements in eleven bins of 0.7 pixels."""

    def mouse_class(self, movement: np.ndarray) -> np.ndarray:
        bins = np.clip(np.rint(movement / 0.7), -5, 5).astype(int) + 5
        return np.asarray(11 * bins[:, 0] + bins[:, 1])


class SpacedLevels(MISTAKES["levels-end-early"].adapter, MISTAKES["renoise-sampler"].adapter):  # type: ignore[name-defined,misc]
    """The prediction is mixed with new noise after each of the K levels, which are spread over [0, 0.9]."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return z1_hat if tau + d >= 1 else 0.9 * (tau + d) * z1_hat + (1 - 0.9 * (tau + d)) * torch.randn_like(z)

    def context_label(self, step: int, steps: int) -> float:
        return self.level_label(step, steps)


class LongSteps:
    """Steps of the sampler that no mistake of the zoo takes."""

    def move(self, z: Tensor, z1_hat: Tensor, tau: float, d: float, start: Tensor) -> Tensor:
        return z + 1.3 * d * (z1_hat - z)


class NoiseLabelsAndLongSteps(LongSteps, MISTAKES["sampler-labels-noise"].adapter):  # type: ignore[name-defined,misc]
    """Labels are noise levels."""


class TwoStepsAndLongSteps(LongSteps, MISTAKES["single-step-refused"].adapter):  # type: ignore[name-defined,misc]
    """K = 1 raises."""


def labels_ahead() -> Adapter:
    """All labels are those of the next level, and past frames are clean (declared, A9)."""
    adapter: Adapter = MISTAKES["all-labels-ahead"].adapter("signal", A9="none")
    return adapter


class TwoFramesOnly(MISTAKES["step-ignored"].adapter):  # type: ignore[name-defined,misc]
    """A model that refuses sequences of other lengths than two."""

    def __init__(self, refusal: Exception) -> None:
        super().__init__("signal")
        self.refusal = refusal

    def dynamics(self, z: Tensor, *inputs: Tensor) -> Any:
        if z.shape[1] != 2:
            raise self.refusal
        return super().dynamics(z, *inputs)


@pytest.mark.parametrize(
    "refusal", [pytest.param(ValueError("two frames"), marks=SLOW), NotImplementedError("two frames")]
)
def test_a_model_that_refuses_is_not_named_after_mistakes_that_raise_something_else(refusal: Exception) -> None:
    result = judge(Subject(TwoFramesOnly(refusal)), BY_ID["net.space-full"], minimal=False)
    assert (result.status, result.behaves_like) == (Status.FAIL, [])


@pytest.mark.parametrize(
    ("create", "clause", "names"),
    [
        (LatentsBeforePatches, "net.residual", "residual-doubled"),
        (ActionsSeeActions, "net.space-full", "actions-blind"),
        (ShortPrediction, "const.values", "constants-mtp-length"),
        pytest.param(FreeLevels, "eq04.step-law", "steps-inverse", marks=SLOW),
        (OneStepPerBatch, "eq04.step-support", "steps-no-one"),
        pytest.param(NoiseLabelsAndLongSteps, "eq02.calls", "sampler-labels-noise", marks=SLOW),
        pytest.param(TwoStepsAndLongSteps, "eq02.endpoint", "single-step-refused", marks=SLOW),
        pytest.param(labels_ahead, "eq02.calls", "all-labels-ahead", marks=SLOW),
        pytest.param(labels_ahead, "ctx.corruption", "all-labels-ahead", marks=SLOW),
        (SpacedLevels, "ctx.corruption", "context-label-current"),
        pytest.param(LossOfPredictions, "eq07.teacher-state", "renoise-prediction", marks=SLOW),
        pytest.param(LossOfPredictions, "eq07.bootstrap-value", "renoise-prediction, bootstrap-x-space", marks=SLOW),
        pytest.param(LossOfPredictions, "eq07.gradient", "renoise-prediction, bootstrap-x-space", marks=SLOW),
        pytest.param(LossOfPredictions, "eq08.applied", "ramp-inverted", marks=SLOW),
        (FewBins, "twohot.round-trip", "twohot-mixed-space"),
        (NarrowBins, "data.actions", "mouse-linear"),
    ],
)
def test_a_mistake_is_named_where_the_rest_differs(create: Callable[[], Adapter], clause: str, names: str) -> None:
    result = judge(Subject(create()), BY_ID[clause], minimal=False)
    assert ", ".join(result.behaves_like) == names
