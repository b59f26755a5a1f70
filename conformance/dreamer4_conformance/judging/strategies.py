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
from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.subject import Draw, Subject


def levels(min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[np.ndarray]:
    """Signal levels (N,) that are multiples of 1/256: exact in every dtype and both level conventions."""
    numerators = st.lists(st.integers(0, 256), min_size=min_size, max_size=max_size)
    return numerators.map(lambda values: np.array(values, np.float64) / 256)


def seeds() -> st.SearchStrategy[int]:
    """Seeds of inputs and of operations."""
    return st.integers(0, 2**31 - 1)


@st.composite
def draws(
    draw: st.DrawFn, subject: Subject, route: str, *, max_batch: int = 3, min_time: int = 1, max_time: int = 4
) -> Draw:
    """Arguments of one loss evaluation through `route`, of random shape."""
    fewest = subject.adapter.min_batch if route == "dynamics_loss" else 1
    batch = draw(st.integers(fewest, max(fewest, max_batch)))
    shape = (batch, draw(st.integers(min_time, max_time)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    return draw_inputs(subject, draw(seeds()), shape)


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
    shape = (draw(st.integers(1, 3)), draw(st.integers(shortest, 9)))
    gamma = draw(st.integers(DENOMINATOR // 2, DENOMINATOR)) / DENOMINATOR
    return draw_trajectory(
        subject, draw(seeds()), shape, gamma, draw(st.integers(0, DENOMINATOR)) / DENOMINATOR if lam is None else lam
    )
