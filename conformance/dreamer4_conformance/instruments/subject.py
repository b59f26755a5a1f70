"""The adapter as the checks see it: float64 NumPy in and out, signal levels, every departure in a sentence.

Inputs are rounded to the adapter's dtype first, so that a check computes its expectation from the numbers that the operation really received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dreamer4_conformance.adapter import Adapter, provides
from dreamer4_conformance.instruments.call_roles import Match, match_calls
from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call, Recorder
from dreamer4_conformance.readings import resolve
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8}
"""What bounds are multiples of: the spacing of 1; in bfloat16, where a bound is felt, half of it, the largest rounding error."""


@dataclass(frozen=True)
class Draw:
    """Everything that one loss evaluation is given: z0, z1 (B, T, S, D); tau, d (B, T); actions (B, T, A); seed."""

    z1: np.ndarray
    actions: np.ndarray
    seed: int = 0
    z0: np.ndarray | None = None
    tau: np.ndarray | None = None
    d: np.ndarray | None = None

    def __str__(self) -> str:
        shape = "x".join(map(str, self.z1.shape))
        given = "" if self.tau is None or self.d is None else f", tau={self.tau.tolist()}, d={self.d.tolist()}"
        return f"z1 of {shape} (B, T, S, D){given}, seed={self.seed}"


@dataclass
class Evaluation:
    """One loss evaluation: the loss, () or (B, T), and the calls that it made of the network."""

    route: str
    draw: Draw
    network: AnalyticNetwork
    loss: np.ndarray
    calls: list[Call]
    call_log: str
    d_min: float
    eps: float
    has_gradients: bool

    @property
    def mean(self) -> float:
        """The loss as one number."""
        return float(self.loss.mean())

    @property
    def call(self) -> str:
        """The call as a reader would write it."""
        return f"{self.route}(network, {self.draw})"

    @cached_property
    def students(self) -> list[Match]:
        """The student rows with their teacher calls. Deviation where the calls cannot be read as the paper's three.

        Where two rows of the data explain a call equally well, Hypothesis is told to look for another example.
        """
        matches = match_calls(self.calls, self.draw.z1, self.draw.actions, self.network, d_min=self.d_min, eps=self.eps)
        if matches is None:
            raise UnsatisfiedAssumption
        if not matches:
            raise Deviation(
                f"the calls of the network cannot be matched to the paper's student and teacher calls; seen:\n{self.call_log}",
                call=self.call,
            )
        return matches


@dataclass
class SampledFrame:
    """One run of a sampler: the frame (B, S, D) and the calls that it made."""

    frame: np.ndarray
    calls: list[Call]


@dataclass
class Subject:
    """The adapter under test, bound to its readings."""

    adapter: Adapter
    readings: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.readings = resolve(self.adapter.readings)

    @property
    def k_max(self) -> int:
        """1 / d_min."""
        return self.adapter.k_max

    @property
    def d_min(self) -> float:
        """The finest step size."""
        return 1.0 / self.adapter.k_max

    @property
    def eps(self) -> float:
        """`EPS` of the adapter's dtype."""
        return EPS[self.adapter.dtype]

    @property
    def window(self) -> int | None:
        """Frames that a time layer sees, the current one included (A30); None where it sees all."""
        frames = self.adapter.context_frames
        return None if frames is None else frames + (self.readings["A30"] == "exclusive")

    def provides(self, operation: str) -> bool:
        """Whether the adapter overrides the operation."""
        return provides(self.adapter, operation)

    def round(self, x: np.ndarray) -> np.ndarray:
        """x as the adapter's dtype represents it, in float64."""
        return self.adapter.to_numpy(self.adapter.to_native(np.asarray(x, np.float64)))

    def native(self, x: Any) -> Any:
        """Arrays in the adapter's framework; lists element by element; anything else as it is."""
        if isinstance(x, list):
            return [self.native(item) for item in x]
        return self.adapter.to_native(np.asarray(x)) if isinstance(x, np.ndarray | np.generic) else x

    def level(self, tau: np.ndarray) -> np.ndarray:
        """Signal levels in the adapter's own level, or back."""
        return 1.0 - tau if self.adapter.level == "noise" else tau

    def call(self, operation: str, *args: Any, seeded: int | None = None, **kwargs: Any) -> Any:
        """The operation on native arrays, under global random states seeded from `seeded` where that is given.

        OperationFailed, with the shapes that it was given, where it raises.
        """
        surroundings = nullcontext() if seeded is None else self.adapter.seeded(seeded)
        try:
            with surroundings:
                return getattr(self.adapter, operation)(*args, **kwargs)
        except (NotProvided, Deviation, Inconclusive):
            raise
        except Exception as error:
            given = ", ".join(_shapes([*args, *kwargs.values()]))
            raise OperationFailed(
                f"{operation} raised {type(error).__name__}: {error}", call=f"{operation}({given})"
            ) from error

    def read(self, operation: str, x: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """What the operation returned, in float64. OperationFailed where it is no array or has another shape."""
        try:
            array = self.adapter.to_numpy(x)
        except (TypeError, ValueError) as error:
            raise OperationFailed(f"{operation} returned {type(x).__name__}, which is no array: {error}") from error
        if shape is not None and array.shape != shape:
            raise OperationFailed(f"{operation} returned shape {array.shape}; it needs {shape}")
        return array

    def compute(self, operation: str, *args: Any, shape: tuple[int, ...] | None = None, **kwargs: Any) -> np.ndarray:
        """A deterministic operation from float64 NumPy to float64 NumPy."""
        native = {name: self.native(x) for name, x in kwargs.items()}
        return self.read(operation, self.call(operation, *map(self.native, args), **native), shape)

    # Operations whose arguments or results are levels

    def corrupt(self, z0: np.ndarray, z1: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """Eq. (1) in signal levels."""
        return self.compute("corrupt", z0=z0, z1=z1, tau=self.level(tau), shape=z0.shape)

    def ramp_weight(self, tau: np.ndarray) -> np.ndarray:
        """Eq. (8) in signal levels."""
        return self.compute("ramp_weight", self.level(tau), shape=tau.shape)

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Eq. (4) in signal levels: tau and d, both (B, T)."""
        drawn = self.call("sample_tau_d", seed, batch, time, seeded=seed)
        if not isinstance(drawn, tuple) or len(drawn) != 2:
            raise OperationFailed(f"sample_tau_d returned {type(drawn).__name__}; it needs a pair (tau, d)")
        tau, d = (self.read("sample_tau_d", x).astype(np.float64) for x in drawn)
        if tau.shape != (batch, time) or d.shape not in {(batch, time), (batch,)}:
            message = f"sample_tau_d returned tau {tau.shape} and d {d.shape}; it needs ({batch}, {time}) and the same or ({batch},)"
            raise OperationFailed(message)
        return self.level(tau), np.broadcast_to(d[:, None] if d.ndim == 1 else d, tau.shape).copy()

    # The recorder's two uses

    def loss_routes(self) -> list[str]:
        """The provided operations through which the loss can be evaluated."""
        return [name for name in ("dynamics_loss_at", "dynamics_loss") if self.provides(name)]

    def evaluate(self, route: str, network: AnalyticNetwork, draw: Draw) -> Evaluation:
        """The loss through `route`, with every call of the network, its gradient and its place among the paper's three calls."""
        recorder = Recorder(network, self.adapter)

        def loss(probe: Callable[[Any], Any]) -> Any:
            recorder.calls.clear()
            recorder.probe = probe
            return self.call(route, recorder, seeded=draw.seed, **self._loss_arguments(route, draw))

        # The gradient is taken of a recorded call, so whatever happens in it belongs to the operation.
        try:
            value, gradients = self.adapter.output_gradients(loss)
        except RuntimeError as error:
            raise OperationFailed(f"{route}: its gradient raised {type(error).__name__}: {error}") from error
        for recorded, gradient in zip(recorder.calls, gradients or [], strict=False):
            recorded.gradient = gradient
        array = self.read(route, value).astype(np.float64)
        if array.shape not in {(), draw.z1.shape[:2]}:
            raise OperationFailed(f"{route} returned shape {array.shape}; it needs a scalar or {draw.z1.shape[:2]}")
        return Evaluation(
            route,
            draw,
            network,
            array,
            recorder.calls,
            recorder.describe(),
            self.d_min,
            self.eps,
            gradients is not None,
        )

    def _loss_arguments(self, route: str, draw: Draw) -> dict[str, Any]:
        arguments: dict[str, Any] = {"z1": self.native(draw.z1), "actions": self.native(draw.actions)}
        if route == "dynamics_loss":
            return {**arguments, "seed": draw.seed}
        assert draw.z0 is not None
        assert draw.tau is not None
        assert draw.d is not None
        return arguments | {
            "z0": self.native(draw.z0),
            "tau": self.native(self.level(draw.tau)),
            "d": self.native(draw.d),
        }

    def sample_frame(
        self,
        network: AnalyticNetwork,
        context: np.ndarray,
        num_steps: int,
        seed: int,
        actions: np.ndarray | None = None,
        perturb: Callable[[int, np.ndarray], np.ndarray] | None = None,
    ) -> SampledFrame:
        """Eq. (2): one frame, with the calls that led to it."""
        recorder = Recorder(network, self.adapter, perturb=perturb)
        given = {} if actions is None else {"actions": self.native(actions)}
        frame = self.call("sample_frame", recorder, self.native(context), num_steps, seed, seeded=seed, **given)
        batch, _, tokens, channels = context.shape
        return SampledFrame(self.read("sample_frame", frame, (batch, tokens, channels)), recorder.calls)


def _shapes(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if hasattr(value, "shape"):
            yield "x".join(map(str, value.shape)) or "scalar"
        elif isinstance(value, int | float | bool):
            yield repr(value)
        elif isinstance(value, list):
            yield f"[{', '.join(_shapes(value))}]"


LOSSES = ("dynamics_loss_at", "dynamics_loss")
