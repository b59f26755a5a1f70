"""Checks of whole models on sequences of several lengths: frames that follow, and frames that the context has left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    Segment,
    Tree,
    example_inputs,
    influences,
    leaves,
    map_leaves,
    run_black_box,
)
from dreamer4_conformance.instruments.dynamics import DYNAMICS, action_delay, call_with, output_names
from dreamer4_conformance.instruments.inputs import moved_by_rounding
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import pattern, signature
from dreamer4_conformance.judging.output_comparison import (
    BUDGET,
    MANY_ROWS,
    constant_outputs,
    fail_unless_close,
    relative_errors,
    undecided_if_constant,
)
from dreamer4_conformance.verdicts import Deviation, NotProvided, OperationFailed

LENGTHS = {5: (2, 3, 4), 9: (2, 8)}
"""Frames of a sequence → frames of its beginnings; a single frame may be an image (A37)."""
LONGEST = {"dev": 64, "ci": 64, "nightly": 512}
"""Largest number of frames in which the reach of the whole model is judged."""


# Frames that follow


@check("net.prefix", needs=DYNAMICS)
def check_predictions_do_not_depend_on_how_many_frames_follow(subject: Subject, trial: Trial) -> None:
    """The first frames of a sequence are predicted alone: z_hat and agent are those of the whole sequence.

    For the beginnings in `LENGTHS`. Budgets: `output_comparison`.
    """
    _fail_unless_prefixes_agree(subject, trial, "dynamics", "z")


@check("net.prefix", needs=("encode", "example"))
def check_latents_do_not_depend_on_how_many_frames_follow(subject: Subject, trial: Trial) -> None:
    """The first frames of a video are encoded alone: their z is that of the whole video. As for `dynamics`."""
    _fail_unless_prefixes_agree(subject, trial, "encode", "video")


@check("net.prefix", needs=("decode", "example"))
def check_decoded_frames_do_not_depend_on_how_many_frames_follow(subject: Subject, trial: Trial) -> None:
    """The first latents of a sequence are decoded alone: their video is that of all latents. As for `dynamics`."""
    _fail_unless_prefixes_agree(subject, trial, "decode", "z")


def _fail_unless_prefixes_agree(subject: Subject, trial: Trial, operation: str, continuous: str) -> None:
    """Deviation unless the beginnings of an example have the outputs that they have in it.

    `continuous` is the input that is moved by a rounding to measure the model's own error. A length that the model does
    not accept is left out; a constant output is not compared, and makes the clause inconclusive if no other one fails.
    """
    constant: set[str] = set()
    for time, beginnings in LENGTHS.items():
        inputs = example_inputs(subject, operation, trial.seed, 2, time)
        by_frame = _inputs_by_frame(subject, operation, inputs)
        moved = {**inputs, continuous: moved_by_rounding(subject, inputs[continuous])}
        with suppress(OperationFailed, NotProvided):
            outputs = run_black_box(subject, operation, inputs)
            many = partial(_many_outputs, subject, operation, trial.seed, time)
            constant |= (same := constant_outputs(subject, outputs, many))
            compared = [name for name in outputs if name not in same]
            for frames in beginnings:
                first = _beginning(inputs, by_frame, frames)
                try:
                    got = run_black_box(subject, operation, first)
                except (OperationFailed, NotProvided):
                    continue
                call = f"{operation} of the first {frames} frames of example({trial.seed}, 2, {time}), and of all"
                for output in compared:
                    name = f"{output} of {frames} frames alone and followed by {time - frames}"
                    beginning = outputs[output][:, :frames]
                    rounded = partial(_rounded, subject, operation, moved, output, frames)
                    if got[output].shape != beginning.shape:
                        raise Deviation(f"{name} have shapes {got[output].shape} and {beginning.shape}", call=call)
                    fail_unless_close(trial, subject, name, got[output], beginning, call, rounded=rounded)
    undecided_if_constant(constant)


def _many_outputs(subject: Subject, operation: str, seed: int, time: int) -> dict[str, np.ndarray]:
    return run_black_box(subject, operation, example_inputs(subject, operation, seed, MANY_ROWS, time))


def _rounded(subject: Subject, operation: str, moved: Mapping[str, Tree], output: str, frames: int) -> np.ndarray:
    """The first frames of an output for inputs that are moved by a rounding."""
    return run_black_box(subject, operation, moved)[output][:, :frames]


def _inputs_by_frame(subject: Subject, operation: str, inputs: Mapping[str, Tree]) -> set[str]:
    """Names of the inputs with a time axis: their shapes change with the number of frames."""
    batch, time = next(iter(leaves(dict(inputs))))[1].shape[:2]
    longer = example_inputs(subject, operation, 0, batch, time + 1)
    shapes = [{name: [x.shape for _, x in leaves(tree)] for name, tree in tree.items()} for tree in (inputs, longer)]
    return {name for name in inputs if shapes[0][name] != shapes[1][name]}


def _beginning(inputs: Mapping[str, Tree], by_frame: set[str], frames: int) -> dict[str, Tree]:
    return {
        name: map_leaves(lambda x: x[:, :frames].copy(), tree) if name in by_frame else tree
        for name, tree in inputs.items()
    }


# Frames that the context has left


@check("attn.window", needs=("layer_kinds", *DYNAMICS))
def check_a_frame_has_no_influence_beyond_the_reach_of_all_time_layers(subject: Subject, trial: Trial) -> None:
    """Inputs of the first two frames are replaced: no frame further than n_time · (C − 1) after them changes. Exact.

    n_time is the number of time layers, C the window of each, the current frame included (A30).
    """
    reach, longest = _reach(subject), LONGEST[trial.profile]
    time = reach + 4
    if time > longest:
        raise NotProvided(f"{time} frames exceed the reach of all time layers; {longest} are run at most")
    names = ("z", "tau", "actions") if subject.readings["A3"] == "sequence" else ("z", "tau", "d", "actions")
    segments = [Segment(name, (t,)) for t in (0, 1) for name in names]
    for seed in (trial.seed, trial.seed + 1):
        try:
            results = influences(subject, "dynamics", segments, seed=seed, time=time)
        except OperationFailed as failed:
            raise NotProvided(f"{time} frames exceed the reach of all time layers: {failed.message}") from failed
        for influence in results:
            segment = influence.segment
            last = segment.index[0] + reach + action_delay(subject, segment)
            for output in output_names({segment: influence}):
                leaks = np.flatnonzero(influence.frames(output)[last + 1 :]) + last + 1
                change = f"frame {leaks[:1].sum()} of {output} changes with {segment}"
                sentence = f"{change}; windows of {subject.window} frames in all time layers reach frame {last}"
                trial.fail_unless(not leaks.size, sentence, call=call_with(segment, time))


def _reach(subject: Subject) -> int:
    """Frames after a frame that can change with it, n_time · (C − 1). NotProvided without a window."""
    if subject.window is None:
        raise NotProvided("time layers have no window (`context_frames`)")
    kinds: Sequence[str] = subject.call("layer_kinds")
    return sum(kind != "space" for kind in kinds) * (subject.window - 1)


# Signatures


@signature("dynamics")
def signature_length_and_reach_of_the_dynamics(subject: Subject) -> np.ndarray:
    """Whether two frames alone are as in a sequence of five; whether a frame moves the first beyond its reach."""
    return pattern(lambda: _prefix_agrees(subject, "dynamics"), lambda: _exceeds_reach(subject))


@signature("encode")
def signature_length_of_the_encoder(subject: Subject) -> np.ndarray:
    """Whether two frames alone are encoded as in a video of five."""
    return pattern(lambda: _prefix_agrees(subject, "encode"))


@signature("decode")
def signature_length_of_the_decoder(subject: Subject) -> np.ndarray:
    """Whether two frames alone are decoded as in a sequence of five."""
    return pattern(lambda: _prefix_agrees(subject, "decode"))


def _prefix_agrees(subject: Subject, operation: str) -> bool:
    inputs = example_inputs(subject, operation, 9, 2, 5)
    first = _beginning(inputs, _inputs_by_frame(subject, operation, inputs), 2)
    got, expected = (run_black_box(subject, operation, x) for x in (first, inputs))
    budget = 4 * BUDGET[subject.adapter.dtype]
    return all((relative_errors(got[name], x[:, :2]) <= budget).all() for name, x in expected.items())


def _exceeds_reach(subject: Subject) -> bool:
    reach = _reach(subject)
    if reach + 2 > LONGEST["ci"]:
        raise NotProvided("too many frames")
    (first,) = influences(subject, "dynamics", [Segment("z", (0,))], seed=9, time=reach + 2)
    return bool(first.frames("z_hat")[-1])
