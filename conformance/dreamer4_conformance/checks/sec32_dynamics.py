"""Checks of the dynamics as a black box, Sec. 3.2: the inputs that its outputs must and must not depend on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    Influence,
    Segment,
    action_components,
    at_frame,
    combined_influences,
    example_inputs,
    influences,
    run_black_box,
    selected_rows,
    spread_positions,
    undecided_unless_recurring,
)
from dreamer4_conformance.instruments.dynamics import (
    DYNAMICS,
    MASK,
    TIME,
    WORLD_TOKENS,
    Influences,
    adapter_mask,
    call_with,
    dynamics_mask,
    frame_mask,
    inputs_of_frames,
    missing_influences,
    output_names,
    spatial_tokens_moved,
    undecided_unless_mixed,
    undecided_unless_z_hat_moves,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence, fail_unless_mask_follows_reference
from dreamer4_conformance.verdicts import NotProvided, OperationFailed

# Sec. 3.4: causality

LENGTHS = (2, 9)
"""Frames of further sequences in which leaks of later frames are looked for."""


@check("attn.causal", needs=DYNAMICS)
def check_no_frame_depends_on_a_later_one(subject: Subject, trial: Trial) -> None:
    """An input of one frame is replaced: no earlier frame of any output changes, each later frame of z_hat does. Exact.

    Later frames are those inside the context. Earlier frames that the agent token must depend on are judged by
    dyn.agent-firewall. Leaks are also looked for in sequences of other lengths, where the model accepts them.
    """
    segments = inputs_of_frames(subject, TIME)

    def complete(results: Influences) -> bool:
        return not list(missing_influences(subject, results, "z_hat", TIME))

    observe = partial(combined_influences, subject, "dynamics", segments, complete, seed=trial.seed, time=TIME)
    results = observe()
    undecided_unless_z_hat_moves(results)
    _fail_unless_causal(trial, results, observe, TIME)
    for segment, frame in missing_influences(subject, results, "z_hat", TIME):
        if frame > segment.index[0]:
            source = f"{segment.path} of frame {segment.index[0]}, which is inside its context"
            sentence = f"frame {frame} of z_hat does not change with {source}"
            fail_unless_influence(trial, subject, False, sentence, call=call_with(segment, TIME))
    for time in LENGTHS:
        with suppress(OperationFailed, NotProvided):  # other clauses judge whether the model accepts a length
            frames = spread_positions(time)
            segments = [segment for segment in inputs_of_frames(subject, time) if segment.index[0] in frames[1:]]
            observe = partial(
                combined_influences, subject, "dynamics", segments, lambda _: True, seed=trial.seed, time=time
            )
            _fail_unless_causal(trial, observe(), observe, time)


def _fail_unless_causal(trial: Trial, results: Influences, observe: Callable[[], Influences], time: int) -> None:
    """Deviation if an output of an earlier frame changes with an input; `observe` repeats the experiment."""
    for output, (segment, influence) in product(output_names(results), results.items()):
        leaks = np.flatnonzero(influence.frames(output)[: segment.index[0]])
        if leaks.size:
            undecided_unless_recurring(results, observe)
        changes = f"frame {leaks[:1].sum()} of {output} changes with {segment.path} of frame {segment.index[0]}"
        trial.fail_unless(not leaks.size, f"{changes}, which is later", call=call_with(segment, time))


# Tokens of a frame


@check("net.space-full", needs=DYNAMICS)
def check_every_token_of_a_frame_depends_on_every_other(subject: Subject, trial: Trial) -> None:
    """A spatial token, τ, d or the actions of the last of two frames is replaced: every token of it must change.

    Nothing that is replaced in the last frame can reach its tokens through another frame.
    """
    delayed = subject.readings["A32"] == "current"
    segments = [segment for segment in _inputs_of_last_frame(subject) if not (delayed and segment.path == "actions")]

    def complete(results: Influences) -> bool:
        return all(spatial_tokens_moved(influence, -1).all() for influence in results.values())

    results = combined_influences(subject, "dynamics", segments, complete, seed=trial.seed, time=2)
    undecided_unless_mixed(results, segments[0])
    for segment, influence in results.items():
        missing = np.flatnonzero(~spatial_tokens_moved(influence, -1))
        sentence = f"token {missing[:1].sum()} of z_hat does not change with {segment} of its frame"
        fail_unless_influence(trial, subject, not missing.size, sentence, call=call_with(segment, 2))


def _inputs_of_last_frame(subject: Subject) -> list[Segment]:
    """Some tokens of z, τ, d and the actions of frame 1 of two; d of the whole sequence if it is drawn so (A3)."""
    tokens = example_inputs(subject, "dynamics", 0, 2, 2)["z"].shape[2]
    d = Segment("d") if subject.readings["A3"] == "sequence" else Segment("d", (1,))
    return [
        *(Segment("z", (1, s)) for s in spread_positions(tokens)),
        Segment("tau", (1,)),
        d,
        Segment("actions", (1,)),
    ]


@check("dyn.registers", needs=DYNAMICS)
def check_prediction_has_the_shape_of_z(subject: Subject, trial: Trial) -> None:
    """z_hat holds the spatial tokens only, so it has the shape of z, for two batch sizes and lengths. Exact.

    Only for a model that declares register tokens: without them the shape says nothing about them.
    """
    _require_registers(subject)
    for batch, time in ((2, 3), (3, 2)):
        inputs = example_inputs(subject, "dynamics", trial.seed, batch, time)
        got, expected = run_black_box(subject, "dynamics", inputs)["z_hat"].shape, inputs["z"].shape
        sentence = f"z_hat has shape {got}; it needs that of z, {expected}: its spatial tokens and nothing else"
        trial.fail_unless(got == expected, sentence, call=f"dynamics(**example({trial.seed}, {batch}, {time}))")


def _require_registers(subject: Subject) -> None:
    """NotProvided unless the model has register tokens: by its declaration, or by the mask that knows them."""
    count = subject.adapter.registers
    if count == 0 or (count is None and not subject.provides("modality_mask")):
        raise NotProvided(f"registers = {count}; declare the number of register tokens if `dynamics` has any")
    if count is None:
        dynamics_mask(subject, WORLD_TOKENS)


# The mask of the dynamics


@check("net.space-full", needs_one=MASK)
def check_mask_joins_all_tokens_of_a_frame(subject: Subject, trial: Trial) -> None:
    """Within a frame spatial tokens, label and actions attend to each other. Exact."""
    names = ("latent", "label", "action")
    fail_unless_mask_follows_reference(subject, trial, names, names)


@check("dyn.registers", needs_one=MASK)
def check_mask_joins_registers_to_their_frame(subject: Subject, trial: Trial) -> None:
    """Within a frame registers attend to all tokens, and all tokens to registers. Exact."""
    _require_registers(subject)
    fail_unless_mask_follows_reference(subject, trial, WORLD_TOKENS, ("register",))


@check("attn.causal", needs=("modality_mask",))
def check_mask_hides_later_frames(subject: Subject, trial: Trial) -> None:
    """No token attends to a later frame. Exact."""
    fail_unless_mask_follows_reference(subject, trial, ("latent", "label", "action"), (), later=True)


# Signatures


@signature("dynamics")
def signature_frames_that_inputs_move(subject: Subject) -> np.ndarray:
    """Which of three frames of z_hat and agent change with z, τ, d and the actions of each frame, and with the task.

    Without the action of block 0, so that the vector has one length under all readings (A32). Then whether the last of
    nine frames changes earlier ones.
    """
    names = [(name, t) for t in range(3) for name in ("z", "tau", "d", "actions")]
    segments = [Segment(name, (t,)) for name, t in names if name != "actions" or t > 0]
    segments.append(Segment("task"))

    def probe() -> np.ndarray:
        results = {result.segment: result for result in influences(subject, "dynamics", segments, seed=1, time=3)}
        return np.concatenate(
            [_frames_moved(results.get(s), output) for s in segments for output in ("z_hat", "agent")]
        )

    def leaks() -> bool:
        (last,) = influences(subject, "dynamics", [Segment("z", (8,))], seed=1, time=9)
        return bool(last.frames("z_hat")[:8].any())

    return np.concatenate([attempt(probe, 6 * len(segments)), attempt(leaks, 1)])


def _frames_moved(influence: Influence | None, output: str) -> np.ndarray:
    if influence is None or output not in influence.moved:
        return np.full(3, -1.0)
    return influence.frames(output).astype(float)


@signature("dynamics")
def signature_tokens_components_and_clips(subject: Subject) -> np.ndarray:
    """The flags of `_tokens_and_components` and of `_five_clips`."""
    flags = attempt(lambda: _tokens_and_components(subject), 2)
    return np.concatenate([flags, attempt(lambda: _five_clips(subject), 8)])


def _tokens_and_components(subject: Subject) -> np.ndarray:
    """Whether each spatial token of a frame changes all its tokens, and each action component of frame 1 any frame."""
    spatial = [segment for segment in _inputs_of_last_frame(subject) if segment.path == "z"]
    actions = [at_frame(component, 1) for component in action_components(subject, 3)]
    results = influences(subject, "dynamics", spatial, seed=2, time=2)
    full = all(spatial_tokens_moved(result, -1).all() for result in results)
    results = influences(subject, "dynamics", actions, seed=2, time=3)
    return np.array([full, all(result.moved["z_hat"].any() for result in results)], float)


def _five_clips(subject: Subject) -> np.ndarray:
    """Which of five clips, two of them labelled, change with the actions; the shape of z_hat.

    Then whether a reversed batch and the first clip alone have the same z_hat, within a tenth.
    """
    labelled = np.array([True, False, False, True, False])
    inputs = {**example_inputs(subject, "dynamics", 4, 5, 3), "labelled": labelled}
    replaced = {**inputs, "actions": example_inputs(subject, "dynamics", 1013, 5, 3)["actions"]}
    selections = (np.arange(5)[::-1], np.zeros(1, int))
    rows = [selected_rows(inputs, i) for i in selections]
    z_hat, after, *selected = (run_black_box(subject, "dynamics", x)["z_hat"] for x in (inputs, replaced, *rows))
    same = [np.allclose(got, z_hat[i], rtol=0.1, atol=0.1) for got, i in zip(selected, selections, strict=True)]
    return np.array([*(z_hat != after).reshape(5, -1).any(1), z_hat.shape == inputs["z"].shape, *same], float)


@signature("modality_mask")
def signature_mask_of_two_frames(subject: Subject) -> np.ndarray:
    """Entries of the dynamics mask that the paper decides: from the first frame, and its agent for the second frame."""
    frame = ["latent", *WORLD_TOKENS, "agent"]

    def probe() -> np.ndarray:
        got = adapter_mask(subject, "dynamics", frame * 2, np.repeat([0, 1], 6))
        return np.concatenate([got[:6].ravel(), got[6:11, 5]]).astype(float)

    return attempt(probe, 77)


@signature("space_mask")
def signature_mask_of_one_frame(subject: Subject) -> np.ndarray:
    """Entries of the dynamics mask for a frame without registers and agent, which some models lack."""
    frame = ["latent", "latent", "label", "action", "action"]
    return attempt(lambda: frame_mask(subject, "dynamics", frame), len(frame) ** 2)
