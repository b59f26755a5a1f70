"""Eq. (5) and the running root mean square in plain PyTorch."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor


class Normaliser:
    """Callable n(name, value) that divides by the running RMS, an exponential average of squares.

    The average is corrected for its initial value and includes the current value.
    """

    decay: ClassVar[float] = 0.95

    def __init__(self) -> None:
        self.average: dict[str, float] = {}
        self.weight: dict[str, float] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """The value divided by the root of the estimate."""
        key, number = self.key(name), float(value)
        if self.takes(key, number):
            rate = 1 - self.decay
            self.average[key] = self.decay * self.average.get(key, 0.0) + rate * self.moment(key, number)
            self.weight[key] = self.decay * self.weight.get(key, 0.0) + rate
        return value / self.divisor(key, number)

    def key(self, name: str) -> str:
        """Key of the estimate that the term uses."""
        return name

    def takes(self, key: str, number: float) -> bool:
        """True if the value enters the estimate: NaN and infinities do not."""
        return abs(number) < float("inf")

    def moment(self, key: str, number: float) -> float:
        return number**2

    def divisor(self, key: str, number: float) -> float:
        """Root of the estimate; 1 before the first value."""
        mean_square = self.average.get(key, 0.0) / self.weight.get(key, 1.0)
        return mean_square**0.5 or 1.0


class Normalisation:
    """Loss normalisation and the sum of the tokenizer's terms."""

    rms_warmup: int = 200
    lpips_weight: ClassVar[float] = 0.2
    normaliser: ClassVar[type[Normaliser]] = Normaliser

    def loss_normalizer(self) -> Normaliser:
        return self.normaliser()

    def tokenizer_loss(self, mse: Tensor, lpips: Tensor) -> Tensor:
        return mse + self.lpips_weight * lpips
