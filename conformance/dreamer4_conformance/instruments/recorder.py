"""The recorder: an analytic network that records every call that a loss or a sampler makes.

From the calls of one evaluation the suite reads τ and d, recovers the noise, and computes what the paper requires,
without changes to the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.verdicts import OperationFailed


@dataclass(frozen=True)
class AnalyticNetwork:
    """A network in closed form: gain(τ, d) z + offset(τ, d, position, actions) + past Σ earlier frames.

    `perfect` has gain 0 and the data as offset; `CONSTANT` has gain 0, so that its output does not depend on z;
    `AFFINE` has coefficients that differ at every (τ, d). The offset of `CONSTANT` differs at every (τ, d) too:
    otherwise student and teacher would agree, and the loss would carry no gradient above d_min. `base` broadcasts to
    (N, T, S, D) and replaces the analytic offset; `data` is added to it.
    """

    slope: float = 1.0
    action_gain: float = 0.25
    past: float = 0.0
    scale: float = 1.0
    base: np.ndarray | None = None
    data: np.ndarray | None = None

    def coefficients(
        self, tau: np.ndarray, d: np.ndarray, actions: np.ndarray | None, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gain (N, T, 1, 1) and offset (N, T, S, D) at the labels tau and d (N, T), in signal levels."""
        phase = 3.0 * tau - 1.7 * np.log2(np.where(d > 0, d, 1e-3))
        gain = self.slope * (0.3 + 0.5 * np.sin(1.0 + 1.3 * phase))[:, :, None, None]
        if self.base is not None:
            return gain, np.broadcast_to(self.base, shape)
        position = 0.7 * np.arange(shape[2])[:, None] + 1.3 * np.arange(shape[3])
        offset = np.cos(2.0 + phase[:, :, None, None] + position)
        if actions is not None:
            offset = offset + self.action_gain * actions.sum(-1)[:, :, None, None]
        offset = self.scale * offset
        return gain, offset if self.data is None else np.broadcast_to(self.data + offset, shape)

    def __call__(self, z: np.ndarray, tau: np.ndarray, d: np.ndarray, actions: np.ndarray | None = None) -> np.ndarray:
        """Evaluate the network in float64 NumPy, (N, T, S, D)."""
        gain, offset = self.coefficients(tau, d, actions, z.shape)
        output: np.ndarray = gain * z + offset + self.past * z[:, :-1].sum(1)[:, None]
        return output


CONSTANT = AnalyticNetwork(slope=0.0)
AFFINE = AnalyticNetwork()


def perfect(z1: np.ndarray) -> AnalyticNetwork:
    """A network that returns the clean data z1, (T, S, D), the same in every row so that rows cannot be confused."""
    return AnalyticNetwork(slope=0.0, base=z1)


@dataclass
class Call:
    """One recorded call in float64 and signal levels: z, output (N, T, S, D); tau, d (N, T); actions (N, T, A).

    `gradient` is the gradient of the mean loss with respect to the output, None if the framework has no gradients or
    reports that the loss does not depend on the output.
    `copied` is True for a call of a copy of the network.
    """

    z: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    actions: np.ndarray | None
    output: np.ndarray
    copied: bool = False
    gradient: np.ndarray | None = None


@dataclass
class Recorder:
    """`network(z, tau, d, actions=None) -> z_hat` in the adapter's arrays and level.

    A deep copy records into the same list. `probe` is applied to each output; `perturb(call, offset)` is added to each
    offset.
    """

    network: AnalyticNetwork
    adapter: Adapter
    probe: Callable[[Any], Any] = lambda output: output
    perturb: Callable[[int, np.ndarray], np.ndarray] | None = None
    calls: list[Call] = field(default_factory=list)
    copied: bool = False

    def __call__(self, z: Any, tau: Any, d: Any, actions: Any = None) -> Any:
        """Evaluate the network and record the call."""
        signal, step, read_actions = self._labels(z, tau, d, actions)
        gain, offset = self.network.coefficients(signal, step, read_actions, tuple(z.shape))
        if self.perturb is not None:
            offset = offset + self.perturb(len(self.calls), offset)
        output = self.adapter.affine(z, gain, offset, np.asarray(self.network.past))
        arrays = self.adapter.to_numpy(z), signal, step, read_actions, self.adapter.to_numpy(output)
        self.calls.append(Call(*arrays, self.copied))
        return self.probe(output)

    def _labels(self, z: Any, tau: Any, d: Any, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if len(z.shape) != 4:
            raise OperationFailed(f"the network was called with z of shape {tuple(z.shape)}; it needs (N, T, S, D)")
        signal, step = (self._label(name, x, tuple(z.shape[:2])) for name, x in (("tau", tau), ("d", d)))
        if self.adapter.level == "noise":
            signal = 1.0 - signal
        return signal, step, None if actions is None else self.adapter.to_numpy(actions).astype(np.float64)

    def _label(self, name: str, x: Any, shape: tuple[int, int]) -> np.ndarray:
        label = self.adapter.to_numpy(x).astype(np.float64)
        if label.shape == shape[:1]:
            label = label[:, None]
        try:
            return np.broadcast_to(label, shape).copy()
        except ValueError:
            message = f"the network was called with {name} of shape {label.shape}; it needs (N, T) = {shape}"
            raise OperationFailed(message) from None

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return Recorder(self.network, self.adapter, self.probe, self.perturb, self.calls, copied=True)

    def describe(self) -> str:
        """Describe the recorded calls, one line each."""
        if not self.calls:
            return "the network was never called"
        lines = []
        for index, call in enumerate(self.calls):
            labels = f"tau {np.unique(call.tau).tolist()[:8]}, d {np.unique(call.d).tolist()[:8]}"
            with_actions = "no actions" if call.actions is None else f"actions {call.actions.shape}"
            lines.append(f"call {index}: z {call.z.shape}, {labels}, {with_actions}")
        return "\n".join(lines)
