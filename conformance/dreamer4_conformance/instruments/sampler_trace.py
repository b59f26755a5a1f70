"""Recorded calls of a sampler: denoising evaluations, whose output changes the frame, and cache passes.

The sampler runs once more per call under the same seed, with that call's output at the generated frame changed. A call
whose output does not affect the result is a prefill or commit pass of a cache, not a denoising evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.instruments.inputs import ACTION_WIDTH, input_rng
from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call
from dreamer4_conformance.instruments.subject import SampledFrame, Subject
from dreamer4_conformance.verdicts import Inconclusive, NotProvided, OperationFailed


@dataclass(frozen=True)
class SteadyNetwork(AnalyticNetwork):
    """Analytic network with the same gain at every label, so that every evaluation affects the frame.

    With gain `keep` = 0.1 and noise below 8, its outputs stay inside (−1, 1), the range of a tanh: there, a sampler
    that clamps equals one that does not.
    """

    keep: float = 0.1
    reach: float = 0.2

    def coefficients(
        self, tau: np.ndarray, d: np.ndarray, actions: np.ndarray | None, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Constant gain (N, T, 1, 1) and the analytic network's offset (N, T, S, D), bounded by `reach`."""
        gain, offset = super().coefficients(tau, d, actions, shape)
        return np.full_like(gain, self.keep), self.reach * np.tanh(offset / self.reach)


STEADY = SteadyNetwork()
LOUD = SteadyNetwork(keep=0.6, reach=8.0)
"""Separates start noises and predictions more clearly; its outputs leave (−1, 1)."""


@dataclass(frozen=True)
class SamplerCall:
    """Arguments of `sample_frame`: context (B, T, S, D), actions (B, T + 1, A), K and the seed."""

    context: np.ndarray
    actions: np.ndarray
    num_steps: int
    seed: int

    def __str__(self) -> str:
        """The call as Python."""
        shape = "x".join(map(str, self.context.shape))
        return f"sample_frame(network, context of {shape} (B, T, S, D), {self.num_steps}, {self.seed}, actions)"


@dataclass(frozen=True)
class SamplerTrace:
    """One run of a sampler: the frame (B, S, D), its denoising evaluations, and its cache passes."""

    sampler_call: SamplerCall
    frame: np.ndarray
    evaluations: list[Call]
    cache_passes: list[Call]

    @property
    def inputs(self) -> list[np.ndarray]:
        """Generated frame (B, S, D) in the input of each evaluation."""
        return [call.z[:, -1] for call in self.evaluations]

    @property
    def labels(self) -> list[float]:
        """Signal-level label of the generated frame in each evaluation, in the first row."""
        return [float(call.tau[0, -1]) for call in self.evaluations]


@dataclass(frozen=True)
class SamplerLimits:
    """Inputs that a sampler works with: the fewest context frames, and whether it needs one sequence at a time."""

    fewest_frames: int
    single_row: bool


_LIMITS: WeakKeyDictionary[Adapter, SamplerLimits] = WeakKeyDictionary()


def sampler_limits(subject: Subject) -> SamplerLimits:
    """Find the limits of a sampler by trial.

    A context that is too short, or a batch of several rows, is no requirement of a clause of the sampler: these are
    judged on inputs that work. A sampler that calls the network for each row apart is judged on one row.
    """
    if subject.adapter not in _LIMITS:
        _LIMITS[subject.adapter] = _find_limits(subject)
    return _LIMITS[subject.adapter]


def _find_limits(subject: Subject) -> SamplerLimits:
    def rows_of_calls(batch: int, time: int) -> set[int]:
        counts = all_step_counts(subject)
        runs = (_try(subject, _draw_call(subject, 0, (batch, time, 1, 1), count, False)) for count in counts)
        calls = next((run.calls for run in runs if run is not None), [])
        return {len(call.z) for call in calls}

    fewest = next((time for time in (0, 1, 2, 3, 4, 8) if rows_of_calls(1, time)), 1)
    single = rows_of_calls(1, max(fewest, 1)) == {1} and rows_of_calls(2, max(fewest, 1)) == {1}
    return SamplerLimits(fewest, single)


def _try(subject: Subject, call: SamplerCall) -> SampledFrame | None:
    try:
        return subject.sample_frame(STEADY, call.context, call.num_steps, call.seed, call.actions)
    except (OperationFailed, NotProvided):
        return None


def draw_sampler_call(
    subject: Subject, seed: int, shape: tuple[int, int, int, int], num_steps: int, *, signs: bool = False
) -> SamplerCall:
    """Draw a context (B, T, S, D) in [−1, 1], or of ±1 with `signs`, and actions.

    Within the sampler's limits: T is at least `fewest_frames`, and one row has the tokens of all.
    """
    limits, (batch, time, tokens, channels) = sampler_limits(subject), shape
    if limits.single_row:
        batch, tokens = 1, batch * tokens
    return _draw_call(subject, seed, (batch, max(time, limits.fewest_frames), tokens, channels), num_steps, signs)


def _draw_call(
    subject: Subject, seed: int, shape: tuple[int, int, int, int], num_steps: int, signs: bool
) -> SamplerCall:
    rng = input_rng(seed)
    context = subject.round(rng.uniform(-1, 1, shape))
    actions = subject.round(rng.standard_normal((shape[0], shape[1] + 1, ACTION_WIDTH)))
    return SamplerCall(np.sign(context) if signs else context, actions, num_steps, seed)


def trace_sampler(subject: Subject, call: SamplerCall, network: AnalyticNetwork = STEADY) -> SamplerTrace:
    """Run the sampler once, then once more for every recorded call.

    Raises:
        Inconclusive: if the network is called with a batch size different from the context's, or the frame is not
            finite, so that no call can be seen to change it.
    """
    arguments = (network, call.context, call.num_steps, call.seed, call.actions)
    base = subject.sample_frame(*arguments)
    rows = [len(recorded.z) for recorded in base.calls]
    if any(count != len(call.context) for count in rows):
        raise Inconclusive(f"the network is called with {rows} rows for a context of {len(call.context)}")
    if not np.isfinite(base.frame).all():
        raise Inconclusive("the sampled frame is not finite (eq02.endpoint)")
    evaluations: list[Call] = []
    cache_passes: list[Call] = []
    for index, recorded in enumerate(base.calls):

        def change(current: int, offset: np.ndarray, index: int = index) -> np.ndarray:
            moved = np.zeros_like(offset)
            moved[:, -1] = 8.0 * call.num_steps * (current == index)
            return moved

        changed = subject.sample_frame(*arguments, perturb=change).frame
        (cache_passes if np.array_equal(changed, base.frame) else evaluations).append(recorded)
    return SamplerTrace(call, base.frame, evaluations, cache_passes)


def all_step_counts(subject: Subject) -> list[int]:
    """K in {1, 2, 4, …, K_max}."""
    return [2**power for power in range(subject.k_max.bit_length())]


def accepted_step_counts(subject: Subject, largest: int) -> list[int]:
    """K in {1, 2, 4, …} up to K_max and `largest` that the sampler accepts; all of them if it accepts none.

    Only eq02.endpoint requires that it accepts every K.
    """
    counts = [count for count in all_step_counts(subject) if count <= largest]
    return [count for count in counts if accepts_steps(subject, count)] or counts


def accepts_steps(subject: Subject, num_steps: int) -> bool:
    """True if the sampler does not raise for this number of steps."""
    return _try(subject, draw_sampler_call(subject, 0, (1, 1, 1, 1), num_steps)) is not None
