"""Trajectories that a policy imagines in the adapter's own world model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.instruments.result_types import as_floats, as_mapping, as_shape
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.twohot import softmax

KEYS = ("value", "action", "logits")


@dataclass(frozen=True)
class Imagined:
    """B trajectories of H steps.

    Attributes:
        value: v_t, (B, H + 1), or (B, H) under A14 "reward".
        action: classes a_t, int (B, H, F).
        probabilities: of the policy at h_t, one (B, H, A_f) for each action component.
    """

    value: np.ndarray
    action: np.ndarray
    probabilities: list[np.ndarray]

    def same_values(self, tolerance: float) -> np.ndarray:
        """Whether each value equals the previous one, relative to the largest, bool (B, columns − 1)."""
        size = np.abs(self.value).max()
        return np.asarray(np.abs(np.diff(self.value, axis=1)) <= tolerance * size)


def imagined_trajectory(subject: Subject, seed: int) -> Imagined:
    """Call `imagined_trajectory`.

    Raises:
        OperationFailed: if a key is missing, or shapes or dtypes do not match.
    """
    returned = as_mapping("imagined_trajectory", subject.call("imagined_trajectory", seed, seeded=seed))
    missing = [key for key in KEYS if key not in returned]
    if missing:
        raise OperationFailed(f"imagined_trajectory returned {sorted(map(str, returned))}; it needs {missing} too")
    logits = returned["logits"] if isinstance(returned["logits"], list | tuple) else [returned["logits"]]
    values = as_floats("imagined_trajectory: value", subject.read("imagined_trajectory", returned["value"]))
    action = subject.read("imagined_trajectory: action", returned["action"])
    action = action[..., None] if action.ndim == 2 else action
    batch, horizon = action.shape[0], action.shape[1] if action.ndim == 3 else 0
    columns = horizon + (subject.readings["A14"] == "v")
    as_shape("imagined_trajectory: value", values, (batch, columns))
    as_shape("imagined_trajectory: action", action, (batch, horizon, len(logits)))
    if action.dtype.kind not in "iu" or horizon < 2:
        raise OperationFailed(
            f"imagined_trajectory: 'action' is {action.dtype} of {horizon} steps; it needs classes, H ≥ 2"
        )
    probabilities = []
    for f, component in enumerate(logits):
        name = f"imagined_trajectory: logits[{f}]"
        array = as_floats(name, as_shape(name, subject.read(name, component), (batch, horizon, None)))
        if not ((action[..., f] >= 0) & (action[..., f] < array.shape[2])).all():
            raise OperationFailed(f"imagined_trajectory: 'action' holds classes outside 0 … {array.shape[2] - 1}")
        probabilities.append(softmax(array))
    return Imagined(values, action, probabilities)
