"""Vectors of Eq. (5): the sum of the tokenizer's loss terms and its gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_reference.constants import LPIPS_WEIGHT
from dreamer4_reference.eq05_tokenizer_loss import tokenizer_loss
from vectors.vector import Vector, within

K = 4
"""That of the checks of eq05.combination, as the terms are."""


def vectors() -> Iterator[Vector]:
    """Both terms, each alone, and terms of different sizes."""
    for name, mse, lpips in (("both", 1.0, 1.0), ("mse", 2.5, 0.0), ("lpips", 0.0, 3.25), ("unequal", 0.015625, 16.0)):
        value = tokenizer_loss(mse, lpips)
        outputs = {
            "result": within(value, value, K),
            "gradient.mse": within(1.0, 1.0, K),
            "gradient.lpips": within(LPIPS_WEIGHT, LPIPS_WEIGHT, K),
        }
        inputs = {"mse": np.array(mse), "lpips": np.array(lpips)}
        yield Vector(name, "tokenizer_loss", "eq05.combination", inputs, outputs)
