"""The network of a vector: a table of gains and offsets by label, which any language can evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.recorder import AnalyticNetwork

Label = tuple[float, float]
"""τ in signal levels, and d."""


@dataclass(frozen=True)
class TableNetwork(AnalyticNetwork):
    """Predicts ẑ1 = gain z + offset + action_gain Σ actions, with gain and offset of the label (τ, d) of each timestep.

    The prediction is 0 at a label without a row: no right implementation uses it where the result depends on it.

    Attributes:
        rows: gain and offset (S, D) by label.
        tolerance: largest difference of τ from that of a row, whose d must be equal; 0 or less than half a grid step.
    """

    rows: Mapping[Label, tuple[float, np.ndarray]] = field(default_factory=dict)
    tolerance: float = 0.0

    def coefficients(
        self, tau: np.ndarray, d: np.ndarray, actions: np.ndarray | None, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gain (N, T, 1, 1) and offset (N, T, S, D) at the labels tau and d (N, T), in signal levels."""
        gain, offset = np.zeros(shape[:2]), np.zeros(shape)
        for index in np.ndindex(*shape[:2]):
            row = self._row(float(tau[index]), float(d[index]))
            if row is not None:
                gain[index], offset[index] = row
                offset[index] += 0.0 if actions is None else self.action_gain * actions[index].sum()
        return gain[:, :, None, None], offset

    def _row(self, tau: float, d: float) -> tuple[float, np.ndarray] | None:
        near = (row for label, row in self.rows.items() if label[1] == d and abs(label[0] - tau) <= self.tolerance)
        return next(near, None)

    @property
    def encoded(self) -> dict[str, Any]:
        """The table as an input of a vector."""
        labels, (gains, offsets) = np.array(list(self.rows)), zip(*self.rows.values(), strict=True)
        columns = {"tau": labels[:, 0], "d": labels[:, 1], "gain": np.array(gains), "offset": np.stack(offsets)}
        return columns | {"action_gain": self.action_gain, "tolerance": self.tolerance}


def decoded(table: Mapping[str, Any]) -> TableNetwork:
    """The network of a decoded input."""
    labels = zip(table["tau"].tolist(), table["d"].tolist(), strict=True)
    rows = zip(table["gain"].tolist(), table["offset"], strict=True)
    pairs = dict(zip(labels, rows, strict=True))
    return TableNetwork(action_gain=table["action_gain"], rows=pairs, tolerance=table["tolerance"])
