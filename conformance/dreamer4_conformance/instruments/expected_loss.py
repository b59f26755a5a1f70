"""The loss that Eq. (7) and (8) require for one recorded evaluation, computed from the student's calls in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dreamer4_conformance.instruments.call_roles import Match
from dreamer4_conformance.instruments.recorder import AnalyticNetwork
from dreamer4_conformance.instruments.subject import Evaluation, Subject
from dreamer4_conformance.verdicts import Inconclusive
from dreamer4_reference.eq04_grid import step_sizes
from dreamer4_reference.eq06_07_shortcut_forcing import bootstrap_target
from dreamer4_reference.eq08_ramp_weight import ramp_weight

OUTSIDE_DOMAIN = (
    "the network is called with labels outside the domain of Eq. (7): τ ≥ 0, τ + d ≤ 1, d in {1, 1/2, …, 1/K_max}"
)
"""Reason for which a clause cannot be decided at the labels of an evaluation."""


@dataclass
class Expectation:
    """The paper's loss on M student rows: arrays (M, T) and (M, T, S, D).

    `error` is ẑ1 minus its x-space target: z1, or z̃ + (1 − τ)(b' + b'')/2 above d_min. `magnitude` is the sum of the
    absolute values of its terms, the scale of rounding errors. `share` is each timestep's weight in the average (A27);
    a loss per timestep is not averaged, and its gradient is that of its mean.
    """

    tau: np.ndarray
    d: np.ndarray
    rows: np.ndarray
    bootstrap: np.ndarray
    error: np.ndarray
    magnitude: np.ndarray
    weight: np.ndarray
    share: np.ndarray
    observed_gradient: np.ndarray | None
    norm: str

    def _norm(self, values: np.ndarray) -> np.ndarray:
        square: np.ndarray = values**2
        return square.sum((2, 3)) if self.norm == "sum" else square.mean((2, 3))

    @property
    def unweighted(self) -> np.ndarray:
        """Squared error of every timestep before the ramp weight, (M, T)."""
        return self._norm(self.error)

    @property
    def timesteps(self) -> np.ndarray:
        """Loss of every timestep with the ramp weight, (M, T)."""
        return self.weight * self.unweighted

    @property
    def terms(self) -> np.ndarray:
        """Scale of the rounding errors of `timesteps`, (M, T)."""
        return self.weight * self._norm(self.magnitude)

    @property
    def loss(self) -> float:
        """Loss averaged over all timesteps (A27)."""
        return float((self.share * self.timesteps).sum())

    @property
    def loss_terms(self) -> float:
        """Scale of the rounding error of `loss`."""
        return float((self.share * self.terms).sum())

    def gradient(self, error: np.ndarray) -> np.ndarray:
        """d loss / d ẑ1 for `self.error`; the scale of its rounding errors for `self.magnitude`. (M, T, S, D)."""
        elements = 1 if self.norm == "sum" else self.error.shape[2] * self.error.shape[3]
        return 2 * (self.weight * self.share)[:, :, None, None] * error / elements


def _magnitude(
    network: AnalyticNetwork,
    z: np.ndarray,
    z1_hat: np.ndarray,
    tau: np.ndarray,
    d: np.ndarray,
    actions: np.ndarray | None,
) -> np.ndarray:
    """|ẑ1| + |z̃| + (1 − τ)(|b'| + |b''|)/2 with the absolute value of every term of b' and b''."""
    remaining, half = (1 - tau)[:, :, None, None], (d / 2)[:, :, None, None]
    first = np.abs(network(z, tau, d / 2, actions)) + np.abs(z)
    second_input = np.abs(z) + first / remaining * half
    gain, offset = network.coefficients(tau + d / 2, d / 2, actions, z.shape)
    second = np.abs(gain) * second_input + np.abs(offset) + second_input
    return np.asarray(np.abs(z1_hat) + np.abs(z) + (first + second * remaining / (remaining - half)) / 2)


def expect(subject: Subject, evaluation: Evaluation) -> Expectation:
    """Compute the loss that the paper requires under the adapter's readings and the quantities `subject.recovered`.

    Raises:
        Deviation: if the calls cannot be matched to the student and the teacher.
        Inconclusive: if the student's labels leave the domain of Eq. (7).
    """
    matches = evaluation.students
    z, z1_hat, tau, d = (
        np.stack([getattr(match.student, name) for match in matches]) for name in ("z", "output", "tau", "d")
    )
    actions = _stack([match.student.actions for match in matches])
    rows = np.array([match.row for match in matches])
    _undecided_unless_in_domain(tau, d, subject.k_max)
    bootstrap = d > subject.d_min
    if "teacher" in subject.recovered:
        b_prime, b_double_prime = _recovered_velocities(matches)
    else:
        b_prime, _, b_double_prime = bootstrap_target(evaluation.network, z, tau, d, actions, k_max=subject.k_max)
    target = z + (1 - tau)[:, :, None, None] * (b_prime + b_double_prime) / 2
    z1 = evaluation.draw.z1[rows]
    above = bootstrap[:, :, None, None]
    # `np.where` discards the bootstrap term at d_min; its labels only need to be inside the domain.
    labels = np.where(bootstrap, tau, 0.0), np.where(bootstrap, d, 0.5)
    expectation = Expectation(
        tau=tau,
        d=d,
        rows=rows,
        bootstrap=bootstrap,
        error=z1_hat - np.where(above, target, z1),
        magnitude=np.where(
            above, _magnitude(evaluation.network, z, z1_hat, *labels, actions), np.abs(z1_hat) + np.abs(z1)
        ),
        weight=np.where(bootstrap & (subject.readings["A7"] == "flow"), 1.0, ramp_weight(tau)),
        share=_share(bootstrap, subject.readings["A27"] if evaluation.loss.ndim == 0 else "joint"),
        observed_gradient=_observed_gradient(evaluation),
        norm=subject.readings["A8"],
    )
    return _with_recovered(subject, evaluation, expectation)


def _with_recovered(subject: Subject, evaluation: Evaluation, expectation: Expectation) -> Expectation:
    """The expectation with the quantities `subject.recovered` taken from the implementation as they are."""
    if "ramp" in subject.recovered:
        return replace(expectation, weight=subject.ramp_weight(expectation.tau))
    if "weight" in subject.recovered:
        return replace(expectation, weight=_recovered_weight(expectation, evaluation.loss))
    for quantity, where in (("flow", ~expectation.bootstrap), ("bootstrap", expectation.bootstrap)):
        if quantity in subject.recovered and expectation.observed_gradient is None:
            raise Inconclusive("the error cannot be recovered: the loss has no gradients")
        if quantity in subject.recovered:
            factor = expectation.gradient(np.ones_like(expectation.error))
            error = np.where(where[:, :, None, None], expectation.observed_gradient / factor, expectation.error)
            return replace(expectation, error=error)
    return expectation


def _recovered_velocities(matches: list[Match]) -> tuple[np.ndarray, np.ndarray]:
    """b' and b'' (M, T, S, D) of the recorded teacher calls, whatever their inputs are; 0 at d_min."""
    velocities = np.zeros((2, len(matches), *matches[0].student.z.shape))
    for index, match in enumerate(matches):
        if match.bootstrap.any() and (match.first is None or match.second is None):
            raise Inconclusive("a teacher call is missing")
        levels = match.student.tau, match.student.tau + match.student.d / 2
        for teacher, call, level in zip(velocities, (match.first, match.second), levels, strict=True):
            if call is not None:
                where = match.bootstrap & (level < 1)
                teacher[index, where] = ((call.output - call.z)[where].T / (1 - level[where])).T
    return velocities[0], velocities[1]


def _recovered_weight(expectation: Expectation, loss: np.ndarray) -> np.ndarray:
    """The weight (M, T) that the loss applies: its timesteps or its gradient, over those without a weight."""
    if loss.ndim == 2:
        applied, unweighted = loss[expectation.rows], expectation.unweighted
    elif expectation.observed_gradient is not None:
        gradient = replace(expectation, weight=np.ones_like(expectation.weight)).gradient(expectation.error)
        applied, unweighted = (expectation.observed_gradient * gradient).sum((2, 3)), (gradient**2).sum((2, 3))
    else:
        raise Inconclusive("the weight cannot be recovered: the loss is a scalar without gradients")
    return np.divide(applied, unweighted, out=np.zeros_like(unweighted), where=unweighted > 0)


def _observed_gradient(evaluation: Evaluation) -> np.ndarray | None:
    if not evaluation.has_gradients:
        return None
    students = [match.student for match in evaluation.students]
    return np.stack([np.zeros_like(row.z) if row.gradient is None else row.gradient for row in students])


def _stack(arrays: list[np.ndarray | None]) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return np.stack(present) if len(present) == len(arrays) else None


def _undecided_unless_in_domain(tau: np.ndarray, d: np.ndarray, k_max: int) -> None:
    on_ladder = np.isin(d, [float(step) for step in step_sizes(k_max)])
    if not (on_ladder.all() and np.all((tau >= 0) & (tau + d <= 1))):
        raise Inconclusive(OUTSIDE_DOMAIN)


def _share(bootstrap: np.ndarray, averaging: str) -> np.ndarray:
    if averaging == "joint":
        return np.full(bootstrap.shape, 1 / bootstrap.size)
    return np.where(bootstrap, 1 / max(int(bootstrap.sum()), 1), 1 / max(int((~bootstrap).sum()), 1))
