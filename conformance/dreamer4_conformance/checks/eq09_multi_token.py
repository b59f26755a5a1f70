"""Checks of Eq. (9): the targets of multi-token prediction, and the sum over distances.

Targets and loss are judged as two operations, and as one by `mtp_loss_of`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.heads import Targets, declared_length, distances
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import NotProvided, OperationFailed
from dreamer4_reference.eq09_multi_token import multi_token_loss, multi_token_targets
from dreamer4_reference.twohot import log_softmax

FAR = -1e6
"""Log-probability at positions past the end, which must not affect the loss."""
KINDS: tuple[Targets, ...] = ("actions", "rewards")
CLASSES = 5
"""Number of action classes passed to `mtp_loss_of`."""


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


def _complete(inside: np.ndarray) -> np.ndarray:
    """Mask (B, T, N) of the positions with all distances ahead of them inside the sequence."""
    return np.broadcast_to(inside.all(2, keepdims=True), inside.shape)


def _kind(x: np.ndarray) -> Targets:
    return "rewards" if x.dtype.kind == "f" else "actions"


@st.composite
def _sequences(draw: st.DrawFn, subject: Subject) -> np.ndarray:
    """x (B, T): action classes or rewards; T is often smaller than L."""
    rng = np.random.default_rng(draw(seeds()))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 12)))
    return rng.integers(0, 121, shape) if draw(st.booleans()) else subject.round(rng.standard_normal(shape))


@check("eq09.offsets", needs=("mtp_targets",))
def check_head_n_predicts_n_ahead(subject: Subject, trial: Trial) -> None:
    """The target at position t and distance n is x_{t+n}, valid where t + n < T. Exact; invalid targets are free.

    Under A29 "complete" the mask may also be limited to the positions with all distances ahead of them.
    """

    @example(np.arange(3)[None], 8)
    @example(np.arange(12)[None], 8)
    @example(np.arange(12.0)[None], 8)
    def holds(x: np.ndarray, length: int) -> None:
        ahead = distances(subject, length, _kind(x))
        expected, inside = multi_token_targets(x, ahead)
        call = f"mtp_targets({x.tolist()}, {length})"
        targets, valid = _targets(subject, x, length)
        if subject.readings["A29"] == "complete" and np.array_equal(valid, _complete(inside)):
            inside = valid
        sentence = f"valid must be t + n < T at the distances {', '.join(map(str, ahead))} of {_kind(x)}"
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
    kind, length = draw(st.sampled_from(KINDS)), draw(st.integers(1, 8))
    ahead = distances(subject, length, kind)
    batch, time = draw(st.integers(1, 3)), max(shortest, ahead[-1] + fewest_spare) + draw(st.integers(0, 6))
    _, valid = multi_token_targets(np.zeros((batch, time)), ahead)
    if subject.readings["A29"] == "complete":
        valid = _own_mask(subject, valid, np.zeros((batch, time), float if kind == "rewards" else int), length)
    rng = np.random.default_rng(draw(seeds()))
    return np.where(valid, subject.round(-rng.exponential(2.0, valid.shape)), 0.0), valid


def _own_mask(subject: Subject, inside: np.ndarray, x: np.ndarray, length: int) -> np.ndarray:
    """Mask of the complete positions, or that of all positions inside if the adapter's `mtp_targets` returns it.

    Under A29 "complete" either `mtp_targets` or `mtp_loss` leaves incomplete positions out.
    """
    if subject.provides("mtp_targets"):
        with suppress(OperationFailed, NotProvided):
            if np.array_equal(_targets(subject, x, length)[1], inside):
                return inside
    return _complete(inside)


def _loss(subject: Subject, log_prob: np.ndarray, valid: np.ndarray) -> float:
    return float(subject.compute("mtp_loss", log_prob, valid, shape=()))


def _averaging(subject: Subject) -> dict[str, Any]:
    """Options of `multi_token_loss` under A19 and A29."""
    return {"over": subject.readings["A19"], "positions": subject.readings["A29"]}


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
        expected = multi_token_loss(log_prob, valid, **_averaging(subject))
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
        trial.compare(
            "the loss",
            second,
            first,
            terms=terms,
            k=2,
            eps=subject.eps,
            call=_call(changed, valid),
            required_by="adapter",
        )

    trial.for_all(_log_probs(subject, fewest_spare=-3), st.sampled_from([FAR, -1.0]), body=holds)


# Targets and loss in one operation


class _Classes:
    """Arguments of `mtp_loss_of`: classes x (B, T), and a distribution over them at every position and distance."""

    def __init__(self, subject: Subject, seed: int, batch: int, spare: int) -> None:
        self.subject, self.rng = subject, np.random.default_rng(seed)
        self.ahead = distances(subject, declared_length(subject) or 8, "actions")
        self.x = self.rng.integers(0, CLASSES, (batch, max(2, self.ahead[-1] + spare)))
        self.targets, self.inside = multi_token_targets(self.x, self.ahead)
        self.log_prob = self.distributions()

    def distributions(self) -> np.ndarray:
        """Random log-probabilities (B, T, N, K)."""
        logits = 2 * self.rng.standard_normal((*self.inside.shape, CLASSES))
        return self.subject.round(log_softmax(logits))

    def exchanged(self, offset: int, partner: int) -> np.ndarray:
        """`log_prob`, inside the sequence with two classes exchanged: those `offset` and `partner` above the target."""
        changed = self.log_prob.copy()
        first, second = ((self.targets + shift)[..., None] % CLASSES for shift in (offset, partner))
        for to, source in ((first, second), (second, first)):
            np.put_along_axis(changed, to, np.take_along_axis(self.log_prob, source, 3), 3)
        return np.where(self.inside[..., None], changed, self.log_prob)

    @property
    def terms(self) -> float:
        """Scale of the rounding of the loss: every term with its logarithm of a sum."""
        return float(len(self.ahead) * (1 + 2 * np.abs(self.log_prob).max()))

    @property
    def call(self) -> str:
        return f"mtp_loss_of({self.x.tolist()}, log_prob of {self.log_prob.shape})"

    def loss(self, log_prob: np.ndarray) -> float:
        return float(self.subject.compute("mtp_loss_of", self.x, log_prob, shape=()))

    def expected(self, log_prob: np.ndarray) -> float:
        """The paper's loss under the adapter's readings."""
        taken = np.take_along_axis(log_prob, self.targets[..., None], 3)[..., 0]
        return multi_token_loss(taken, self.inside, **_averaging(self.subject))

    def compare_with_paper(self, trial: Trial) -> None:
        got, expected, eps = self.loss(self.log_prob), self.expected(self.log_prob), self.subject.eps
        trial.compare("the loss", got, expected, terms=self.terms, k=4, eps=eps, call=self.call)

    def fail_unless_unchanged(self, trial: Trial, name: str, changed: np.ndarray) -> None:
        got, expected, eps = self.loss(changed), self.loss(self.log_prob), self.subject.eps
        trial.compare(name, got, expected, terms=self.terms, k=4, eps=eps, call=self.call, required_by="adapter")


BATCHES, SPARE = st.integers(1, 3), st.integers(2, 6)


@check("eq09.offsets", needs=("mtp_loss_of",))
def check_loss_depends_on_the_class_n_ahead(subject: Subject, trial: Trial) -> None:
    """Exchanging the log-probabilities of two classes at distance n leaves the loss unchanged unless one is x_{t+n}.

    Independent of how the loss averages. Within rounding; the loss must change with x_{t+n} where the paper's does.
    """

    def holds(seed: int, batch: int, spare: int, offset: int) -> None:
        case = _Classes(subject, seed, batch, spare)
        loss, name = case.loss(case.log_prob), "the loss, with classes exchanged that are not x_{t+n},"
        case.fail_unless_unchanged(trial, name, case.exchanged(offset, offset % (CLASSES - 1) + 1))
        changed = case.exchanged(0, offset)
        if abs(case.expected(changed) - case.expected(case.log_prob)) > 16 * subject.eps * case.terms:
            sentence = "the loss must change with the log-probability of x_{t+n}"
            trial.fail_unless(case.loss(changed) != loss, sentence, call=case.call, got=loss)

    trial.for_all(seeds(), BATCHES, SPARE, st.integers(1, CLASSES - 1), body=holds)


@check("eq09.sum", needs=("mtp_loss_of",))
def check_one_function_adds_up_the_distances(subject: Subject, trial: Trial) -> None:
    """The loss is −Σ ln p(x_{t+n}) over the distances, averaged as A19 and A29 declare. Terms: ln p, with rounding."""

    def holds(seed: int, batch: int, spare: int) -> None:
        _Classes(subject, seed, batch, spare).compare_with_paper(trial)

    trial.for_all(seeds(), BATCHES, SPARE, body=holds)


@check("eq09.past-end", needs=("mtp_loss_of",))
def check_one_function_ignores_positions_past_the_end(subject: Subject, trial: Trial) -> None:
    """Other log-probabilities where t + n ≥ T leave the loss unchanged, within rounding."""

    def holds(seed: int, batch: int, spare: int) -> None:
        case = _Classes(subject, seed, batch, spare)
        changed = np.where(case.inside[..., None], case.log_prob, case.distributions())
        case.fail_unless_unchanged(trial, "the loss, with other log-probabilities past the end,", changed)

    trial.for_all(seeds(), BATCHES, SPARE, body=holds)


@signature("mtp_targets")
def signature_targets_of_five_timesteps(subject: Subject) -> np.ndarray:
    """Valid targets of five actions and of five rewards at L = 3; −1 past the end, −2 for distances that lack."""

    def probe(x: np.ndarray) -> np.ndarray:
        targets, valid = _targets(subject, x[None], 3)
        table = np.full((5, 6), -2.0)
        table[:, : valid.shape[2]] = np.where(valid, targets, -1.0)[0]
        return table

    return np.concatenate([attempt(partial(probe, x), 30) for x in (np.arange(5), np.arange(5.0))])


@signature("mtp_loss")
def signature_loss_of_six_timesteps(subject: Subject) -> np.ndarray:
    """The loss at distances 0 … 3, with 0 and with −1 past the end."""
    _, valid = multi_token_targets(np.zeros((2, 6)), (0, 1, 2, 3))
    log_prob = np.where(valid, -(np.arange(48).reshape(2, 6, 4) % 7) / 4.0, 0.0)
    pair = (log_prob, np.where(valid, log_prob, -1.0))
    return attempt(lambda: np.array([_loss(subject, values, valid) for values in pair]), 2)


@signature("mtp_loss_of")
def signature_loss_of_three_sets_of_classes(subject: Subject) -> np.ndarray:
    """The loss of drawn classes; with other log-probabilities past the end, and with two wrong classes exchanged."""

    def probe() -> list[float]:
        case = _Classes(subject, 0, 2, 4)
        changed = np.where(case.inside[..., None], case.log_prob, case.distributions())
        return [case.loss(x) for x in (case.log_prob, changed, case.exchanged(1, 2), case.exchanged(0, 1))]

    return attempt(probe, 4)
