"""Influence tests of black boxes: replace a segment of the input and observe which outputs change.

Row i of a batch has segment i replaced by the values of another example, so that every input stays valid. The outputs
are compared bit for bit with those of the original batch. Shapes are the same in both runs, so an output that does not
depend on the segment does not change at all. The last row is not replaced: if its output changes, calls are not
repeatable and nothing can be decided, or the model mixes the rows of a batch, which dyn.conditioning rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, OperationFailed

SEGMENTS_PER_RUN = 16
"""Segments that are replaced in one run; it bounds the memory that a large model needs."""
DONOR_EXAMPLES = 12
"""Examples that are searched for another value of a segment."""
INFLUENCE_EXAMPLES = 6
"""Examples in which a required influence is searched for."""
ACTION_CHANNELS = 64
"""Channels of an action array that are replaced one by one."""
REPEATS = 4
"""Repetitions of a call before a forbidden influence is reported."""

Tree = Any
"""An array, None, or a dict, list or tuple of such."""

BLACK_BOXES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dynamics": (("z", "tau", "d", "actions", "task", "labelled"), ("z_hat", "agent")),
    "image_dynamics": (("z", "tau", "d"), ("z_hat",)),
    "encode": (("video",), ("z",)),
    "decode": (("z",), ("video",)),
    "reconstruct": (("video",), ("video",)),
    "space_layer": (("x",), ("x",)),
    "time_layer": (("x",), ("x",)),
    "encoder_layer": (("x_encoder",), ("x",)),
    "decoder_layer": (("x_decoder",), ("x",)),
    "rollout": (("z", "actions"), ("z",)),
}
"""Black box → (its arguments in `example`, its outputs)."""


@dataclass(frozen=True)
class Segment:
    """A segment of the input.

    `path` leads into the example: "z", "actions.keys", or "actions" for all actions. `index` selects from the axes
    after the batch axis; () selects everything.

    >>> print(Segment("z", (2, 1)), Segment("actions.0", (3,)), Segment("task"))
    z[2, 1] actions.0[3] task
    """

    path: str
    index: tuple[Any, ...] = ()

    def __str__(self) -> str:
        indices = (":" if isinstance(i, slice) else str(i) for i in self.index)
        return self.path + (f"[{', '.join(indices)}]" if self.index else "")


@dataclass(frozen=True)
class Influence:
    """What changes when `segment` is replaced: output → bool array of the output's shape without the batch axis."""

    segment: Segment
    moved: Mapping[str, np.ndarray]

    def frames(self, output: str) -> np.ndarray:
        """Mask (T,) of the frames of an output in which any value changes."""
        moved = self.moved[output]
        return np.asarray(moved.reshape(len(moved), -1).any(1))

    def union(self, second: Influence) -> Influence:
        """Combine the changes of two examples."""
        return Influence(self.segment, {name: moved | second.moved[name] for name, moved in self.moved.items()})


# The black box and its inputs


def example_inputs(subject: Subject, operation: str, seed: int, batch: int, time: int) -> dict[str, Tree]:
    """Inputs of a black box in NumPy, taken from the adapter's `example`.

    `task` and `actions` are None if the example omits them. All clips are labelled if there are actions.
    """
    names, _ = BLACK_BOXES[operation]
    example = subject.call("example", seed, batch, time, seeded=seed)
    if not isinstance(example, Mapping):
        raise OperationFailed(f"example returned {type(example).__name__}; it needs a dict")
    inputs = {name: _numpy(subject, f"example: {name}", example[name]) for name in names if name in example}
    for path, leaf in leaves(inputs):
        if leaf.shape[:1] != (batch,):
            raise OperationFailed(
                f"example: {path} has shape {leaf.shape}; its first axis needs to be the batch, {batch}"
            )
    missing = [name for name in names if inputs.get(name) is None and name not in ("task", "actions", "labelled")]
    if missing:
        raise OperationFailed(f"example has no {' and no '.join(map(repr, missing))}, which {operation} takes")
    labelled = np.full(batch, any(True for _ in leaves(inputs.get("actions"))))
    return {name: labelled if name == "labelled" else inputs.get(name) for name in names}


def _numpy(subject: Subject, name: str, tree: Tree) -> Tree:
    if isinstance(tree, Mapping):
        return {key: _numpy(subject, name, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_numpy(subject, name, value) for value in tree]
    return None if tree is None else subject.read(name, tree)


def native_tree(subject: Subject, tree: Tree) -> Tree:
    """The tree with arrays of the adapter's framework."""
    return map_leaves(subject.native, tree)


def run_black_box(
    subject: Subject, operation: str, inputs: Mapping[str, Tree], *, random_state: int = 0
) -> dict[str, np.ndarray]:
    """Outputs of a black box by name, (B, T, …), without those that are None.

    `random_state` seeds the global random states, on which no output should depend.
    """
    names, outputs = BLACK_BOXES[operation]
    returned = subject.call(operation, *(native_tree(subject, inputs[name]) for name in names), seeded=random_state)
    values = returned if len(outputs) > 1 else (returned,)
    if not isinstance(values, tuple | list) or len(values) != len(outputs):
        raise OperationFailed(
            f"{operation} returned {type(returned).__name__}; it needs a tuple ({', '.join(outputs)})"
        )
    return read_outputs(subject, operation, dict(zip(outputs, values, strict=True)), len(inputs[names[0]]))


def read_outputs(subject: Subject, operation: str, values: Mapping[str, Any], batch: int) -> dict[str, np.ndarray]:
    """Outputs in NumPy; of several outputs, those that are None are omitted.

    Raises:
        OperationFailed: if the first two axes cannot be batch and time, or a value is NaN or infinite.
    """
    present = {name: x for name, x in values.items() if x is not None or len(values) == 1}
    outputs = {name: subject.read(f"{operation}: {name}", x) for name, x in present.items()}
    for name, x in outputs.items():
        if x.ndim < 2 or len(x) != batch:
            raise OperationFailed(f"{operation}: {name} has shape {x.shape}; it needs ({batch}, T, …)")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise OperationFailed(f"{operation}: {name} has NaN or infinite values, in shape {x.shape}")
    return outputs


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of a tree with their paths.

    >>> [path for path, _ in leaves({"keys": np.zeros(2), "mouse": [np.ones(1), None]}, "actions")]
    ['actions.keys', 'actions.mouse.0']
    """
    if isinstance(tree, np.ndarray):
        yield path, tree
    elif tree is not None:
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, f"{path}.{key}" if path else str(key))


def varies(subject: Subject, operation: str, name: str, batch: int, time: int) -> bool:
    """True if an input differs between examples; False if it is omitted or empty."""
    trees = [
        example_inputs(subject, operation, 1009 * seed, batch, time)[name] for seed in range(INFLUENCE_EXAMPLES + 1)
    ]
    first, *rest = (dict(leaves(tree)) for tree in trees)
    return any(path not in tree or not np.array_equal(x, tree[path]) for tree in rest for path, x in first.items())


def map_leaves(function: Callable[[np.ndarray], np.ndarray], tree: Tree) -> Tree:
    """Apply a function to each array of a tree."""
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_leaves(function, value) for value in tree]
    return None if tree is None else function(tree)


def selected_rows(inputs: Mapping[str, Tree], rows: np.ndarray) -> dict[str, Tree]:
    """Inputs of some rows of a batch, in this order."""
    return {name: map_leaves(lambda x: x[rows], tree) for name, tree in inputs.items()}


def action_components(subject: Subject, time: int) -> list[Segment]:
    """Every action component of the adapter's example: each channel of an array (B, T, A), any other array by itself.

    An array that is one-hot in every row is a single component, because replacing a channel of it gives no valid
    action. Of more than `ACTION_CHANNELS` channels, as many are taken, evenly spaced.
    """
    actions = example_inputs(subject, "dynamics", 0, 8, time)["actions"]
    return [segment for path, leaf in leaves(actions, "actions") for segment in _components(path, leaf)]


def _components(path: str, array: np.ndarray) -> list[Segment]:
    one_hot = array.ndim == 3 and bool(np.isin(array, (0, 1)).all() and (array.sum(2) == 1).all())
    if array.ndim != 3 or (one_hot and array.shape[2] > 1):
        return [Segment(path)]
    channels = np.linspace(0, array.shape[2] - 1, min(array.shape[2], ACTION_CHANNELS)).round().astype(int)
    return [Segment(path, (slice(None), int(channel))) for channel in channels]


def at_frame(component: Segment, frame: int) -> Segment:
    """One frame of an action component.

    >>> print(at_frame(Segment("actions", (slice(None), 1)), 2), at_frame(Segment("actions.keys"), 0))
    actions[2, 1] actions.keys[0]
    """
    return Segment(component.path, (frame, *component.index[1:]))


def spread_positions(count: int) -> list[int]:
    """At most four of `count` positions, with the first and the last.

    >>> spread_positions(3), spread_positions(256)
    ([0, 1, 2], [0, 85, 170, 255])
    """
    return sorted({round(position) for position in np.linspace(0, count - 1, min(count, 4))})


# Influences


def influences(
    subject: Subject,
    operation: str,
    segments: Sequence[Segment],
    *,
    seed: int,
    time: int,
) -> list[Influence]:
    """What each segment changes, without segments that are absent or the same in every example."""
    chunks = range(0, len(segments), SEGMENTS_PER_RUN)
    return [
        influence
        for first in chunks
        for influence in _influences(subject, operation, segments[first : first + SEGMENTS_PER_RUN], seed + first, time)
    ]


def combined_influences(
    subject: Subject,
    operation: str,
    segments: Sequence[Segment],
    enough: Callable[[Mapping[Segment, Influence]], bool],
    *,
    seed: int,
    time: int,
) -> dict[Segment, Influence]:
    """What each segment changes in any of `INFLUENCE_EXAMPLES` examples; fewer, once the result is `enough`.

    Segments that could not be replaced in the examples so far are then tried alone.

    Raises:
        Inconclusive: if all examples are the same at all segments.
    """
    combined: dict[Segment, Influence] = {}
    remaining: Sequence[Segment] = segments
    for example in range(INFLUENCE_EXAMPLES):
        for influence in influences(subject, operation, remaining, seed=seed + 7919 * example, time=time):
            segment = influence.segment
            combined[segment] = influence.union(combined[segment]) if segment in combined else influence
        absent = [segment for segment in segments if segment not in combined]
        remaining = absent if enough(combined) else segments
        if not remaining:
            break
    if not combined:
        raise Inconclusive(
            f"every example is the same at {', '.join(map(str, segments))}: no influence can be observed"
        )
    return combined


def _influences(subject: Subject, operation: str, segments: Sequence[Segment], seed: int, time: int) -> list[Influence]:
    batch = len(segments) + 1
    base = example_inputs(subject, operation, seed, batch, time)
    touched = map_leaves(np.copy, base)
    replaced = _replace(subject, operation, base, touched, segments, seed, time)
    if not replaced:
        return []
    before, after = run_black_box(subject, operation, base), run_black_box(subject, operation, touched)
    moved = {name: _moved(name, x, after.get(name)) for name, x in before.items()}
    if any(rows[-1].any() for rows in moved.values()):
        undecided_unless_repeatable(subject, operation, base, before)
        undecided_unless_repeatable(subject, operation, touched, after)
        sentence = f"the outputs of one sequence change with the inputs of other sequences of the batch of {batch}"
        if operation == "dynamics":
            raise Inconclusive(f"follows from dyn.conditioning: {sentence}")
        raise Deviation(
            sentence, call=f"{operation}(**example({seed}, {batch}, {time})), every row replaced except the last"
        )
    return [Influence(segment, {name: rows[row] for name, rows in moved.items()}) for row, segment in replaced]


def _moved(name: str, before: np.ndarray, after: np.ndarray | None) -> np.ndarray:
    if after is None or after.shape != before.shape:
        shape = "None" if after is None else after.shape
        raise OperationFailed(f"{name} has shape {before.shape} or {shape}, on inputs of the same shapes")
    return ~np.asarray((before == after) | ((before != before) & (after != after)))


def undecided_unless_repeatable(
    subject: Subject, operation: str, inputs: Mapping[str, Tree], outputs: Mapping[str, np.ndarray]
) -> None:
    """Repeat a call `REPEATS` times.

    Raises:
        Inconclusive: if a repetition does not return `outputs` bit for bit.
    """
    for _ in range(REPEATS):
        repeated = run_black_box(subject, operation, inputs)
        if any(_moved(name, x, repeated.get(name)).any() for name, x in outputs.items()):
            raise Inconclusive(f"{operation} is not repeatable: two equal calls return different outputs")


def undecided_unless_recurring(
    influences_before: Mapping[Segment, Influence], repeat: Callable[[], Mapping[Segment, Influence]]
) -> None:
    """Repeat an experiment `REPEATS` times on the same examples.

    Raises:
        Inconclusive: if a repetition does not observe the same influences.
    """
    for _ in range(REPEATS):
        repeated = repeat()
        for segment, influence in influences_before.items():
            if any((x != repeated[segment].moved[name]).any() for name, x in influence.moved.items()):
                raise Inconclusive(f"repeated calls disagree on what {segment} changes")


def _replace(
    subject: Subject,
    operation: str,
    base: Mapping[str, Tree],
    touched: Mapping[str, Tree],
    segments: Sequence[Segment],
    seed: int,
    time: int,
) -> list[tuple[int, Segment]]:
    """Replace segment i in row i of `touched`; return the rows for which an example with different values was found."""
    waiting = dict(enumerate(segments))
    rows, targets = dict(leaves(dict(base))), dict(leaves(dict(touched)))
    for shift in range(1, DONOR_EXAMPLES + 1):
        if not waiting:
            break
        donor = dict(leaves(example_inputs(subject, operation, seed + 1009 * shift, len(segments) + 1, time)))
        for row, segment in list(waiting.items()):
            if _exchange(subject, rows, targets, donor, row, segment):
                del waiting[row]
    return [(row, segment) for row, segment in enumerate(segments) if row not in waiting]


def _exchange(
    subject: Subject,
    rows: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    donor: Mapping[str, np.ndarray],
    row: int,
    segment: Segment,
) -> bool:
    """Copy the segment from the first donor row in which it differs; return whether there is one.

    A label (τ, d) stays on the grid of Eq. (4) if it was on it: a model need not have a token for any other pair.
    """
    paths = [path for path in rows if path in donor and f"{path}.".startswith(f"{segment.path}.")]
    for donor_row in np.roll(np.arange(len(next(iter(rows.values())))), -row):
        pairs = {path: (rows[path][(row, *segment.index)], donor[path][(donor_row, *segment.index)]) for path in paths}
        if any(not np.array_equal(old, new) for old, new in pairs.values()):
            for path, (_, new) in pairs.items():
                targets[path][(row, *segment.index)] = new
            if _labels_on_grid(subject, targets, row) or not _labels_on_grid(subject, rows, row):
                return True
            for path, (old, _) in pairs.items():
                targets[path][(row, *segment.index)] = old
    return False


def _labels_on_grid(subject: Subject, inputs: Mapping[str, np.ndarray], row: int) -> bool:
    """Whether τ is a multiple of d in every frame of a row; True without labels."""
    if not {"tau", "d"} <= inputs.keys() or not (inputs["d"][row] > 0).all():
        return True
    multiple = subject.level(inputs["tau"][row]) / inputs["d"][row]
    return bool((np.abs(multiple - multiple.round()) <= 4 * subject.eps * multiple).all())
