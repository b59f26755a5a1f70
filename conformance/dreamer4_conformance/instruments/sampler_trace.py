"""Which recorded calls of a sampler are denoising evaluations: those whose output moves the frame.

They are found by changing the output of one call at a time, on the frame that is generated, under the same seed. A
call whose output changes nothing that is returned is a prefill or commit pass of a cache; it is not counted among the
evaluations.
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
    """Keeps a share of its input at every label, so that every evaluation, the first too, reaches the frame.

    With `keep` = 0.1 and noise below 8 its outputs stay inside (−1, 1), where a tanh leaves data: there a sampler that
    clamps does what one does that does not.
    """

    keep: float = 0.1
    reach: float = 0.2

    def coefficients(
        self, tau: np.ndarray, d: np.ndarray, actions: np.ndarray | None, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """gain (N, T, 1, 1), the same everywhere, and the offset of the analytic network, squashed."""
        gain, offset = super().coefficients(tau, d, actions, shape)
        return np.full_like(gain, self.keep), self.reach * np.tanh(offset / self.reach)


STEADY = SteadyNetwork()
LOUD = SteadyNetwork(keep=0.6, reach=8.0)
"""Tells start noises and predictions further apart; its outputs leave (−1, 1)."""


@dataclass(frozen=True)
class SamplerCall:
    """One call of `sample_frame`: context (B, T, S, D), actions (B, T + 1, A)."""

    context: np.ndarray
    actions: np.ndarray
    num_steps: int
    seed: int

    def __str__(self) -> str:
        """The call as a reader would write it."""
        shape = "x".join(map(str, self.context.shape))
        return f"sample_frame(network, context of {shape} (B, T, S, D), {self.num_steps}, {self.seed}, actions)"


@dataclass(frozen=True)
class SamplerTrace:
    """What a sampler did: the frame (B, S, D), its denoising evaluations, the other calls;
    all with the rows of the context.
    """

    sampler_call: SamplerCall
    frame: np.ndarray
    evaluations: list[Call]
    cache_passes: list[Call]

    @property
    def inputs(self) -> list[np.ndarray]:
        """The generated frame (B, S, D) as each evaluation received it."""
        return [call.z[:, -1] for call in self.evaluations]

    @property
    def labels(self) -> list[float]:
        """The signal level at which each evaluation was told that the frame is, in the first row."""
        return [float(call.tau[0, -1]) for call in self.evaluations]


def draw_sampler_call(
    subject: Subject, seed: int, shape: tuple[int, int, int, int], num_steps: int, *, signs: bool = False
) -> SamplerCall:
    """Context in [−1, 1], where a tanh leaves it, or of ±1; and actions."""
    rng = input_rng(seed)
    context = subject.round(rng.uniform(-1, 1, shape))
    actions = subject.round(rng.standard_normal((shape[0], shape[1] + 1, ACTION_WIDTH)))
    return SamplerCall(np.sign(context) if signs else context, actions, num_steps, seed)


def trace_sampler(subject: Subject, given: SamplerCall, network: AnalyticNetwork = STEADY) -> SamplerTrace:
    """Samples once, then once more for every call. Inconclusive where calls have other rows than the context."""
    arguments = (network, given.context, given.num_steps, given.seed, given.actions)
    base = subject.sample_frame(*arguments)
    if any(len(call.z) != len(given.context) for call in base.calls):
        rows = [len(call.z) for call in base.calls]
        raise Inconclusive(f"the network is called with {rows} rows for a context of {len(given.context)}")
    moving: list[Call] = []
    still: list[Call] = []
    for index, call in enumerate(base.calls):

        def change(current: int, offset: np.ndarray, index: int = index) -> np.ndarray:
            moved = np.zeros_like(offset)
            moved[:, -1] = 8.0 * given.num_steps * (current == index)
            return moved

        changed = subject.sample_frame(*arguments, perturb=change).frame
        (still if np.array_equal(changed, base.frame) else moving).append(call)
    return SamplerTrace(given, base.frame, moving, still)


def min_context_frames(subject: Subject) -> int:
    """0, or 1 where the adapter says by NotProvided that its sampler needs a context."""
    given = draw_sampler_call(subject, 0, (1, 0, 1, 1), accepted_step_counts(subject, subject.k_max)[0])
    try:
        subject.sample_frame(STEADY, given.context, given.num_steps, given.seed, given.actions)
    except NotProvided:
        return 1
    return 0


def all_step_counts(subject: Subject) -> list[int]:
    """K in {1, 2, 4, …, K_max}."""
    return [2**power for power in range(subject.k_max.bit_length())]


def accepted_step_counts(subject: Subject, largest: int) -> list[int]:
    """K in {1, 2, 4, …}, up to K_max and to `largest`, that the sampler takes; all of them where it takes none.

    That it must take every K is for eq02.endpoint to say, and for no other clause.
    """
    counts = [count for count in all_step_counts(subject) if count <= largest]
    return [count for count in counts if accepts_steps(subject, count)] or counts


def accepts_steps(subject: Subject, num_steps: int) -> bool:
    """Whether the sampler takes this number of steps."""
    given = draw_sampler_call(subject, 0, (1, 1, 1, 1), num_steps)
    try:
        subject.sample_frame(STEADY, given.context, num_steps, given.seed, given.actions)
    except OperationFailed:
        return False
    return True
