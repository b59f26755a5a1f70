"""Draws of Eq. (4) through every provided route: `sample_tau_d`, and the student's labels in `dynamics_loss`.

Three kinds of draw, all with a fixed seed: one large batch; one row of each of many batches, whose rows are independent
even if one random decision applies to a whole batch; and one timestep of each of many of the smallest batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.call_roles import call_rows, students_per_row, students_with_gradient
from dreamer4_conformance.instruments.inputs import ACTION_WIDTH, input_rng
from dreamer4_conformance.instruments.recorder import CONSTANT
from dreamer4_conformance.instruments.shapes import LEVEL_BATCH, suite_shapes
from dreamer4_conformance.instruments.subject import Draw, Subject
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed

ROUTES = ("sample_tau_d", "dynamics_loss")
ROWS, TIME = 2048, 16
CALLS, SMALLEST_CALLS = 384, 256
FEW_CALLS = 160
"""Calls of the smallest batch where each takes long; 148 show at K_max = 64 that a step never occurs."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class LevelDraw:
    """Draw of one route: tau and d (rows, T) in signal levels, the call as Python, and B of each call."""

    tau: np.ndarray
    d: np.ndarray
    call: str
    batch: int

    def one_timestep_per_row(self) -> LevelDraw:
        """A random timestep of each row, (rows, 1)."""
        rows, time = self.d.shape
        column = np.random.default_rng(0).integers(0, time, (rows, 1))
        tau, d = (np.take_along_axis(x, column, 1) for x in (self.tau, self.d))
        return LevelDraw(tau, d, self.call, self.batch)


_CACHE: WeakKeyDictionary[Adapter, dict[tuple[object, ...], LevelDraw | None]] = WeakKeyDictionary()


def large_batches(subject: Subject, seed: int) -> Iterator[LevelDraw]:
    """Yield one large batch per provided route; rows of many batches if all or none of its timesteps are at d_min.

    Raises:
        OperationFailed: if `sample_tau_d` raises.
        Inconclusive: if the student's labels cannot be read; the clauses of Eq. (7) judge a loss that raises.
    """
    for route in filter(subject.provides, ROUTES):
        batch = _cached(subject, route, "batch", seed, partial(_draw, subject, route, seed))
        at_d_min = batch.d == subject.d_min
        coin = subject.k_max > 1 and at_d_min.any() == at_d_min.all()
        yield rows_of_batches(subject, route, seed, batch.d.shape[1]) if coin else batch


def independent_rows(subject: Subject, seed: int, clustered: Callable[[LevelDraw], bool]) -> Iterator[LevelDraw]:
    """Yield the large batches, or rows of many batches where `clustered` finds that rows of a batch depend."""
    routes = filter(subject.provides, ROUTES)
    for route, draw in zip(routes, large_batches(subject, seed), strict=True):
        yield rows_of_batches(subject, route, seed, draw.d.shape[1]) if clustered(draw) else draw


def rows_of_batches(subject: Subject, route: str, seed: int, time: int) -> LevelDraw:
    """A random row of each of `CALLS` batches of the smallest size, over up to 32 timesteps."""
    time = min(time * 2, LEVEL_BATCH[1]) if time > 1 else 1
    return _cached(subject, route, "rows", seed, partial(_rows, subject, route, seed, time, CALLS))


def smallest_batches(subject: Subject, seed: int) -> Iterator[LevelDraw]:
    """Yield a random timestep of each of `SMALLEST_CALLS` batches of the smallest B and T, per provided route.

    Left out is a route that raises or cannot be read at this size, and one that repeats τ or d for other seeds, whose
    calls are no independent draws (eq04.generator).
    """

    def draw(route: str) -> LevelDraw | None:
        time = subject.adapter.min_time if route == "dynamics_loss" else 1
        calls = FEW_CALLS if route == "dynamics_loss" and subject.adapter.few_shapes else SMALLEST_CALLS
        try:
            return _rows(subject, route, seed, time, calls) if _follows_seed(subject, route, seed) else None
        except (OperationFailed, Inconclusive):
            return None

    for route in filter(subject.provides, ROUTES):
        smallest = _cached(subject, route, "smallest", seed, partial(draw, route))
        if smallest is not None:
            yield smallest.one_timestep_per_row()


Cached = TypeVar("Cached", bound=LevelDraw | None)


def _cached(subject: Subject, route: str, kind: str, seed: int, draw: Callable[[], Cached]) -> Cached:
    adapter = subject.adapter
    settings = (adapter.level, adapter.k_max, adapter.dtype, adapter.device, *adapter.readings.items())
    cache, key = _CACHE.setdefault(adapter, {}), (route, kind, seed, *settings)
    if key not in cache:
        cache[key] = draw()
    return cache[key]  # type: ignore[return-value]


def _first_success(strategies: Sequence[Callable[[], Result]], failure: type[Exception]) -> Result:
    """Return the result of the first strategy that does not raise `failure`; raise the first failure if all do."""
    failures: list[Exception] = []
    for strategy in strategies:
        try:
            return strategy()
        except failure as error:
            failures.append(error)
    raise failures[0]


def _draw(subject: Subject, route: str, seed: int) -> LevelDraw:
    """Draw several timesteps, or one if the operation supports only T = 1."""
    draw, rows, time = (schedule_labels, ROWS, TIME) if route == "sample_tau_d" else (loss_labels, *LEVEL_BATCH)
    try:
        return _first_success([partial(draw, subject, seed, t, rows) for t in (time, 1)], OperationFailed)
    except OperationFailed as failed:
        if route == "sample_tau_d":
            raise
        raise Inconclusive(f"the labels cannot be read: {failed}") from None


def _rows(subject: Subject, route: str, seed: int, time: int, calls: int) -> LevelDraw:
    draw, rng = schedule_labels if route == "sample_tau_d" else loss_labels, input_rng(seed)
    batches = [draw(subject, seed + 1 + index, time, 1) for index in range(calls)]
    rows = [int(rng.integers(len(batch.d))) for batch in batches]
    tau, d = (np.stack([getattr(b, name)[row] for b, row in zip(batches, rows, strict=True)]) for name in ("tau", "d"))
    return LevelDraw(tau, d, f"one row of each of {calls} calls like {batches[0].call}", batches[0].batch)


def _follows_seed(subject: Subject, route: str, seed: int) -> bool:
    """True if neither τ nor d is the same in medium batches of four seeds."""
    draw, shortest = (schedule_labels, 1) if route == "sample_tau_d" else (loss_labels, subject.adapter.min_time)
    rows, time = suite_shapes(subject).reseeded
    time = max(time, shortest)
    first, *reseeded = (draw(subject, seed + index, time, rows) for index in range(4))
    repeated = [all(np.array_equal(getattr(first, x), getattr(y, x)) for y in reseeded) for x in ("tau", "d")]
    return not any(repeated) or subject.k_max == 1


def schedule_labels(subject: Subject, seed: int, time: int, rows: int) -> LevelDraw:
    """Draw `rows`, or `min_batch`, rows by `sample_tau_d`."""
    batch = max(subject.adapter.min_batch, rows)
    tau, d = subject.sample_tau_d(seed, batch, time)
    return LevelDraw(_embedded(subject, tau), d, f"sample_tau_d({seed}, {batch}, {time})", batch)


def _embedded(subject: Subject, tau: np.ndarray) -> np.ndarray:
    """Levels with 0 for those below d_min/2, such as 0.001, which both rounding and truncation embed as level 0."""
    return np.where((tau > 0) & (tau < subject.d_min / 2), 0.0, tau)


def loss_labels(subject: Subject, seed: int, time: int, rows: int) -> LevelDraw:
    """Draw all rows in one call if gradients identify the student, else in small batches: matching is quadratic."""
    fewest = subject.adapter.min_batch
    large, small = ((max(fewest, count), time) for count in (rows, min(rows, 16)))

    def one_call() -> tuple[np.ndarray, np.ndarray]:
        return _student_labels(subject, seed, large, by_gradient=True)

    def small_batches() -> tuple[np.ndarray, np.ndarray]:
        seeds = range(seed + 1, seed + 1 + (24 if rows > 1 else 1))
        tau, d = zip(*(_student_labels(subject, s, small, by_gradient=False) for s in seeds), strict=True)
        return np.concatenate(tau), np.concatenate(d)

    tau, d = _first_success([one_call, small_batches], Inconclusive)
    call = f"the student's labels in dynamics_loss(network, z1 of {len(tau)}x{time}x2x3, actions, {seed})"
    return LevelDraw(_embedded(subject, tau), d, call, large[0])


def _student_labels(
    subject: Subject, seed: int, shape: tuple[int, int], *, by_gradient: bool
) -> tuple[np.ndarray, np.ndarray]:
    """tau and d (rows, T) of the student's rows. Inconclusive if these rows cannot be identified."""
    rng = input_rng(seed)
    z1, actions = (subject.round(rng.standard_normal((*shape, *rest))) for rest in ((2, 3), (ACTION_WIDTH,)))
    evaluation = subject.evaluate("dynamics_loss", CONSTANT, Draw(z1=z1, actions=actions, seed=seed))
    calls = evaluation.calls
    if by_gradient:
        students = students_with_gradient(call_rows(calls), len(z1))
    else:
        students = students_per_row(calls, z1, actions, CONSTANT, d_min=subject.d_min, eps=subject.eps)
    # A data row has several students if the flow and the bootstrap term call the network separately on all rows.
    if not students or len(students) % len(z1) or any(student.tau.shape != (shape[1],) for student in students):
        raise Inconclusive(f"the student's rows of dynamics_loss cannot be identified; calls:\n{evaluation.call_log}")
    return np.stack([student.tau for student in students]), np.stack([student.d for student in students])
