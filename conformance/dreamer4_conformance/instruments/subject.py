"""The subject: an adapter with a float64 NumPy interface in signal levels, which checks its results.

Inputs are rounded to the adapter's dtype first, so that a check computes its expectation from the numbers that the
operation receives. Failures of an operation become `OperationFailed`, a deviation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dreamer4_conformance.adapter import Adapter, provides
from dreamer4_conformance.instruments.call_roles import Match, State, match_calls
from dreamer4_conformance.instruments.faults import describe_error, is_out_of_memory
from dreamer4_conformance.instruments.guard import Guard
from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call, Recorder
from dreamer4_conformance.readings import resolve
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided, OperationFailed
from dreamer4_reference.eq01_corruption import corrupt

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8}
"""Unit of the bounds by dtype: the spacing of 1; in bfloat16 half of it, the largest relative rounding error."""


def smallest_normal(eps: float) -> float:
    """Smallest positive normal number of the dtype whose `EPS` is eps; bfloat16 has the exponents of float32.

    >>> smallest_normal(EPS["bfloat16"]) == float(np.finfo(np.float32).tiny)
    True
    """
    return float(np.finfo(np.float64 if eps <= EPS["float64"] else np.float32).tiny)


LOSSES = ("dynamics_loss_at", "dynamics_loss")


@dataclass(frozen=True)
class Draw:
    """Arguments of one loss evaluation: z0, z1 (B, T, S, D); tau, d (B, T); actions (B, T, A); seed."""

    z1: np.ndarray
    actions: np.ndarray
    seed: int = 0
    z0: np.ndarray | None = None
    tau: np.ndarray | None = None
    d: np.ndarray | None = None

    @property
    def z_tilde(self) -> np.ndarray:
        """The corrupted data (1 − τ) z0 + τ z1, (B, T, S, D)."""
        assert self.z0 is not None
        assert self.tau is not None
        return np.asarray(corrupt(self.z0, self.z1, self.tau))

    def __str__(self) -> str:
        shape = "x".join(map(str, self.z1.shape))
        labels = "" if self.tau is None or self.d is None else f", tau={self.tau.tolist()}, d={self.d.tolist()}"
        return f"z1 of {shape} (B, T, S, D){labels}, seed={self.seed}"


@dataclass
class Evaluation:
    """One loss evaluation: the loss, () or (B, T), and the recorded calls of the network."""

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
        """Mean loss over all timesteps."""
        return float(self.loss.mean())

    @property
    def call(self) -> str:
        """The call as Python, without τ and d that are not passed."""
        draw = self.draw if self.route == "dynamics_loss_at" else replace(self.draw, tau=None, d=None)
        return f"{self.route}(network, {draw})"

    @cached_property
    def matches(self) -> list[Match]:
        """Student rows with their teacher calls; `certain` tells whether the row of the data was recognised.

        Raises:
            Deviation: if the calls cannot be matched to the paper's student and teacher calls.
        """
        draw, state = self.draw, None
        if self.route == "dynamics_loss_at":
            state = State(draw.z_tilde, draw.tau, draw.d)  # type: ignore[arg-type]
        matches = match_calls(
            self.calls, draw.z1, draw.actions, self.network, d_min=self.d_min, eps=self.eps, state=state
        )
        if not matches:
            message = (
                f"the network's calls do not match the paper's student and teacher calls; recorded:\n{self.call_log}"
            )
            raise Deviation(message, call=self.call)
        return matches

    @property
    def students(self) -> list[Match]:
        """`matches`, if the loss can be computed from them.

        Raises:
            Deviation: as `matches`.
            UnsatisfiedAssumption: if the row of the data matters and is not certain: at d_min, where the data is the
                target, and for a loss per timestep. Hypothesis draws another example.
        """
        for match in self.matches:
            if not match.certain and (self.loss.ndim == 2 or not match.bootstrap.all()):
                raise UnsatisfiedAssumption
        return self.matches

    @property
    def tau(self) -> np.ndarray:
        """Signal levels that label the student's calls, by row of the data, (B, T); NaN for a row without student."""
        return self._by_row("tau", self.draw.z1.shape[:2])

    @property
    def d(self) -> np.ndarray:
        """Step sizes that label the student's calls, by row of the data, (B, T); NaN for a row without student."""
        return self._by_row("d", self.draw.z1.shape[:2])

    @property
    def z0(self) -> np.ndarray:
        """Noise in the student's inputs, (z̃ − τ z1)/(1 − τ), by row of the data, (B, T, S, D)."""
        tau = self.tau[:, :, None, None]
        return (self._by_row("z", self.draw.z1.shape) - tau * self.draw.z1) / (1 - tau)

    def _by_row(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = np.full(shape, np.nan)
        for match in reversed(self.matches):
            values[match.row] = getattr(match.student, name)
        return values


@dataclass
class SampledFrame:
    """One run of a sampler: the frame (B, S, D) and the recorded calls of the network."""

    frame: np.ndarray
    calls: list[Call]


@dataclass(frozen=True)
class Invocation:
    """One call of an operation by the suite.

    Attributes:
        method: of `Subject`: "compute" or "evaluate".
        operation: its name.
        arguments: names → values, as the method takes them.
        result: returned array, or the `Evaluation`; None if it raised.
    """

    method: str
    operation: str
    arguments: dict[str, Any]
    result: Any = None


@dataclass
class Subject:
    """The adapter under test with its resolved readings.

    Attributes:
        guard: of the adapter's code; None for code of the suite's own.
        hidden: operations that are treated as not provided.
        recovered: quantities of the loss that expectations take from the implementation as it is: "draws", "teacher",
            "weight" (`judging.causes.JUDGED_BY`).
        smoke_failures: results of `smoke_calls.smoke_failure` by operation.
        factor: of (B, T, S, D), by which the dynamics loss and its gradient are divided; None for 1.
        target: text by which `adapters.importing.load` finds the adapter; None if it cannot be imported.
        invocation: the last call of an operation by `compute` or `evaluate`.
        failing: the last call before the deviation that was raised last.
        working: whether operations work at particular shapes, as `inputs.works_at` found.
        suspects: names of mistakes and readings that reproduced an earlier failure, as keys.
    """

    adapter: Adapter
    guard: Guard | None = None
    readings: dict[str, str] = field(init=False)
    differences: dict[str, float] = field(init=False, default_factory=dict)
    """Operation → relative difference of the outputs of equal calls, filled by `judging.repeatability`."""
    hidden: frozenset[str] = frozenset()
    recovered: frozenset[str] = frozenset()
    suspects: dict[str, None] = field(default_factory=dict)
    smoke_failures: dict[str, Deviation | None] = field(default_factory=dict, repr=False)
    factor: Callable[[tuple[int, ...]], float] | None = None
    target: str | None = None
    invocation: Invocation | None = field(default=None, repr=False)
    failing: Invocation | None = field(default=None, repr=False)
    working: dict[str, bool] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.readings = resolve(self.adapter.readings)

    @property
    def k_max(self) -> int:
        """K_max = 1 / d_min."""
        return self.adapter.k_max

    @property
    def d_min(self) -> float:
        """Finest step size, 1 / K_max."""
        return 1.0 / self.adapter.k_max

    @property
    def eps(self) -> float:
        """`EPS` of the adapter's dtype."""
        return EPS[self.adapter.dtype]

    @property
    def window(self) -> int | None:
        """Frames that a time layer attends to, the current frame included (A30); None if it has no window."""
        frames = self.adapter.context_frames
        return None if frames is None else frames + (self.readings["A30"] == "exclusive")

    @property
    def context_level(self) -> float:
        """Signal level of context frames (A9)."""
        levels = {"slight": 0.9, "none": 1.0, "level": self.adapter.context_level, "literal": 0.1}
        return levels[self.readings["A9"]]

    def provides(self, operation: str) -> bool:
        """True if the adapter overrides the operation."""
        return operation not in self.hidden and provides(self.adapter, operation)

    def round(self, x: np.ndarray) -> np.ndarray:
        """Round to the adapter's dtype; the result is float64."""
        with self.blaming("to_native or to_numpy"):
            return self.adapter.to_numpy(self.adapter.to_native(np.asarray(x, np.float64)))

    def native(self, x: Any) -> Any:
        """Convert an array, or the arrays of a list, to the adapter's framework; return anything else unchanged."""
        if isinstance(x, list):
            return [self.native(item) for item in x]
        if not isinstance(x, np.ndarray | np.generic):
            return x
        with self.blaming("to_native"):
            return self.adapter.to_native(np.asarray(x))

    def level(self, tau: np.ndarray) -> np.ndarray:
        """Convert signal levels to the adapter's own level, or back."""
        return 1.0 - tau if self.adapter.level == "noise" else tau

    def call(self, operation: str, *args: Any, seeded: int | None = None, **kwargs: Any) -> Any:
        """Call an operation on native arrays.

        Args:
            operation: its name.
            args: positional arguments, arrays of the adapter's framework.
            seeded: seed of the global random states during the call; None leaves them alone.
            kwargs: keyword arguments.

        Returns:
            The result, unchanged.

        Raises:
            NotProvided: if the operation raises it, or NotImplementedError: it does not support these arguments.
            Inconclusive: if it runs out of memory.
            OperationFailed: if the operation raises any other exception but a verdict.
        """
        seeding = nullcontext() if seeded is None else self.adapter.seeded(seeded)
        arguments = [*args, *kwargs.values()]
        with (
            self.guarding(operation),
            self.blaming(operation, lambda: f"{operation}({', '.join(_shapes(arguments))})"),
            seeding,
        ):
            return getattr(self.adapter, operation)(*args, **kwargs)

    def guarding(self, operation: str) -> AbstractContextManager[None]:
        """The guard of a call of an operation; around many short calls of one, a single guard for all of them."""
        return nullcontext() if self.guard is None else self.guard.call(operation)

    def call_returned(self, operation: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that an operation has returned, like the operation itself."""
        with self.guarding(operation), self.blaming(f"the function that {operation} returned"):
            return function(*args)

    @contextmanager
    def blaming(self, operation: str, call: Callable[[], str] = str) -> Iterator[None]:
        """Report whatever the adapter's code raises, `SystemExit` and the like included, as a fault of an operation.

        Args:
            operation: its name.
            call: returns the call as text.

        Returns:
            A context manager that raises OperationFailed, or Inconclusive if the code runs out of memory. Verdicts of
            the suite's own network, which the operation calls, pass, and so does a Ctrl-C of the user.
        """
        guard = self.guard
        running = nullcontext if guard is None else guard.running
        try:
            with running():
                yield
        except (NotProvided, Deviation, Inconclusive):
            raise
        except NotImplementedError as error:
            raise NotProvided(str(error) or f"{operation} raises NotImplementedError for these arguments") from error
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not (guard and guard.isolated):
                raise
            with running():
                text = describe_error(error, full=guard is not None and guard.traceback)
            if is_out_of_memory(error):
                raise Inconclusive(f"{operation} ran out of memory: {text}") from error
            raise OperationFailed(f"{operation} raised {text}", call=call()) from error

    def read(self, operation: str, x: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Convert a result to NumPy, floats as float64.

        Raises:
            OperationFailed: if it is not an array or does not have the required shape.
        """
        with self.blaming(f"{operation} returned {type(x).__name__}, which is no array: to_numpy"):
            array = self.adapter.to_numpy(x)
        if shape is not None and array.shape != shape:
            raise OperationFailed(f"{operation} returned shape {array.shape}; it needs {shape}")
        return array

    def compute(self, operation: str, *args: Any, shape: tuple[int, ...] | None = None, **kwargs: Any) -> np.ndarray:
        """Call a deterministic operation on NumPy arguments and convert its result to NumPy.

        Raises:
            OperationFailed: if it raises or returns anything but an array of the required shape.
        """
        names = list(inspect.signature(getattr(Adapter, operation)).parameters)[1:]
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        self.invocation = Invocation("compute", operation, arguments)
        native = {name: self.native(x) for name, x in kwargs.items()}
        result = self.read(operation, self.call(operation, *map(self.native, args), **native), shape)
        self.invocation = Invocation("compute", operation, arguments, result)
        return result

    # Operations whose arguments or results are levels

    def corrupt(self, z0: np.ndarray, z1: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """Call `corrupt` (Eq. 1) in signal levels, (B, T, S, D)."""
        return self.compute("corrupt", z0=z0, z1=z1, tau=self.level(tau), shape=z0.shape)

    def ramp_weight(self, tau: np.ndarray) -> np.ndarray:
        """Call `ramp_weight` (Eq. 8) in signal levels."""
        return self.compute("ramp_weight", self.level(tau), shape=tau.shape)

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Call `sample_tau_d` (Eq. 4); the result is tau in signal levels and d, both (B, T).

        Raises:
            OperationFailed: if the result is not a pair of arrays of these shapes.
        """
        drawn = self.call("sample_tau_d", seed, batch, time, seeded=seed)
        if not isinstance(drawn, tuple) or len(drawn) != 2:
            raise OperationFailed(f"sample_tau_d returned {type(drawn).__name__}; it needs a pair (tau, d)")
        tau, d = (self.read("sample_tau_d", x).astype(np.float64) for x in drawn)
        if tau.shape != (batch, time) or d.shape not in {(batch, time), (batch,)}:
            needs = f"it needs ({batch}, {time}) and the same or ({batch},)"
            raise OperationFailed(f"sample_tau_d returned tau {tau.shape} and d {d.shape}; {needs}")
        return self.level(tau), np.broadcast_to(d[:, None] if d.ndim == 1 else d, tau.shape).copy()

    # Operations that take a network

    def loss_routes(self) -> list[str]:
        """Provided operations that evaluate the dynamics loss."""
        return [name for name in LOSSES if self.provides(name)]

    def evaluate(self, route: str, network: AnalyticNetwork, draw: Draw, *, differentiated: bool = True) -> Evaluation:
        """Evaluate the dynamics loss and record the network's calls and their gradients.

        Args:
            route: "dynamics_loss" or "dynamics_loss_at".
            network: the analytic network.
            draw: arguments of the loss.
            differentiated: whether gradients are computed, which in JAX takes most of the time.

        Returns:
            The evaluation, with the loss in float64.

        Raises:
            OperationFailed: if the operation or its differentiation raises, or the loss is not a scalar or (B, T).
        """
        recorder = Recorder(network, self.adapter)
        self.invocation = Invocation("evaluate", route, {"network": network, "draw": draw})

        def loss(probe: Callable[[Any], Any]) -> Any:
            recorder.calls.clear()
            recorder.probe = probe
            return self.call(route, recorder, seeded=draw.seed, **self._loss_arguments(route, draw))

        # Only recorded calls are differentiated, so an error is the operation's.
        with self.blaming(f"{route}: the gradient"):
            value, gradients = self.adapter.output_gradients(loss) if differentiated else (loss(_unchanged), None)
        factor = 1.0 if self.factor is None else self.factor(draw.z1.shape)
        for recorded, gradient in zip(recorder.calls, gradients or [], strict=False):
            recorded.gradient = None if gradient is None else gradient / factor
        array = self.read(route, value).astype(np.float64) / factor
        if array.shape not in {(), draw.z1.shape[:2]}:
            raise OperationFailed(f"{route} returned shape {array.shape}; it needs a scalar or {draw.z1.shape[:2]}")
        calls, log = recorder.calls, recorder.describe()
        evaluation = Evaluation(route, draw, network, array, calls, log, self.d_min, self.eps, gradients is not None)
        self.invocation = Invocation("evaluate", route, {"network": network, "draw": draw}, evaluation)
        return evaluation

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

    def samples_with_actions(self) -> bool:
        """True if `sample_frame` has an argument `actions`, which an unconditional model may leave out."""
        parameters = inspect.signature(self.adapter.sample_frame).parameters.values()
        return any(p.name == "actions" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)

    def sample_frame(
        self,
        network: AnalyticNetwork,
        context: np.ndarray,
        num_steps: int,
        seed: int,
        actions: np.ndarray | None = None,
        perturb: Callable[[int, np.ndarray], np.ndarray] | None = None,
    ) -> SampledFrame:
        """Generate one frame (Eq. 2) and record the network's calls; `perturb` as in `Recorder`."""
        recorder = Recorder(network, self.adapter, perturb=perturb)
        optional = {"actions": self.native(actions)} if actions is not None and self.samples_with_actions() else {}
        frame = self.call("sample_frame", recorder, self.native(context), num_steps, seed, seeded=seed, **optional)
        batch, _, tokens, channels = context.shape
        return SampledFrame(self.read("sample_frame", frame, (batch, tokens, channels)), recorder.calls)


def _unchanged(output: Any) -> Any:
    return output


def _shapes(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if hasattr(value, "shape"):
            yield "x".join(map(str, value.shape)) or "scalar"
        elif isinstance(value, int | float | bool):
            yield repr(value)
        elif isinstance(value, list):
            yield f"[{', '.join(_shapes(value))}]"
