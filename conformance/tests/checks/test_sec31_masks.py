"""An adapter whose mask covers the tokenizer only does not provide the mask of the dynamics."""

from __future__ import annotations

from collections.abc import Callable
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
