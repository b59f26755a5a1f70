"""Checks of Eq. (4): the step sizes and the grid of signal levels, and of Eq. (6): the levels are independent.

Each check uses one fixed-seed draw through every provided route: `sample_tau_d`, and the labels with which
`dynamics_loss` calls its student. Grid membership is exact: levels are dyadic fractions, whose quotients are exact in
float64. Distributions are judged by bounds that also hold for stratified draws. If one random decision may apply to
a whole batch, one row from each of many calls is judged instead: rows of different calls are independent.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.call_roles import call_rows, students_per_row, students_with_gradient
from dreamer4_conformance.instruments.inputs import ACTION_WIDTH, input_rng
from dreamer4_conformance.instruments.recorder import CONSTANT
from dreamer4_conformance.instruments.subject import Draw, Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.tail_bounds import count_bound, mean_bound, uniform_bound, union_bound
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed
from dreamer4_reference.eq04_grid import step_sizes

ROUTES = ("sample_tau_d", "dynamics_loss")
ROWS, TIME = 2048, 16
LOSS_ROWS, LOSS_TIME = 512, 32
CALLS = 384
Result = TypeVar("Result")


@dataclass(frozen=True)
class LevelDraw:
    """Draw of one route: tau and d (rows, T) in signal levels, and the call as Python."""

    tau: np.ndarray
    d: np.ndarray
    call: str

    def above_d_min(self, d_min: float) -> np.ndarray:
        """Mask (rows,) of the rows with at least one timestep above d_min."""
        return np.asarray((self.d != d_min).any(1))


_DRAWS: WeakKeyDictionary[Adapter, dict[tuple[object, ...], LevelDraw]] = WeakKeyDictionary()


def draw_levels(subject: Subject, trial: Trial) -> Iterator[LevelDraw]:
    """Yield one large draw per provided route, cached for all checks."""
    adapter = subject.adapter
    cache = _DRAWS.setdefault(adapter, {})
    settings = (adapter.level, adapter.k_max, adapter.dtype, adapter.device, *adapter.readings.items())
    for route in filter(subject.provides, ROUTES):
        key = (route, trial.seed, *settings)
        if key not in cache:
            cache[key] = _draw(subject, route, int(trial.rng().integers(2**31)))
        yield cache[key]


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
    """Draw several timesteps, or one if the operation supports only T = 1.

    A loss that raises is judged by the clauses of Eq. (7), so here it is inconclusive.
    """
    times = (TIME if route == "sample_tau_d" else LOSS_TIME, 1)
    try:
        return _first_success([partial(_rows, subject, route, seed, time) for time in times], OperationFailed)
    except OperationFailed as failed:
        if route == "sample_tau_d":
            raise
        raise Inconclusive(f"the labels cannot be read: {failed}") from None


def _rows(subject: Subject, route: str, seed: int, time: int) -> LevelDraw:
    """One large batch, or one row of each of `CALLS` batches if all or none of its timesteps are at d_min."""
    draw = _from_schedule if route == "sample_tau_d" else _from_loss
    batch = draw(subject, seed, time, ROWS if route == "sample_tau_d" else LOSS_ROWS)
    at_d_min = batch.d == subject.d_min
    if subject.k_max == 1 or (at_d_min.any() and not at_d_min.all()):
        return batch
    time, rng = min(time * 2, LOSS_TIME) if time > 1 else 1, input_rng(seed)
    batches = [draw(subject, seed + 1 + index, time, 1) for index in range(CALLS)]
    rows = [int(rng.integers(len(batch.d))) for batch in batches]
    tau, d = (np.stack([getattr(b, name)[row] for b, row in zip(batches, rows, strict=True)]) for name in ("tau", "d"))
    return LevelDraw(tau, d, f"one row of each of {CALLS} calls like {batches[0].call}")


def _from_schedule(subject: Subject, seed: int, time: int, rows: int) -> LevelDraw:
    batch = max(subject.adapter.min_batch, rows)
    tau, d = subject.sample_tau_d(seed, batch, time)
    return LevelDraw(tau, d, f"sample_tau_d({seed}, {batch}, {time})")


def _from_loss(subject: Subject, seed: int, time: int, rows: int) -> LevelDraw:
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
    call = f"the student's labels in dynamics_loss(network, z1 of {len(tau)}x{time}x1x1, actions, {seed})"
    return LevelDraw(tau, d, call)


def _student_labels(
    subject: Subject, seed: int, shape: tuple[int, int], *, by_gradient: bool
) -> tuple[np.ndarray, np.ndarray]:
    """tau and d (rows, T) of the student's rows. Inconclusive if these rows cannot be identified."""
    rng = input_rng(seed)
    z1, actions = (subject.round(rng.standard_normal((*shape, *rest))) for rest in ((1, 1), (ACTION_WIDTH,)))
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


def _law_of_steps(subject: Subject, draw: LevelDraw, trial: Trial) -> tuple[np.ndarray, list[float]]:
    """Independently drawn step sizes (N,), and the sizes that can occur among them."""
    sizes = [float(d) for d in step_sizes(subject.k_max)]
    per_row = subject.readings["A3"] == "sequence"
    d = draw.d
    if subject.readings["A2"] == "split":
        if subject.adapter.d_min_share is None:
            trial.inconclusive("reading A2 = split needs the adapter's d_min_share, the share of rows at d_min")
        d, sizes = d[draw.above_d_min(subject.d_min)], [size for size in sizes if size != subject.d_min]
    return (d[:, 0] if per_row else d).ravel(), sizes


@check("eq04.step-support", needs_one=ROUTES, decisions=2)
def check_every_step_size_occurs(subject: Subject, trial: Trial) -> None:
    """Every step size of 1, 1/2, …, 1/K_max occurs among at least 384 rows, and no other.

    `eq04.step-law` detects sizes that occur half as often as they should, or less.
    """
    ladder = [float(d) for d in step_sizes(subject.k_max)]
    for draw in draw_levels(subject, trial):
        invalid = sorted(set(draw.d.ravel()) - set(ladder))
        sentence = f"d = {invalid[0] if invalid else 0:.9g} is drawn; it needs one of 1, 1/2, …, 1/{subject.k_max}"
        trial.fail_unless(not invalid, sentence, call=draw.call, got=invalid[:8], expected=ladder)
        if subject.readings["A2"] == "split":
            trial.fail_unless(bool((draw.d == subject.d_min).any()), "d = d_min never occurs", call=draw.call)
        d, sizes = _law_of_steps(subject, draw, trial)
        missing = [size for size in sizes if not (d == size).any()]
        p_value = union_bound(count_bound(0, max(d.size, 1), 1 / len(sizes)) for _ in sizes)
        sentence = f"d = {', '.join(f'{size:g}' for size in missing)} never occurs among {d.size} draws"
        trial.reject_law(p_value if missing else 1.0, sentence, call=draw.call, got=sorted(set(d)), expected=ladder)
        if missing:
            trial.inconclusive(f"{sentence}, which are too few for a verdict")


@check("eq04.step-law", needs_one=ROUTES, decisions=4)
def check_step_sizes_are_equally_likely(subject: Subject, trial: Trial) -> None:
    """All step sizes have the same probability.

    At K_max = 64 a probability of 1/7 ± 0.04 is detected with certainty, ± 0.2 if d is drawn per sequence.
    """
    for draw in draw_levels(subject, trial):
        if subject.readings["A2"] == "split":
            above, share = draw.above_d_min(subject.d_min), subject.adapter.d_min_share
            bound = 1.0 if share is None else count_bound(float((~above).sum()), len(above), share)
            got = float(1 - above.mean())
            sentence = f"the share of rows at d_min is {got:.3g}; the adapter's d_min_share is {share}"
            trial.reject_law(bound, sentence, call=draw.call, got=got, expected=share)
        d, sizes = _law_of_steps(subject, draw, trial)
        counts = np.array([(d == size).sum() for size in sizes])
        shares = counts / max(d.size, 1)
        bound = uniform_bound(counts) if counts.sum() else 1.0
        sentence = f"the step sizes {', '.join(f'{size:g}' for size in sizes)} are not equally likely"
        equal = [1 / len(sizes)] * len(sizes)
        trial.reject_law(bound, sentence, call=draw.call, got=shares.round(4).tolist(), expected=equal)


@check("eq04.grid", needs_one=ROUTES)
def check_level_is_a_multiple_of_its_step(subject: Subject, trial: Trial) -> None:
    """τ / d is an integer. Exact: division by a power of two does not round."""
    for draw in draw_levels(subject, trial):
        with np.errstate(divide="ignore", invalid="ignore"):
            multiple = draw.tau / draw.d
        _fail_unless_all(trial, draw, np.floor(multiple) == multiple, "τ must be a multiple of d")


@check("eq04.grid-range", needs_one=ROUTES)
def check_noise_is_on_the_grid_and_clean_data_is_not(subject: Subject, trial: Trial) -> None:
    """0 ≤ τ < 1 and τ + d ≤ 1, and τ = 0 occurs.

    Exact: τ = 0 has a probability above 1/K_max in each of thousands of draws.
    """
    for draw in draw_levels(subject, trial):
        _fail_unless_all(trial, draw, draw.tau < 1, "τ must be below 1: clean data is not on the grid")
        _fail_unless_all(trial, draw, draw.tau >= 0, "τ must not be below 0, pure noise")
        _fail_unless_all(trial, draw, draw.tau + draw.d <= 1, "τ + d must not exceed 1, clean data")
        lowest = float(draw.tau.min())
        sentence = f"pure noise, τ = 0, never occurs; the lowest level is {lowest:g}"
        trial.fail_unless(lowest == 0, sentence, call=draw.call, got=lowest, expected=0.0)


def _fail_unless_all(trial: Trial, draw: LevelDraw, holds: np.ndarray, requirement: str) -> None:
    row, column = np.unravel_index(int(np.argmin(holds)), holds.shape)
    tau, d = float(draw.tau[row, column]), float(draw.d[row, column])
    call = f"{draw.call}, row {row}, timestep {column} (signal levels)"
    sentence = f"τ = {tau:.9g} is drawn with d = {d:.9g}; {requirement}"
    trial.fail_unless(bool(holds.all()), sentence, call=call, got=[tau, d])


@check("eq04.grid-law", needs_one=ROUTES, decisions=2)
def check_grid_points_are_equally_likely(subject: Subject, trial: Trial) -> None:
    """Given d, the levels are uniform on the grid, counted in halves, quarters and so on down to single points.

    At K_max = 64 a half of the finest grid with probability 0.64 is detected with certainty, and one of its 64 points
    that is missing or four times too likely.
    """
    for draw in draw_levels(subject, trial):
        bounds, worst = [1.0], ""
        for size in step_sizes(subject.k_max):
            levels = draw.tau[draw.d == float(size)]
            for cells in (2**power for power in range(1, size.denominator.bit_length())):
                counts = np.bincount(np.clip((levels * cells).astype(int), 0, cells - 1), minlength=cells)
                bounds.append(uniform_bound(counts) if levels.size else 1.0)
                if bounds[-1] == min(bounds):
                    shares = (counts / max(levels.size, 1)).round(4).tolist()
                    worst = f"given d = {float(size):g}, the {cells} equal parts of the grid have shares {shares}"
        trial.reject_law(union_bound(bounds), worst, call=draw.call)


@check("eq04.granularity", needs_one=ROUTES, decisions=4)
def check_levels_and_steps_are_drawn_per_timestep(subject: Subject, trial: Trial) -> None:
    """Neighbouring timesteps share a level with probability min(d, d') only, and not all share d (unless A3 says so).

    A share that is 0.05 larger is detected with certainty.
    """
    for draw in draw_levels(subject, trial):
        if subject.k_max == 1:
            trial.inconclusive("with K_max = 1 there is one step size and one level")
        if draw.tau.shape[1] == 1:
            trial.inconclusive("the operation works with T = 1 only, where there are no neighbours")
        even = draw.tau.shape[1] // 2 * 2
        tau, d = (x[:, :even].reshape(-1, 2) for x in (draw.tau, draw.d))
        expected, got = float(d.min(1).mean()), float((tau[:, 0] == tau[:, 1]).mean())
        bound = count_bound(got * len(tau), len(tau), expected) if got > expected else 1.0
        sentence = f"{got:.1%} of neighbouring timesteps have the same τ; drawn per timestep it is {expected:.1%}"
        trial.reject_law(bound, sentence, call=draw.call, got=got, expected=expected)
        _judge_granularity_of_steps(subject, trial, draw)


def _judge_granularity_of_steps(subject: Subject, trial: Trial, draw: LevelDraw) -> None:
    constant = bool((draw.d == draw.d[:, :1]).all())
    if subject.readings["A3"] == "sequence":
        trial.fail_unless(constant, "d differs within a sequence; A3 = sequence needs one d", call=draw.call)
        return
    rows = draw.d[draw.above_d_min(subject.d_min)] if subject.readings["A2"] == "split" else draw.d
    by_chance = min(1.0, 2.0 ** -(rows.shape[1] - 1)) ** len(rows)
    if subject.readings["A2"] == "split" and subject.k_max == 2:
        return
    sentence = "d is the same in all timesteps of every sequence; it is drawn per timestep unless A3 = sequence"
    trial.reject_law(by_chance if constant else 1.0, sentence, call=draw.call, got=draw.d[:2].tolist())


@check("eq06.iid-levels", needs_one=ROUTES, decisions=6)
def check_levels_are_independent_of_timestep_and_neighbours(subject: Subject, trial: Trial) -> None:
    """Levels, standardised given their d, have mean 0 at every timestep and are uncorrelated between neighbours.

    Detected with certainty: a correlation of 0.17, a mean shifted by 0.7 standard deviations at one timestep.
    """
    for draw in draw_levels(subject, trial):
        if subject.k_max == 1:
            trial.inconclusive("with K_max = 1 there is one level")
        level, free = _standardised(draw)
        columns = range(level.shape[1])
        bounds = [_mean_bound(level[free[:, t], t], largest=3**0.5) for t in columns]
        means = [round(float(level[free[:, t], t].mean()), 3) if free[:, t].any() else 0.0 for t in columns]
        sentence = f"given d, the mean level depends on the timestep: by timestep, in standard deviations, {means}"
        trial.reject_law(union_bound(bounds), sentence, call=draw.call, got=means, expected=[0.0] * len(means))
        for name, products in _neighbour_products(level * free):
            correlation = float(products.mean()) if products.size else 0.0
            sentence = f"given d, the levels of neighbouring {name} are correlated by {correlation:.3g}"
            trial.reject_law(_mean_bound(products, largest=3.0), sentence, call=draw.call, expected=0.0)


def _standardised(draw: LevelDraw) -> tuple[np.ndarray, np.ndarray]:
    """Levels minus their mean (1 − d)/2, over √((1 − d²)/12), 0 where d = 1 fixes the level; and the mask d < 1."""
    free = draw.d < 1
    deviation = np.sqrt(np.where(free, 1 - draw.d**2, 1.0) / 12)
    return np.where(free, (draw.tau - (1 - draw.d) / 2) / deviation, 0.0), free


def _neighbour_products(x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Nonzero products of neighbouring timesteps and of neighbouring rows, in disjoint (independent) pairs."""
    rows, columns = (size // 2 * 2 for size in x.shape)
    products = [("timesteps", x[:, :columns:2] * x[:, 1:columns:2]), ("rows", x[:rows:2] * x[1:rows:2])]
    return [(name, product[product != 0]) for name, product in products]


def _mean_bound(values: np.ndarray, largest: float) -> float:
    return mean_bound(float(values.mean()), values.size, 1.0, largest) if values.size else 1.0


@check("eq04.generator", needs=("sample_tau_d",))
def check_draws_follow_their_seed(subject: Subject, trial: Trial) -> None:
    """The same seed gives the same draw, another seed a different one, and global random states stay unchanged.

    Exact: two seeds agree by chance less than once in 10^9. At K_max = 1 all draws are equal.
    """
    batch, time = max(subject.adapter.min_batch, 64), 8 if next(draw_levels(subject, trial)).tau.shape[1] > 1 else 1
    call = f"sample_tau_d(7, {batch}, {time})"
    before = _global_states()
    first, repeated, reseeded = (np.stack(subject.sample_tau_d(seed, batch, time)) for seed in (7, 7, 8))
    trial.fail_unless(_global_states() == before, "the call changes a global random state", call=call)
    trial.fail_unless(np.array_equal(first, repeated), "the same seed gives two different draws", call=f"{call}, twice")
    if subject.k_max > 1:
        differs = not np.array_equal(first, reseeded)
        trial.fail_unless(differs, "two seeds give the same draw", call=f"{call} and sample_tau_d(8, {batch}, {time})")


def _global_states() -> list[Any]:
    """The global random states of Python, NumPy and, if it is imported, torch."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    states = [random.getstate(), numpy_state[1].tobytes(), numpy_state[2:]]
    torch = sys.modules.get("torch")
    return states if torch is None else [*states, torch.random.get_rng_state().numpy().tobytes()]


@signature("sample_tau_d", tolerance=0.04)
def signature_law_of_the_draws(subject: Subject) -> np.ndarray:
    """Shares of the step sizes and of τ = 0 and 1, moments and correlations of the levels, effect of the seed."""
    size = len(step_sizes(subject.k_max)) + 18
    return np.asarray(np.nan_to_num(attempt(lambda: _statistics(subject), size), nan=-1.0))


def _statistics(subject: Subject) -> np.ndarray:
    batch = max(subject.adapter.min_batch, 4096)
    tau, d = subject.sample_tau_d(1, batch, 4)
    draw = LevelDraw(tau, d, "")
    shares = [(d == float(size)).mean() for size in step_sizes(subject.k_max)]
    with np.errstate(divide="ignore", invalid="ignore"):
        on_grid = np.mean(np.abs(np.round(tau / d) - tau / d) < 1e-3)
    level, free = _standardised(draw)
    moments = [(level**power).sum(0) / np.maximum(free.sum(0), 1) / 2 for power in (1, 2)]
    correlations = [products.sum() / max(level.size // 2, 1) for _, products in _neighbour_products(level)]
    first, second = (np.stack(subject.sample_tau_d(seed, batch, 4)) for seed in (1, 2))
    ends = [(tau == 0).mean(), (tau == 1).mean(), on_grid, (d == d[:, :1]).mean(), (tau == tau[:, :1]).mean()]
    seeded = [np.array_equal(first, np.stack([tau, d])), np.array_equal(first, second)]
    return np.concatenate([shares, *moments, correlations, ends, seeded, [draw.above_d_min(subject.d_min).mean()]])
