"""Assumptions of the tokenizer's checks: power of the fixed draws, exact labels, messages of the smoke calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.checks.minecraft_actions import mouse_axes
from dreamer4_conformance.checks.sec31_masks import ONE_MODALITY, THREE_MODALITIES, modalities
from dreamer4_conformance.checks.sec31_tokenizer import clamped
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.smoke_calls import smoke_failure
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.instruments.tokenizer import labelled_latents
from dreamer4_conformance.judging.check import CHECKS, Trial
from dreamer4_conformance.runner import judge
from dreamer4_conformance.verdicts import Deviation, Status
from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_reference.minecraft_actions import mouse_class, mu_law
from dreamer4_reference.sec31_patch_dropout import patch_dropout

LAWS = [check for check in CHECKS.values() if check.clause == "tok.mae-law" and check.needs == ("patch_dropout",)]


class Reference(Adapter):
    """The reference's patch dropout with p ~ U(0, `end`), from random stream `stream`."""

    end, stream = 0.9, 0

    def __init__(self, draw: str = "bernoulli") -> None:
        self.readings = {"A33": draw}

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> np.ndarray:
        rng = np.random.default_rng([seed, self.stream])
        if self.end == 0.9:
            return patch_dropout(rng, batch, time, patches, draw=self.readings["A33"])  # type: ignore[arg-type]
        return np.asarray(rng.random((batch, time, patches)) < self.end * rng.random((batch, time, 1)))


def rejected(adapter: Adapter, seed: int = 0) -> list[str]:
    """Messages of the checks of the law that reject an adapter."""
    sentences = []
    for law in LAWS:
        try:
            law.function(Subject(adapter), Trial(seed=seed))
        except Deviation as deviation:
            sentences.append(deviation.message)
    return sentences


@pytest.mark.parametrize("draw", ["bernoulli", "count"])
def test_law_of_the_paper_is_accepted_at_every_seed(draw: str) -> None:
    adapter = Reference(draw)
    for adapter.stream in range(10):
        assert not rejected(adapter, seed=adapter.stream)


@pytest.mark.parametrize("end", [0.4, 0.5, 0.8, 0.95, 1.0])
def test_different_range_of_p_is_rejected_at_every_seed(end: float) -> None:
    adapter = Reference()
    adapter.end = end
    for adapter.stream in range(3):
        assert any("p ~ U(0, 0.9)" in sentence or "drop all of" in sentence for sentence in rejected(adapter))


def test_kind_of_draw_that_is_not_declared_is_rejected() -> None:
    for draw, declared in (("bernoulli", "count"), ("count", "bernoulli")):
        adapter = Reference(draw)
        drawn = adapter.patch_dropout
        undeclared = Reference(declared)
        undeclared.patch_dropout = drawn  # type: ignore[method-assign]
        assert any("drop all of" in sentence for sentence in rejected(undeclared))


def test_law_that_drops_nothing_is_rejected() -> None:
    class Nothing(Adapter):
        def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> np.ndarray:
            return np.zeros((batch, time, patches), bool)

    assert len(rejected(Nothing())) >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_labels_of_latents_are_exact_and_all_different(dtype: torch.dtype) -> None:
    z = labelled_latents()
    assert np.array_equal(torch.tensor(z).to(dtype).double().numpy(), z)
    assert np.unique(z).size == z.size


@pytest.mark.parametrize(("scale", "expected"), [(0.3, False), (2.0, True), (4.0, True)])
def test_clamp_is_distinguished_from_a_tanh_of_any_slope(scale: float, expected: bool) -> None:
    x = scale * np.random.default_rng(0).standard_normal((256, 18))
    assert clamped(np.clip(x, -1, 1)) is expected
    for slope in (0.1, 1.0, 10.0, 100.0, 1e4):
        assert not clamped(np.tanh((slope * x).astype(np.float32)).astype(np.float64))


def test_edges_of_mouse_bins_are_located_in_any_unit() -> None:
    class Degrees(Adapter):
        unit = 1.0

        def mouse_class(self, movement: np.ndarray) -> np.ndarray:
            return mouse_class(np.asarray(movement, np.float64) / self.unit)

    companded = (2 * np.arange(5) + 1) / 10
    for Degrees.unit in (0.01, 1.0, 100.0):
        for axis in mouse_axes(Subject(Degrees())):
            assert mu_law(axis.edges / Degrees.unit) == pytest.approx(companded, abs=0.02)


def test_mask_of_one_modality_is_judged_with_one_modality() -> None:
    class OneModality(TextbookModel):
        def modality_mask(self, kind: str, modality: list[str], frame: torch.Tensor) -> torch.Tensor:
            if set(modality) - {"latent", "image"}:
                raise KeyError("sound")
            return super().modality_mask(kind, modality, frame)

    assert modalities(Subject(OneModality()), "encoder") == ONE_MODALITY
    assert modalities(Subject(TextbookModel()), "encoder") == THREE_MODALITIES


class IgnoresZ(TextbookModel):
    """The video is the same whatever z is."""

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return super().decode(torch.zeros_like(z))


def test_decoder_that_ignores_z_is_undecided() -> None:
    result = judge(Subject(IgnoresZ()), BY_ID["tok.bottleneck"], minimal=False)
    assert result.status is Status.INCONCLUSIVE
    assert "does not depend on z" in result.message


def test_frames_whose_pixels_are_all_clipped_are_undecided() -> None:
    class AllClipped(TextbookModel):
        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return (super().decode(z) > 0).to(z.dtype)

    for name in ("tok.causal", "tok.bottleneck"):
        assert judge(Subject(AllClipped()), BY_ID[name], minimal=False).status is not Status.PASS


CORRECT = TextbookModel()

WRONG: Mapping[str, Any] = {
    "encode": lambda video: CORRECT.encode(video)[:, 0],
    "decode": lambda z: CORRECT.decode(z)[:, 1:],
    "reconstruct": lambda video: None,
    "decode_step": lambda state, z: CORRECT.decode_step(state, z)[0],
    "modality_mask": lambda kind, modality, frame: CORRECT.modality_mask(kind, modality, frame).float(),
    "patch_dropout": lambda seed, batch, time, patches: CORRECT.patch_dropout(seed, batch, time, patches)[:, 0],
    "mae_replace": lambda tokens, mask, embedding: tokens[~mask],
    "patch_grid": lambda height, width: height * width // 256,
    "regroup": lambda z: z,
    "mouse_class": lambda movement: CORRECT.mouse_class(movement).float(),
}
SENTENCES: Mapping[str, str] = {
    "encode": "encode returned shape",
    "decode": "decode returned shape",
    "reconstruct": "reconstruct: video returned NoneType",
    "decode_step": "decode_step returned Tensor; it needs a pair",
    "modality_mask": "modality_mask returned float64 values; it needs booleans",
    "patch_dropout": "patch_dropout returned shape",
    "mae_replace": "mae_replace returned shape",
    "patch_grid": "patch_grid returned int; it needs a pair",
    "regroup": "regroup returned shape",
    "mouse_class": "mouse_class returned float64 values; it needs whole numbers",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_output_of_a_smoke_call_is_named(name: str) -> None:
    adapter = TorchAdapter()
    for helper in ("example", "decode_init"):
        setattr(adapter, helper, getattr(CORRECT, helper))
    setattr(adapter, name, WRONG[name])
    failure = smoke_failure(Subject(adapter), name)
    assert failure is not None
    assert failure.message.startswith(SENTENCES[name])
