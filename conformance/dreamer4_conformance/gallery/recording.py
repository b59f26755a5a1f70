"""Curves of one adapter, computed next to those of the paper from the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dreamer4_conformance.gallery.curves import Curve, Kind
from dreamer4_conformance.instruments.expected_loss import expect
from dreamer4_conformance.instruments.heads import Trajectory, compute_returns, expected_returns
from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.level_draws import large_batches
from dreamer4_conformance.instruments.recorder import AnalyticNetwork
from dreamer4_conformance.instruments.sampler_trace import LOUD, SamplerTrace, draw_sampler_call, trace_sampler
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided
from dreamer4_reference.eq08_ramp_weight import ramp_weight

POINTS, MOST_BINS, SEED = 17, 16, 0
STEPS = 8
"""K of the sampler's curves."""
DRAWS = 96
"""Evaluations of a loss that draws its levels itself."""
UNDECIDED = (NotProvided, Deviation, Inconclusive, UnsatisfiedAssumption)
"""Reasons for which there is no curve; the clauses report them."""


def record_curves(subject: Subject) -> dict[str, Curve]:
    """Record every curve that an adapter provides the operations for.

    Args:
        subject: the adapter; the seed is fixed, so that the values are the same in every run.

    Returns:
        Curves by name; without those that cannot be computed, for example because the calls of a loss do not match
        the paper's.
    """
    recorders: dict[str, Callable[[Subject], Curve]] = {
        "ramp": ramp,
        "levels": levels,
        "labels": labels,
        "sampler": sampler,
        "loss": loss,
        "returns": returns,
    }
    curves: dict[str, Curve] = {}
    for name, recorder in recorders.items():
        with suppress(*UNDECIDED):
            curves[name] = recorder(subject)
    return curves


def ramp(subject: Subject) -> Curve:
    """Weight of the loss by signal level."""
    tau = np.linspace(0.0, 1.0, POINTS)
    return _curve("Ramp weight", "τ (0 is noise, 1 is clean)", "w", tau, subject.ramp_weight(tau), ramp_weight(tau))


def levels(subject: Subject) -> Curve:
    """Law of the level in training at the smallest step size, in equal intervals."""
    draws = list(large_batches(subject, SEED))
    if not draws:
        raise NotProvided
    draw = draws[-1]  # of the loss, if there is one: what training does
    chosen = draw.tau[np.isclose(np.broadcast_to(draw.d, draw.tau.shape), subject.d_min)]
    if not chosen.size:
        raise Inconclusive("no timestep has the smallest step size")
    count = min(MOST_BINS, subject.k_max)
    shares = np.histogram(np.clip(chosen, 0.0, 1.0), count, (0.0, 1.0))[0] / chosen.size
    starts = np.arange(count) / count
    title = f"Law of τ in training at d = 1/{subject.k_max}"
    return _curve(title, "τ, from", "share of draws", starts, shares, np.full(count, 1 / count), "bars")


def labels(subject: Subject) -> Curve:
    """Labels of the generated frame in the evaluations of a sampler."""
    labelled = _trace(subject).labels
    numbers = np.arange(len(labelled))
    title = f"Labels of the sampler's evaluations, K = {STEPS}"
    return _curve(title, "evaluation", "label τ", numbers, np.array(labelled), np.minimum(numbers / STEPS, 1.0))


def sampler(subject: Subject) -> Curve:
    """Path of a sample of one element, next to the Euler steps from the same start with the same network."""
    trace = _trace(subject)
    theirs = np.array([z.item() for z in [*trace.inputs, trace.frame]])
    actions = trace.evaluations[0].actions
    z, paper = trace.inputs[0], [theirs[0]]
    for step in range(STEPS):
        tau, d = np.full((1, 1), step / STEPS), np.full((1, 1), 1 / STEPS)
        prediction = LOUD(z[:, None], tau, d, None if actions is None else actions[:, -1:])[:, 0]
        z = z + (prediction - z) / (1 - step / STEPS) / STEPS
        paper.append(z.item())
    if len(theirs) != len(paper):
        raise Inconclusive("the sampler takes another number of evaluations")
    title = f"Path of a sample, K = {STEPS}, same start and network"
    return _curve(title, "evaluations done", "z", np.arange(STEPS + 1), theirs, np.array(paper))


def _trace(subject: Subject) -> SamplerTrace:
    trace = trace_sampler(subject, draw_sampler_call(subject, SEED, (1, 1, 1, 1), STEPS), LOUD)
    if not trace.evaluations:
        raise Inconclusive("no evaluation changes the frame")
    return trace


def loss(subject: Subject) -> Curve:
    """Loss of one timestep by level at d = 1/16, or of many draws of a loss that draws its levels itself."""
    at_labels = subject.provides("dynamics_loss_at")
    pairs = list(_losses_at(subject)) if at_labels else sorted(_drawn_losses(subject))
    if not pairs:
        raise Inconclusive("no evaluation above d_min can be compared")
    tau, theirs, paper = np.array(pairs).T
    title = "Loss at d = 1/16, same data and noise" if at_labels else "Loss above d_min, one draw for each point"
    return _curve(title, "τ (0 is noise, 1 is clean)", "loss", tau, theirs, paper, "line" if at_labels else "points")


def _losses_at(subject: Subject) -> Iterator[tuple[float, float, float]]:
    shape = (1, max(1, subject.adapter.min_time), 2, 3)
    for level in np.arange(16) / 16:
        tau = np.full(shape[:2], level)
        draw = draw_inputs(subject, SEED, shape, tau, np.full(shape[:2], 1 / 16))
        evaluation = subject.evaluate("dynamics_loss_at", AnalyticNetwork(), draw)
        yield float(level), evaluation.mean, expect(subject, evaluation).loss


def _drawn_losses(subject: Subject) -> Iterator[tuple[float, float, float]]:
    if not subject.provides("dynamics_loss"):
        raise NotProvided
    shape = (subject.adapter.min_batch, max(1, subject.adapter.min_time), 2, 3)
    for seed in range(DRAWS):
        with suppress(Deviation, Inconclusive, UnsatisfiedAssumption):
            evaluation = subject.evaluate("dynamics_loss", AnalyticNetwork(), draw_inputs(subject, seed, shape))
            expected = expect(subject, evaluation)
            if expected.bootstrap.all() and expected.tau.size == 1:
                yield float(expected.tau.flat[0]), evaluation.mean, expected.loss


def returns(subject: Subject) -> Curve:
    """λ-returns of a trajectory with rewards of 1 whose episode ends in the middle."""
    horizon = 8
    cont = np.ones((1, horizon))
    cont[0, horizon // 2 - 1 if subject.readings["A15"] == "t" else horizon // 2] = 0.0
    values = np.full((1, horizon + (subject.readings["A14"] == "v")), 4.0)
    trajectory = Trajectory(reward=np.ones((1, horizon)), value=values, cont=cont, gamma=0.9, lam=0.8)
    theirs, paper = compute_returns(subject, trajectory), expected_returns(subject, trajectory)
    title = "λ-returns, rewards 1, values 4, γ = 0.9, λ = 0.8, the episode ends after step 3"
    return _curve(title, "t", "R", np.arange(horizon), theirs[0], paper[0])


def _curve(
    title: str, x_label: str, y_label: str, x: np.ndarray, theirs: np.ndarray, paper: np.ndarray, kind: Kind = "line"
) -> Curve:
    """A curve of finite numbers with 6 digits; others are gaps."""
    starts = tuple(float(value) for value in x)
    return Curve(title, x_label, y_label, starts, _numbers(theirs), _numbers(paper), kind)


def _numbers(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(f"{value:.6g}") if np.isfinite(value) else None for value in values)
