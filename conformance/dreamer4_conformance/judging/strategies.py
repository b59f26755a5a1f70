"""Hypothesis strategies of the checks: levels and steps on the grid, small shapes, values from a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.attention_case import (
    CAPS,
    HEADS,
    STRENGTHS,
    WIDTHS,
    AttentionCase,
    draw_attention_case,
)
from dreamer4_conformance.instruments.heads import (
    DENOMINATOR,
    Trajectory,
    draw_trajectory,
)
from dreamer4_conformance.instruments.inputs import draw_inputs, fewest_rows
from dreamer4_conformance.instruments.policy_states import States
from dreamer4_conformance.instruments.shapes import MANY, suite_shapes
from dreamer4_conformance.instruments.subject import Draw, Subject


def levels(min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[np.ndarray]:
    """Signal levels (N,) that are multiples of 1/256: exact in every dtype and both level conventions."""
    numerators = st.lists(st.integers(0, 256), min_size=min_size, max_size=max_size)
    return numerators.map(lambda values: np.array(values, np.float64) / 256)


def seeds() -> st.SearchStrategy[int]:
    """Seeds of inputs and of operations."""
    return st.integers(0, 2**31 - 1)


def lengths(subject: Subject, smallest: int, largest: int) -> st.SearchStrategy[int]:
    """Lengths of an axis; only the largest for an adapter with `few_shapes`."""
    return st.integers(suite_shapes(subject).shortest(smallest, largest), largest)


LONGEST = max(time for _, time, _, _ in MANY.losses)
SCALES = (1.0, 8.0, 256.0)
"""Standard deviations of the data: ordinary latents, and those that reach clipped states, targets and errors."""


@st.composite
def draws(draw: st.DrawFn, subject: Subject, route: str, *, shortest: int = 1, longest: int = LONGEST) -> Draw:
    """Arguments of one loss evaluation through `route`, of random shape and scale; `shortest` and `longest` bound T."""
    fewest = fewest_rows(subject, route)
    shapes = [shape for shape in suite_shapes(subject).losses if shortest <= shape[1] <= longest]
    batch, time, tokens, channels = draw(st.sampled_from(shapes))
    shape = (max(batch, fewest), max(time, subject.adapter.min_time), tokens, channels)
    return draw_inputs(subject, draw(seeds()), shape, scale=draw(st.sampled_from(SCALES)))


@st.composite
def attention_cases(
    draw: st.DrawFn,
    subject: Subject,
    *,
    caps: tuple[float | None, ...] = (None, *CAPS),
    heads: tuple[tuple[int, int], ...] = HEADS,
) -> AttentionCase:
    """Arguments of `attention`: lengths from 1 to 17, grouped heads, optional mask, window, scale and cap."""
    length = draw(st.integers(1, 17))
    shape = (draw(st.integers(1, 2)), length, draw(st.sampled_from(heads)), draw(st.sampled_from(WIDTHS)))
    inputs = draw_attention_case(subject, draw(seeds()), *shape, draw(st.sampled_from(STRENGTHS)))
    causal = draw(st.booleans())
    window = draw(st.none() | st.integers(1, length + 2)) if causal else None
    softcap, scale = draw(st.sampled_from(caps)), draw(st.sampled_from((None, 1 / 8, 1 / 2)))
    return replace(inputs, causal=causal, window=window, softcap=softcap, scale=scale)


@st.composite
def trajectories(draw: st.DrawFn, subject: Subject, *, lam: float | None = None, shortest: int = 1) -> Trajectory:
    """Trajectories of up to 3 rows and 9 steps."""
    horizons = st.sampled_from((shortest, 9)) if suite_shapes(subject).one_length else st.integers(shortest, 9)
    shape = (draw(lengths(subject, 1, 3)), draw(horizons))
    gamma = draw(st.integers(DENOMINATOR // 2, DENOMINATOR)) / DENOMINATOR
    return draw_trajectory(
        subject, draw(seeds()), shape, gamma, draw(st.integers(0, DENOMINATOR)) / DENOMINATOR if lam is None else lam
    )


@st.composite
def policy_states(
    draw: st.DrawFn, subject: Subject, *, sizes: tuple[int, ...] = (), beta: float | None = None
) -> States:
    """Two to nine states with positive and negative advantages, none 0; α ≠ 0.5; `sizes` of the action components."""
    rng = np.random.default_rng(draw(seeds()))
    count = draw(lengths(subject, 2, 9))
    widths = sizes or (draw(lengths(subject, 2, 5)),)
    logits, prior = ([subject.round(rng.normal(0, 1.5, (count, a))) for a in widths] for _ in range(2))
    action = np.stack([rng.integers(0, a, count) for a in widths], axis=1)
    sign = np.append([1.0, -1.0], rng.choice([1.0, -1.0], count - 2))
    advantage = subject.round(rng.permutation(sign) * rng.uniform(0.01, 3.0, count))
    alpha = draw(st.sampled_from([0, 32, 64, 96, 160, 192, 224, 256])) / 256
    kl_weight = draw(st.integers(0, 512)) / 256 if beta is None else beta
    if sizes:
        return States(logits, prior, action, advantage, alpha, kl_weight)
    return States(logits[0], prior[0], action[:, 0], advantage, alpha, kl_weight)
