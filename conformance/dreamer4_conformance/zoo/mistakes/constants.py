"""Mistakes in the default values."""

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("constants-gamma", clause="const.values", operations=("constants",), levels=SIGNAL)
class Gamma(TextbookEquations):
    """γ defaults to 0.99."""

    def constants(self) -> dict[str, float]:
        return {**super().constants(), "gamma": 0.99}


@mistake("constants-steps", clause="const.values", operations=("constants",), levels=SIGNAL)
class Steps(TextbookEquations):
    """64 sampling steps instead of 4."""

    def constants(self) -> dict[str, float]:
        return {**super().constants(), "num_steps": 64}


@mistake("constants-mtp-length", clause="const.values", operations=("constants",), levels=SIGNAL)
class MultiTokenLength(TextbookEquations):
    """L, the length of multi-token prediction, defaults to 2."""

    def constants(self) -> dict[str, float]:
        return {**super().constants(), "mtp_length": 2}
