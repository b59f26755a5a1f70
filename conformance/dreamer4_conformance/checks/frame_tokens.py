"""Checks of two kinds of tokens of a frame: the token of its (τ, d) label, and the tokens of its actions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from hypothesis import example
from hypothesis import strategies as st

from dreamer4_conformance.instruments.inputs import draw_grid_pairs
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, pattern, signature
from dreamer4_conformance.judging.strategies import seeds
from dreamer4_conformance.verdicts import NotProvided, OperationFailed
from dreamer4_reference.sec32_dynamics import action_tokens

K_DIFFERENT = 8.0
"""Roundings of their largest channel by which different tokens differ."""
K_EQUAL = 64.0
"""Roundings of their largest channel within which a token is the sum of three: a linear map of 1000 channels, whose
shape may change the order of its sums, rounds each of the four by √1000 / 2 on average."""


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


def _differ(subject: Subject, left: np.ndarray, right: np.ndarray, factor: float = K_DIFFERENT) -> np.ndarray:
    """bool (…, D): the channels in which two tokens differ by more than `factor` roundings."""
    size = max(np.abs(left).max(), np.abs(right).max())
    return np.abs(left - right) > factor * subject.eps * size


@dataclass(frozen=True)
class _Tables:
    """Tokens of every level at the finest step, (K_max, D), and of every step size at τ = 0, (log2(K_max) + 1, D)."""

    levels: np.ndarray
    steps: np.ndarray

    def token(self, level: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Tokens (…, D) of indices of levels and steps, if each of the two embeddings adds its own term."""
        return np.asarray(self.levels[level] + self.steps[step] - self.steps[-1])


def _tables(subject: Subject) -> _Tables:
    """The tokens of all labels, each in its own sequence of one frame."""
    count = subject.k_max
    tau, d = np.arange(count)[:, None] / count, 0.5 ** np.arange(count.bit_length())[:, None]
    levels = _grid_tokens(subject, tau, np.full_like(tau, subject.d_min))
    return _Tables(levels[:, 0], _grid_tokens(subject, np.zeros_like(d), d)[:, 0])


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
def check_token_is_a_linear_map_of_two_embeddings(subject: Subject, trial: Trial) -> None:
    """A token is a term of its τ plus a term of its d, the same in any frame and sequence as alone, B = T and B ≠ T.

    That holds for two embeddings side by side and for every linear map of them; a product of them or a table of pairs
    has no such terms. Labels are on the grid of Eq. (4). Equal within `K_EQUAL` roundings.
    """
    tables = _tables(subject)

    @example(0, 3, 3)
    @example(0, 3, 4)
    def holds(seed: int, batch: int, time: int) -> None:
        rng = np.random.default_rng(seed)
        tau, d = draw_grid_pairs(rng, subject.k_max, (batch, time), subject.readings["A3"])
        token, call = _grid_tokens(subject, tau, d), f"label_token({tau.tolist()}, {d.tolist()})"
        expected = tables.token(np.rint(tau * subject.k_max).astype(int), np.rint(-np.log2(d)).astype(int))
        wrong = _differ(subject, token, expected, K_EQUAL).any(-1)
        b, t = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        label = f"the token of frame {t} of sequence {b} is not that of its τ = {tau[b, t]:g} plus that of its d"
        sentence = f"{label} = {d[b, t]:g}: two embeddings side by side, or a linear map of them, add such terms"
        trial.fail_unless(not wrong.any(), sentence, call=call)

    trial.for_all(seeds(), st.integers(1, 4), st.integers(1, 4), body=holds)


@check("dyn.tokens", needs=("label_token",))
def check_embeddings_are_discrete(subject: Subject, trial: Trial) -> None:
    """A level between two of the grid has the token of either (A10), which training reaches, or raises.

    Levels a quarter, half and three quarters of the way, and the level of the context (A9). Equal within `K_EQUAL`
    roundings.
    """
    count = subject.k_max
    if count == 1:
        trial.inconclusive("with K_max = 1 there is one label")
    grid, between = _tables(subject).levels, np.arange(count - 1) + np.array([[0.25], [0.5], [0.75]])
    for position in [*between, *_context_positions(subject)]:
        try:
            token = _tokens(subject, position[:, None] / count, np.full((len(position), 1), subject.d_min))[:, 0]
        except NotProvided:
            continue
        except OperationFailed as failed:
            trial.fail_unless(failed.__cause__ is not None, failed.message)
            continue
        below, above = (x.astype(int).clip(max=count - 1) for x in (np.floor(position), np.ceil(position)))
        wrong = np.stack([_differ(subject, token, grid[row], K_EQUAL).any(-1) for row in (below, above)]).all(0)
        worst = position[int(np.argmax(wrong))]
        sentence = f"τ = {worst:g}/{count} has a token that no level of the grid has, so that training never reaches it"
        trial.fail_unless(not wrong.any(), sentence, call=f"label_token([[{worst / count}]], [[{1 / count}]])")


def _context_positions(subject: Subject) -> list[np.ndarray]:
    """The level of context frames (A9) in steps of the grid; none if a clean frame has a label of its own (A12)."""
    level = subject.context_level
    return [] if level == 1 and subject.readings["A12"] == "own" else [np.array([level * subject.k_max])]


@signature("label_token")
def signature_dependence_of_the_token_on_its_labels(subject: Subject) -> np.ndarray:
    """The share of different tokens of τ and of d; whether they add; dependence on the frame; untrained levels."""
    distinct = attempt(lambda: [_distinct(subject, rows) for rows in vars(_tables(subject)).values()], 2)
    relations = (_adds, _depends_on_frame, _interpolates, _lacks_context_level)
    return np.concatenate([distinct, pattern(*(partial(relation, subject) for relation in relations))])


def _adds(subject: Subject) -> bool:
    """Whether the token of τ = 1/2 and d = 1/2 is the sum of a term of each."""
    half, tables = np.array([[0.5]]), _tables(subject)
    token = _tokens(subject, half, half)[:, 0]
    return not _differ(subject, token, tables.token(np.array([subject.k_max // 2]), np.array([1])), K_EQUAL).any()


def _lacks_context_level(subject: Subject) -> bool:
    """Whether the level of the context has a token that no level of the grid has."""
    (position,) = _context_positions(subject)
    token = _tokens(subject, position[:, None] / subject.k_max, np.full((1, 1), subject.d_min))[:, 0]
    return bool(_differ(subject, _tables(subject).levels, token, K_EQUAL).any(-1).all())


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

    Terms: |embedding| + Σ |component|, rounded once for each addition. Flags that the operation refuses are left out.
    """
    refused: list[NotProvided] = []

    @example(_action_inputs(subject, 0, (2, 1, 1, 2), 3, [True, True]))
    @example(_action_inputs(subject, 0, (2, 3, 2, 2), 2, [True, False]))
    @example(_action_inputs(subject, 0, (3, 3, 2, 2), 1, [False, True, True]))
    def holds(inputs: tuple[list[np.ndarray], np.ndarray, np.ndarray]) -> None:
        components, embedding, labelled = inputs
        expected, terms = action_tokens(*inputs), action_tokens([*map(np.abs, components)], np.abs(embedding), labelled)
        try:
            got = subject.compute("action_tokens", *inputs, shape=expected.shape)
        except NotProvided as reason:
            refused.append(reason)
            return
        shape, k = "x".join(map(str, expected.shape)), 2.0 + len(components)
        call = f"action_tokens({len(components)} components of {shape}, embedding, {labelled.tolist()})"
        trial.compare("an action token", got, expected, terms=terms, k=k, eps=subject.eps, call=call)

    trial.for_all(_drawn_action_inputs(subject), body=holds)
    if refused and not trial.cases:
        raise refused[0]


@signature("action_tokens")
def signature_tokens_of_two_clips(subject: Subject) -> np.ndarray:
    """Tokens of three components of 2×2 channels, in a labelled and an unlabelled clip, for B ≠ T and B = T."""
    embedding = np.array([[0.25, 1.0], [-0.5, 2.0]])

    def tokens(time: int) -> np.ndarray:
        rows = [np.full((2, time, 2, 2), value) + np.arange(2.0)[:, None, None, None] for value in (0.5, -2.0, 4.0)]
        return subject.compute("action_tokens", rows, embedding, np.array([True, False]))[:, -1].ravel()

    return np.concatenate([attempt(lambda: tokens(3), 8), attempt(lambda: tokens(2), 8)])
