"""Sec. 3.1, p. 5: loss terms are divided by running estimates of their root mean square.

    out = xₜ / √(mₜ₋₁/nₜ₋₁),   mₜ = ρ mₜ₋₁ + (1 − ρ) xₜ²,   nₜ = ρ nₜ₋₁ + (1 − ρ),   m₀ = n₀ = 0

Read as (A24): ρ = 0.99, no epsilon, n corrects for the start at 0, and a value is divided by the estimate from before
it. The divisors of a training step are therefore known before its losses. The first value is divided by its own root
mean square, so that it becomes ±1.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_between, require_device, require_floating, require_non_empty
from dreamer4_impl.constants import RMS_DECAY
from dreamer4_impl.precision import compute_dtype


class RunningRMS(nn.Module):
    """Divides each named loss term by the running root mean square of its past values.

    The estimates are buffers, float32 or wider, saved and loaded with the module. In evaluation mode they do not
    change. A cast of a whole model to half precision would stall them; the next call then raises TypeError.

    Args:
        names: distinct names of the loss terms; each has its own estimate.
        decay: ρ in [0, 1).

    Raises:
        ValueError: if names repeat or decay is out of range.

    Example:
        >>> normalise = RunningRMS(["flow", "reward"])
        >>> [float(normalise("flow", torch.tensor(value))) for value in (3.0, 6.0)]
        [1.0, 2.0]
    """

    mean_square: Tensor
    weight: Tensor

    def __init__(self, names: Iterable[str], decay: float = RMS_DECAY) -> None:
        super().__init__()
        self.names = tuple(names)
        require_between("decay", decay, 0.0, 1.0)
        if decay == 1 or len(set(self.names)) != len(self.names):
            raise ValueError(f"decay must be below 1 and names distinct; got {decay!r} and {self.names!r}")
        self.decay = decay
        self.register_buffer("mean_square", torch.zeros(len(self.names)))
        self.register_buffer("weight", torch.zeros(len(self.names)))

    def forward(self, name: str, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Divide `value` by the estimate of `name`, then update the estimate with it.

        Args:
            name: one of `names`.
            value: loss term, usually a scalar, half precision to float64; of several values the mean square enters.

        Returns:
            value / divisor(name, value), shaped like value, in float32 (float64 for float64); in evaluation mode
            value / divisor(name). Gradient flows through the value, not through the divisor. Deterministic; compiles
            without graph breaks; no host synchronisation.

        Raises:
            TypeError: if value is not floating-point, or the estimates were cast to half precision.
            ValueError: if value is empty or on another device than the estimates, or name is not one of `names`.

        Example:
            >>> float(RunningRMS(["flow"])("flow", torch.tensor(0.0)))
            0.0
        """
        require_floating(value=value)
        require_non_empty("value", value)
        require_device("value", value, like=self.mean_square)
        value = value.to(compute_dtype(value))
        if not self.training:
            return value / self.divisor(name)
        divided = value / self.divisor(name, value)
        self.update(name, value)
        return divided

    @torch.no_grad()
    def divisor(self, name: str, first: Float[Tensor, "*shape"] | None = None) -> Float[Tensor, ""]:
        """Current root mean square of a term.

        Args:
            name: one of `names`.
            first: value whose root mean square is taken if there is no estimate yet, floating, any shape; None is 1.

        Returns:
            Scalar of the estimates' dtype without gradient; 1 instead of a root mean square that is zero or not finite.

        Raises:
            TypeError: if the estimates were cast to half precision.
            ValueError: if name is not one of `names`.
        """
        index = self._index(name)
        square = self.mean_square[index] / self.weight[index]
        if first is not None:
            square = torch.where(self.weight[index] > 0, square, self._square(first))
        rms = square.sqrt()
        return torch.where((rms > 0) & rms.isfinite(), rms, 1)

    @torch.no_grad()
    def update(self, name: str, value: Float[Tensor, "*shape"]) -> None:
        """Update the estimate of a term; a value that is NaN or infinite leaves it unchanged.

        Args:
            name: one of `names`.
            value: loss term, floating, any shape; of several values the mean square enters.

        Raises:
            TypeError: if the estimates were cast to half precision.
            ValueError: if name is not one of `names`.
        """
        index = self._index(name)
        square = self._square(value)
        rate = (1 - self.decay) * square.isfinite().to(square.dtype)
        square = torch.where(square.isfinite(), square, 0)
        self.mean_square[index] += rate * (square - self.mean_square[index])
        self.weight[index] += rate * (1 - self.weight[index])

    def _square(self, value: Tensor) -> Tensor:
        return value.to(compute_dtype(value)).square().mean().to(self.mean_square.dtype)

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"name must be one of {', '.join(map(repr, self.names))}; got {name!r}")
        if self.mean_square.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"RunningRMS must keep its estimates in float32 or float64; got {self.mean_square.dtype}")
        return self.names.index(name)
