"""Sec. 3.1, p. 5: every loss term is divided by a running estimate of its own root mean square.

    m ← 0.99 m + 0.01 L²,   rms = √(m / (1 − 0.99ⁿ)),   L ← L / rms          (n values seen, m = 0 at the start)

The paper gives no details. Read as (A24): an exponential average of the square with decay 0.99, corrected for its start
(so the first value becomes ±1), updated *before* it divides, and without an epsilon.
"""

import math
from dataclasses import dataclass, field


@dataclass
class RunningRMS:
    """Divides values by the running root mean square of all values given under the same name.

    >>> normalise = RunningRMS()
    >>> normalise("mse", 8.0), normalise("lpips", 0.01)
    (1.0, 1.0)
    """

    decay: float = 0.99
    mean_square: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a decay that forgets everything or nothing."""
        if not 0 < self.decay < 1:
            raise ValueError(f"RMS normalisation: decay is {self.decay}, but must lie between 0 and 1")

    def __call__(self, name: str, value: float) -> float:
        """Divide value by the estimate for name; NaN and infinity are handed on and leave the estimate alone."""
        square = float(value) * float(value)
        if math.isfinite(square):
            average = self.mean_square.get(name, 0.0)
            self.mean_square[name] = self.decay * average + (1 - self.decay) * square
            self.seen[name] = self.seen.get(name, 0) + 1
        rms = self.rms(name)
        return value / rms if rms else value

    def rms(self, name: str) -> float:
        """Return the estimate; 0 where nothing but zeros was seen, and then there is no scale to divide by."""
        correction = 1 - self.decay ** self.seen.get(name, 0)
        return math.sqrt(self.mean_square.get(name, 0.0) / correction) if correction else 0.0
