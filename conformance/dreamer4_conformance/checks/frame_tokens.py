"""Checks of two of a frame's tokens as they are put together: that of its (τ, d) label, and those of its actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.inputs import draw_grid_pairs
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.sec32_dynamics import action_tokens

K_SAME = 8.0
"""Tokens are told apart by more than this many roundings of their largest channel: embeddings may be computed."""


# The token of the label


def _tokens(subject: Subject, tau: np.ndarray, d: np.ndarray) -> np.ndarray:
    """(B, T, D) of signal levels and step sizes, (B, T)."""
    token = subject.compute("label_token", subject.level(tau), d)
    if token.ndim != 3 or token.shape[:2] != tau.shape:
        raise OperationFailed(f"label_token returned shape {token.shape}; it needs {(*tau.shape, 'D')}")
    return token


def _grid_tokens(subject: Subject, tau: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Tokens of labels on the grid. Where the operation raises, the label is named that it does not take by itself either."""
    try:
        return _tokens(subject, tau, d)
    except OperationFailed:
        for label in sorted({*zip(tau.ravel().tolist(), d.ravel().tolist(), strict=True)}):
            _require_token(subject, *label)
        raise


def _require_token(subject: Subject, tau: float, d: float) -> None:
    level, step = np.full((1, 1), tau), np.full((1, 1), d)
    try:
        _tokens(subject, level, step)
    except OperationFailed as failed:
        call = f"label_token({subject.level(level).tolist()}, {step.tolist()})"
        raise OperationFailed(f"{failed.message}, at τ = {tau:g} and d = {d:g}", call=call) from failed


def _differ(subject: Subject, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Channel by channel, beyond rounding; (…, D)."""
    size = max(np.abs(one).max(), np.abs(other).max())
    return np.abs(one - other) > K_SAME * subject.eps * size


@dataclass(frozen=True)
class _Tables:
    """The tokens of every level at the finest step (K_max, D), and of every step size at pure noise (log2(K_max) + 1, D)."""

    levels: np.ndarray
    steps: np.ndarray


def _tables(subject: Subject) -> _Tables:
    """Each label in a row of its own."""
    count = subject.k_max
    tau, d = np.arange(count)[:, None] / count, 0.5 ** np.arange(count.bit_length())[:, None]
    return _Tables(
        _grid_tokens(subject, tau, np.full_like(tau, subject.d_min))[:, 0],
        _grid_tokens(subject, np.zeros_like(d), d)[:, 0],
    )


@check("dyn.tokens", needs=("label_token",))
def check_label_is_two_embeddings_side_by_side(subject: Subject, trial: Trial) -> None:
    """No channel depends on both labels, and each label has channels."""
    if subject.k_max == 1:
        trial.inconclusive("with K_max = 1 there is one label")
    tables, call = _tables(subject), "label_token(tau, d) of every tau at d = 1/K_max, of every d at tau = 0"
    by_tau, by_d = (_differ(subject, rows, rows[:1]).any(0) for rows in (tables.levels, tables.steps))
    trial.fail_unless(by_tau.any(), "no channel of the token depends on τ", call=call)
    trial.fail_unless(by_d.any(), "no channel of the token depends on d", call=call)
    both = np.flatnonzero(by_tau & by_d)
    sentence = f"{len(both)} channels of the token depend on τ and on d; two embeddings side by side share none"
    trial.fail_unless(not both.size, sentence, call=call, got=both.tolist(), expected=[])


@check("dyn.tokens", needs=("label_token",))
def check_different_labels_have_different_tokens(subject: Subject, trial: Trial) -> None:
    """K_max levels below 1 and log2(K_max) + 1 step sizes."""
    tables = _tables(subject)
    for name, rows, values in (
        ("τ", tables.levels, np.arange(subject.k_max) / subject.k_max),
        ("d", tables.steps, 0.5 ** np.arange(subject.k_max.bit_length())),
    ):
        for index, row in enumerate(rows):
            same = np.flatnonzero(~_differ(subject, rows[:index], row).any(-1)) if index else np.zeros(0, int)
            other = values[same[0]] if same.size else None
            sentence = f"{name} = {values[index]:g} has the token of {name} = {other}; every label has an embedding"
            trial.fail_unless(not same.size, sentence, call="label_token(tau, d)")


@check("dyn.tokens", needs=("label_token",))
def check_equal_labels_have_equal_tokens(subject: Subject, trial: Trial) -> None:
    """Wherever they stand: against the tokens of each label alone. B = T and B ≠ T."""
    tables = _tables(subject)
    by_tau, by_d = (_differ(subject, rows, rows[:1]).any(0) for rows in (tables.levels, tables.steps))

    @example(0, 3, 3)
    @example(0, 3, 4)
    def holds(seed: int, batch: int, time: int) -> None:
        rng = np.random.default_rng(seed)
        tau, d = draw_grid_pairs(rng, subject.k_max, (batch, time), subject.readings["A3"])
        token, call = _grid_tokens(subject, tau, d), f"label_token({tau.tolist()}, {d.tolist()})"
        level, step = np.rint(tau * subject.k_max).astype(int), np.rint(-np.log2(d)).astype(int)
        for name, rows, channels in (("τ", tables.levels[level], by_tau), ("d", tables.steps[step], by_d)):
            off = _differ(subject, token, rows)[..., channels].any(-1)
            b, t = np.unravel_index(int(np.argmax(off)), off.shape)
            sentence = (
                f"the token of frame {t} of sequence {b} is not that of its {name}, {(tau, d)[name == 'd'][b, t]:g}"
            )
            trial.fail_unless(not off.any(), sentence, call=call)

    trial.for_all(seeds(), st.integers(1, 4), st.integers(1, 4), body=holds)


@check("dyn.tokens", needs=("label_token",))
def check_embeddings_are_looked_up(subject: Subject, trial: Trial) -> None:
    """A level between two of the grid has the token of one of them (A10), or is refused."""
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
def signature_how_the_token_follows_its_labels(subject: Subject) -> np.ndarray:
    """Whether channels follow τ, d, both; how many of the labels are told apart; whether places and gaps matter."""

    def probe() -> np.ndarray:
        tables = _tables(subject)
        by_tau, by_d = (_differ(subject, rows, rows[:1]).any(0) for rows in (tables.levels, tables.steps))
        both = (by_tau & by_d).any()
        return np.array(
            [by_tau.any(), by_d.any(), both, _distinct(subject, tables.levels), _distinct(subject, tables.steps)]
        )

    return np.concatenate(
        [attempt(probe, 5), attempt(lambda: _by_place(subject), 1), attempt(lambda: _between(subject), 1)]
    )


def _distinct(subject: Subject, rows: np.ndarray) -> float:
    """The share of labels whose token no earlier one has."""
    known = [_differ(subject, rows[:index], rows[index]).any(-1).all() for index in range(1, len(rows))]
    return float(np.mean(known))


def _by_place(subject: Subject) -> np.ndarray:
    """Whether three equal labels have different tokens."""
    tau, d = np.zeros((1, 3)), np.full((1, 3), subject.d_min)
    token = _tokens(subject, tau, d)[0]
    return _differ(subject, token, token[:1]).any().astype(float)


def _between(subject: Subject) -> np.ndarray:
    """Whether a level between two others has a token of its own."""
    rows = _tokens(subject, np.array([[0.0], [0.25], [1.0]]) / subject.k_max, np.full((3, 1), subject.d_min))[:, 0]
    return (_differ(subject, rows[1], rows[0]).any() & _differ(subject, rows[1], rows[2]).any()).astype(float)


# The tokens of the actions


@st.composite
def _encoded(draw: st.DrawFn, subject: Subject) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """One to four components (B, T, S_a, D), the embedding (S_a, D), and which clips are labelled."""
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
    """Terms: |embedding| + Σ |component|, rounded once for each addition."""

    @example(_action_inputs(subject, 0, (2, 1, 1, 2), 3, [True, True]))
    @example(_action_inputs(subject, 0, (2, 3, 2, 2), 2, [True, False]))
    @example(_action_inputs(subject, 0, (3, 3, 2, 2), 1, [False, True, True]))
    def holds(drawn: tuple[list[np.ndarray], np.ndarray, np.ndarray]) -> None:
        components, embedding, labelled = drawn
        expected, terms = action_tokens(*drawn), action_tokens([*map(np.abs, components)], np.abs(embedding), labelled)
        got = subject.compute("action_tokens", *drawn, shape=expected.shape)
        shape = "x".join(map(str, expected.shape))
        call = f"action_tokens({len(components)} components of {shape}, embedding, {labelled.tolist()})"
        k = 2.0 + len(components)
        trial.compare("an action token", got, expected, terms=terms, k=k, eps=subject.eps, call=call)

    trial.for_all(_encoded(subject), body=holds)


@signature("action_tokens")
def signature_tokens_of_two_clips(subject: Subject) -> np.ndarray:
    """Three components of one number each, in a labelled and an unlabelled clip; B = T and B ≠ T."""

    def tokens(time: int) -> np.ndarray:
        rows = [np.full((2, time, 1, 1), value) + np.arange(2.0)[:, None, None, None] for value in (0.5, -2.0, 4.0)]
        return subject.compute("action_tokens", rows, np.array([[0.25]]), np.array([True, False]))[:, -1].ravel()

    return np.concatenate([attempt(lambda: tokens(3), 2), attempt(lambda: tokens(2), 2)])
