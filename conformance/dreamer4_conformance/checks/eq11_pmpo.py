"""Checks of Eq. (11): advantages, the policy loss, and the behavioural prior."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.gradients import operation_gradients
from dreamer4_conformance.instruments.heads import (
    Trajectory,
    compute_returns,
    draw_trajectory,
    expected_returns,
    prior_components,
    returns_magnitude,
)
from dreamer4_conformance.instruments.policy_states import States, gradient_terms, log_prob_rounding, loss, terms
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Source, Trial, check
from dreamer4_conformance.judging.strategies import policy_states, seeds, trajectories
from dreamer4_conformance.verdicts import Deviation, NotProvided, OperationFailed
from dreamer4_reference.eq11_pmpo import (
    kl_to_prior,
    policy_loss,
    policy_loss_factored,
    policy_loss_gradient,
)
from dreamer4_reference.twohot import log_softmax

K = 2
"""Every rounding is in `terms` already."""


@check("eq11.advantage", needs=("advantages",))
def check_advantage_is_return_minus_value(subject: Subject, trial: Trial) -> None:
    """The advantage is R_t − v_t, with R_t of Eq. (10), or else of the adapter's own `lambda_returns`.

    A wrong return is not a wrong advantage: eq10.* judge the return. Terms: those of the return at c = 1, and |v_t|.
    """

    @example(draw_trajectory(subject, trial.seed, (3, 9), gamma=0.75, lam=0.5))
    def holds(case: Trajectory) -> None:
        own = _own_returns(subject, case)
        try:
            got = subject.compute("advantages", *case.arguments, shape=case.reward.shape)
        except OperationFailed:
            if own is None and subject.provides("lambda_returns"):
                return  # both operations fail on this trajectory: eq10.value
            raise
        _compare_advantage(subject, trial, case, got, expected_returns(subject, case), own)

    trial.for_all(trajectories(subject), body=holds)


def _own_returns(subject: Subject, case: Trajectory) -> np.ndarray | None:
    """The adapter's returns (B, H); None if `lambda_returns` is not provided or fails."""
    with suppress(NotProvided, OperationFailed):
        return compute_returns(subject, case) if subject.provides("lambda_returns") else None
    return None


def _compare_advantage(
    subject: Subject, trial: Trial, case: Trajectory, got: np.ndarray, returns: np.ndarray, own: np.ndarray | None
) -> None:
    """Compare with R_t − v_t for the paper's returns, and if that fails for the adapter's own."""
    endless = replace(case, cont=np.ones_like(case.cont))
    sizes, call = returns_magnitude(subject, endless) + np.abs(case.baseline), f"advantages({case})"
    try:
        trial.compare("the advantage", got, returns - case.baseline, terms=sizes, k=4, eps=subject.eps, call=call)
    except Deviation:
        if own is None:
            raise
        name, sizes = "the advantage, with R_t of the adapter's lambda_returns,", sizes + np.abs(own)
        trial.compare(
            name, got, own - case.baseline, terms=sizes, k=4, eps=subject.eps, call=call, required_by="adapter"
        )


@check("eq11.value", needs=("policy_loss",))
def check_loss_is_the_three_terms(subject: Subject, trial: Trial) -> None:
    """The loss is the sum of the positive, the negative and the prior term. Terms: `terms`.

    Both sets have states and no advantage is 0: eq11.empty-set and eq11.zero-advantage judge these cases.
    """

    def holds(case: States) -> None:
        got, expected = loss(subject, case), policy_loss(*case.arguments)
        trial.compare("the loss", got, expected, terms=terms(case), k=K, eps=subject.eps, call=f"policy_loss({case})")

    trial.for_all(policy_states(subject), body=holds)


@check("eq11.gradient", needs=("policy_loss",))
def check_gradient_is_that_of_the_three_terms(subject: Subject, trial: Trial) -> None:
    """d loss / d logits is that of the three terms.

    Terms: |w|(onehot + π) and β/N π (|ln π/π_prior| + KL), each times the rounding of its ln π.
    """

    def holds(case: States) -> None:
        (got,) = operation_gradients(subject, "policy_loss", (0,), *case.arguments)
        name, call = "the gradient with respect to the logits", f"gradient of policy_loss({case})"
        expected, sizes = policy_loss_gradient(*case.arguments), gradient_terms(case)
        trial.compare(name, got, expected, terms=sizes, k=2 * K, eps=subject.eps, call=call)

    trial.for_all(policy_states(subject), body=holds)


@check("eq11.sign-only", needs=("policy_loss",))
def check_size_of_the_advantage_is_irrelevant(subject: Subject, trial: Trial) -> None:
    """Scaling each advantage by its own power of two, 2⁻⁴⁰ to 2¹⁰, leaves the loss unchanged. Within rounding."""

    def holds(case: States, seed: int) -> None:
        factors = 2.0 ** np.random.default_rng(seed).integers(-40, 11, len(case.advantage))
        rescaled = replace(case, advantage=factors * case.advantage)
        got, expected = loss(subject, rescaled), loss(subject, case)
        call = f"policy_loss({rescaled}), compared with advantages {case.advantage.tolist()}"
        name = "the loss after scaling the advantages by positive factors"
        trial.compare(name, got, expected, terms=terms(case), k=K, eps=subject.eps, call=call, required_by="adapter")

    trial.for_all(policy_states(subject), seeds(), body=holds)


@check("eq11.per-set-mean", needs=("policy_loss",))
def check_duplicating_a_set_changes_nothing(subject: Subject, trial: Trial) -> None:
    """Repeating all states of one set leaves the loss unchanged, within rounding.

    β = 0, because repeated states change the mean of the KL.
    """

    def holds(case: States, positive: bool, times: int) -> None:
        repeats = np.where((case.advantage >= 0) == positive, times, 1)
        duplicated = case.rows(np.repeat(np.arange(len(repeats)), repeats))
        got, expected = loss(subject, duplicated), loss(subject, case)
        name = f"the loss with the states of {'D⁺' if positive else 'D⁻'} repeated {times} times"
        call = f"policy_loss({duplicated}), compared with policy_loss({case})"
        try:
            trial.compare(
                name, got, expected, terms=2 * terms(case), k=K, eps=subject.eps, call=call, required_by="adapter"
            )
        except Deviation:
            # A term that does not depend on α, such as an entropy, is not one of the sets' means.
            name = f"the part of {name} that changes with α"
            got, expected = _part_with_alpha(subject, duplicated), _part_with_alpha(subject, case)
            trial.compare(
                name, got, expected, terms=6 * terms(case), k=K, eps=subject.eps, call=call, required_by="adapter"
            )

    trial.for_all(policy_states(subject, beta=0.0), st.booleans(), st.integers(2, 4), body=holds)


def _part_with_alpha(subject: Subject, case: States) -> float:
    """The loss less that at another α, which at β = 0 is (α' − α) times the sum of both sets' means."""
    return loss(subject, case) - loss(subject, replace(case, alpha=(case.alpha + 0.5) % 1.0))


@check("eq11.zero-advantage", needs=("policy_loss",))
def check_zero_belongs_to_the_positive_set(subject: Subject, trial: Trial) -> None:
    """An advantage of 0 gives the same loss as a small positive one, where a small negative one gives another loss.

    Compared within the implementation: by which factors the sets are weighted is judged by other clauses.
    """

    def holds(case: States, index: int) -> None:
        # The state is added to the others, so that neither set is empty whatever its sign.
        zero, positive, negative = (_with_extra(case, index, sign) for sign in (0.0, SMALL, -SMALL))
        got, expected, opposite = (loss(subject, states) for states in (zero, positive, negative))
        call, sizes = f"policy_loss({zero})", terms(positive) + terms(negative)
        if abs(expected - opposite) > 4 * K * subject.eps * sizes:
            name = f"the loss with an advantage of 0, compared with {SMALL:g},"
            trial.compare(name, got, expected, terms=sizes, k=K, eps=subject.eps, call=call, required_by="adapter")

    trial.for_all(policy_states(subject, beta=0.0), st.integers(0, 8), body=holds)
    if not trial.cases:
        trial.inconclusive(f"the loss is the same for advantages of {SMALL:g} and −{SMALL:g}: follows from eq11.value")


SMALL = 2.0**-20
"""Advantage whose sign counts, and whose size has next to no effect on a loss that it scales."""


def _with_extra(case: States, index: int, advantage: float) -> States:
    """Append a copy of state `index`, with the action of the next state and this advantage."""
    count = len(case.action)
    extended = case.rows(np.append(np.arange(count), index % count))
    action, signs = extended.action.copy(), extended.advantage.copy()
    action[-1], signs[-1] = case.action[(index + 1) % count], advantage
    return replace(extended, action=action, advantage=signs)


@check("eq11.kl-direction", needs=("policy_loss",))
def check_prior_term_is_kl_from_policy_to_prior(subject: Subject, trial: Trial) -> None:
    """The prior term is the mean of KL(π ‖ π_prior), judged as the loss minus the loss with prior = policy.

    Within rounding. Policy and prior differ enough that the reverse KL has another value.
    """

    def holds(case: States) -> None:
        ((logits, prior),) = case.components
        case = replace(case, prior=subject.round(3 * prior))
        without = replace(case, prior=logits)
        got = loss(subject, case) - loss(subject, without)
        expected = kl_to_prior(logits, np.asarray(case.prior)).mean()
        call, sizes = f"policy_loss({case})", terms(case) + terms(without)
        trial.compare("the prior term", got, expected, terms=sizes, k=K, eps=subject.eps, call=call)

    trial.for_all(policy_states(subject, beta=1.0), body=holds)


@check("eq11.factored", needs=("policy_loss_factored",))
def check_components_are_added_up(subject: Subject, trial: Trial) -> None:
    """Log-probabilities and KLs of one to three action components add up.

    The loss is that of the paper, or else that of the adapter's own `policy_loss` for one component with the actions of
    all: a joint action, whose logits are the sums of those of its parts. eq11.value judges `policy_loss`.
    """

    def holds(case: States) -> None:
        got, sizes, call = loss(subject, case), terms(case), f"policy_loss_factored({case})"
        expected = policy_loss_factored(*case.arguments)
        try:
            trial.compare("the loss", got, expected, terms=sizes, k=K, eps=subject.eps, call=call)
        except Deviation:
            if not subject.provides("policy_loss"):
                raise
            joint, compared = _of_joint_actions(subject, case), subject.invocation
            name, sizes = "the loss, compared with policy_loss of the joint action,", sizes + terms(joint)
            expected, subject.invocation = loss(subject, joint), compared
            trial.compare(name, got, expected, terms=sizes, k=K, eps=subject.eps, call=call, required_by="adapter")

    sizes = st.sampled_from([(3,), (2, 5), (4, 2, 3), (2, 2)])
    trial.for_all(sizes.flatmap(lambda sizes: policy_states(subject, sizes=sizes)), body=holds)


def _of_joint_actions(subject: Subject, case: States) -> States:
    """The same states with one component, whose actions are all combinations of those of the components."""
    logits, prior = np.zeros((len(case.action), 1)), np.zeros((len(case.action), 1))
    action = np.zeros(len(case.action), np.int64)
    for f, (component, fixed) in enumerate(case.components):
        width = component.shape[1]
        logits, prior = (
            (joint[:, :, None] + added[:, None, :]).reshape(len(joint), -1)
            for joint, added in ((logits, component), (prior, fixed))
        )
        action = action * width + case.action[:, f]
    return replace(case, logits=subject.round(logits), prior=subject.round(prior), action=action)


@check("eq11.prior-frozen", needs=("policy_loss",))
def check_no_gradient_reaches_the_prior(subject: Subject, trial: Trial) -> None:
    """The gradient with respect to the prior's logits is exactly 0, at β ≠ 0."""

    def holds(case: States) -> None:
        (got,) = operation_gradients(subject, "policy_loss", (1,), *case.arguments)
        sentence = (
            "the gradient with respect to the prior's logits must be 0; detach them in the adapter, if your training "
            "step computes them without gradient"
        )
        trial.fail_unless(
            not got.any(), sentence, call=f"gradient of policy_loss({case})", got=got.tolist(), expected=0.0
        )

    trial.for_all(policy_states(subject, beta=0.5), body=holds)


@check("eq11.empty-set", needs=("policy_loss",))
def check_an_empty_set_contributes_zero(subject: Subject, trial: Trial) -> None:
    """If all advantages have one sign, even of a single state, the term of the other set is 0, and its gradient too.

    The gradient is compared as well, because it may be NaN where the loss is finite. β = 0 removes the prior term.
    An implementation with other factors is compared with itself, next to a state of the other set.
    """

    def holds(case: States, sign: float, single: bool) -> None:
        selected = case.rows(np.arange(1 if single else len(case.action)))
        one_sided = replace(selected, advantage=sign * np.abs(selected.advantage))
        try:
            exact = policy_loss(*one_sided.arguments), policy_loss_gradient(*one_sided.arguments)
            _compare_one_sided(subject, trial, one_sided, *exact)
        except Deviation:
            _compare_with_other_set(subject, trial, one_sided)

    trial.for_all(policy_states(subject, beta=0.0), st.sampled_from([1.0, -1.0]), st.booleans(), body=holds)


def _compare_one_sided(
    subject: Subject,
    trial: Trial,
    case: States,
    expected: float,
    expected_gradient: np.ndarray | None,
    added_terms: float = 0.0,
    required_by: Source = "paper",
) -> None:
    """Compare the loss and its gradient, where there is one."""
    compare, call = partial(trial.compare, eps=subject.eps, required_by=required_by), f"policy_loss({case})"
    compare("the loss", loss(subject, case), expected, terms=2 * terms(case) + added_terms, k=K, call=call)
    gradient = _gradient(subject, case)
    if gradient is not None and expected_gradient is not None:
        name, sizes = "the gradient with respect to the logits", gradient_terms(case) + added_terms
        compare(name, gradient, expected_gradient, terms=sizes, k=2 * K, call=f"gradient of {call}")


def _compare_with_other_set(subject: Subject, trial: Trial, case: States) -> None:
    """Compare with the adapter's loss next to one state of the other set, less that of this state alone.

    At β = 0 it is the loss of the set, by whatever factors the sets are weighted, and the gradient next to that state
    is the set's own. Terms: the sizes of the two losses in addition, as the adapter's factors are not the paper's.
    """
    mixed = case.rows(np.append(np.arange(len(case.action)), 0))
    mixed = replace(mixed, advantage=np.append(case.advantage, -case.advantage[:1]))
    joint, opposite = loss(subject, mixed), loss(subject, mixed.rows(np.array([len(case.action)])))
    gradient = _gradient(subject, mixed)
    own = joint - opposite, None if gradient is None else gradient[:-1]
    _compare_one_sided(subject, trial, case, *own, abs(joint) + abs(opposite), required_by="adapter")


def _gradient(subject: Subject, case: States) -> np.ndarray | None:
    """The adapter's gradient with respect to the logits; None if its framework has none."""
    with suppress(NotProvided):
        return operation_gradients(subject, "policy_loss", (0,), *case.arguments)[0]
    return None


@check("rl.prior-start", needs=("prior_start",))
def check_prior_starts_as_a_frozen_copy(subject: Subject, trial: Trial) -> None:
    """The prior's log-probabilities equal the policy's before the first update, and do not change with the update.

    Every action component is judged. Equal within rounding before the update; the prior before and after the update is
    equal bit for bit.
    """
    call = f"prior_start({trial.seed})"
    components = prior_components(subject, trial.seed)
    for f, (before, prior, _, prior_after) in enumerate(components):
        component = f" of component {f}" if len(components) > 1 else ""
        sizes = (log_prob_rounding(before) + log_prob_rounding(prior))[..., None]
        name = f"the prior's log-probability{component} before the first update"
        trial.compare(
            name,
            log_softmax(prior),
            log_softmax(before),
            terms=sizes,
            k=K,
            eps=subject.eps,
            call=call,
            required_by="adapter",
        )
        sentence = f"the update must not change the prior{component}"
        same = np.array_equal(prior, prior_after)
        trial.fail_unless(same, sentence, call=call, got=prior_after.tolist(), expected=prior.tolist())
    if any(np.array_equal(before, after) for before, _, after, _ in components):
        trial.inconclusive("the update does not change the policy, so a prior that follows it cannot be distinguished")
