"""Checks of the dynamics as a black box, Sec. 3.2: the inputs that its outputs must and must not depend on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product

import numpy as np

from dreamer4_conformance.instruments.black_box import (
    INFLUENCE_EXAMPLES,
    Influence,
    Segment,
    Tree,
    action_components,
    at_frame,
    combined_influences,
    example_inputs,
    influences,
    map_leaves,
    run_black_box,
    spread_positions,
    undecided_unless_recurring,
    undecided_unless_repeatable,
    varies,
)
from dreamer4_conformance.instruments.dynamics import (
    DYNAMICS,
    MASK,
    TIME,
    WORLD_TOKENS,
    Influences,
    action_delay,
    adapter_mask,
    call_with,
    inputs_of_frames,
    missing_influences,
    output_names,
    undecided_unless_z_hat_moves,
)
from dreamer4_conformance.instruments.inputs import moved_by_rounding
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence, fail_unless_mask_follows_reference
from dreamer4_conformance.judging.output_comparison import fail_unless_close
from dreamer4_conformance.verdicts import Inconclusive

# Sec. 3.4: causality


@check("attn.causal", needs=DYNAMICS)
def check_no_frame_depends_on_a_later_one(subject: Subject, trial: Trial) -> None:
    """An input of one frame is replaced: no earlier frame of any output changes, each later frame of z_hat does. Exact.

    Later frames are those inside the context. Earlier frames that the agent token must depend on are judged by
    dyn.agent-firewall.
    """
    segments = inputs_of_frames(subject, TIME)

    def complete(results: Influences) -> bool:
        return not list(missing_influences(subject, results, "z_hat", TIME))

    observe = partial(combined_influences, subject, "dynamics", segments, complete, seed=trial.seed, time=TIME)
    results = observe()
    undecided_unless_z_hat_moves(results)
    for output, (segment, influence) in product(output_names(results), results.items()):
        leaks = np.flatnonzero(influence.frames(output)[: segment.index[0]])
        if leaks.size:
            undecided_unless_recurring(results, observe)
        changes = f"frame {leaks[:1].sum()} of {output} changes with {segment.path} of frame {segment.index[0]}"
        trial.fail_unless(not leaks.size, f"{changes}, which is later", call=call_with(segment, TIME))
    for segment, frame in missing_influences(subject, results, "z_hat", TIME):
        if frame > segment.index[0]:
            source = f"{segment.path} of frame {segment.index[0]}, which is inside its context"
            sentence = f"frame {frame} of z_hat does not change with {source}"
            fail_unless_influence(trial, subject, False, sentence, call=call_with(segment, TIME))


# Sec. 3.2: labels and actions


def conditions(subject: Subject, time: int) -> list[Segment]:
    """τ, d and the actions of each frame, then each action component in the last frame in which it has an effect."""
    d = [Segment("d")] if subject.readings["A3"] == "sequence" else [Segment("d", (t,)) for t in range(time)]
    labels = [*(Segment("tau", (t,)) for t in range(time)), *d, *(Segment("actions", (t,)) for t in range(time))]
    last = time - 1 - action_delay(subject, Segment("actions"))
    inputs = example_inputs(subject, "dynamics", 0, 1, time)
    return [*labels, *(at_frame(component, last) for component in action_components(inputs))]


def moves_its_frame(subject: Subject, segment: Segment, influence: Influence) -> bool:
    """Whether a segment changes z_hat of its frame; of the next one for an action that leads to it (A32)."""
    moved = influence.frames("z_hat")
    if not segment.index:
        return bool(moved.all())
    t, delay = int(segment.index[0]), action_delay(subject, segment)
    return bool(moved[t : t + 1 + delay].any()) or t + delay >= len(moved)


@check("dyn.conditioning", needs=DYNAMICS)
def check_prediction_depends_on_every_label_and_action(subject: Subject, trial: Trial) -> None:
    """τ, d, the actions or one action component of a frame is replaced: z_hat of that frame must change.

    Inconclusive for what is the same in every example.
    """
    segments = [*conditions(subject, 3), Segment("z", (0, 0))]

    def complete(results: Influences) -> bool:
        return all(moves_its_frame(subject, segment, influence) for segment, influence in results.items())

    results = combined_influences(subject, "dynamics", segments, complete, seed=trial.seed, time=3)
    _undecided_unless_mixed(results)
    for segment, influence in results.items():
        output = f"frame {segment.index[0]} of z_hat" if segment.index else "z_hat"
        sentence, moves = f"{output} does not change with {segment}", moves_its_frame(subject, segment, influence)
        fail_unless_influence(trial, subject, moves, sentence, call=call_with(segment, 3))
    fixed = [str(segment) for segment in segments if segment not in results and not _is_action(segment)]
    fixed += [] if _has_actions(subject) == any(map(_is_action, results)) else ["actions"]
    if fixed:
        trial.inconclusive(f"every example has the same {', '.join(fixed)}: no influence can be observed")


def _has_actions(subject: Subject) -> bool:
    return bool(action_components(example_inputs(subject, "dynamics", 0, 1, 3)))


def _is_action(segment: Segment) -> bool:
    return segment.path.startswith("actions")


def _undecided_unless_mixed(results: Influences) -> None:
    """Inconclusive if no token of z_hat depends on another token: output projections of attention may be zero."""
    token = results.get(Segment("z", (0, 0)))
    mixed = token is not None and (_tokens_moved(token)[1:].any() or token.frames("z_hat")[1:].any())
    if not mixed and not any(result.moved["z_hat"].any() for segment, result in results.items() if segment.path != "z"):
        raise Inconclusive("no token of z_hat depends on another token: are all of the parameters random?")


def _tokens_moved(influence: Influence, frame: int = 0) -> np.ndarray:
    """bool (S,): the tokens of one frame of z_hat in which anything changed."""
    moved = influence.moved["z_hat"][frame]
    return np.asarray(moved.reshape(len(moved), -1).any(1))


@check("dyn.conditioning", needs=DYNAMICS)
def check_each_sequence_has_its_own_labels(subject: Subject, trial: Trial) -> None:
    """Permuting the batch permutes the outputs, for B ≠ T and B = T. Budgets: `output_comparison`."""
    for batch, time in ((3, 2), (3, 3), (2, 3)):
        inputs, order = example_inputs(subject, "dynamics", trial.seed, batch, time), np.roll(np.arange(batch), 1)
        outputs = run_black_box(subject, "dynamics", inputs)
        permuted = run_black_box(subject, "dynamics", map_leaves(partial(np.take, indices=order, axis=0), inputs))
        call = f"dynamics(**example({trial.seed}, {batch}, {time}))"
        for output, expected in outputs.items():
            name, rounded = f"{output} of a permuted batch", partial(_rounded, subject, inputs, output, order)
            fail_unless_close(trial, subject, name, permuted[output], expected[order], call, rounded=rounded)


def _rounded(subject: Subject, inputs: Mapping[str, Tree], output: str, order: np.ndarray) -> np.ndarray:
    """An output, permuted, for z changed by about one rounding."""
    return run_black_box(subject, "dynamics", {**inputs, "z": moved_by_rounding(subject, inputs["z"])})[output][order]


@check("dyn.unlabelled", needs=DYNAMICS)
def check_without_actions_their_values_are_irrelevant(subject: Subject, trial: Trial) -> None:
    """The actions are replaced: the outputs of unlabelled clips do not change, z_hat of labelled clips does. Exact.

    For unlabelled clips only, and for both kinds in one batch.
    """
    if not _has_actions(subject):
        trial.inconclusive("example has no actions")
    if not varies(subject, "dynamics", "actions", 3, 3):
        trial.inconclusive("every example has the same actions: no influence can be observed")
    for labelled in (np.array([False, False, False]), np.array([True, False, True])):
        call = f"dynamics(**example, labelled={labelled.tolist()}), with two sets of actions"
        moved = _moved_by_actions(subject, labelled, trial.seed)
        for name, rows in moved.items():
            sentence = f"{name} of a clip without actions changes with the values of actions"
            trial.fail_unless(not (rows & ~labelled).any(), sentence, call=call)
        follows, sentence = moved["z_hat"][labelled].all(), "z_hat of a clip with actions does not change with them"
        fail_unless_influence(trial, subject, follows, sentence, call=call)


def _moved_by_actions(subject: Subject, labelled: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """bool (B,) for each output: the clips that change with the actions in one of `INFLUENCE_EXAMPLES` examples.

    Stops when all labelled clips or an unlabelled one have changed; inconclusive if the latter is not repeatable.
    """
    inputs = {**example_inputs(subject, "dynamics", seed, len(labelled), 3), "labelled": labelled}
    before = run_black_box(subject, "dynamics", inputs)
    moved = {name: np.zeros(len(labelled), bool) for name in before}
    for shift in range(1009, 1009 * (INFLUENCE_EXAMPLES + 1), 1009):
        actions = example_inputs(subject, "dynamics", seed + shift, len(labelled), 3)["actions"]
        replaced = {**inputs, "actions": actions}
        after = run_black_box(subject, "dynamics", replaced)
        for name, x in before.items():
            moved[name] |= (x != after[name]).reshape(len(labelled), -1).any(1)
        if any((rows & ~labelled).any() for rows in moved.values()):
            undecided_unless_repeatable(subject, "dynamics", inputs, before)
            undecided_unless_repeatable(subject, "dynamics", replaced, after)
            break
        if moved["z_hat"][labelled].all():
            break
    return moved


# Tokens of a frame


@check("net.space-full", needs=DYNAMICS)
def check_every_token_of_a_frame_depends_on_every_other(subject: Subject, trial: Trial) -> None:
    """A spatial token, τ, d or the actions of a single frame is replaced: every token of z_hat must change."""
    delayed = subject.readings["A32"] == "current"
    segments = [segment for segment in _inputs_of_one_frame(subject) if not (delayed and segment.path == "actions")]

    def complete(results: Influences) -> bool:
        return all(_tokens_moved(influence).all() for influence in results.values())

    results = combined_influences(subject, "dynamics", segments, complete, seed=trial.seed, time=1)
    _undecided_unless_mixed(results)
    for segment, influence in results.items():
        missing = np.flatnonzero(~_tokens_moved(influence))
        sentence = f"token {missing[:1].sum()} of z_hat does not change with {segment} of its frame"
        fail_unless_influence(trial, subject, not missing.size, sentence, call=call_with(segment, 1))


def _inputs_of_one_frame(subject: Subject) -> list[Segment]:
    """Some tokens of z, τ, d and the actions of frame 0."""
    tokens = example_inputs(subject, "dynamics", 0, 1, 1)["z"].shape[2]
    spatial = [Segment("z", (0, s)) for s in spread_positions(tokens)]
    return [*spatial, *(Segment(name, (0,)) for name in ("tau", "d", "actions"))]


@check("dyn.registers", needs=DYNAMICS)
def check_prediction_has_the_shape_of_z(subject: Subject, trial: Trial) -> None:
    """z_hat holds the spatial tokens only, so it has the shape of z, for two batch sizes and lengths. Exact."""
    for batch, time in ((1, 1), (2, 3)):
        inputs = example_inputs(subject, "dynamics", trial.seed, batch, time)
        got, expected = run_black_box(subject, "dynamics", inputs)["z_hat"].shape, inputs["z"].shape
        sentence = f"z_hat has shape {got}; it needs that of z, {expected}: its spatial tokens and nothing else"
        trial.fail_unless(got == expected, sentence, call=f"dynamics(**example({trial.seed}, {batch}, {time}))")


# The mask of the dynamics


@check("net.space-full", needs=MASK)
def check_mask_joins_all_tokens_of_a_frame(subject: Subject, trial: Trial) -> None:
    """Within a frame spatial tokens, label and actions attend to each other. Exact."""
    names = ("latent", "label", "action")
    fail_unless_mask_follows_reference(subject, trial, names, names)


@check("dyn.registers", needs=MASK)
def check_mask_joins_registers_to_their_frame(subject: Subject, trial: Trial) -> None:
    """Within a frame registers attend to all tokens, and all tokens to registers. Exact."""
    fail_unless_mask_follows_reference(subject, trial, WORLD_TOKENS, ("register",))


@check("attn.causal", needs=MASK)
def check_mask_hides_later_frames(subject: Subject, trial: Trial) -> None:
    """No token attends to a later frame. Exact."""
    fail_unless_mask_follows_reference(subject, trial, ("latent", "label", "action"), (), later=True)


# Signatures


@signature("dynamics")
def signature_frames_that_inputs_move(subject: Subject) -> np.ndarray:
    """Which of three frames of z_hat and agent change with z, τ, d and the actions of each frame, and with the task."""
    segments = [Segment(name, (t,)) for t in range(3) for name in ("z", "tau", "d", "actions")] + [Segment("task")]

    def probe() -> np.ndarray:
        results = {result.segment: result for result in influences(subject, "dynamics", segments, seed=1, time=3)}
        return np.concatenate(
            [_frames_moved(results.get(s), output) for s in segments for output in ("z_hat", "agent")]
        )

    return attempt(probe, 6 * len(segments))


def _frames_moved(influence: Influence | None, output: str) -> np.ndarray:
    if influence is None or output not in influence.moved:
        return np.full(3, -1.0)
    return influence.frames(output).astype(float)


@signature("dynamics")
def signature_tokens_components_and_clips(subject: Subject) -> np.ndarray:
    """The flags of `_tokens_and_components` and of `_three_clips`."""
    flags = attempt(lambda: _tokens_and_components(subject), 2)
    return np.concatenate([flags, attempt(lambda: _three_clips(subject), 5)])


def _tokens_and_components(subject: Subject) -> np.ndarray:
    """Whether each spatial token of frame 0 changes all its tokens, and each action component of frame 0 any frame."""
    spatial = [segment for segment in _inputs_of_one_frame(subject) if segment.path == "z"]
    components = action_components(example_inputs(subject, "dynamics", 0, 1, 2))
    actions = [at_frame(component, 0) for component in components]
    results = influences(subject, "dynamics", [*spatial, *actions], seed=2, time=2)
    full = all(_tokens_moved(result).all() for result in results if result.segment in spatial)
    return np.array([full, all(result.moved["z_hat"].any() for result in results if result.segment in actions)], float)


def _three_clips(subject: Subject) -> np.ndarray:
    """Which of three clips, the second unlabelled, change with the actions; the shape of z_hat; its reversed batch."""
    inputs = {**example_inputs(subject, "dynamics", 4, 3, 3), "labelled": np.array([True, False, True])}
    replaced = {**inputs, "actions": example_inputs(subject, "dynamics", 1013, 3, 3)["actions"]}
    reversed_inputs = map_leaves(lambda x: x[::-1].copy(), inputs)
    z_hat, after, back = (run_black_box(subject, "dynamics", x)["z_hat"] for x in (inputs, replaced, reversed_inputs))
    moved, reversible = (z_hat != after).reshape(3, -1).any(1), np.allclose(back[::-1], z_hat, rtol=0.1, atol=0.1)
    return np.array([*moved, z_hat.shape == inputs["z"].shape, reversible], float)


@signature("modality_mask")
def signature_mask_of_two_frames(subject: Subject) -> np.ndarray:
    """Entries of the dynamics mask that the paper decides: from the first frame, and its agent for the second frame."""
    modality = [*WORLD_TOKENS, "agent"] * 2

    def probe() -> np.ndarray:
        got = adapter_mask(subject, "dynamics", modality, np.repeat([0, 1], 5))
        return np.concatenate([got[:5].ravel(), got[5:9, 4]]).astype(float)

    return attempt(probe, 54)
