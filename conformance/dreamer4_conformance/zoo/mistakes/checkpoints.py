"""Mistakes in saving, resuming and loading."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookTraining
from dreamer4_conformance.zoo.base.checkpoints import Model, Run
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
RESUME = ("resume",)
LOAD = ("load_checkpoint",)


class Incomplete(TextbookTraining):
    """A checkpoint without the entry `lost`."""

    lost: ClassVar[str]

    def saved(self, run: Run) -> dict[str, Any]:
        return {name: value for name, value in super().saved(run).items() if name != self.lost}


@mistake("resume-without-optimiser", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutOptimiser(Incomplete):
    """The optimiser's moments are not restored."""

    lost = "optimiser"


@mistake("resume-without-random-state", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutRandomState(Incomplete):
    """The random state is not restored: noise and data of the first steps are drawn a second time."""

    lost = "random state"


@mistake("resume-without-rms", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutRMS(Incomplete):
    """The running RMS of the loss terms is not restored."""

    lost = "running RMS"


@mistake("resume-without-step", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutStep(Incomplete):
    """The step count is not restored, so the learning rate schedule restarts."""

    lost = "step"


@mistake("resume-optimiser-at-even-steps", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class OptimiserAtEvenSteps(TextbookTraining):
    """The optimiser's moments are saved with every second checkpoint only."""

    def saved(self, run: Run) -> dict[str, Any]:
        return {name: value for name, value in super().saved(run).items() if name != "optimiser" or run.step % 2 == 0}


@mistake("resume-without-average", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutAverage(Incomplete):
    """The running average of the parameters is not restored."""

    lost = "average"


@mistake("resume-without-parameters", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutParameters(Incomplete):
    """The parameters are not restored; everything else is."""

    lost = "parameters"


@mistake("resume-first-moments", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class FirstMoments(TextbookTraining):
    """The optimiser's moments are restored for the first parameter only."""

    def saved(self, run: Run) -> dict[str, Any]:
        saved = super().saved(run)
        moments = saved["optimiser"]["state"]
        saved["optimiser"]["state"] = {index: moments[index] for index in moments if index == 0}
        return saved


@mistake("resume-in-half-precision", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class HalfPrecision(TextbookTraining):
    """Parameters are saved in half precision."""

    def saved(self, run: Run) -> dict[str, Any]:
        state = super().saved(run)
        return {**state, "parameters": [x.to(torch.bfloat16).to(torch.float64) for x in state["parameters"]]}


@mistake("checkpoint-strict", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class Strict(TextbookTraining):
    """Loading fails for a checkpoint that lacks the step embedding."""

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        model.load_state_dict(state)
        return super().loaded(model, state)


class Unreported(TextbookTraining):
    """Loading leaves some of the names out of its report."""

    left_out: ClassVar[tuple[str, ...]]

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        return super().loaded(model, state) | {kind: [] for kind in self.left_out}


@mistake("checkpoint-silent", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class Silent(Unreported):
    """Missing and unexpected parameters are not reported."""

    left_out = ("missing", "unexpected")


@mistake("checkpoint-missing-only", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class MissingOnly(Unreported):
    """Unexpected parameters are dropped without being reported."""

    left_out = ("unexpected",)


@mistake("checkpoint-all-or-nothing", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class AllOrNothing(TextbookTraining):
    """If any name differs, no parameter is loaded; the differences are reported."""

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        if state.keys() != model.state_dict().keys():
            report = super().loaded(Model(1), state)
            return {**report, "parameters": model.state_dict()}
        return super().loaded(model, state)


@mistake("checkpoint-prefixed", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class Prefixed(TextbookTraining):
    """Names carry the prefix of a wrapped or compiled model, so that no parameter matches."""

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        return super().loaded(model, {f"_orig_mod.{name}": value for name, value in state.items()})
