"""Checks of Eq. (10): λ-returns, and the loss of the value head."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from dreamer4_conformance.verdicts import NotProvided
from dreamer4_reference.eq10_lambda_return import value_loss, value_loss_gradient
from dreamer4_reference.twohot import log_softmax, softmax, symlog, twohot_encode


@check("eq10.value", needs=("lambda_returns",))
def check_returns_are_the_recursion(subject: Subject, trial: Trial) -> None:
    """Terms: see `returns_magnitude`."""

    @example(draw_trajectory(subject, 0, (2, 1), 0.75, 0.5))
    @example(draw_trajectory(subject, 1, (3, 3), 0.75, 0.5))
    def holds(drawn: Trajectory) -> None:
        got, expected = compute_returns(subject, drawn), expected_returns(subject, drawn)
        call, terms = f"lambda_returns({drawn})", returns_magnitude(subject, drawn)
        trial.compare("the return", got, expected, terms=terms, k=4, eps=subject.eps, call=call)

    trial.for_all(trajectories(subject), body=holds)


@check("eq10.limits", needs=("lambda_returns",))
def check_lambda_one_sums_and_lambda_zero_looks_one_step_ahead(subject: Subject, trial: Trial) -> None:
    """Written out, not as the recursion: Σ of discounted rewards and v_H; r_t + γ c_t v_{t+1} (v_t under "v_same")."""

    def holds(drawn: Trajectory, whole: bool) -> None:
        drawn = replace(drawn, lam=float(whole))
        expected = _discounted_sum(subject, drawn) if whole else _one_step(subject, drawn)
        got, terms = compute_returns(subject, drawn), returns_magnitude(subject, drawn)
        what, call = f"the return at λ = {drawn.lam}", f"lambda_returns({drawn})"
        trial.compare(what, got, expected, terms=terms, k=4, eps=subject.eps, call=call)

    trial.for_all(trajectories(subject, lam=1.0, shortest=2), st.booleans(), body=holds)


def _discount(subject: Subject, drawn: Trajectory) -> np.ndarray:
    """γ c_t, or γ c_{t+1} (A15)."""
    late = np.append(drawn.cont[:, 1:], np.ones((len(drawn.cont), 1)), axis=1)
    return drawn.gamma * (drawn.cont if subject.readings["A15"] == "t" else late)


def _discounted_sum(subject: Subject, drawn: Trajectory) -> np.ndarray:
    discount, ahead = _discount(subject, drawn), np.append(drawn.reward, drawn.value[:, -1:], axis=1)
    horizon = drawn.reward.shape[1]
    factors = [np.cumprod(np.insert(discount[:, t:], 0, 1.0, axis=1), axis=1) for t in range(horizon)]
    return np.stack([(factor * ahead[:, t:]).sum(1) for t, factor in enumerate(factors)], axis=1)


def _one_step(subject: Subject, drawn: Trajectory) -> np.ndarray:
    value = drawn.value[:, 1:] if subject.readings["A13"] == "v_next" else drawn.value[:, :-1]
    return np.asarray(drawn.reward + _discount(subject, drawn) * value)


@check("eq10.terminal", needs=("lambda_returns",))
def check_an_end_cuts_what_follows_and_nothing_before(subject: Subject, trial: Trial) -> None:
    """The operation against itself; before the end by its response to the last reward: 1, and γ c λ a step back."""

    def holds(drawn: Trajectory, place: int) -> None:
        ended, after = _ended(subject, drawn, place)
        end = _Terminal(subject, trial, ended, compute_returns(subject, ended), after)
        end.nothing_after_matters()
        end.nothing_after_is_cut(drawn)
        end.everything_before_counts()

    trial.for_all(trajectories(subject, shortest=2), st.integers(0, 7), body=holds)


def _ended(subject: Subject, drawn: Trajectory, place: int) -> tuple[Trajectory, int]:
    """`drawn` with c = 0 on the last step before row `after`, and c > 0 elsewhere."""
    after = 1 + place % (drawn.reward.shape[1] - 1)
    cont = np.maximum(drawn.cont, 1 / 2)
    cont[:, after - 1 if subject.readings["A15"] == "t" else after] = 0.0
    return replace(drawn, cont=cont), after


@dataclass(frozen=True)
class _Terminal:
    """A trajectory that ends before row `after`, and its returns."""

    subject: Subject
    trial: Trial
    ended: Trajectory
    returns: np.ndarray
    after: int

    def _compare(self, what: str, got: np.ndarray, expected: np.ndarray, other: Trajectory, rows: slice) -> None:
        terms = returns_magnitude(self.subject, self.ended) + returns_magnitude(self.subject, other)
        call = f"lambda_returns({other}), beside lambda_returns({self.ended})"
        self.trial.compare(
            what, got[:, rows], expected[:, rows], terms=terms[:, rows], k=4, eps=self.subject.eps, call=call
        )

    def nothing_after_matters(self) -> None:
        reward, value = self.ended.reward.copy(), self.ended.value.copy()
        reward[:, self.after :] = 64 - 8 * reward[:, self.after :]
        value[:, self.after :] = 128 + 8 * value[:, self.after :]
        other = _with(self.ended, self.subject.round(reward), self.subject.round(value))
        got = compute_returns(self.subject, other)
        self._compare("the return before the end, after another future,", got, self.returns, other, slice(self.after))

    def nothing_after_is_cut(self, drawn: Trajectory) -> None:
        other = replace(drawn, cont=np.maximum(drawn.cont, 1 / 2))
        got = compute_returns(self.subject, other)
        self._compare("the return after the end, without that end,", got, self.returns, other, slice(self.after, None))

    def everything_before_counts(self) -> None:
        reward = self.ended.reward.copy()
        reward[:, self.after - 1] = self.subject.round(reward[:, self.after - 1] + 4)
        other = replace(self.ended, reward=reward)
        change = _with(self.ended, reward - self.ended.reward, np.zeros_like(self.ended.value))
        got = compute_returns(self.subject, other) - self.returns
        expected = expected_returns(self.subject, change)
        self._compare("the response of the return to the last reward", got, expected, other, slice(self.after))


@check("eq10.linear", needs=("lambda_returns",))
def check_returns_are_linear(subject: Subject, trial: Trial) -> None:
    """R of a sum is the sum of the R; R of a multiple, from 2⁻¹⁰ to 2²⁰, is that multiple of R."""

    def holds(one: Trajectory, seed: int, scale: float) -> None:
        other = replace(draw_trajectory(subject, seed, one.reward.shape, one.gamma, one.lam), cont=one.cont)
        # The sum is rounded before the operation sees it, so the second summand is what is left of it.
        total = _with(one, *(subject.round(a + b) for a, b in _pairs(one, other)))
        rest = _with(one, *(subject.round(a - b) for a, b in _pairs(total, one)))
        multiple = _with(one, scale * one.reward, scale * one.value)
        of_one, of_rest = compute_returns(subject, one), compute_returns(subject, rest)
        terms = sum(returns_magnitude(subject, part) for part in (total, one, rest))
        rows = (
            ("the return of a sum", total, of_one + of_rest, terms),
            (
                f"the return of {scale} times the same",
                multiple,
                scale * of_one,
                2 * returns_magnitude(subject, multiple),
            ),
        )
        for what, model, expected, sizes in rows:
            got, call = compute_returns(subject, model), f"lambda_returns({model})"
            trial.compare(what, got, expected, terms=sizes, k=4, eps=subject.eps, call=call)

    trial.for_all(
        trajectories(subject, shortest=2), seeds(), st.sampled_from([2.0**-10, 2.0**3, 2.0**10, 2.0**20]), body=holds
    )


def _pairs(one: Trajectory, other: Trajectory) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (one.reward, other.reward), (one.value, other.value)


def _with(drawn: Trajectory, reward: np.ndarray, value: np.ndarray) -> Trajectory:
    return replace(drawn, reward=reward, value=value)


@check("eq10.loss", needs=("value_loss", "twohot_bins"))
def check_value_loss_is_cross_entropy_against_a_constant(subject: Subject, trial: Trial) -> None:
    """Terms: |ln p|; the rounding of a two-hot weight by the spread of ln p. Without gradients the value alone."""
    bins = adapter_bins(subject)

    def holds(seed: int, rows: int) -> None:
        case = _Head(subject, trial, bins, *_value_inputs(subject, bins, seed, rows))
        case.value()
        try:
            case.gradients()
        except NotProvided:
            return

    trial.for_all(seeds(), st.integers(1, 4), body=holds)


@dataclass(frozen=True)
class _Head:
    """logits (N, K) of a value head and the returns (N,) that it is to predict."""

    subject: Subject
    trial: Trial
    bins: np.ndarray
    logits: np.ndarray
    returns: np.ndarray

    @property
    def call(self) -> str:
        return f"value_loss(logits of {self.logits.shape}, {self.returns.tolist()})"

    @property
    def space(self) -> Any:
        return self.subject.readings["A23"]

    @property
    def weight_error(self) -> np.ndarray:
        """Rounding of (x − b_k)/(b_{k+1} − b_k), in eps."""
        raw = self.space == "raw"
        points, x = (self.bins, self.returns) if raw else (symlog(self.bins), symlog(self.returns))
        k = np.clip(np.searchsorted(points, x, side="right") - 1, 0, len(points) - 2)
        below, above = points[k], points[k + 1]
        # Where x lies among evenly spaced symlogs may be computed as an index, which is rounded on the scale of them all.
        size = np.abs(x) + np.abs(below) + np.abs(above) if raw else np.ptp(points)
        return np.asarray(size / (above - below))

    def value(self) -> None:
        sizes = np.abs(log_softmax(self.logits)).max(1) + np.abs(self.logits).max(1)
        terms = (sizes + self.weight_error * np.ptp(self.logits, axis=1)).mean()
        expected = value_loss(self.logits, self.returns, self.bins, space=self.space)
        got = self.subject.compute("value_loss", self.logits, self.returns, shape=())
        self.trial.compare("the loss", got, expected, terms=terms, k=4, eps=self.subject.eps, call=self.call)

    def gradients(self) -> None:
        of_logits, of_returns = operation_gradients(self.subject, "value_loss", (0, 1), self.logits, self.returns)
        sentence, nothing = "no gradient may reach the return", np.zeros_like(of_returns).tolist()
        self.trial.fail_unless(
            not of_returns.any(), sentence, call=self.call, got=of_returns.tolist(), expected=nothing
        )
        target = twohot_encode(self.returns, self.bins, space=self.space)
        sizes = softmax(self.logits) * (1 + np.abs(log_softmax(self.logits))) + target
        beside = (target > 0) | (np.roll(target, 1, axis=1) > 0) | (np.roll(target, -1, axis=1) > 0)
        terms = (sizes + beside * self.weight_error[:, None]) / len(self.logits)
        expected = value_loss_gradient(self.logits, self.returns, self.bins, space=self.space)
        what, call = "the gradient with respect to the logits", f"gradient of {self.call}"
        self.trial.compare(what, of_logits, expected, terms=terms, k=4, eps=self.subject.eps, call=call)


def _value_inputs(subject: Subject, bins: np.ndarray, seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    returns = np.clip(4 * rng.standard_normal(rows), 0.9 * bins[0], 0.9 * bins[-1])
    return subject.round(rng.standard_normal((rows, len(bins)))), subject.round(returns)


def _fixed(horizon: int) -> Trajectory:
    """A trajectory on which mistakes and readings differ; for the signatures."""
    reward = np.array([[0.5, -1.0, 0.25, 1.5], [1.0, 0.0, -0.5, 0.75]])[:, :horizon]
    value = np.array([[1.25, 0.5, -0.75, 2.0, 1.0], [-1.0, 0.5, 1.5, -0.25, 3.0]])[:, : horizon + 1]
    cont = np.array([[1.0, 0.5, 1.0, 1.0], [0.75, 0.0, 1.0, 0.25]])[:, :horizon]
    return Trajectory(reward, value, cont, 0.75, 0.25)


def _returned(subject: Subject, operation: str) -> np.ndarray:
    """At horizons 4 and 1, and at 32 times the size."""
    large = _with(_fixed(4), 32 * _fixed(4).reward, 32 * _fixed(4).value)
    probes = (_fixed(4), _fixed(1), large)
    scales = (1.0, 1.0, 1 / 32)
    return np.concatenate(
        [
            scale * attempt(lambda probe=probe: subject.compute(operation, *probe.arguments), probe.reward.size)  # type: ignore[misc]
            for scale, probe in zip(scales, probes, strict=True)
        ]
    )


@signature("lambda_returns")
def signature_returns_of_fixed_trajectories(subject: Subject) -> np.ndarray:
    """See `_returned`."""
    return _returned(subject, "lambda_returns")


@signature("advantages")
def signature_advantages_of_fixed_trajectories(subject: Subject) -> np.ndarray:
    """See `_returned`."""
    return _returned(subject, "advantages")


@signature("value_loss")
def signature_loss_of_a_sloping_head(subject: Subject) -> np.ndarray:
    """What the loss and its gradient are off by where ln p falls with the bins' values, whatever the bins are."""
    bins = adapter_bins(subject)
    returns = np.array([-3.0, 0.4, 2.5])
    logits = np.repeat(-np.clip(bins, -8.0, 8.0)[None] / 4, 3, axis=0) + np.array([0.0, 1.0, 2.0])[:, None]

    def probe() -> np.ndarray:
        off = subject.compute("value_loss", logits, returns, shape=()) - value_loss(logits, returns, bins)
        of_logits = operation_gradients(subject, "value_loss", (0,), logits, returns)[0]
        off_gradient = of_logits - value_loss_gradient(logits, returns, bins)
        return np.array([10 * off, np.abs(off_gradient).sum()])

    def of_returns() -> np.ndarray:
        return operation_gradients(subject, "value_loss", (1,), logits, returns)[0]

    return np.concatenate([attempt(probe, 2), attempt(of_returns, 3)])
