"""Mistakes in loss normalisation."""

from __future__ import annotations

from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookEquations
from dreamer4_conformance.zoo.base.loss_normalisation import Normaliser
from dreamer4_conformance.zoo.mistakes import mistake

NORMALISER = ("loss_normalizer",)


@mistake("rms-absent", clause="rms.normalise", operations=NORMALISER)
class RmsAbsent(TextbookEquations):
    """Loss terms are not normalised."""

    class normaliser(Normaliser):  # noqa: N801
        def divisor(self, key: str, number: float) -> float:
            return 1.0


@mistake("rms-square", clause="rms.normalise", operations=NORMALISER)
class RmsSquare(TextbookEquations):
    """Terms are divided by their mean square, without the root."""

    class normaliser(Normaliser):  # noqa: N801
        def divisor(self, key: str, number: float) -> float:
            return super().divisor(key, number) ** 2


@mistake("rms-mean", clause="rms.normalise", operations=NORMALISER)
class RmsMean(TextbookEquations):
    """Terms are divided by the mean of their absolute values instead of by their RMS."""

    class normaliser(Normaliser):  # noqa: N801
        def moment(self, key: str, number: float) -> float:
            return abs(number)

        def divisor(self, key: str, number: float) -> float:
            return super().divisor(key, number) ** 2


@mistake("rms-deviation", clause="rms.normalise", operations=NORMALISER)
class RmsDeviation(TextbookEquations):
    """Terms are divided by their standard deviation instead of by their RMS."""

    class normaliser(Normaliser):  # noqa: N801
        def __init__(self) -> None:
            super().__init__()
            self.means: dict[str, float] = {}

        def moment(self, key: str, number: float) -> float:
            mean = self.means[key] = self.decay * self.means.get(key, number) + (1 - self.decay) * number
            return (number - mean) ** 2


@mistake("rms-maximum", clause="rms.normalise", operations=NORMALISER)
class RmsMaximum(TextbookEquations):
    """Terms are divided by a decaying maximum instead of by their RMS."""

    class normaliser(Normaliser):  # noqa: N801
        def __init__(self) -> None:
            super().__init__()
            self.peaks: dict[str, float] = {}

        def divisor(self, key: str, number: float) -> float:
            peak = self.decay * self.peaks.get(key, 0.0)
            peak = self.peaks[key] = max(abs(number), peak) if self.takes(key, number) else peak
            return peak or 1.0


@mistake("rms-frozen", clause="rms.scale-free", operations=NORMALISER)
class RmsFrozen(TextbookEquations):
    """The estimate is no longer updated after its first 100 values."""

    class normaliser(Normaliser):  # noqa: N801
        def takes(self, key: str, number: float) -> bool:
            self.taken = getattr(self, "taken", 0) + 1
            return super().takes(key, number) and self.taken <= 100


@mistake("rms-floor", clause="rms.scale-free", operations=NORMALISER)
class RmsFloor(TextbookEquations):
    """The divisor never falls below 1.5."""

    class normaliser(Normaliser):  # noqa: N801
        def divisor(self, key: str, number: float) -> float:
            return max(1.5, super().divisor(key, number))


@mistake("rms-floor-one", clause="rms.normalise", operations=NORMALISER)
class RmsFloorOne(TextbookEquations):
    """The divisor never falls below 1, so that small losses are never scaled up."""

    class normaliser(Normaliser):  # noqa: N801
        def divisor(self, key: str, number: float) -> float:
            return max(1.0, super().divisor(key, number))


@mistake("rms-of-all-history", clause="rms.scale-free", operations=NORMALISER)
class RmsOfAllHistory(TextbookEquations):
    """The estimate is the mean over all values since the start, so that an early scale is never left behind."""

    class normaliser(Normaliser):  # noqa: N801
        def __call__(self, name: str, value: Tensor) -> Tensor:
            key, number = self.key(name), float(value)
            if self.takes(key, number):
                self.average[key] = self.average.get(key, 0.0) + self.moment(key, number)
                self.weight[key] = self.weight.get(key, 0.0) + 1
            return value / self.divisor(key, number)


@mistake("rms-current", clause="rms.not-self", operations=NORMALISER)
class RmsCurrent(TextbookEquations):
    """Each value is divided by its own magnitude."""

    class normaliser(Normaliser):  # noqa: N801
        def divisor(self, key: str, number: float) -> float:
            return abs(number) or 1.0


@mistake("rms-shared", clause="rms.separate", operations=NORMALISER)
class RmsShared(TextbookEquations):
    """All terms share one running RMS."""

    class normaliser(Normaliser):  # noqa: N801
        def key(self, name: str) -> str:
            return "all"


@mistake("rms-poisoned", clause="rms.poison", operations=NORMALISER)
class RmsPoisoned(TextbookEquations):
    """NaN and infinite values enter the estimate and remain there."""

    class normaliser(Normaliser):  # noqa: N801
        def takes(self, key: str, number: float) -> bool:
            return True
