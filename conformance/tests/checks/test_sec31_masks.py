"""Adapters that have the mask of the tokenizer only, or of one frame only."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest

from dreamer4_conformance import Adapter, check_implementation
from dreamer4_conformance.checks.agent_token import check_mask_hides_the_agent_token_and_nothing_from_it
from dreamer4_conformance.checks.sec32_dynamics import check_mask_joins_all_tokens_of_a_frame
from dreamer4_conformance.clauses import BY_ID
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_conformance.verdicts import NotProvided, Status


class TokenizerMask(Adapter):
    """Its mask raises ValueError for the dynamics."""

    name = "tokenizer mask"
    dtype = "float64"

    def modality_mask(self, kind: str, modality: Any, frame: Any) -> np.ndarray:
        if kind == "dynamics":
            raise ValueError("this mask is the tokenizer's")
        return np.ones((len(modality), len(modality)), bool)


@pytest.mark.parametrize(
    "check",
    [
        check_mask_joins_all_tokens_of_a_frame,
        check_mask_hides_the_agent_token_and_nothing_from_it,
    ],
)
def test_mask_without_the_dynamics_is_not_provided(check: Callable[[Subject, Trial], None]) -> None:
    with pytest.raises(NotProvided, match="the tokenizer's"):
        check(Subject(TokenizerMask()), Trial())


class EncoderMaskOnly(TokenizerMask):
    """Its mask is that of the encoder; the decoder has none."""

    error: type[Exception] = NotImplementedError

    def modality_mask(self, kind: str, modality: Any, frame: Any) -> np.ndarray:
        if kind != "encoder":
            raise self.error("cross-attention needs no mask")
        names = np.array(modality)
        return ((names == "latent")[:, None] | (names[:, None] == names)) & (frame[:, None] == frame)


@pytest.mark.parametrize("error", [NotImplementedError, ValueError])
def test_mask_of_one_kind_is_judged_without_the_other(error: type[Exception]) -> None:
    adapter = EncoderMaskOnly()
    adapter.error = error
    clauses = [BY_ID["tok.encoder-mask"], BY_ID["tok.decoder-mask"]]
    assert [result.status for result in check_implementation(adapter, clauses)] == [Status.PASS, Status.NOT_PROVIDED]


class FrameMask(Adapter):
    """Its mask is that of one frame; in it, actions attend to actions alone, and patches to latents."""

    name = "mask of a frame"
    dtype = "float64"

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> np.ndarray:
        modality = np.repeat(list(counts), list(counts.values()))
        if kind == "dynamics":
            return (modality[:, None] != "action") | (modality == "action")
        return (modality == "latent") & np.ones((len(modality), 1), bool)


@pytest.mark.parametrize("clause", ["net.space-full", "tok.encoder-mask"])
def test_failing_mask_of_a_frame_is_that_of_the_call_that_is_shown(clause: str) -> None:
    [result] = check_implementation(FrameMask(), [BY_ID[clause]])
    assert result.status is Status.FAIL
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(result.reproduce, {"adapter": FrameMask()})
    assert printed.getvalue() == f"{np.array(result.got)}\n"
    assert np.shape(result.expected) == np.shape(result.got)


def test_mask_of_a_frame_says_nothing_of_later_frames() -> None:
    [result] = check_implementation(FrameMask(), [BY_ID["attn.causal"]])
    assert result.status is Status.NOT_PROVIDED
