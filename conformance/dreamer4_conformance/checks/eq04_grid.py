"""Checks of Eq. (4): the step sizes and the grid of signal levels, and of Eq. (6): the levels are independent.

Each is decided on one fixed-seed draw through every provided route: `sample_tau_d`, and the labels with which
`dynamics_loss` calls its student. Facts of the grid are exact: its levels are dyadic fractions, whose quotients
float64 holds. The laws are judged by bounds that hold for stratified draws. Where one coin may have decided for a whole
batch, one row of each of many calls is judged instead: rows of different calls are independent.
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
class Drawn:
    """What one route drew: tau and d (rows, T) in signal levels, and the call as a reader would write it."""

    tau: np.ndarray
    d: np.ndarray
    call: str

    def above_d_min(self, d_min: float) -> np.ndarray:
        """Rows (rows,) that do not stand at d_min as a whole."""
        return np.asarray((self.d != d_min).any(1))


_DRAWN: WeakKeyDictionary[Adapter, dict[tuple[object, ...], Drawn]] = WeakKeyDictionary()


def drawn(subject: Subject, trial: Trial) -> Iterator[Drawn]:
    """One large draw through each provided route, made once for all checks."""
    adapter = subject.adapter
    kept = _DRAWN.setdefault(adapter, {})
    for route in filter(subject.provides, ROUTES):
        key = (
            route,
            trial.seed,
            adapter.level,
            adapter.k_max,
            adapter.dtype,
            adapter.device,
            *adapter.readings.items(),
        )
        if key not in kept:
            kept[key] = _draw(subject, route, int(trial.rng().integers(2**31)))
        yield kept[key]


def _first_success(strategies: Sequence[Callable[[], Result]], failure: type[Exception]) -> Result:
    """What the first strategy gives that does not raise `failure`. Raises the first failure where all do."""
    failures: list[Exception] = []
    for strategy in strategies:
        try:
            return strategy()
        except failure as error:
            failures.append(error)
    raise failures[0]


def _draw(subject: Subject, route: str, seed: int) -> Drawn:
    """Over several timesteps; over one where the operation works with one only.

    A loss that does not work is the business of Eq. (7).
    """
    times = (TIME if route == "sample_tau_d" else LOSS_TIME, 1)
    try:
        return _first_success([partial(_rows, subject, route, seed, time) for time in times], OperationFailed)
    except OperationFailed as failed:
        if route == "sample_tau_d":
            raise
        raise Inconclusive(f"the labels cannot be read: {failed}") from None


def _rows(subject: Subject, route: str, seed: int, time: int) -> Drawn:
    draw = _from_schedule if route == "sample_tau_d" else _from_loss
    together = draw(subject, seed, time, ROWS if route == "sample_tau_d" else LOSS_ROWS)
    at_d_min = together.d == subject.d_min
    if subject.k_max == 1 or (at_d_min.any() and not at_d_min.all()):
        return together
    time, rng = min(time * 2, LOSS_TIME) if time > 1 else 1, input_rng(seed)
    parts = [draw(subject, seed + 1 + part, time, 1) for part in range(CALLS)]
    rows = [int(rng.integers(len(part.d))) for part in parts]
    tau, d = (np.stack([getattr(p, name)[row] for p, row in zip(parts, rows, strict=True)]) for name in ("tau", "d"))
    return Drawn(tau, d, f"one row of each of {CALLS} calls like {parts[0].call}")


def _from_schedule(subject: Subject, seed: int, time: int, rows: int) -> Drawn:
    batch = max(subject.adapter.min_batch, rows)
    tau, d = subject.sample_tau_d(seed, batch, time)
    return Drawn(tau, d, f"sample_tau_d({seed}, {batch}, {time})")


def _from_loss(subject: Subject, seed: int, time: int, rows: int) -> Drawn:
    """All rows at once where gradients identify the student; else few at a time, since matching them is quadratic."""
    fewest = subject.adapter.min_batch
    large, small = ((max(fewest, count), time) for count in (rows, min(rows, 16)))

    def in_parts() -> tuple[np.ndarray, np.ndarray]:
        seeds = range(seed + 1, seed + 1 + (24 if rows > 1 else 1))
        parts = [_student_labels(subject, part, small, by_gradient=False) for part in seeds]
        return np.concatenate([tau for tau, _ in parts]), np.concatenate([d for _, d in parts])

    def at_once() -> tuple[np.ndarray, np.ndarray]:
        return _student_labels(subject, seed, large, by_gradient=True)

    tau, d = _first_success([at_once, in_parts], Inconclusive)
    return Drawn(
        tau, d, f"the student's labels in dynamics_loss(network, z1 of {len(tau)}x{time}x1x1, actions, {seed})"
    )


def _student_labels(
    subject: Subject, seed: int, shape: tuple[int, int], *, by_gradient: bool
) -> tuple[np.ndarray, np.ndarray]:
    rng = input_rng(seed)
    z1, actions = (subject.round(rng.standard_normal((*shape, *rest))) for rest in ((1, 1), (ACTION_WIDTH,)))
    evaluation = subject.evaluate("dynamics_loss", CONSTANT, Draw(z1=z1, actions=actions, seed=seed))
    calls = evaluation.calls
    if by_gradient:
        students = students_with_gradient(call_rows(calls), len(z1))
    else:
        students = students_per_row(calls, z1, actions, CONSTANT, d_min=subject.d_min, eps=subject.eps)
    # Several for each row where the flow and the bootstrap term have calls of their own over all rows.
    if not students or len(students) % len(z1) or any(student.tau.shape != (shape[1],) for student in students):
        raise Inconclusive(f"the student's rows cannot be told apart in dynamics_loss; seen:\n{evaluation.call_log}")
    return np.stack([student.tau for student in students]), np.stack([student.d for student in students])


def _law_of_steps(subject: Subject, draw: Drawn, trial: Trial) -> tuple[np.ndarray, list[float]]:
    """The step sizes that were drawn independently, flat, and which sizes they come from."""
    sizes = [float(d) for d in step_sizes(subject.k_max)]
    per_row = subject.readings["A3"] == "sequence"
    d = draw.d
    if subject.readings["A2"] == "split":
        if subject.adapter.d_min_share is None:
            trial.inconclusive("reading A2 = split needs d_min_share, the share of rows at d_min, on the adapter")
        d, sizes = d[draw.above_d_min(subject.d_min)], [size for size in sizes if size != subject.d_min]
    return (d[:, 0] if per_row else d).ravel(), sizes


@check("eq04.step-support", needs_one=ROUTES, decisions=2)
def check_every_step_size_occurs(subject: Subject, trial: Trial) -> None:
    """Over at least 384 rows.

    A size that occurs half as often as it should, or less, is seen by `eq04.step-law`, not here.
    """
    ladder = [float(d) for d in step_sizes(subject.k_max)]
    for draw in drawn(subject, trial):
        strange = sorted(set(draw.d.ravel()) - set(ladder))
        sentence = f"d = {strange[0] if strange else 0:.9g} is drawn, which is not one of 1, 1/2, …, 1/{subject.k_max}"
        trial.fail_unless(not strange, sentence, call=draw.call, got=strange[:8], expected=ladder)
        if subject.readings["A2"] == "split":
            trial.fail_unless(bool((draw.d == subject.d_min).any()), "d = d_min never occurs", call=draw.call)
        d, sizes = _law_of_steps(subject, draw, trial)
        missing = [size for size in sizes if not (d == size).any()]
        seldom = union_bound(count_bound(0, max(d.size, 1), 1 / len(sizes)) for _ in sizes)
        sentence = f"d = {', '.join(f'{size:g}' for size in missing)} never occurs among {d.size} draws"
        trial.reject_law(seldom if missing else 1.0, sentence, call=draw.call, got=sorted(set(d)), expected=ladder)
        if missing:
            trial.inconclusive(f"{sentence}, which are too few to tell")


@check("eq04.step-law", needs_one=ROUTES, decisions=4)
def check_step_sizes_are_equally_likely(subject: Subject, trial: Trial) -> None:
    """At K_max = 64 a probability of 1/7 ± 0.04 is found with certainty, of ± 0.2 where d is drawn per sequence."""
    for draw in drawn(subject, trial):
        if subject.readings["A2"] == "split":
            above, share = draw.above_d_min(subject.d_min), subject.adapter.d_min_share
            bound = 1.0 if share is None else count_bound(float((~above).sum()), len(above), share)
            sentence = f"the share of rows at d_min is {1 - above.mean():.3g}; declared is {share}"
            trial.reject_law(bound, sentence, call=draw.call, got=float(1 - above.mean()), expected=share)
        d, sizes = _law_of_steps(subject, draw, trial)
        counts = np.array([(d == size).sum() for size in sizes])
        shares = counts / max(d.size, 1)
        bound = uniform_bound(counts) if counts.sum() else 1.0
        sentence = f"the step sizes {', '.join(f'{size:g}' for size in sizes)} are not equally likely"
        equal = [1 / len(sizes)] * len(sizes)
        trial.reject_law(bound, sentence, call=draw.call, got=shares.round(4).tolist(), expected=equal)


@check("eq04.grid", needs_one=ROUTES)
def check_level_is_a_multiple_of_its_step(subject: Subject, trial: Trial) -> None:
    """Exact: division by a power of two loses nothing."""
    for draw in drawn(subject, trial):
        with np.errstate(divide="ignore", invalid="ignore"):
            multiple = draw.tau / draw.d
        _fail_unless_all(trial, draw, np.floor(multiple) == multiple, "is no whole multiple of d")


@check("eq04.grid-range", needs_one=ROUTES)
def check_noise_is_on_the_grid_and_clean_data_is_not(subject: Subject, trial: Trial) -> None:
    """Exact; τ = 0 has a probability above 1/K_max in each of thousands of draws."""
    for draw in drawn(subject, trial):
        _fail_unless_all(trial, draw, draw.tau < 1, "is clean data, which is not on the grid")
        _fail_unless_all(trial, draw, draw.tau >= 0, "is below pure noise")
        _fail_unless_all(trial, draw, draw.tau + draw.d <= 1, "leads past clean data with its d")
        lowest = float(draw.tau.min())
        sentence = f"pure noise, τ = 0, never occurs; the lowest level is {lowest:g}"
        trial.fail_unless(lowest == 0, sentence, call=draw.call, got=lowest, expected=0.0)


def _fail_unless_all(trial: Trial, draw: Drawn, holds: np.ndarray, what: str) -> None:
    row, column = np.unravel_index(int(np.argmin(holds)), holds.shape)
    tau, d = float(draw.tau[row, column]), float(draw.d[row, column])
    place = f"row {row}, timestep {column} (signal levels)"
    sentence = f"τ = {tau:.9g} drawn with d = {d:.9g} {what}"
    trial.fail_unless(bool(holds.all()), sentence, call=f"{draw.call}, {place}", got=[tau, d])


@check("eq04.grid-law", needs_one=ROUTES, decisions=2)
def check_grid_points_are_equally_likely(subject: Subject, trial: Trial) -> None:
    """Over halves, quarters and so on, and points.

    At K_max = 64 a half of the finest grid with probability 0.64 is found with certainty, a point of 64 when it is
    missing or four times too likely.
    """
    for draw in drawn(subject, trial):
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
def check_each_timestep_draws_its_own(subject: Subject, trial: Trial) -> None:
    """Neighbours share their level with probability min(d, d'); 5 in 100 more are found with certainty."""
    for draw in drawn(subject, trial):
        if subject.k_max == 1:
            trial.inconclusive("with K_max = 1 there is one step size and one level")
        if draw.tau.shape[1] == 1:
            trial.inconclusive("the operation works with T = 1 only, where there are no neighbours")
        even = draw.tau.shape[1] // 2 * 2
        tau, d = (x[:, :even].reshape(-1, 2) for x in (draw.tau, draw.d))
        likely, same = d.min(1).mean(), (tau[:, 0] == tau[:, 1]).mean()
        bound = count_bound(float(same * len(tau)), len(tau), float(likely)) if same > likely else 1.0
        sentence = (
            f"τ is shared by {same:.1%} of the neighbouring timesteps; drawn per timestep {likely:.1%} would share it"
        )
        trial.reject_law(bound, sentence, call=draw.call, got=float(same), expected=float(likely))
        _judge_granularity_of_steps(subject, trial, draw)


def _judge_granularity_of_steps(subject: Subject, trial: Trial, draw: Drawn) -> None:
    constant = bool((draw.d == draw.d[:, :1]).all())
    if subject.readings["A3"] == "sequence":
        trial.fail_unless(constant, "d differs within a sequence; declared is A3 = sequence", call=draw.call)
        return
    rows = draw.d[draw.above_d_min(subject.d_min)] if subject.readings["A2"] == "split" else draw.d
    by_chance = min(1.0, 2.0 ** -(rows.shape[1] - 1)) ** len(rows)
    if subject.readings["A2"] == "split" and subject.k_max == 2:
        return
    sentence = (
        "d is the same in all timesteps of every sequence; it is drawn per timestep, unless A3 = sequence is declared"
    )
    trial.reject_law(by_chance if constant else 1.0, sentence, call=draw.call, got=draw.d[:2].tolist())


@check("eq06.iid-levels", needs_one=ROUTES, decisions=6)
def check_levels_do_not_depend_on_place_or_neighbours(subject: Subject, trial: Trial) -> None:
    """Levels are centred and scaled by the law given their d.

    Found with certainty: a correlation of 0.17, a mean shifted by 0.7 deviations at one timestep.
    """
    for draw in drawn(subject, trial):
        if subject.k_max == 1:
            trial.inconclusive("with K_max = 1 there is one level")
        level, free = _standardised(draw)
        columns = range(level.shape[1])
        bounds = [_mean_bound(level[free[:, t], t], largest=3**0.5) for t in columns]
        means = [round(float(level[free[:, t], t].mean()), 3) if free[:, t].any() else 0.0 for t in columns]
        sentence = f"given d, the level depends on the timestep: in deviations from its mean, by timestep, {means}"
        trial.reject_law(union_bound(bounds), sentence, call=draw.call, got=means, expected=[0.0] * len(means))
        for name, one, other in _neighbours(level * free):
            products = (one * other)[(one != 0) & (other != 0)]
            correlation = float(products.mean()) if products.size else 0.0
            sentence = f"given d, the levels of neighbouring {name} are correlated by {correlation:.3g}"
            trial.reject_law(_mean_bound(products, largest=3.0), sentence, call=draw.call, expected=0.0)


def _standardised(draw: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Levels minus their mean (1 − d)/2, over their deviation √((1 − d²)/12); 0 and not free where d = 1."""
    free = draw.d < 1
    deviation = np.sqrt(np.where(free, 1 - draw.d**2, 1.0) / 12)
    return np.where(free, (draw.tau - (1 - draw.d) / 2) / deviation, 0.0), free


def _neighbours(x: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Disjoint pairs of timesteps, and of rows, so that the pairs are independent."""
    rows, columns = (size // 2 * 2 for size in x.shape)
    return [("timesteps", x[:, :columns:2], x[:, 1:columns:2]), ("rows", x[:rows:2], x[1:rows:2])]


def _mean_bound(values: np.ndarray, largest: float) -> float:
    return mean_bound(float(values.mean()), values.size, 1.0, largest) if values.size else 1.0


@check("eq04.generator", needs=("sample_tau_d",))
def check_draws_follow_their_seed(subject: Subject, trial: Trial) -> None:
    """Exact.

    Where τ and d leave two draws equal by chance less than once in 10^9 (K_max = 1 does not), another seed must
    differ.
    """
    batch, time = max(subject.adapter.min_batch, 64), 8 if next(drawn(subject, trial)).tau.shape[1] > 1 else 1
    call = f"sample_tau_d(7, {batch}, {time})"
    before = _global_states()
    first, again, other = (np.stack(subject.sample_tau_d(seed, batch, time)) for seed in (7, 7, 8))
    trial.fail_unless(_global_states() == before, "the call leaves a global random state changed", call=call)
    trial.fail_unless(np.array_equal(first, again), "the same seed gives two different draws", call=f"{call}, twice")
    if subject.k_max > 1:
        differs = not np.array_equal(first, other)
        trial.fail_unless(differs, "two seeds give the same draw", call=f"{call} and sample_tau_d(8, {batch}, {time})")


def _global_states() -> list[Any]:
    """The global random states of Python, NumPy and, where it is loaded, torch."""
    of_numpy: Any = np.random.get_state()  # noqa: NPY002
    states = [random.getstate(), of_numpy[1].tobytes(), of_numpy[2:]]
    torch = sys.modules.get("torch")
    return states if torch is None else [*states, torch.random.get_rng_state().numpy().tobytes()]


@signature("sample_tau_d", tolerance=0.04)
def signature_law_of_the_draws(subject: Subject) -> np.ndarray:
    """Shares of the step sizes and of the ends of the grid, moments of the levels, what neighbours share, and whether
    the seed counts.
    """
    size = len(step_sizes(subject.k_max)) + 18
    return np.asarray(np.nan_to_num(attempt(lambda: _statistics(subject), size), nan=-1.0))


def _statistics(subject: Subject) -> np.ndarray:
    batch = max(subject.adapter.min_batch, 4096)
    tau, d = subject.sample_tau_d(1, batch, 4)
    draw = Drawn(tau, d, "")
    shares = [(d == float(size)).mean() for size in step_sizes(subject.k_max)]
    with np.errstate(divide="ignore", invalid="ignore"):
        on_grid = np.mean(np.abs(np.round(tau / d) - tau / d) < 1e-3)
    level, free = _standardised(draw)
    moments = [(level**power).sum(0) / np.maximum(free.sum(0), 1) / 2 for power in (1, 2)]
    pairs = [(one * other)[(one != 0) & (other != 0)].sum() / max(one.size, 1) for _, one, other in _neighbours(level)]
    seeds = [np.stack(subject.sample_tau_d(seed, batch, 4)) for seed in (1, 2)]
    ends = [(tau == 0).mean(), (tau == 1).mean(), on_grid, (d == d[:, :1]).mean(), (tau == tau[:, :1]).mean()]
    follows = [
        np.array_equal(seeds[0], np.stack([tau, d])),
        np.array_equal(seeds[0], seeds[1]),
        (draw.above_d_min(subject.d_min)).mean(),
    ]
    return np.concatenate([shares, *moments, pairs, ends, follows])
