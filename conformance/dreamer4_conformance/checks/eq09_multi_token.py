"""Checks of Eq. (9): the targets of multi-token prediction, and the sum over distances."""

from __future__ import annotations

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.eq09_multi_token import multi_token_loss, multi_token_targets

FAR = 1e6
"""Log-probability at positions past the end, which must not affect the loss."""


def _distances(subject: Subject, length: int) -> tuple[int, ...]:
    """Distances n for L = length under reading A17."""
    first, stop = {"0..8": (0, length + 1), "0..7": (0, length), "1..8": (1, length + 1)}[subject.readings["A17"]]
    return tuple(range(first, stop))


def _targets(subject: Subject, x: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets and mask (B, T, N) that the operation returns. The mask may be bool or 0 and 1."""
    returned = subject.call("mtp_targets", subject.native(x), length)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise OperationFailed(f"mtp_targets returned {type(returned).__name__}; it needs a pair (targets, valid)")
    targets, valid = (subject.read("mtp_targets", array) for array in returned)
    if targets.shape != valid.shape or targets.shape[:-1] != x.shape or not np.isin(valid, (0, 1)).all():
        shapes = f"shapes {targets.shape} and {valid.shape}"
        raise OperationFailed(f"mtp_targets returned {shapes}; it needs (B, T, N) for both, valid True or False")
    return targets, valid.astype(bool)


@st.composite
def _sequences(draw: st.DrawFn, subject: Subject) -> np.ndarray:
    """x (B, T): action classes or rewards; T is often smaller than L."""
    rng = np.random.default_rng(draw(seeds()))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 12)))
    return rng.integers(0, 121, shape) if draw(st.booleans()) else subject.round(rng.standard_normal(shape))


@check("eq09.offsets", needs=("mtp_targets",))
def check_head_n_predicts_n_ahead(subject: Subject, trial: Trial) -> None:
    """The target at position t and distance n is x_{t+n}, valid where t + n < T. Exact; invalid targets are free."""

    @example(np.arange(3)[None], 8)
    @example(np.arange(12)[None], 8)
    def holds(x: np.ndarray, length: int) -> None:
        expected, inside = multi_token_targets(x, _distances(subject, length))
        call = f"mtp_targets({x.tolist()}, {length})"
        targets, valid = _targets(subject, x, length)
        sentence = f"valid must be t + n < T at the distances {', '.join(map(str, _distances(subject, length)))}"
        same = np.array_equal(valid, inside)
        trial.fail_unless(same, sentence, call=call, got=valid.tolist(), expected=inside.tolist())
        same = np.array_equal(targets[inside], expected[inside])
        sentence = "the target at distance n of position t must be x_{t+n}"
        trial.fail_unless(same, sentence, call=call, got=targets.tolist(), expected=expected.tolist())

    trial.for_all(_sequences(subject), st.integers(1, 8), body=holds)


@st.composite
def _log_probs(
    draw: st.DrawFn, subject: Subject, *, fewest_spare: int, shortest: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """ln p (B, T, N), 0 past the end, and the mask; T exceeds the last distance by `fewest_spare` at least."""
    distances = _distances(subject, draw(st.integers(1, 8)))
    batch, time = draw(st.integers(1, 3)), max(shortest, distances[-1] + fewest_spare) + draw(st.integers(0, 6))
    _, valid = multi_token_targets(np.zeros((batch, time)), distances)
    rng = np.random.default_rng(draw(seeds()))
    return np.where(valid, subject.round(-rng.exponential(2.0, valid.shape)), 0.0), valid


def _loss(subject: Subject, log_prob: np.ndarray, valid: np.ndarray) -> float:
    return float(subject.compute("mtp_loss", log_prob, valid, shape=()))


def _call(log_prob: np.ndarray, valid: np.ndarray) -> str:
    if log_prob.size > 40:
        return f"mtp_loss(log_prob of {log_prob.shape}, valid)"
    return f"mtp_loss({log_prob.tolist()}, {valid.tolist()})"


@check("eq09.sum", needs=("mtp_loss",))
def check_distances_are_added_up(subject: Subject, trial: Trial) -> None:
    """The loss is −Σ ln p over the distances, averaged as A19 and A29 declare. Terms: |ln p|, all of one sign.

    T ≥ 2, since images may have no labels, and every distance has a valid position: a mean over none is undefined.
    """

    def holds(case: tuple[np.ndarray, np.ndarray]) -> None:
        log_prob, valid = case
        over, positions = subject.readings["A19"], subject.readings["A29"]
        expected = multi_token_loss(log_prob, valid, over=over, positions=positions)  # type: ignore[arg-type]
        got = _loss(subject, log_prob, valid)
        trial.compare("the loss", got, expected, terms=expected, k=8, eps=subject.eps, call=_call(log_prob, valid))

    trial.for_all(_log_probs(subject, fewest_spare=1, shortest=2), body=holds)


@check("eq09.past-end", needs=("mtp_loss",))
def check_positions_past_the_end_do_not_affect_the_loss(subject: Subject, trial: Trial) -> None:
    """Changing ln p past the end leaves the loss unchanged, within rounding.

    Both losses may be NaN if a distance has no valid position.
    """

    def holds(case: tuple[np.ndarray, np.ndarray], beyond: float) -> None:
        log_prob, valid = case
        changed = np.where(valid, log_prob, subject.round(np.asarray(beyond)))
        first, second = _loss(subject, log_prob, valid), _loss(subject, changed, valid)
        if np.isnan(first) and np.isnan(second) and not valid.any((0, 1)).all():
            return
        terms = -np.where(valid, log_prob, 0.0).sum()
        trial.compare("the loss", second, first, terms=terms, k=2, eps=subject.eps, call=_call(changed, valid))

    trial.for_all(_log_probs(subject, fewest_spare=-3), st.sampled_from([-FAR, -1.0, FAR]), body=holds)


@signature("mtp_targets")
def signature_targets_of_five_timesteps(subject: Subject) -> np.ndarray:
    """Valid targets of one sequence at L = 3; −1 past the end, −2 for distances that the operation lacks."""

    def probe() -> np.ndarray:
        targets, valid = _targets(subject, np.arange(5)[None], 3)
        table = np.full((5, 6), -2.0)
        table[:, : valid.shape[2]] = np.where(valid, targets, -1.0)[0]
        return table

    return attempt(probe, 30)


@signature("mtp_loss")
def signature_loss_of_six_timesteps(subject: Subject) -> np.ndarray:
    """The loss at distances 0 … 3, with 0 and with −1 past the end."""
    _, valid = multi_token_targets(np.zeros((2, 6)), (0, 1, 2, 3))
    log_prob = np.where(valid, -(np.arange(48).reshape(2, 6, 4) % 7) / 4.0, 0.0)
    pair = (log_prob, np.where(valid, log_prob, -1.0))
    return attempt(lambda: np.array([_loss(subject, values, valid) for values in pair]), 2)
