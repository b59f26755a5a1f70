"""Equal calls of an operation: by how much their outputs differ, and the clauses that this leaves undecided.

The global random states differ between the calls, so that a dropout that is left on shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

import numpy as np

from dreamer4_conformance.instruments.black_box import example_inputs, run_black_box
from dreamer4_conformance.instruments.stepwise import (
    DecoderSession,
    DynamicsSession,
    next_frames,
    rollout_frames,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.output_comparison import BUDGET, relative_errors
from dreamer4_conformance.verdicts import Inconclusive, NotProvided, OperationFailed

SESSIONS = {"dynamics_step": ("dynamics", DynamicsSession), "decode_step": ("decode", DecoderSession)}
WITH_DYNAMICS = ("dynamics", "image_dynamics", "dynamics_step", "mtp_heads", "rollout")
WITHOUT_DYNAMICS = ("encode", "decode", "reconstruct", "decode_step", "space_layer", "time_layer")
"""Operations whose equal calls are compared."""
USED = {"mtp_heads": ("dynamics", "mtp_heads"), "rollout": ("dynamics", "rollout")}
"""Operation → operations whose outputs its own depend on, if other than itself."""
BATCH, TIME, CALLS = 2, 3, 3


def outputs_of_call(subject: Subject, operation: str, random_state: int) -> dict[str, np.ndarray]:
    """Outputs of an operation for a fixed example, with the global random states at `random_state`.

    A rollout takes a seed, from which it may seed the global random states, so these are the same in all its calls.
    """
    if operation in SESSIONS:
        source, session = SESSIONS[operation]
        inputs = example_inputs(subject, source, 0, BATCH, TIME)
        return next_frames(session(subject, inputs, random_state), TIME)
    inputs = example_inputs(subject, "dynamics" if operation == "mtp_heads" else operation, 0, BATCH, TIME)
    if operation == "mtp_heads":
        agent = run_black_box(subject, "dynamics", inputs).get("agent")
        if agent is None:
            raise NotProvided("dynamics returns no agent output")
        heads = subject.call("mtp_heads", subject.native(agent), seeded=random_state)
        return {"heads": subject.read("mtp_heads", heads)}
    if operation == "rollout":
        return {"z": rollout_frames(subject, inputs, TIME - 1, seed=0, cache=False, num_steps=1)}
    return run_black_box(subject, operation, inputs, random_state=random_state)


def largest_difference(subject: Subject, operation: str) -> float:
    """Largest relative difference of the outputs of `CALLS` equal calls; 0 if both have NaN or infinity there."""
    first, *later = (outputs_of_call(subject, operation, state) for state in range(CALLS))
    if operation in SESSIONS and _difference(first, outputs_of_call(subject, operation, 0)) > 0:
        return 0.0  # a new session depends on the sessions before it, which net.sessions judges
    return max(_difference(first, outputs) for outputs in later)


def _difference(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> float:
    pairs = ((np.nan_to_num(second[name]), np.nan_to_num(x)) for name, x in first.items())
    return max(float(relative_errors(*pair).max(initial=0.0)) for pair in pairs)


def unrepeatable(subject: Subject, operation: str) -> str | None:
    """The sentence that equal calls of an operation differ by more than the dtype's budget; None if they agree.

    None for an operation that is not provided or raises, which other clauses judge.
    """
    if operation not in subject.differences:
        subject.differences[operation] = 0.0
        if subject.provides(operation):
            with suppress(OperationFailed, NotProvided, Inconclusive):
                subject.differences[operation] = largest_difference(subject, operation)
    difference = subject.differences[operation]
    if difference <= BUDGET[subject.adapter.dtype]:
        return None
    return f"equal calls of {operation} differ by {difference:.2g} of the output's size: is dropout on, as in training?"


def undecided_by_repeatability(subject: Subject, operations: Iterable[str]) -> str | None:
    """Why a clause that needs these operations cannot be decided; None if their equal calls agree."""
    used = dict.fromkeys(name for operation in operations for name in USED.get(operation, (operation,)))
    sentences = (unrepeatable(subject, name) for name in used if name in (*WITH_DYNAMICS, *WITHOUT_DYNAMICS))
    reason = next(filter(None, sentences), None)
    return None if reason is None else f"follows from net.repeatable: {reason}"
