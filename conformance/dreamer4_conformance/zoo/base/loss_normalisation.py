"""Eq. (5) and the running root mean square in plain PyTorch."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor


class Normaliser:
    """n(name, value):
    an exponential average of the square, corrected for its start, which takes the value in before it divides.
    """

    decay: ClassVar[float] = 0.95

    def __init__(self) -> None:
        self.average: dict[str, float] = {}
        self.weight: dict[str, float] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """The value over the root of the estimate."""
        key, number = self.key(name), float(value)
        if self.takes(key, number):
            rate = 1 - self.decay
            self.average[key] = self.decay * self.average.get(key, 0.0) + rate * self.moment(key, number)
            self.weight[key] = self.decay * self.weight.get(key, 0.0) + rate
        return value / self.divisor(key, number)

    def key(self, name: str) -> str:
        """Whose estimate it is."""
        return name

    def takes(self, key: str, number: float) -> bool:
        """Whether the value enters the estimate: NaN and infinities do not."""
        return abs(number) < float("inf")

    def moment(self, key: str, number: float) -> float:
        return number**2

    def divisor(self, key: str, number: float) -> float:
        """The root of the estimate; 1 where there is none."""
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
