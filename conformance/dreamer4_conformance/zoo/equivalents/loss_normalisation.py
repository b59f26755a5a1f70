"""Other ways to normalise loss terms and to combine those of the tokenizer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent


@equivalent("tokenizer-fused")
class TokenizerFused(TorchAdapter):
    """Eq. (5) as one fused operation."""

    def tokenizer_loss(self, mse: Tensor, lpips: Tensor) -> Tensor:
        return torch.add(mse, lpips, alpha=0.2)


@equivalent("rms-after")
class RmsAfter(TorchAdapter):
    """Decay 0.99 from 0 without correction, an epsilon under the root, updated after dividing; refuses NaN."""

    rms_warmup = 1000

    def loss_normalizer(self) -> Callable[[str, Tensor], Tensor]:
        """A closure over a dict of tensors."""
        squares: dict[str, Tensor] = {}

        def normalise(name: str, value: Tensor) -> Tensor:
            if not value.isfinite():
                raise FloatingPointError(f"{name} is {value}")
            estimate = squares.get(name, torch.zeros((), dtype=torch.float64))
            squares[name] = torch.lerp(estimate, value.detach().double().square(), 0.01)
            divisor: Tensor = (estimate + 1e-8).sqrt()
            return value / divisor

        return normalise


@equivalent("rms-first-value")
class RmsFirstValue(TorchAdapter):
    """Decay 0.9, initialised with the first value, an epsilon added to the root; NaN enters as 0."""

    rms_warmup = 120

    def loss_normalizer(self) -> Callable[[str, Tensor], Tensor]:
        """A closure over a dict of floats."""
        squares: dict[str, float] = {}

        def normalise(name: str, value: Tensor) -> Tensor:
            square = min(float(torch.nan_to_num(value.double(), posinf=0.0)) ** 2, 1e12)
            squares[name] = 0.9 * squares.get(name, square) + 0.1 * square
            divisor: float = squares[name] ** 0.5 + 1e-6
            return value / divisor

        return normalise


@equivalent("rms-window")
class RmsWindow(Adapter):
    """The root mean square of the last 100 finite values, in NumPy."""

    rms_warmup = 100

    def loss_normalizer(self) -> Callable[[str, Any], Any]:
        """A closure over a dict of windows."""
        windows: dict[str, deque[float]] = {}

        def normalise(name: str, value: Any) -> Any:
            window = windows.setdefault(name, deque(maxlen=100))
            if abs(float(value)) < float("inf"):
                window.append(float(value) ** 2)
            return value / max((sum(window) / max(len(window), 1)) ** 0.5, 1e-8)

        return normalise


@equivalent("rms-starts-at-one")
class RmsStartsAtOne(TorchAdapter):
    """Decay 0.999 from 1, which takes several of the declared warm-ups to fall to a small loss; a floor of 0.005."""

    rms_warmup = 3000

    def loss_normalizer(self) -> Callable[[str, Tensor], Tensor]:
        """A closure over a dict of floats."""
        squares: dict[str, float] = {}

        def normalise(name: str, value: Tensor) -> Tensor:
            if value.isfinite():
                squares[name] = 0.999 * squares.get(name, 1.0) + 0.001 * float(value) ** 2
            divisor: float = max(squares.get(name, 1.0) ** 0.5, 0.005)
            return value / divisor

        return normalise


@equivalent("rms-corrected-fast")
class RmsCorrectedFast(Adapter):
    """NumPy; decay 0.9 with bias correction, updated after dividing; the first value is returned as it is."""

    rms_warmup = 60

    def loss_normalizer(self) -> Callable[[str, Any], Any]:
        """A closure over sums of squares and of weights."""
        sums: dict[str, tuple[float, float]] = {}

        def normalise(name: str, value: Any) -> Any:
            total, weight = sums.get(name, (0.0, 0.0))
            divisor = math.sqrt(total / weight) if weight else 1.0
            if math.isfinite(value):
                sums[name] = 0.9 * total + 0.1 * float(value) ** 2, 0.9 * weight + 0.1
            return value / (divisor or 1.0)

        return normalise
