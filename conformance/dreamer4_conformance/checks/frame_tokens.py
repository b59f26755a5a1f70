"""Checks of two kinds of tokens of a frame: the token of its (τ, d) label, and the tokens of its actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.inputs import draw_grid_pairs
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, pattern, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.sec32_dynamics import action_tokens

K_EQUAL = 8.0
"""Roundings of their largest channel within which tokens are equal: embeddings may be computed."""


# The token of the label


def _tokens(subject: Subject, tau: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Tokens (B, T, D) of signal levels and step sizes (B, T). OperationFailed if they have another shape."""
    token = subject.compute("label_token", subject.level(tau), d)
    if token.ndim != 3 or token.shape[:2] != tau.shape:
        raise OperationFailed(f"label_token returned shape {token.shape}; it needs {(*tau.shape, 'D')}")
    return token


def _grid_tokens(subject: Subject, tau: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Tokens of labels on the grid. If the operation fails, the error names the first label that fails by itself."""
    try:
        return _tokens(subject, tau, d)
    except OperationFailed:
        for label in sorted({*zip(tau.ravel().tolist(), d.ravel().tolist(), strict=True)}):
            _evaluate_label(subject, *label)
        raise


def _evaluate_label(subject: Subject, tau: float, d: float) -> None:
    """Evaluate one label by itself. OperationFailed names it."""
    level, step = np.full((1, 1), tau), np.full((1, 1), d)
    try:
        _tokens(subject, level, step)
    except OperationFailed as failed:
        call = f"label_token({subject.level(level).tolist()}, {step.tolist()})"
        raise OperationFailed(f"{failed.message}, at τ = {tau:g} and d = {d:g}", call=call) from failed


def _differ(subject: Subject, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """bool (…, D): the channels in which two tokens differ by more than rounding."""
    size = max(np.abs(left).max(), np.abs(right).max())
    return np.abs(left - right) > K_EQUAL * subject.eps * size


@dataclass(frozen=True)
class _Tables:
    """Tokens of every level at the finest step, (K_max, D), and of every step size at τ = 0, (log2(K_max) + 1, D)."""

    levels: np.ndarray
    steps: np.ndarray

    def channels(self, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
        """bool (D,), twice: the channels that depend on τ, and those that depend on d."""
        by_tau, by_d = (_differ(subject, rows, rows[:1]) for rows in (self.levels, self.steps))
        return np.asarray(by_tau.any(0)), np.asarray(by_d.any(0))


def _tables(subject: Subject) -> _Tables:
    """The tokens of all labels, each in its own sequence of one frame."""
    count = subject.k_max
    tau, d = np.arange(count)[:, None] / count, 0.5 ** np.arange(count.bit_length())[:, None]
    levels = _grid_tokens(subject, tau, np.full_like(tau, subject.d_min))
    return _Tables(levels[:, 0], _grid_tokens(subject, np.zeros_like(d), d)[:, 0])


@check("dyn.tokens", needs=("label_token",))
def check_label_concatenates_two_embeddings(subject: Subject, trial: Trial) -> None:
    """No channel depends on both τ and d, and some channel depends on each. Tokens differ by more than rounding."""
    if subject.k_max == 1:
        trial.inconclusive("with K_max = 1 there is one label")
    call = "label_token(tau, d) of every tau at d = 1/K_max, of every d at tau = 0"
    by_tau, by_d = _tables(subject).channels(subject)
    trial.fail_unless(by_tau.any(), "no channel of the token depends on τ", call=call)
    trial.fail_unless(by_d.any(), "no channel of the token depends on d", call=call)
    shared = np.flatnonzero(by_tau & by_d)
    sentence = f"{len(shared)} channels of the token depend on τ and on d; two concatenated embeddings share none"
    trial.fail_unless(not shared.size, sentence, call=call, got=shared.tolist(), expected=[])


@check("dyn.tokens", needs=("label_token",))
def check_different_labels_have_different_tokens(subject: Subject, trial: Trial) -> None:
    """The K_max levels below 1 have different tokens, and so have the log2(K_max) + 1 step sizes."""
    tables = _tables(subject)
    for name, rows, values in (
        ("τ", tables.levels, np.arange(subject.k_max) / subject.k_max),
        ("d", tables.steps, 0.5 ** np.arange(subject.k_max.bit_length())),
    ):
        for index, row in enumerate(rows):
            equal = np.flatnonzero(~_differ(subject, rows[:index], row).any(-1)) if index else np.zeros(0, int)
            earlier = values[equal[0]] if equal.size else None
            sentence = f"{name} = {values[index]:g} has the token of {name} = {earlier}; every label has an embedding"
            trial.fail_unless(not equal.size, sentence, call="label_token(tau, d)")


@check("dyn.tokens", needs=("label_token",))
def check_equal_labels_have_equal_tokens(subject: Subject, trial: Trial) -> None:
    """A label has the same token in any frame and sequence as alone, within rounding, for B = T and B ≠ T."""
    tables = _tables(subject)
    by_tau, by_d = tables.channels(subject)

    @example(0, 3, 3)
    @example(0, 3, 4)
    def holds(seed: int, batch: int, time: int) -> None:
        rng = np.random.default_rng(seed)
        tau, d = draw_grid_pairs(rng, subject.k_max, (batch, time), subject.readings["A3"])
        token, call = _grid_tokens(subject, tau, d), f"label_token({tau.tolist()}, {d.tolist()})"
        levels = tables.levels[np.rint(tau * subject.k_max).astype(int)]
        steps = tables.steps[np.rint(-np.log2(d)).astype(int)]
        for name, labels, rows, channels in (("τ", tau, levels, by_tau), ("d", d, steps, by_d)):
            wrong = _differ(subject, token, rows)[..., channels].any(-1)
            b, t = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            sentence = f"the token of frame {t} of sequence {b} is not that of its {name}, {labels[b, t]:g}"
            trial.fail_unless(not wrong.any(), sentence, call=call)

    trial.for_all(seeds(), st.integers(1, 4), st.integers(1, 4), body=holds)


@check("dyn.tokens", needs=("label_token",))
def check_embeddings_are_discrete(subject: Subject, trial: Trial) -> None:
    """A level between two of the grid has the token of either (A10), within rounding, or raises."""
    count = subject.k_max
    if count == 1:
        trial.inconclusive("with K_max = 1 there is one label")
    grid = _tables(subject).levels
    for share in (1 / 4, 3 / 4):
        tau = (np.arange(count - 1)[:, None] + share) / count
        try:
            token = _tokens(subject, tau, np.full_like(tau, subject.d_min))[:, 0]
        except OperationFailed as failed:
            trial.fail_unless(failed.__cause__ is not None, failed.message)
            continue
        between = _differ(subject, token, grid[:-1]).any(-1) & _differ(subject, token, grid[1:]).any(-1)
        worst = tau[int(np.argmax(between)), 0] * count
        sentence = f"τ = {worst:g}/{count} has a token that no level of the grid has: the label is not discrete"
        trial.fail_unless(not between.any(), sentence, call=f"label_token([[{worst / count}]], [[{1 / count}]])")


@signature("label_token")
def signature_dependence_of_the_token_on_its_labels(subject: Subject) -> np.ndarray:
    """Whether channels depend on τ, d, both; the share of different tokens; dependence on the frame; interpolation."""

    def probe() -> np.ndarray:
        tables = _tables(subject)
        by_tau, by_d = tables.channels(subject)
        distinct = (_distinct(subject, rows) for rows in (tables.levels, tables.steps))
        return np.array([by_tau.any(), by_d.any(), (by_tau & by_d).any(), *distinct])

    relations = pattern(lambda: _depends_on_frame(subject), lambda: _interpolates(subject))
    return np.concatenate([attempt(probe, 5), relations])


def _distinct(subject: Subject, rows: np.ndarray) -> float:
    """The share of labels, but for the first, whose token differs from those of all earlier labels."""
    differ = [_differ(subject, rows[:index], rows[index]).any(-1).all() for index in range(1, len(rows))]
    return float(np.mean(differ))


def _depends_on_frame(subject: Subject) -> bool:
    """Whether equal labels in three frames have different tokens."""
    tau, d = np.zeros((1, 3)), np.full((1, 3), subject.d_min)
    token = _tokens(subject, tau, d)[0]
    return bool(_differ(subject, token, token[:1]).any())


def _interpolates(subject: Subject) -> bool:
    """Whether a level between two of the grid has a token of neither."""
    rows = _tokens(subject, np.array([[0.0], [0.25], [1.0]]) / subject.k_max, np.full((3, 1), subject.d_min))[:, 0]
    return bool(_differ(subject, rows[1], rows[0]).any() & _differ(subject, rows[1], rows[2]).any())


# The tokens of the actions


@st.composite
def _drawn_action_inputs(draw: st.DrawFn, subject: Subject) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """One to four components (B, T, S_a, D), the embedding (S_a, D), and the flags of labelled clips (B,)."""
    shape = tuple(draw(st.integers(1, 4)) for _ in range(4))
    labelled = draw(st.lists(st.booleans(), min_size=shape[0], max_size=shape[0]))
    return _action_inputs(subject, draw(seeds()), shape, draw(st.integers(1, 4)), labelled)


def _action_inputs(
    subject: Subject, seed: int, shape: tuple[int, ...], count: int, labelled: list[bool]
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    components = [subject.round(rng.standard_normal(shape)) for _ in range(count)]
    return components, subject.round(rng.standard_normal(shape[2:])), np.array(labelled, bool)


@check("dyn.action-sum", needs=("action_tokens",))
def check_components_are_summed_with_the_embedding(subject: Subject, trial: Trial) -> None:
    """An action token is the sum of its components and the embedding; in unlabelled clips the embedding alone.

    Terms: |embedding| + Σ |component|, rounded once for each addition.
    """

    @example(_action_inputs(subject, 0, (2, 1, 1, 2), 3, [True, True]))
    @example(_action_inputs(subject, 0, (2, 3, 2, 2), 2, [True, False]))
    @example(_action_inputs(subject, 0, (3, 3, 2, 2), 1, [False, True, True]))
    def holds(inputs: tuple[list[np.ndarray], np.ndarray, np.ndarray]) -> None:
        components, embedding, labelled = inputs
        expected, terms = action_tokens(*inputs), action_tokens([*map(np.abs, components)], np.abs(embedding), labelled)
        got = subject.compute("action_tokens", *inputs, shape=expected.shape)
        shape, k = "x".join(map(str, expected.shape)), 2.0 + len(components)
        call = f"action_tokens({len(components)} components of {shape}, embedding, {labelled.tolist()})"
        trial.compare("an action token", got, expected, terms=terms, k=k, eps=subject.eps, call=call)

    trial.for_all(_drawn_action_inputs(subject), body=holds)


@signature("action_tokens")
def signature_tokens_of_two_clips(subject: Subject) -> np.ndarray:
    """Tokens of three components of one channel, in a labelled and an unlabelled clip, for B ≠ T and B = T."""

    def tokens(time: int) -> np.ndarray:
        rows = [np.full((2, time, 1, 1), value) + np.arange(2.0)[:, None, None, None] for value in (0.5, -2.0, 4.0)]
        return subject.compute("action_tokens", rows, np.array([[0.25]]), np.array([True, False]))[:, -1].ravel()

    return np.concatenate([attempt(lambda: tokens(3), 2), attempt(lambda: tokens(2), 2)])
