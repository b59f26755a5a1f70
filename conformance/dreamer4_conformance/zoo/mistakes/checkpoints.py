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


@mistake("resume-without-average", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutAverage(Incomplete):
    """The running average of the parameters is not restored."""

    lost = "average"


@mistake("resume-without-parameters", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class WithoutParameters(Incomplete):
    """The parameters are not restored; everything else is."""

    lost = "parameters"


@mistake("resume-in-half-precision", clause="ckpt.complete", operations=RESUME, levels=SIGNAL)
class HalfPrecision(TextbookTraining):
    """Parameters are saved in half precision."""

    def saved(self, run: Run) -> dict[str, Any]:
        state = super().saved(run)
        return {**state, "parameters": state["parameters"].to(torch.bfloat16).to(torch.float64)}


@mistake("checkpoint-strict", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class Strict(TextbookTraining):
    """Loading fails for a checkpoint that lacks the step embedding."""

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        model.load_state_dict(state)
        return super().loaded(model, state)


@mistake("checkpoint-silent", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class Silent(TextbookTraining):
    """Missing and unexpected parameters are not reported."""

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        return {**super().loaded(model, state), "missing": [], "unexpected": []}


@mistake("checkpoint-missing-only", clause="ckpt.tolerant", operations=LOAD, levels=SIGNAL)
class MissingOnly(TextbookTraining):
    """Unexpected parameters are dropped without being reported."""

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        return {**super().loaded(model, state), "unexpected": []}


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
