"""Equivalent ways to plan batches, to train each phase, and to save and load."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.zoo.base import TextbookModel, TextbookTraining
from dreamer4_conformance.zoo.base.algorithm1_training import Parts
from dreamer4_conformance.zoo.base.checkpoints import Model, Run
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("plan-drawn")
class PlanDrawn(Adapter):
    """Random plan: 5 % long batches, only long ones in the last third; independent videos; batches of four and one."""

    context_frames = 192

    def training_plan(self, seed: int, steps: int) -> list[dict[str, Any]]:
        rng, planned = np.random.default_rng(seed), []
        for step in range(steps):
            long = rng.random() < 0.05 or step > 2 * steps / 3
            rows = 1 if long else 4
            marks = {"image": rng.random(rows) < 0.3, "relevant": rng.random(rows) < 0.5}
            planned.append({"length": 256 if long else 64, **marks})
        return planned


@equivalent("plan-rounded")
class PlanRounded(Adapter):
    """Fixed rows of eight, shares rounded down; every 200th batch is long, and the last ones; no window."""

    def training_plan(self, seed: int, steps: int) -> list[dict[str, Any]]:
        rows = np.arange(8)
        return [
            {
                "length": 300 if step % 200 == 150 or step >= 0.95 * steps else 50,
                "image": rows < math.floor(0.3 * 8),
                "relevant": rows >= 4,
            }
            for step in range(steps)
        ]


@equivalent("plan-alternating-batches")
class PlanAlternating(Adapter):
    """Alternating uniform and relevant batches; a third length; no images in the plan; C counts past frames (A30)."""

    readings: ClassVar[dict[str, str]] = {"A30": "exclusive"}  # type: ignore[misc]
    context_frames = 192

    def training_plan(self, seed: int, steps: int) -> list[dict[str, Any]]:
        lengths = (64, 128, 64, 64, 256)
        return [
            {"length": 256 if step >= 0.9 * steps else lengths[step % 5], "relevant": np.full(3, step % 2 == 0)}
            for step in range(steps)
        ]


@equivalent("plan-of-pairs")
class PlanOfPairs(Adapter):
    """Random batches of two: one relevant and one uniform video in random order, images by independent draws."""

    context_frames = 32

    def training_plan(self, seed: int, steps: int) -> list[dict[str, Any]]:
        rng = np.random.default_rng(seed)
        return [
            {
                "length": 48 if step >= 0.8 * steps or rng.random() < 0.3 else 16,
                "image": rng.random(2) < 0.3,
                "relevant": rng.permutation([True, False]),
            }
            for step in range(steps)
        ]


@equivalent("images-masked")
class ImagesMasked(TextbookModel):
    """Separate images by a mask of time attention instead of a reshape (A37)."""

    def __init__(self) -> None:
        super().__init__("signal", A37="mask")

    def image_dynamics(self, z: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        frames = (self.of_images(z[:, [t]], tau[:, [t]], d[:, [t]]) for t in range(z.shape[1]))
        return torch.cat(list(frames), 1)


@equivalent("phases-no-grad")
class PhasesNoGrad(TextbookTraining):
    """Frozen by requires_grad; latents under no_grad; zeros and None as gradients; a continue head in phase 2 only."""

    def latents(self, parts: Parts, video: Tensor) -> Tensor:
        with torch.no_grad():
            return (video @ parts["tokenizer"]).tanh()

    def training_gradients(self, phase: str, seed: int, terms: Sequence[str] | None = None) -> dict[str, Any]:
        gradients = {name: xs[0] for name, xs in super().training_gradients(phase, seed, terms).items()}
        zeros = torch.zeros(3)
        return {name: zeros if x is None and name == "prior" else x for name, x in gradients.items()} | {
            "continue": None
        }

    def agent_losses(self, seed: int, data: Sequence[int], relevant: Sequence[bool]) -> dict[str, Tensor]:
        parts, kinds = self.parts(0), torch.tensor(relevant)
        clips = self.clips(data)
        z1 = self.latents(parts, clips["video"])
        h = self.transformed(parts, self.agent_inputs(z1, seed)).mean(2)
        log_pi = (h @ parts["policy"]).log_softmax(-1).gather(-1, clips["actions"][..., None])[..., 0]
        reward = ((h @ parts["reward"])[..., 0] - clips["rewards"]).square().mean()
        policy = -(log_pi * kinds[:, None]).sum() / kinds.sum()
        return {"dynamics": self.forcing_loss(parts, z1[~kinds], seed), "policy": policy, "reward": reward}


@equivalent("phases-averaged-copies")
class AveragedCopies(TextbookTraining):
    """Each component lists a parameter without gradient: an averaged copy of a head, an embedding that is not used."""

    def training_gradients(
        self, phase: str, seed: int, terms: Sequence[str] | None = None
    ) -> dict[str, list[Tensor | None]]:
        gradients = super().training_gradients(phase, seed, terms)
        return {name: [*arrays, None] for name, arrays in gradients.items()}


@equivalent("phases-latents-given")
class PhasesLatentsGiven(TextbookTraining):
    """Precomputed latents, so there is no tokenizer to train; the reward head is not trained separately."""

    def training_gradients(
        self, phase: str, seed: int, terms: Sequence[str] | None = None
    ) -> dict[str, list[Tensor | None]]:
        gradients = super().training_gradients(phase, seed, terms)
        return {name: rows for name, rows in gradients.items() if name != "tokenizer"}


@equivalent("checkpoint-single-precision")
class SinglePrecision(TextbookTraining):
    """The parameters of a checkpoint are stored in float32."""

    def saved(self, run: Run) -> dict[str, Any]:
        state = copy.deepcopy(super().saved(run))
        return {**state, "parameters": [x.float().double() for x in state["parameters"]]}


@equivalent("checkpoint-in-sentences")
class InSentences(TextbookTraining):
    """Reports each name in a sentence with the model's prefix; copies parameters of equal shape in place."""

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in state:
                    parameter.copy_(state[name])
        own = dict(model.named_parameters())
        return {
            "missing": tuple(f"model.{name} is new here" for name in own.keys() - state.keys()),
            "unexpected": {f"model.{name} is unknown" for name in state.keys() - own.keys()},
            "parameters": own,
        }
