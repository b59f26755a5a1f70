"""Influences of tokens on the outputs of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.black_box import Segment
from dreamer4_conformance.instruments.layers import missing_token_influences
from dreamer4_conformance.instruments.subject import Subject


class FirstTokenFixed(Adapter):
    """Token 0 is the same in every example, so that its segment is left out; token 2 has no influence."""

    dtype = "float64"

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        x = np.random.default_rng(seed).standard_normal((batch, time, 3, 2))
        x[:, :, 0] = 1.0
        return {"x": x}

    def space_layer(self, x: np.ndarray) -> np.ndarray:
        return x * np.array([1.0, 1.0, 0.0])[:, None]


def test_a_segment_that_is_left_out_does_not_shift_the_others() -> None:
    segments = [Segment("x", (0, s)) for s in range(3)]
    needed = np.eye(3, dtype=bool)[:, None]
    missing = missing_token_influences(Subject(FirstTokenFixed()), "space_layer", segments, 1, needed)
    assert missing.tolist() == np.diag([False, False, True])[:, None].tolist()
