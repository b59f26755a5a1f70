"""Checks of Eq. (11): advantages, the loss of the policy head, and its prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.heads import Trajectory, expected_returns, returns_magnitude
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds, trajectories
from dreamer4_conformance.verdicts import NotProvided, OperationFailed
from dreamer4_reference.eq11_pmpo import (
    kl_to_prior,
    log_prob_weight,
    policy_loss,
    policy_loss_factored,
    policy_loss_gradient,
)
from dreamer4_reference.twohot import log_softmax, softmax

Logits = np.ndarray | list[np.ndarray]


@dataclass(frozen=True)
class States:
    """Arguments of `policy_loss`: logits, prior (N, A), action (N,), advantage (N,).

    Or of `policy_loss_factored`: lists of F logits and priors, action (N, F).
    """

    logits: Logits
    prior: Logits
    action: np.ndarray
    advantage: np.ndarray
    alpha: float
    beta: float

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the order of the operation."""
        return self.logits, self.prior, self.action, self.advantage, self.alpha, self.beta

    @property
    def components(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Logits and prior logits of each action component."""
        if isinstance(self.logits, list):
            return list(zip(self.logits, self.prior, strict=True))
        return [(self.logits, np.asarray(self.prior))]

    def rows(self, index: np.ndarray) -> States:
        """The states `index`, of a single action component."""
        logits, prior = np.asarray(self.logits)[index], np.asarray(self.prior)[index]
        return replace(self, logits=logits, prior=prior, action=self.action[index], advantage=self.advantage[index])

    def __str__(self) -> str:
        """As a reader would write them."""
        tail = f"{self.advantage.tolist()}, {self.alpha}, {self.beta}"
        shapes = ", ".join(str(logits.shape) for logits, _ in self.components)
        return f"logits, prior_logits of {shapes}, {self.action.tolist()}, {tail}"


@st.composite
def states(draw: st.DrawFn, subject: Subject, *, sizes: tuple[int, ...] = (), beta: float | None = None) -> States:
    """Two to nine states, both sets inhabited, no advantage 0, α not 0.5; `sizes` of the components."""
    rng = np.random.default_rng(draw(seeds()))
    count = draw(st.integers(2, 9))
    widths = sizes or (draw(st.integers(2, 5)),)
    logits, prior = ([subject.round(rng.normal(0, 1.5, (count, a))) for a in widths] for _ in range(2))
    action = np.stack([rng.integers(0, a, count) for a in widths], axis=1)
    sign = np.append([1.0, -1.0], rng.choice([1.0, -1.0], count - 2))
    advantage = subject.round(rng.permutation(sign) * rng.uniform(0.01, 3.0, count))
    alpha = draw(st.sampled_from([0, 32, 64, 96, 160, 192, 224, 256])) / 256
    given_beta = draw(st.integers(0, 512)) / 256 if beta is None else beta
    if sizes:
        return States(logits, prior, action, advantage, alpha, given_beta)
    return States(logits[0], prior[0], action[:, 0], advantage, alpha, given_beta)


def _size(logits: np.ndarray) -> np.ndarray:
    """Rounding of ln π, in eps: the logits and the logarithm of their sum."""
    return np.asarray(1 + np.abs(logits).max(-1) + np.abs(log_softmax(logits)).max(-1))


def terms(drawn: States) -> float:
    """Σ of the three terms' absolute values, each with the rounding of its ln π."""
    total = 0.0
    for logits, prior in drawn.components:
        log_ratio = np.abs(log_softmax(logits) - log_softmax(prior))
        divergence = (softmax(logits) * (1 + log_ratio)).sum(1) * (_size(logits) + _size(prior))
        total += (np.abs(log_prob_weight(drawn.advantage, drawn.alpha)) * _size(logits)).sum()
        total += drawn.beta * divergence.mean()
    return float(total)


def loss(subject: Subject, drawn: States) -> float:
    """What the operation returned."""
    name = "policy_loss_factored" if isinstance(drawn.logits, list) else "policy_loss"
    return float(subject.compute(name, *drawn.arguments, shape=()))


K = 2
"""Every rounding is in `terms` already."""


@check("eq11.advantage", needs=("advantages",))
def check_advantage_is_return_minus_value(subject: Subject, trial: Trial) -> None:
    """Terms: those of the return, which hold |v_t|."""

    def holds(drawn: Trajectory) -> None:
        expected = expected_returns(subject, drawn) - drawn.value[:, :-1]
        got = subject.compute("advantages", *drawn.arguments, shape=expected.shape)
        call, sizes = f"advantages({drawn})", returns_magnitude(subject, drawn) + np.abs(drawn.value[:, :-1])
        trial.compare("the advantage", got, expected, terms=sizes, k=4, eps=subject.eps, call=call)

    trial.for_all(trajectories(subject), body=holds)


@check("eq11.value", needs=("policy_loss",))
def check_loss_is_the_three_terms(subject: Subject, trial: Trial) -> None:
    """Both sets inhabited and no advantage 0: those cases are clauses of their own."""

    def holds(drawn: States) -> None:
        got, expected = loss(subject, drawn), policy_loss(*drawn.arguments)
        trial.compare("the loss", got, expected, terms=terms(drawn), k=K, eps=subject.eps, call=f"policy_loss({drawn})")

    trial.for_all(states(subject), body=holds)


@check("eq11.gradient", needs=("policy_loss",))
def check_gradient_is_that_of_the_three_terms(subject: Subject, trial: Trial) -> None:
    """Terms: |w|(onehot + π) and β/N π (|ln π/π_prior| + KL), each with the rounding of its ln π."""

    def holds(drawn: States) -> None:
        (got,) = operation_gradients(subject, "policy_loss", (0,), *drawn.arguments)
        what, call = "the gradient with respect to the logits", f"gradient of policy_loss({drawn})"
        expected, sizes = policy_loss_gradient(*drawn.arguments), _gradient_terms(drawn)
        trial.compare(what, got, expected, terms=sizes, k=2 * K, eps=subject.eps, call=call)

    trial.for_all(states(subject), body=holds)


def _gradient_terms(drawn: States) -> np.ndarray:
    ((logits, prior),) = drawn.components
    pi, log_ratio = softmax(logits), np.abs(log_softmax(logits) - log_softmax(prior))
    likelihood = np.abs(log_prob_weight(drawn.advantage, drawn.alpha))[:, None] * (
        np.eye(pi.shape[1])[drawn.action] + pi
    )
    mean_ratio = (pi * log_ratio).sum(1, keepdims=True)
    divergence = pi * (1 + log_ratio + mean_ratio) * (_size(logits) + _size(prior))[:, None]
    return np.asarray(likelihood * _size(logits)[:, None] + drawn.beta / len(pi) * divergence)


@check("eq11.sign-only", needs=("policy_loss",))
def check_size_of_the_advantage_is_irrelevant(subject: Subject, trial: Trial) -> None:
    """Each advantage by its own power of two, 2⁻⁴⁰ to 2¹⁰."""

    def holds(drawn: States, seed: int) -> None:
        factors = 2.0 ** np.random.default_rng(seed).integers(-40, 11, len(drawn.advantage))
        rescaled = replace(drawn, advantage=factors * drawn.advantage)
        got, expected = loss(subject, rescaled), loss(subject, drawn)
        call = f"policy_loss({rescaled}), beside advantages {drawn.advantage.tolist()}"
        what = "the loss after a positive rescaling"
        trial.compare(what, got, expected, terms=terms(drawn), k=K, eps=subject.eps, call=call)

    trial.for_all(states(subject), seeds(), body=holds)


@check("eq11.per-set-mean", needs=("policy_loss",))
def check_duplicating_a_set_changes_nothing(subject: Subject, trial: Trial) -> None:
    """At β = 0, because duplicates weigh in the mean of the KL."""

    def holds(drawn: States, positive: bool, times: int) -> None:
        repeats = np.where((drawn.advantage >= 0) == positive, times, 1)
        duplicated = drawn.rows(np.repeat(np.arange(len(repeats)), repeats))
        got, expected = loss(subject, duplicated), loss(subject, drawn)
        what = f"the loss with {'D⁺' if positive else 'D⁻'} {times} times over"
        call = f"policy_loss({duplicated}), beside policy_loss({drawn})"
        trial.compare(what, got, expected, terms=2 * terms(drawn), k=K, eps=subject.eps, call=call)

    trial.for_all(states(subject, beta=0.0), st.booleans(), st.integers(2, 4), body=holds)


@check("eq11.zero-advantage", needs=("policy_loss",))
def check_zero_belongs_to_the_positive_set(subject: Subject, trial: Trial) -> None:
    """0 is as good as 1; −1 in its place makes a difference, which shows that the state matters at all."""

    def holds(drawn: States, place: int) -> None:
        # One state more than the two sets need, so that neither is empty whatever its sign.
        zero, one, minus = (_with_extra(drawn, place, sign) for sign in (0.0, 1.0, -1.0))
        got, expected = loss(subject, zero), loss(subject, one)
        call, sizes = f"policy_loss({zero})", terms(one) + terms(minus)
        what = "the loss with an advantage of 0"
        trial.compare(what, got, expected, terms=sizes, k=K, eps=subject.eps, call=call)
        if abs(policy_loss(*one.arguments) - policy_loss(*minus.arguments)) > 4 * K * subject.eps * sizes:
            sentence = "an advantage of −1 must change the loss where 1 stood"
            trial.fail_unless(loss(subject, minus) != expected, sentence, call=f"policy_loss({minus})", got=expected)

    trial.for_all(states(subject, beta=0.0), st.integers(0, 8), body=holds)


def _with_extra(drawn: States, place: int, advantage: float) -> States:
    """State `place` a second time, with its neighbour's action and this advantage."""
    count = len(drawn.action)
    more = drawn.rows(np.append(np.arange(count), place % count))
    action, signs = more.action.copy(), more.advantage.copy()
    action[-1], signs[-1] = drawn.action[(place + 1) % count], advantage
    return replace(more, action=action, advantage=signs)


@check("eq11.kl-direction", needs=("policy_loss",))
def check_prior_term_is_kl_from_policy_to_prior(subject: Subject, trial: Trial) -> None:
    """The prior term alone: what the loss loses when the policy is its own prior. Policy and prior are far apart."""

    def holds(drawn: States) -> None:
        ((logits, prior),) = drawn.components
        drawn = replace(drawn, prior=subject.round(3 * prior))
        without = replace(drawn, prior=logits)
        got = loss(subject, drawn) - loss(subject, without)
        expected = kl_to_prior(logits, np.asarray(drawn.prior)).mean()
        call, sizes = f"policy_loss({drawn})", terms(drawn) + terms(without)
        trial.compare("the prior term", got, expected, terms=sizes, k=K, eps=subject.eps, call=call)

    trial.for_all(states(subject, beta=1.0), body=holds)


@check("eq11.factored", needs=("policy_loss_factored",))
def check_components_are_added_up(subject: Subject, trial: Trial) -> None:
    """One to three components of different sizes; a single one is as good as `policy_loss`."""

    def holds(drawn: States) -> None:
        got, sizes, call = loss(subject, drawn), terms(drawn), f"policy_loss_factored({drawn})"
        expected = policy_loss_factored(*drawn.arguments)
        trial.compare("the loss", got, expected, terms=sizes, k=K, eps=subject.eps, call=call)
        if len(drawn.logits) == 1 and subject.provides("policy_loss"):
            single = replace(drawn, logits=drawn.logits[0], prior=drawn.prior[0], action=drawn.action[:, 0])
            what = "the loss of one component"
            trial.compare(what, got, loss(subject, single), terms=sizes, k=K, eps=subject.eps, call=call)

    trial.for_all(
        st.sampled_from([(3,), (2, 5), (4, 2, 3), (2, 2)]).flatmap(lambda sizes: states(subject, sizes=sizes)),
        body=holds,
    )


@check("eq11.prior-frozen", needs=("policy_loss",))
def check_no_gradient_reaches_the_prior(subject: Subject, trial: Trial) -> None:
    """Exact; β is not 0."""

    def holds(drawn: States) -> None:
        (got,) = operation_gradients(subject, "policy_loss", (1,), *drawn.arguments)
        sentence = "the gradient with respect to the prior's logits must be 0"
        trial.fail_unless(
            not got.any(), sentence, call=f"gradient of policy_loss({drawn})", got=got.tolist(), expected=0.0
        )

    trial.for_all(states(subject, beta=0.5), body=holds)


@check("eq11.empty-set", needs=("policy_loss",))
def check_an_empty_set_contributes_zero(subject: Subject, trial: Trial) -> None:
    """All advantages of one sign, down to a single state; the gradient too, in which a NaN may outlive the value.

    At β = 0, because the prior term is another clause's.
    """

    def holds(drawn: States, sign: float, alone: bool) -> None:
        some = drawn.rows(np.arange(1 if alone else len(drawn.action)))
        one_sided = replace(some, advantage=sign * np.abs(some.advantage))
        got, expected = loss(subject, one_sided), policy_loss(*one_sided.arguments)
        call = f"policy_loss({one_sided})"
        trial.compare("the loss", got, expected, terms=terms(one_sided), k=K, eps=subject.eps, call=call)
        try:
            (gradient,) = operation_gradients(subject, "policy_loss", (0,), *one_sided.arguments)
        except NotProvided:
            return
        what, sizes = "the gradient with respect to the logits", _gradient_terms(one_sided)
        wanted = policy_loss_gradient(*one_sided.arguments)
        trial.compare(what, gradient, wanted, terms=sizes, k=2 * K, eps=subject.eps, call=f"gradient of {call}")

    trial.for_all(states(subject, beta=0.0), st.sampled_from([1.0, -1.0]), st.booleans(), body=holds)


START = ("policy", "prior", "policy_after", "prior_after")


@check("rl.prior-start", needs=("prior_start",))
def check_prior_starts_as_a_frozen_copy(subject: Subject, trial: Trial) -> None:
    """KL = 0 is equality of the log-probabilities, within rounding; the frozen prior is the same bit for bit."""
    seed = trial.seed
    before, prior, after, prior_after = _start(subject, seed)
    call = f"prior_start({seed})"
    sizes = (_size(before) + _size(prior))[..., None]
    what = "the prior's log-probability before the first update"
    trial.compare(what, log_softmax(prior), log_softmax(before), terms=sizes, k=K, eps=subject.eps, call=call)
    sentence = "the update must leave the prior as it is"
    same = np.array_equal(prior, prior_after)
    trial.fail_unless(same, sentence, call=call, got=prior_after.tolist(), expected=prior.tolist())
    if np.array_equal(before, after):
        trial.inconclusive(
            "the update did not move the policy: a prior that follows it cannot be told from a frozen one"
        )


def _start(subject: Subject, seed: int) -> list[np.ndarray]:
    """The four arrays (N, A). OperationFailed where one is missing or of another shape."""
    returned = subject.call("prior_start", seed, seeded=seed)
    if not isinstance(returned, Mapping) or not set(START) <= set(returned):
        seen = sorted(returned) if isinstance(returned, Mapping) else type(returned).__name__
        raise OperationFailed(f"prior_start returned {seen}; it needs the keys {', '.join(START)}")
    arrays = [subject.read("prior_start", returned[name]) for name in START]
    if arrays[0].ndim != 2 or any(array.shape != arrays[0].shape for array in arrays):
        raise OperationFailed(f"prior_start returned shapes {[a.shape for a in arrays]}; it needs (N, A) four times")
    return arrays


def _fixed(advantage: tuple[float, ...]) -> States:
    """Five states on which mistakes differ; for the signatures."""
    place = np.arange(15.0).reshape(5, 3)
    logits, prior = np.round(2 * np.cos(place) * 64) / 64, np.round(2 * np.sin(3 * place) * 64) / 64
    return States(logits, prior, np.array([0, 2, 1, 1, 0]), np.array(advantage), 0.25, 0.5)


SIGNS = ((1.0, -2.0, 0.5, 3.0, -0.25), (0.0, -2.0, 0.0, 3.0, -0.25), (1.0,) * 5, (-1.0,) * 5)
"""Both sets; with zeros; all positive; all negative."""


@signature("policy_loss")
def signature_loss_of_five_states(subject: Subject) -> np.ndarray:
    """The loss at `SIGNS`; its gradient for policy and prior, and for the policy where a set is empty."""

    def gradient(which: int, signs: tuple[float, ...] = SIGNS[0]) -> np.ndarray:
        return operation_gradients(subject, "policy_loss", (which,), *_fixed(signs).arguments)[0]

    values = [attempt(lambda signs=signs: np.array(loss(subject, _fixed(signs))), 1) for signs in SIGNS]  # type: ignore[misc]
    gradients = [attempt(lambda which=which: gradient(which), 15) for which in (0, 1)]  # type: ignore[misc]
    return np.concatenate([*values, *gradients, attempt(lambda: gradient(0, SIGNS[2]), 15)])


@signature("policy_loss_factored")
def signature_loss_of_two_components(subject: Subject) -> np.ndarray:
    """The loss at `SIGNS`, over two components."""

    def probe(signs: tuple[float, ...]) -> np.ndarray:
        one = _fixed(signs)
        logits, prior = np.asarray(one.logits), np.asarray(one.prior)
        action = np.stack([one.action, np.array([1, 0, 0, 1, 1])], axis=1)
        both = replace(one, logits=[logits, 2 * logits[::-1, :2]], prior=[prior, prior[::-1, 1:]], action=action)
        return np.array(loss(subject, both))

    return np.concatenate([attempt(lambda signs=signs: probe(signs), 1) for signs in SIGNS])  # type: ignore[misc]


@signature("prior_start")
def signature_how_the_prior_starts_and_moves(subject: Subject) -> np.ndarray:
    """Whether it starts as the policy, stays, and follows the policy."""

    def probe() -> np.ndarray:
        before, prior, after, prior_after = _start(subject, 0)
        start = np.allclose(log_softmax(before), log_softmax(prior), rtol=0.02, atol=0.02)
        return np.array([start, np.array_equal(prior, prior_after), np.array_equal(after, prior_after)], np.float64)

    return attempt(probe, 3)
