"""Checks of Eq. (10): λ-returns, and the loss of the value head."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.heads import (
    Trajectory,
    adapter_bins,
    compute_returns,
    draw_trajectory,
    expected_returns,
    returns_magnitude,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds, trajectories
from dreamer4_conformance.verdicts import Deviation, NotProvided, OperationFailed
from dreamer4_reference.eq10_lambda_return import value_loss, value_loss_gradient
from dreamer4_reference.twohot import log_softmax, softmax, symlog, twohot_encode


@check("eq10.value", needs=("lambda_returns",))
def check_returns_are_the_recursion(subject: Subject, trial: Trial) -> None:
    """Returns follow R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1}) under A13 and A15. Terms: `returns_magnitude`."""

    @example(draw_trajectory(subject, 0, (2, 1), 0.75, 0.5))
    @example(draw_trajectory(subject, 1, (3, 3), 0.75, 0.5))
    def holds(trajectory: Trajectory) -> None:
        got, expected = compute_returns(subject, trajectory), expected_returns(subject, trajectory)
        call, terms = f"lambda_returns({trajectory})", returns_magnitude(subject, trajectory)
        trial.compare("the return", got, expected, terms=terms, k=4, eps=subject.eps, call=call)

    trial.for_all(trajectories(subject), body=holds)


@check("eq10.limits", needs=("lambda_returns",))
def check_lambda_one_sums_and_lambda_zero_looks_one_step_ahead(subject: Subject, trial: Trial) -> None:
    """λ = 1 gives the discounted sum of rewards and the last value, λ = 0 gives r_t + γ v_{t+1} (v_t under "v_same").

    Compared with these closed forms at c = 1: the effect of c is judged by eq10.terminal. Terms: `returns_magnitude`.
    """

    def holds(trajectory: Trajectory, monte_carlo: bool) -> None:
        trajectory = replace(trajectory, lam=float(monte_carlo), cont=np.ones_like(trajectory.cont))
        expected = _discounted_sum(trajectory) if monte_carlo else _one_step(subject, trajectory)
        got, terms = compute_returns(subject, trajectory), returns_magnitude(subject, trajectory)
        name, call = f"the return at λ = {trajectory.lam}", f"lambda_returns({trajectory})"
        trial.compare(name, got, expected, terms=terms, k=4, eps=subject.eps, call=call)

    trial.for_all(trajectories(subject, lam=1.0, shortest=2), st.booleans(), body=holds)


def _discounted_sum(trajectory: Trajectory) -> np.ndarray:
    ahead = np.append(trajectory.reward, trajectory.value[:, -1:], axis=1)
    factors = trajectory.gamma ** np.arange(ahead.shape[1])
    horizon = trajectory.reward.shape[1]
    return np.stack([(factors[: horizon + 1 - t] * ahead[:, t:]).sum(1) for t in range(horizon)], axis=1)


def _one_step(subject: Subject, trajectory: Trajectory) -> np.ndarray:
    # Under A14 = reward there is no value after the last step, whose own value takes its place.
    following = np.append(trajectory.value, trajectory.value[:, -1:], axis=1)[:, 1 : trajectory.reward.shape[1] + 1]
    value = following if subject.readings["A13"] == "v_next" else trajectory.baseline
    return np.asarray(trajectory.reward + trajectory.gamma * value)


@check("eq10.terminal", needs=("lambda_returns",))
def check_episode_end_separates_returns_before_and_after(subject: Subject, trial: Trial) -> None:
    """c = 0 removes later rewards and values from earlier returns, and changes neither later returns nor discounts.

    Returns are compared with those of a changed trajectory. A change of the last reward before the end must change the
    returns up to that step as much as it does without the end. Terms: `returns_magnitude`.
    """

    def holds(trajectory: Trajectory, index: int) -> None:
        end = _Terminal(subject, trial, *_ended(subject, trajectory, index))
        end.fail_if_later_steps_affect_earlier_returns()
        end.fail_if_end_affects_later_returns()
        end.fail_unless_last_reward_reaches_earlier_returns()

    trial.for_all(trajectories(subject, shortest=2), st.integers(0, 7), body=holds)


def _ended(subject: Subject, trajectory: Trajectory, index: int) -> tuple[Trajectory, Trajectory, int]:
    """The trajectory with c > 0, the same with c = 0 on the last step before step `after`, and `after`."""
    after = 1 + index % (trajectory.reward.shape[1] - 1)
    endless = replace(trajectory, cont=np.maximum(trajectory.cont, 1 / 2))
    cont = endless.cont.copy()
    cont[:, after - 1 if subject.readings["A15"] == "t" else after] = 0.0
    return endless, replace(trajectory, cont=cont), after


@dataclass(frozen=True)
class _Terminal:
    """A trajectory that ends before step `after`, and the same trajectory without that end."""

    subject: Subject
    trial: Trial
    endless: Trajectory
    ended: Trajectory
    after: int

    @cached_property
    def returns(self) -> np.ndarray:
        """Returns of the trajectory that ends, (B, H)."""
        return compute_returns(self.subject, self.ended)

    def _compare(self, name: str, got: np.ndarray, expected: np.ndarray, steps: slice, *changed: Trajectory) -> None:
        terms = sum(returns_magnitude(self.subject, case) for case in (self.ended, *changed))
        call = f"lambda_returns({changed[0]}), compared with lambda_returns({self.ended})"
        got, expected, terms = (x[:, steps] for x in (got, expected, np.asarray(terms)))
        self.trial.compare(
            name, got, expected, terms=terms, k=4, eps=self.subject.eps, call=call, required_by="adapter"
        )

    def fail_if_later_steps_affect_earlier_returns(self) -> None:
        reward, value = self.ended.reward.copy(), self.ended.value.copy()
        reward[:, self.after :] = 64 - 8 * reward[:, self.after :]
        value[:, self.after :] = 128 + 8 * value[:, self.after :]
        changed = _with(self.ended, self.subject.round(reward), self.subject.round(value))
        got, steps = compute_returns(self.subject, changed), slice(self.after)
        self._compare("the return before the end, with other later steps,", got, self.returns, steps, changed)

    def fail_if_end_affects_later_returns(self) -> None:
        got, steps = compute_returns(self.subject, self.endless), slice(self.after, None)
        self._compare("the return after the end, without that end,", got, self.returns, steps, self.endless)

    def fail_unless_last_reward_reaches_earlier_returns(self) -> None:
        reward = self.ended.reward.copy()
        reward[:, self.after - 1] = self.subject.round(reward[:, self.after - 1] + 4)
        changed, endless = replace(self.ended, reward=reward), replace(self.endless, reward=reward)
        got = compute_returns(self.subject, changed) - self.returns
        expected = compute_returns(self.subject, endless) - compute_returns(self.subject, self.endless)
        name = (
            "the change of the return with the last reward before the end, compared with that change without the end,"
        )
        self._compare(name, got, expected, slice(self.after), changed, endless, self.endless)


@check("eq10.linear", needs=("lambda_returns",))
def check_returns_are_linear(subject: Subject, trial: Trial) -> None:
    """Returns of a sum are the sum of the returns; scaling by 2⁻¹⁰ to 2²⁰ scales the returns. Within rounding."""

    def holds(first: Trajectory, seed: int, scale: float) -> None:
        random = replace(draw_trajectory(subject, seed, first.reward.shape, first.gamma, first.lam), cont=first.cont)
        # The sum is rounded before the operation reads it, so the second summand is the difference after rounding.
        total = _with(first, *(subject.round(a + b) for a, b in _pairs(first, random)))
        second = _with(first, *(subject.round(a - b) for a, b in _pairs(total, first)))
        multiple = _with(first, scale * first.reward, scale * first.value)
        first_returns, second_returns = compute_returns(subject, first), compute_returns(subject, second)
        terms = sum(returns_magnitude(subject, summand) for summand in (total, first, second))
        multiple_terms = 2 * returns_magnitude(subject, multiple)
        for name, trajectory, expected, sizes in (
            ("the return of a sum", total, first_returns + second_returns, terms),
            (f"the return of {scale:g} times a trajectory", multiple, scale * first_returns, multiple_terms),
        ):
            got, call = compute_returns(subject, trajectory), f"lambda_returns({trajectory})"
            trial.compare(name, got, expected, terms=sizes, k=4, eps=subject.eps, call=call, required_by="adapter")

    scales = st.sampled_from([2.0**-10, 2.0**3, 2.0**10, 2.0**20])
    trial.for_all(trajectories(subject, shortest=2), seeds(), scales, body=holds)


def _pairs(left: Trajectory, right: Trajectory) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (left.reward, right.reward), (left.value, right.value)


def _with(trajectory: Trajectory, reward: np.ndarray, value: np.ndarray) -> Trajectory:
    return replace(trajectory, reward=reward, value=value)


@check("eq10.loss", needs=("value_loss", "twohot_bins"))
def check_value_loss_is_cross_entropy_against_a_constant(subject: Subject, trial: Trial) -> None:
    """The loss is the cross-entropy to the two-hot return, its gradient too, and no gradient reaches the return.

    The two-hot return is that of the paper, or else of the adapter's own `twohot_encode`, which twohot.* judge. Terms:
    |ln p|, and the rounding of a two-hot weight times the range of ln p. Without gradients, the value only.
    """
    bins = adapter_bins(subject)

    def holds(seed: int, rows: int) -> None:
        logits, returns = _value_inputs(subject, bins, seed, rows)
        target = twohot_encode(returns, bins, space=subject.readings["A23"])  # type: ignore[arg-type]
        case = ValueHead(subject, trial, bins, logits, returns, target)
        try:
            case.compare()
        except Deviation:
            own = case.with_own_target()
            if own is None:
                raise
            own.compare()

    trial.for_all(seeds(), st.integers(1, 4), body=holds)


@dataclass(frozen=True)
class ValueHead:
    """Logits (N, K) of a value head over `bins` (K,), the returns (N,), and their two-hot encodings (N, K)."""

    subject: Subject
    trial: Trial
    bins: np.ndarray
    logits: np.ndarray
    returns: np.ndarray
    target: np.ndarray

    def with_own_target(self) -> ValueHead | None:
        """The same with the adapter's encoding; None if it is not provided or fails."""
        with suppress(NotProvided, OperationFailed):
            if self.subject.provides("twohot_encode"):
                target = self.subject.compute("twohot_encode", self.returns, shape=self.target.shape)
                return replace(self, target=target)
        return None

    @property
    def call(self) -> str:
        """The call as Python."""
        return f"value_loss(logits of {self.logits.shape}, {self.returns.tolist()})"

    @property
    def space(self) -> Any:
        """Option of A23."""
        return self.subject.readings["A23"]

    @property
    def weight_error(self) -> np.ndarray:
        """Rounding of (x − b_k)/(b_{k+1} − b_k), in eps."""
        raw = self.space == "raw"
        points, x = (self.bins, self.returns) if raw else (symlog(self.bins), symlog(self.returns))
        k = np.clip(np.searchsorted(points, x, side="right") - 1, 0, len(points) - 2)
        below, above = points[k], points[k + 1]
        # Evenly spaced symlogs allow to compute the bin's index directly, which is rounded on the scale of their range.
        size = np.abs(x) + np.abs(below) + np.abs(above) if raw else np.ptp(points)
        return np.asarray(size / (above - below))

    def compare(self) -> None:
        """Compare the loss, and its gradients where the framework has any."""
        self.compare_value()
        with suppress(NotProvided):
            self.compare_gradients()

    @property
    def value_terms(self) -> float:
        """Terms of the loss: |ln p|, and the rounding of a two-hot weight times the range of ln p."""
        sizes = np.abs(log_softmax(self.logits)).max(1) + np.abs(self.logits).max(1)
        return float((sizes + self.weight_error * np.ptp(self.logits, axis=1)).mean())

    @property
    def adjacent(self) -> np.ndarray:
        """True for bins with weight and their neighbours, (N, K)."""
        weighted = self.target > 0
        return np.asarray(weighted | np.roll(weighted, 1, axis=1) | np.roll(weighted, -1, axis=1))

    @property
    def gradient_terms(self) -> np.ndarray:
        """Terms of the gradient with respect to the logits, (N, K)."""
        sizes = softmax(self.logits) * (1 + np.abs(log_softmax(self.logits))) + self.target
        return np.asarray((sizes + self.adjacent * self.weight_error[:, None]) / len(self.logits))

    def compare_value(self) -> None:
        """Compare the loss with the cross-entropy to the target."""
        terms = self.value_terms
        expected = -(self.target * log_softmax(self.logits)).sum(1).mean()
        got = self.subject.compute("value_loss", self.logits, self.returns, shape=())
        self.trial.compare("the loss", got, expected, terms=terms, k=4, eps=self.subject.eps, call=self.call)

    def compare_gradients(self) -> None:
        """Compare the gradient with respect to the logits; that with respect to the returns must be 0."""
        got, leak = operation_gradients(self.subject, "value_loss", (0, 1), self.logits, self.returns)
        zeros = np.zeros_like(leak).tolist()
        sentence = (
            "the gradient with respect to the returns must be 0; detach them in the adapter, if your training step does"
        )
        self.trial.fail_unless(not leak.any(), sentence, call=self.call, got=leak.tolist(), expected=zeros)
        target, p, terms = self.target, softmax(self.logits), self.gradient_terms
        expected = (p * target.sum(1, keepdims=True) - target) / len(self.logits)
        name, call = "the gradient with respect to the logits", f"gradient of {self.call}"
        self.trial.compare(name, got, expected, terms=terms, k=4, eps=self.subject.eps, call=call)


def _value_inputs(subject: Subject, bins: np.ndarray, seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    returns = np.clip(4 * rng.standard_normal(rows), 0.9 * bins[0], 0.9 * bins[-1])
    return subject.round(rng.standard_normal((rows, len(bins)))), subject.round(returns)


def _fixed(subject: Subject, horizon: int) -> Trajectory:
    """Trajectory of H ≤ 4 steps on which mistakes and readings differ; for the signatures."""
    reward = np.array([[0.5, -1.0, 0.25, 1.5], [1.0, 0.0, -0.5, 0.75]])[:, :horizon]
    value = np.array([[1.25, 0.5, -0.75, 2.0, 1.0], [-1.0, 0.5, 1.5, -0.25, 3.0]])
    value = value[:, : horizon + (subject.readings["A14"] == "v")]
    cont = np.array([[1.0, 0.5, 1.0, 1.0], [0.75, 0.0, 1.0, 0.25]])[:, :horizon]
    return Trajectory(reward, value, cont, 0.75, 0.25)


def _returned(subject: Subject, operation: str) -> np.ndarray:
    """Results of an operation at horizons 4 and 1, and at 32 times the size of rewards and values."""
    long, short = _fixed(subject, 4), _fixed(subject, 1)
    probes = (long, short, _with(long, 32 * long.reward, 32 * long.value))
    scales = (1.0, 1.0, 1 / 32)
    results = [attempt(partial(subject.compute, operation, *probe.arguments), probe.reward.size) for probe in probes]
    return np.concatenate([scale * result for scale, result in zip(scales, results, strict=True)])


@signature("lambda_returns")
def signature_returns_of_fixed_trajectories(subject: Subject) -> np.ndarray:
    """λ-returns as collected by `_returned`."""
    return _returned(subject, "lambda_returns")


@signature("advantages")
def signature_advantages_of_fixed_trajectories(subject: Subject) -> np.ndarray:
    """Advantages as collected by `_returned`."""
    return _returned(subject, "advantages")


@signature("value_loss")
def signature_loss_of_a_sloping_head(subject: Subject) -> np.ndarray:
    """Errors of the loss and its gradients for logits that decrease with the values of the bins."""
    bins = adapter_bins(subject)
    returns = np.array([-3.0, 0.4, 2.5])
    logits = np.repeat(-np.clip(bins, -8.0, 8.0)[None] / 4, 3, axis=0) + np.array([0.0, 1.0, 2.0])[:, None]

    def probe() -> np.ndarray:
        error = subject.compute("value_loss", logits, returns, shape=()) - value_loss(logits, returns, bins)
        gradient = operation_gradients(subject, "value_loss", (0,), logits, returns)[0]
        gradient_error = gradient - value_loss_gradient(logits, returns, bins)
        return np.array([10 * error, np.abs(gradient_error).sum()])

    def returns_gradient() -> np.ndarray:
        return operation_gradients(subject, "value_loss", (1,), logits, returns)[0]

    return np.concatenate([attempt(probe, 2), attempt(returns_gradient, 3)])
