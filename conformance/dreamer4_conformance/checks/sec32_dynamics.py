"""Checks of the dynamics as a black box: what its prediction depends on, and what it must not depend on."""

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
    """Exact, for every input and output; and every frame of z_hat depends on every earlier one inside the context.

    What the agent token sees of earlier frames is dyn.agent-firewall's.
    """
    parts = inputs_of_frames(subject, TIME)

    def complete(found: Influences) -> bool:
        return not list(missing_influences(subject, found, "z_hat", TIME))

    look = partial(combined_influences, subject, "dynamics", parts, complete, seed=trial.seed, time=TIME)
    found = look()
    undecided_unless_z_hat_moves(found)
    for output, (part, influence) in product(output_names(found), found.items()):
        early = np.flatnonzero(influence.frames(output)[: part.index[0]])
        if early.size:
            undecided_unless_recurring(found, look)
        frame = early[0] if early.size else 0
        sentence = f"frame {frame} of {output} changes with {part.path} of frame {part.index[0]}, which is later"
        trial.fail_unless(not early.size, sentence, call=call_with(part, TIME))
    missing = [
        (part, frame) for part, frame in missing_influences(subject, found, "z_hat", TIME) if frame > part.index[0]
    ]
    for part, frame in missing:
        back = f"frame {part.index[0]}, which is inside its context"
        sentence = f"frame {frame} of z_hat does not change with {part.path} of {back}"
        fail_unless_influence(trial, subject, False, sentence, call=call_with(part, TIME))


# Sec. 3.2: labels and actions


def conditions(subject: Subject, time: int) -> list[Segment]:
    """τ, d and all actions of each frame; then each action component, in the last frame that it can act on."""
    d = [Segment("d")] if subject.readings["A3"] == "sequence" else [Segment("d", (t,)) for t in range(time)]
    labels = [*(Segment("tau", (t,)) for t in range(time)), *d, *(Segment("actions", (t,)) for t in range(time))]
    last = time - 1 - action_delay(subject, Segment("actions"))
    given = example_inputs(subject, "dynamics", 0, 1, time)
    return [*labels, *(at_frame(component, last) for component in action_components(given))]


def conditioned(subject: Subject, part: Segment, influence: Influence) -> bool:
    """Whether the part moves its own frame; the next will do for an action that is given with this one (A32)."""
    moved = influence.frames("z_hat")
    if not part.index:
        return bool(moved.all())
    t, late = int(part.index[0]), action_delay(subject, part)
    return bool(moved[t : t + 1 + late].any()) or t + late >= len(moved)


@check("dyn.conditioning", needs=DYNAMICS)
def check_prediction_depends_on_every_label_and_action(subject: Subject, trial: Trial) -> None:
    """Each frame on its own. Inconclusive for what is the same in every example."""
    parts = [*conditions(subject, 3), Segment("z", (0, 0))]

    def complete(found: Influences) -> bool:
        return all(conditioned(subject, part, influence) for part, influence in found.items())

    found = combined_influences(subject, "dynamics", parts, complete, seed=trial.seed, time=3)
    _undecided_unless_mixed(found)
    for part in found:
        where = f"frame {part.index[0]} of z_hat" if part.index else "z_hat"
        sentence = f"{where} does not change with {part}"
        fail_unless_influence(
            trial, subject, conditioned(subject, part, found[part]), sentence, call=call_with(part, 3)
        )
    fixed = [str(part) for part in parts if part not in found and not part.path.startswith("actions")]
    fixed += [] if _has_actions(subject) == _varies(found) else ["actions"]
    if fixed:
        trial.inconclusive(f"every example is the same at {', '.join(fixed)}, whose influence cannot be seen")


def _has_actions(subject: Subject) -> bool:
    return bool(action_components(example_inputs(subject, "dynamics", 0, 1, 3)))


def _varies(found: Influences) -> bool:
    return any(part.path.startswith("actions") for part in found)


def _undecided_unless_mixed(found: Influences) -> None:
    """Inconclusive where no token of z_hat depends on another token: output layers of attention may be zero."""
    token = found.get(Segment("z", (0, 0)))
    beyond = False if token is None else _tokens_moved(token)[1:].any() or token.frames("z_hat")[1:].any()
    if not beyond and not any(each.moved["z_hat"].any() for part, each in found.items() if part.path != "z"):
        raise Inconclusive("no token of z_hat depends on another token: are the parameters random, all of them?")


def _tokens_moved(influence: Influence, frame: int = 0) -> np.ndarray:
    """bool (S,): the tokens of one frame of z_hat in which anything moved."""
    moved = influence.moved["z_hat"][frame]
    return np.asarray(moved.reshape(len(moved), -1).any(1))


@check("dyn.conditioning", needs=DYNAMICS)
def check_each_sequence_has_its_own_labels(subject: Subject, trial: Trial) -> None:
    """Permuting the batch permutes the outputs: B ≠ T, B = T, and one sequence alone."""
    for batch, time in ((3, 2), (3, 3), (2, 3)):
        given = example_inputs(subject, "dynamics", trial.seed, batch, time)
        order = np.roll(np.arange(batch), 1)
        moved = map_leaves(lambda x, order=order: x[order], given)  # type: ignore[misc]
        one, other = run_black_box(subject, "dynamics", given), run_black_box(subject, "dynamics", moved)
        for name, expected in one.items():
            what, call = f"{name} of a permuted batch", f"dynamics(**example({trial.seed}, {batch}, {time}))"
            fail_unless_close(
                trial,
                subject,
                what,
                other[name],
                expected[order],
                call,
                rounded=partial(_again, subject, given, name, order),
            )


def _again(subject: Subject, given: Mapping[str, Tree], output: str, order: np.ndarray) -> np.ndarray:
    return run_black_box(subject, "dynamics", {**given, "z": moved_by_rounding(subject, given["z"])})[output][order]


@check("dyn.unlabelled", needs=DYNAMICS)
def check_without_actions_their_values_are_irrelevant(subject: Subject, trial: Trial) -> None:
    """Bit for bit in clips without labels, alone and beside labelled ones, which do depend on theirs."""
    if not _has_actions(subject):
        trial.inconclusive("example has no actions")
    if not varies(subject, "dynamics", "actions", 3, 3):
        trial.inconclusive("every example has the same actions, whose influence cannot be seen")
    for labelled in ([False, False, False], [True, False, True]):
        call = f"dynamics(**example, labelled={labelled}), with two sets of actions"
        moved = _moved_by_actions(subject, np.array(labelled), trial.seed)
        for name, rows in moved.items():
            leaks = bool((rows & ~np.array(labelled)).any())
            trial.fail_unless(
                not leaks, f"{name} of a clip without actions changes with the values of actions", call=call
            )
        seen = not (np.array(labelled) & ~moved["z_hat"]).any()
        fail_unless_influence(trial, subject, seen, "z_hat of a clip with actions does not change with them", call=call)


def _moved_by_actions(subject: Subject, labelled: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Which rows of each output move with other actions: in one example, or in as many as it takes to move all labelled ones."""
    given = {**example_inputs(subject, "dynamics", seed, len(labelled), 3), "labelled": labelled}
    before = run_black_box(subject, "dynamics", given)
    moved = {name: np.zeros(len(labelled), bool) for name in before}
    for example in range(INFLUENCE_EXAMPLES):
        other = example_inputs(subject, "dynamics", seed + 1009 * (example + 1), len(labelled), 3)["actions"]
        others = {**given, "actions": other}
        after = run_black_box(subject, "dynamics", others)
        for name, x in before.items():
            moved[name] |= (x != after[name]).reshape(len(labelled), -1).any(1)
        if any((rows & ~labelled).any() for rows in moved.values()):
            undecided_unless_repeatable(subject, "dynamics", given, before)
            undecided_unless_repeatable(subject, "dynamics", others, after)
            break
        if not (labelled & ~moved["z_hat"]).any():
            break
    return moved


# Tokens of a frame


@check("net.space-full", needs=DYNAMICS)
def check_every_token_of_a_frame_sees_every_other(subject: Subject, trial: Trial) -> None:
    """One frame: each of a few spatial tokens, the label and the actions move every token of z_hat."""
    parts, late = _of_one_frame(subject), subject.readings["A32"] == "current"
    parts = [part for part in parts if not (late and part.path == "actions")]

    def complete(found: Influences) -> bool:
        return all(_tokens_moved(influence).all() for influence in found.values())

    found = combined_influences(subject, "dynamics", parts, complete, seed=trial.seed, time=1)
    _undecided_unless_mixed(found)
    for part, influence in found.items():
        blind = np.flatnonzero(~_tokens_moved(influence))
        sentence = f"token {blind[0] if blind.size else ''} of z_hat does not change with {part} of its frame"
        fail_unless_influence(trial, subject, not blind.size, sentence, call=call_with(part, 1))


def _of_one_frame(subject: Subject) -> list[Segment]:
    tokens = example_inputs(subject, "dynamics", 0, 1, 1)["z"].shape[2]
    return [
        *(Segment("z", (0, s)) for s in spread_positions(tokens)),
        *(Segment(name, (0,)) for name in ("tau", "d", "actions")),
    ]


@check("dyn.registers", needs=DYNAMICS)
def check_prediction_has_the_shape_of_z(subject: Subject, trial: Trial) -> None:
    """Spatial tokens and nothing else, whatever the batch and the length."""
    for batch, time in ((1, 1), (2, 3)):
        given = example_inputs(subject, "dynamics", trial.seed, batch, time)
        got, expected = run_black_box(subject, "dynamics", given)["z_hat"].shape, given["z"].shape
        sentence = f"z_hat has shape {got}; it needs that of z, {expected}: its spatial tokens and nothing else"
        trial.fail_unless(got == expected, sentence, call=f"dynamics(**example({trial.seed}, {batch}, {time}))")


# The mask of the dynamics


@check("net.space-full", needs=MASK)
def check_mask_joins_all_tokens_of_a_frame(subject: Subject, trial: Trial) -> None:
    """Spatial tokens, label and actions."""
    names = ("latent", "label", "action")
    fail_unless_mask_follows_reference(subject, trial, names, names)


@check("dyn.registers", needs=MASK)
def check_mask_joins_registers_to_their_frame(subject: Subject, trial: Trial) -> None:
    """They see and are seen by all of it."""
    fail_unless_mask_follows_reference(subject, trial, WORLD_TOKENS, ("register",))


@check("attn.causal", needs=MASK)
def check_mask_hides_later_frames(subject: Subject, trial: Trial) -> None:
    """From every token."""
    fail_unless_mask_follows_reference(subject, trial, ("latent", "label", "action"), (), later=True)


# What mistakes and readings differ in


@signature("dynamics")
def signature_who_influences_whom(subject: Subject) -> np.ndarray:
    """Over three frames: which frames of each output z, τ, d, the actions and the task move."""
    names = [(name, t) for t in range(3) for name in ("z", "tau", "d", "actions")]
    parts = [*(Segment(name, (t,)) for name, t in names), Segment("task")]

    def probe() -> np.ndarray:
        found = {each.segment: each for each in influences(subject, "dynamics", parts, seed=1, time=3)}
        rows = [_frames_moved(found.get(part), output) for part in parts for output in ("z_hat", "agent")]
        return np.concatenate(rows)

    return attempt(probe, 6 * len(parts))


def _frames_moved(influence: Influence | None, output: str) -> np.ndarray:
    if influence is None or output not in influence.moved:
        return np.full(3, -1.0)
    return influence.frames(output).astype(float)


@signature("dynamics")
def signature_who_is_left_out(subject: Subject) -> np.ndarray:
    """Whether every component counts, every token sees every other, clips without actions are blind, z_hat is shaped as z, rows apart."""
    return np.concatenate(
        [attempt(lambda: _tokens_and_components(subject), 2), attempt(lambda: _three_clips(subject), 5)]
    )


def _tokens_and_components(subject: Subject) -> np.ndarray:
    """Whether each spatial token of the first frame moves all of them, and each component of its action any frame."""
    spatial = [part for part in _of_one_frame(subject) if part.path == "z"]
    acted = [at_frame(each, 0) for each in action_components(example_inputs(subject, "dynamics", 0, 1, 2))]
    found = influences(subject, "dynamics", [*spatial, *acted], seed=2, time=2)
    seen = [_tokens_moved(each).all() for each in found if each.segment in spatial]
    return np.array([all(seen), all(each.moved["z_hat"].any() for each in found if each.segment in acted)], float)


def _three_clips(subject: Subject) -> np.ndarray:
    """Of three frames each, the middle one without actions: which move with the values of actions; the shape; the order reversed."""
    given = {**example_inputs(subject, "dynamics", 4, 3, 3), "labelled": np.array([True, False, True])}
    others = {**given, "actions": example_inputs(subject, "dynamics", 1013, 3, 3)["actions"]}
    reverse = map_leaves(lambda x: x[::-1].copy(), given)
    z_hat, acted, back = (run_black_box(subject, "dynamics", each)["z_hat"] for each in (given, others, reverse))
    moved = (z_hat != acted).reshape(3, -1).any(1)
    return np.array(
        [*moved, z_hat.shape == given["z"].shape, np.allclose(back[::-1], z_hat, rtol=0.1, atol=0.1)], float
    )


@signature("modality_mask")
def signature_mask_of_two_frames(subject: Subject) -> np.ndarray:
    """The mask of the dynamics where that is not open: within the first frame, and of the second for the first."""
    modality = [*WORLD_TOKENS, "agent"] * 2

    def probe() -> np.ndarray:
        got = adapter_mask(subject, "dynamics", modality, np.repeat([0, 1], 5))
        past = got[5:9, 4]
        return np.concatenate([got[:5].ravel(), past]).astype(float)

    return attempt(probe, 54)
