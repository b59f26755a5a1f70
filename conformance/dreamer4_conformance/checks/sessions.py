"""Checks of repeated use: equal calls, and cached sessions one after the other and in turn."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from dreamer4_conformance.instruments.black_box import Tree, example_inputs
from dreamer4_conformance.instruments.dynamics import DYNAMICS
from dreamer4_conformance.instruments.stepwise import (
    DecoderSession,
    DynamicsSession,
    Session,
    joined,
    next_frames,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, pattern, signature
from dreamer4_conformance.judging.output_comparison import (
    BUDGET,
    MANY_ROWS,
    constant_outputs,
    fail_unless_close,
    relative_errors,
    undecided_if_constant,
)
from dreamer4_conformance.judging.repeatability import (
    WITH_DYNAMICS,
    WITHOUT_DYNAMICS,
    largest_difference,
    unrepeatable,
)
from dreamer4_conformance.verdicts import Deviation, NotProvided, OperationFailed

FRAMES = 4
"""Frames of each session."""


@check("net.repeatable", needs=DYNAMICS)
def check_equal_calls_of_the_dynamics_have_equal_outputs(subject: Subject, trial: Trial) -> None:
    """`dynamics`, its cached steps, heads and rollouts are called three times with equal arguments.

    The outputs agree within the dtype's budget, although the global random states differ between the calls, as they do
    in use. An operation that raises is left to its own clauses.
    """
    _fail_unless_repeatable(subject, trial, WITH_DYNAMICS)


@check("net.repeatable", needs=("example",), needs_one=WITHOUT_DYNAMICS)
def check_equal_calls_of_tokenizer_and_layers_have_equal_outputs(subject: Subject, trial: Trial) -> None:
    """Encoder, decoder and layers are called three times with equal arguments, as the dynamics are."""
    _fail_unless_repeatable(subject, trial, WITHOUT_DYNAMICS)


def _fail_unless_repeatable(subject: Subject, trial: Trial, operations: Iterable[str]) -> None:
    for operation in filter(subject.provides, operations):
        sentence, bound = unrepeatable(subject, operation), BUDGET[subject.adapter.dtype]
        trial.cases += 1
        if sentence is not None:
            call = f"{operation}(…), three times with equal arguments; a torch module needs .eval()"
            raise Deviation(sentence, call=call, error=subject.differences[operation], bound=bound)


@check("net.sessions", needs=("dynamics_init", "dynamics_step", "example"))
def check_sessions_of_the_dynamics_are_independent(subject: Subject, trial: Trial) -> None:
    """Two sessions step in turn, then the first restarts: each has the outputs that it has alone, z_hat and agent.

    The second session starts one frame later, with other inputs, and in a second round with one sequence instead of
    two. Budgets: `output_comparison`.
    """
    _fail_unless_independent(subject, trial, DynamicsSession, "dynamics")


@check("net.sessions", needs=("decode_init", "decode_step", "example"))
def check_sessions_of_the_decoder_are_independent(subject: Subject, trial: Trial) -> None:
    """Two sessions of the decoder step in turn, then the first restarts: each has the video that it has alone.

    As for the dynamics. Budgets: `output_comparison`.
    """
    _fail_unless_independent(subject, trial, DecoderSession, "decode")


def _fail_unless_independent(subject: Subject, trial: Trial, session: type[Session], source: str) -> None:
    first = example_inputs(subject, source, trial.seed, 2, FRAMES + 1)
    alone = next_frames(session(subject, first), FRAMES)

    def alone_for_many() -> dict[str, np.ndarray]:
        many = example_inputs(subject, source, trial.seed, MANY_ROWS, FRAMES + 1)
        return next_frames(session(subject, many), FRAMES)

    constant = constant_outputs(subject, alone, alone_for_many)
    varied = [name for name in alone if name not in constant]
    for batch in (2, 1):
        second = example_inputs(subject, source, trial.seed + 1, batch, FRAMES + 1)
        try:
            second_alone = next_frames(session(subject, second), FRAMES)
        except (NotProvided, OperationFailed):
            if batch == 1:  # net.incremental and tok.causal judge one sequence
                continue
            raise
        in_turn = _in_turn(session(subject, first), session, subject, second)
        call = f"{session.operation}, for 2 and for {batch} sequences in turn"
        for name, got, expected in (("first", in_turn[0], alone), ("second", in_turn[1], second_alone)):
            sentence = f"of the {name} of two sessions in turn and alone"
            _fail_unless_equal(subject, trial, sentence, got, expected, varied, call)
        restarted = next_frames(session(subject, first), FRAMES)
        call = f"{session.operation}, after sessions with other inputs"
        _fail_unless_equal(subject, trial, "of a new session and of the first one", restarted, alone, varied, call)
    undecided_if_constant(constant)


def _in_turn(
    first: Session, session: type[Session], subject: Subject, inputs: Mapping[str, Tree]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs of two sessions; the second starts after the first frame of the first."""
    steps = [first.step()]
    second, later = session(subject, inputs), []
    for _ in range(FRAMES - 1):
        later.append(second.step())
        steps.append(first.step())
    later.append(second.step())
    return joined(steps), joined(later)


def _fail_unless_equal(
    subject: Subject,
    trial: Trial,
    name: str,
    got: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    outputs: Collection[str],
    call: str,
) -> None:
    for output in outputs:
        x = expected[output]
        fail_unless_close(trial, subject, f"{output} {name}", got[output], x, call)


# Signatures


@signature("dynamics_step")
def signature_sessions_of_the_dynamics(subject: Subject) -> np.ndarray:
    """Whether sessions in turn and a new session have the outputs of a session alone."""
    return attempt(lambda: _sessions_equal(subject, DynamicsSession, "dynamics"), 3)


@signature("decode_step")
def signature_sessions_of_the_decoder(subject: Subject) -> np.ndarray:
    """Whether sessions in turn and a new session have the outputs of a session alone."""
    return attempt(lambda: _sessions_equal(subject, DecoderSession, "decode"), 3)


def _sessions_equal(subject: Subject, session: type[Session], source: str) -> np.ndarray:
    inputs = [example_inputs(subject, source, seed, 2, FRAMES + 1) for seed in (20, 21)]
    alone = [next_frames(session(subject, x), FRAMES) for x in inputs]
    in_turn = _in_turn(session(subject, inputs[0]), session, subject, inputs[1])
    pairs = [*zip(in_turn, alone, strict=True), (next_frames(session(subject, inputs[0]), FRAMES), alone[0])]
    budget = 4 * BUDGET[subject.adapter.dtype]
    return np.array([all((relative_errors(x[n], y[n]) <= budget).all() for n in y) for x, y in pairs], float)


@signature("encode")
def signature_repeated_calls_of_the_encoder(subject: Subject) -> np.ndarray:
    """Whether equal calls agree."""
    return pattern(lambda: largest_difference(subject, "encode") <= BUDGET[subject.adapter.dtype])


@signature("dynamics")
def signature_repeated_calls_of_the_dynamics(subject: Subject) -> np.ndarray:
    """Whether equal calls agree."""
    return pattern(lambda: largest_difference(subject, "dynamics") <= BUDGET[subject.adapter.dtype])
