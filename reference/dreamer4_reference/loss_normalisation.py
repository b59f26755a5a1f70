"""Sec. 3.1, p. 5: every loss term is divided by a running estimate of its own root mean square.

    m ← 0.99 m + 0.01 L²,   rms = √(m / (1 − 0.99ⁿ)),   L ← L / rms          (n values so far, m = 0 at the start)

The paper gives no details. Read as (A24): an exponential average of the square with decay 0.99, corrected for its
initial value 0 (so the first value becomes ±1), updated *before* the division, and without an epsilon.
"""

import math
from dataclasses import dataclass, field


@dataclass
class RunningRMS:
    """Divide each loss term by the running root mean square of its own values.

    Args:
        decay: weight of the old average in each update, in (0, 1).
        mean_square: running average of the square by term, uncorrected; empty at the start.
        counts: number of finite values so far by term; empty at the start.

    Raises:
        ValueError: if decay lies outside (0, 1).

    Example:
        >>> normalise = RunningRMS()
        >>> normalise("mse", 8.0), normalise("lpips", 0.01)
        (1.0, 1.0)
    """

    decay: float = 0.99
    mean_square: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Require a decay between 0 (no memory) and 1 (no update)."""
        if not 0 < self.decay < 1:
            raise ValueError(f"RMS normalisation: decay is {self.decay}, but must lie between 0 and 1")

    def __call__(self, name: str, value: float) -> float:
        """Update the estimate of one term with a value and return the value divided by the estimate.

        Args:
            name: name of the loss term; each name has its own estimate.
            value: the term's current value. NaN and infinity do not update the estimate and stay NaN or infinite.

        Returns:
            value / rms, or value unchanged while every value of this term was 0.
        """
        square = float(value) * float(value)
        if math.isfinite(square):
            average = self.mean_square.get(name, 0.0)
            self.mean_square[name] = self.decay * average + (1 - self.decay) * square
            self.counts[name] = self.counts.get(name, 0) + 1
        rms = self.rms(name)
        return value / rms if rms else value

    def rms(self, name: str) -> float:
        """Current estimate of one term's root mean square.

        Args:
            name: name of the loss term.

        Returns:
            The estimate, corrected for its initial value; 0 if all values so far were 0 or none was finite.
        """
        correction = 1 - self.decay ** self.counts.get(name, 0)
        return math.sqrt(self.mean_square.get(name, 0.0) / correction) if correction else 0.0
