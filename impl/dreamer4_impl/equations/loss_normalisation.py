"""Sec. 3.1, p. 5: loss terms are divided by running estimates of their root mean square.

    mₜ = ρ mₜ₋₁ + (1 − ρ) xₜ²,   nₜ = ρ nₜ₋₁ + (1 − ρ),   m₀ = n₀ = 0,   out = xₜ / √(mₜ/nₜ)

Read as (A24): ρ = 0.99, no epsilon, the estimate takes the current value in before it divides, and n corrects its
start, so that the first value comes out as ±1.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_between, require_device, require_floating, require_non_empty
from dreamer4_impl.constants import RMS_DECAY
from dreamer4_impl.precision import compute_dtype


class RunningRMS(nn.Module):
    """Divide each named loss term by the running root mean square of its own past values.

    Args:
        names: the loss terms; each has an estimate of its own.
        decay: ρ in [0, 1).

    The estimates are buffers, float32 or wider, saved and loaded with the module. In evaluation mode they stand still.
    Half-precision casts of a whole model would stall them, so they are refused at the next call.

    >>> normalise = RunningRMS(["flow", "reward"])
    >>> float(normalise("flow", torch.tensor(3.0)))
    1.0
    """

    mean_square: Tensor
    weight: Tensor

    def __init__(self, names: Iterable[str], decay: float = RMS_DECAY) -> None:
        """Start without an estimate for any of the names."""
        super().__init__()
        self.names = tuple(names)
        require_between("decay", decay, 0.0, 1.0)
        if decay == 1 or len(set(self.names)) != len(self.names):
            raise ValueError(f"decay must be below 1 and names distinct; got {decay!r} and {self.names!r}")
        self.decay = decay
        self.register_buffer("mean_square", torch.zeros(len(self.names)))
        self.register_buffer("weight", torch.zeros(len(self.names)))

    def forward(
        self, name: str, value: Float[Tensor, "*shape"], observed: Float[Tensor, "*any"] | None = None
    ) -> Float[Tensor, "*shape"]:
        """Take `value` into the estimate of `name` and divide it by the estimate's root.

        Args:
            name: one of `names`.
            value: a loss term, a scalar as a rule; of several values the mean square enters.
            observed: enters the estimate in place of the value: where `value` is one process's part of a term, the
                whole term.

        Returned in float32 (float64 for float64). Gradient flows through the value, not the divisor. A NaN or infinite
        value comes out as such, and what is not finite leaves the estimate alone. Where the estimate is zero or there is none yet, the
        divisor is 1. Deterministic; compiles without graph breaks; no host synchronisation.

        >>> float(RunningRMS(["flow"])("flow", torch.tensor(0.0)))
        0.0
        """
        require_floating(value=value)
        require_non_empty("value", value)
        require_device("value", value, like=self.mean_square)
        index = self._index(name)
        value = value.to(compute_dtype(value))
        observed = value if observed is None else observed.to(compute_dtype(observed))
        with torch.no_grad():
            if self.training:
                self._update(index, observed.square().mean().to(self.mean_square.dtype))
            rms = (self.mean_square[index] / self.weight[index]).sqrt()
            divisor = torch.where(rms > 0, rms, 1)
        return value / divisor

    def _update(self, index: int, square: Tensor) -> None:
        rate = (1 - self.decay) * square.isfinite().to(square.dtype)
        square = torch.where(square.isfinite(), square, 0)
        self.mean_square[index] += rate * (square - self.mean_square[index])
        self.weight[index] += rate * (1 - self.weight[index])

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"name must be one of {', '.join(map(repr, self.names))}; got {name!r}")
        if self.mean_square.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"RunningRMS must keep its estimates in float32 or float64; got {self.mean_square.dtype}")
        return self.names.index(name)
