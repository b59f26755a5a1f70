"""Checks of what the prediction is conditioned on: labels, actions, clips without actions, its own sequence alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

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
    run_black_box,
    selected_rows,
    undecided_unless_repeatable,
    varies,
)
from dreamer4_conformance.instruments.dynamics import (
    DYNAMICS,
    Influences,
    action_delay,
    call_with,
    first_action_block,
    undecided_unless_mixed,
)
from dreamer4_conformance.instruments.inputs import moved_by_rounding
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.influence_verdicts import fail_unless_influence
from dreamer4_conformance.judging.output_comparison import fail_unless_close
from dreamer4_conformance.verdicts import NotProvided

# Labels and actions


def conditions(subject: Subject, time: int) -> list[Segment]:
    """τ, d and the actions of each frame, then each action component in the last frame in which it has an effect.

    Without the action of block 0 if there is none (A32).
    """
    d = [Segment("d")] if subject.readings["A3"] == "sequence" else [Segment("d", (t,)) for t in range(time)]
    actions = [Segment("actions", (t,)) for t in range(first_action_block(subject), time)]
    last = time - 1 - action_delay(subject, Segment("actions"))
    components = [at_frame(component, last) for component in action_components(subject, time)]
    return [*(Segment("tau", (t,)) for t in range(time)), *d, *actions, *components]


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
    undecided_unless_mixed(results, segments[-1])
    for segment, influence in results.items():
        output = f"frame {segment.index[0]} of z_hat" if segment.index else "z_hat"
        sentence, moves = f"{output} does not change with {segment}", moves_its_frame(subject, segment, influence)
        fail_unless_influence(trial, subject, moves, sentence, call=call_with(segment, 3))
    fixed = [str(segment) for segment in segments if segment not in results and not _is_action(segment)]
    fixed += [] if _has_actions(subject) == any(map(_is_action, results)) else ["actions"]
    if fixed:
        trial.inconclusive(f"every example has the same {', '.join(fixed)}: no influence can be observed")


def _has_actions(subject: Subject) -> bool:
    return bool(action_components(subject, 3))


def _is_action(segment: Segment) -> bool:
    return segment.path.startswith("actions")


@check("dyn.conditioning", needs=DYNAMICS)
def check_each_sequence_has_its_own_labels(subject: Subject, trial: Trial) -> None:
    """Permuting the batch permutes the outputs, for B ≠ T and B = T. Budgets: `output_comparison`."""
    for batch, time in ((3, 2), (3, 3), (2, 3)):
        order = np.roll(np.arange(batch), 1)
        _fail_unless_rows_are_independent(subject, trial, batch, time, order, "of a permuted batch")


@check("dyn.conditioning", needs=DYNAMICS)
def check_a_sequence_alone_has_the_outputs_that_it_has_in_a_batch(subject: Subject, trial: Trial) -> None:
    """A sequence is evaluated alone, B = 1: its outputs are those that it has in a batch of three, for T = 1 as well.

    Budgets: `output_comparison`. Other clauses use B ≥ 2 and T ≥ 2, so that a crash at B = 1 or T = 1 fails this one.
    """
    for time, row in ((3, 0), (2, 2), (1, 1)):
        with suppress(NotProvided):
            _fail_unless_rows_are_independent(subject, trial, 3, time, np.array([row]), "of a sequence alone")


def _fail_unless_rows_are_independent(
    subject: Subject, trial: Trial, batch: int, time: int, rows: np.ndarray, subset: str
) -> None:
    """Deviation unless the outputs for some rows of an example are those rows of the outputs for the whole example."""
    inputs = example_inputs(subject, "dynamics", trial.seed, batch, time)
    outputs, call = run_black_box(subject, "dynamics", inputs), f"dynamics(**example({trial.seed}, {batch}, {time}))"
    selected = run_black_box(subject, "dynamics", selected_rows(inputs, rows))
    for output, expected in outputs.items():
        rounded = partial(_rounded, subject, inputs, output, rows)
        name = f"{output} {subset}, rows {rows.tolist()},"
        fail_unless_close(trial, subject, name, selected[output], expected[rows], call, rounded=rounded)


def _rounded(subject: Subject, inputs: Mapping[str, Tree], output: str, rows: np.ndarray) -> np.ndarray:
    """Rows of an output for z changed by about one rounding."""
    return run_black_box(subject, "dynamics", {**inputs, "z": moved_by_rounding(subject, inputs["z"])})[output][rows]


# Clips without actions

LABELLED = ((False,) * 5, (True, False, False, True, False), (False, True), (False,))
"""Flags of the clips of a batch: none labelled, both kinds without period or symmetry, a pair, one clip alone."""


@check("dyn.unlabelled", needs=DYNAMICS)
def check_without_actions_their_values_are_irrelevant(subject: Subject, trial: Trial) -> None:
    """The actions are replaced: the outputs of unlabelled clips do not change, z_hat of labelled clips does. Exact.

    For the batches of `LABELLED` that the model accepts. Labelled clips are judged only if the actions of a batch in
    which all clips are labelled have an effect, which dyn.conditioning requires.
    """
    if not _has_actions(subject):
        trial.inconclusive("example has no actions")
    if not varies(subject, "dynamics", "actions", 3, 3):
        trial.inconclusive("every example has the same actions: no influence can be observed")
    effects: list[tuple[np.ndarray, np.ndarray, str]] = []
    for labelled in map(np.array, LABELLED):
        with suppress(NotProvided):
            call = f"dynamics(**example, labelled={labelled.tolist()}), with two sets of actions"
            moved = _moved_by_actions(subject, labelled, trial.seed)
            effects.append((labelled, moved["z_hat"], call))
            for name, rows in moved.items():
                sentence = f"{name} of a clip without actions changes with the values of actions"
                trial.fail_unless(not (rows & ~labelled).any(), sentence, call=call)
    if not effects:
        raise NotProvided("dynamics refuses sequences without actions")
    if not _moved_by_actions(subject, np.ones(5, bool), trial.seed)["z_hat"].all():
        trial.inconclusive("z_hat of labelled clips does not change with the actions; follows from dyn.conditioning")
    for labelled, z_hat, call in effects:
        sentence = "z_hat of a clip with actions does not change with them next to one without"
        fail_unless_influence(trial, subject, z_hat[labelled].all(), sentence, call=call)


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
