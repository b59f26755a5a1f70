"""Recorded calls of a sampler: denoising evaluations, whose output changes the frame, and cache passes.

The sampler runs once more per call under the same seed, with that call's output at the generated frame changed. A call
whose output does not affect the result is a prefill or commit pass of a cache, not a denoising evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.instruments.inputs import ACTION_WIDTH, input_rng
from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call
from dreamer4_conformance.instruments.subject import Subject
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


def draw_sampler_call(
    subject: Subject, seed: int, shape: tuple[int, int, int, int], num_steps: int, *, signs: bool = False
) -> SamplerCall:
    """Draw a context (B, T, S, D) in [−1, 1], or of ±1 with `signs`, and actions."""
    rng = input_rng(seed)
    context = subject.round(rng.uniform(-1, 1, shape))
    actions = subject.round(rng.standard_normal((shape[0], shape[1] + 1, ACTION_WIDTH)))
    return SamplerCall(np.sign(context) if signs else context, actions, num_steps, seed)


def trace_sampler(subject: Subject, call: SamplerCall, network: AnalyticNetwork = STEADY) -> SamplerTrace:
    """Run the sampler once, then once more for every recorded call.

    Raises:
        Inconclusive: if the network is called with a batch size different from the context's.
    """
    arguments = (network, call.context, call.num_steps, call.seed, call.actions)
    base = subject.sample_frame(*arguments)
    rows = [len(recorded.z) for recorded in base.calls]
    if any(count != len(call.context) for count in rows):
        raise Inconclusive(f"the network is called with {rows} rows for a context of {len(call.context)}")
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


def min_context_frames(subject: Subject) -> int:
    """0, or 1 if the sampler raises NotProvided for an empty context."""
    call = draw_sampler_call(subject, 0, (1, 0, 1, 1), accepted_step_counts(subject, subject.k_max)[0])
    try:
        subject.sample_frame(STEADY, call.context, call.num_steps, call.seed, call.actions)
    except NotProvided:
        return 1
    return 0


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
    call = draw_sampler_call(subject, 0, (1, 1, 1, 1), num_steps)
    try:
        subject.sample_frame(STEADY, call.context, num_steps, call.seed, call.actions)
    except (OperationFailed, NotProvided):
        return False
    return True
