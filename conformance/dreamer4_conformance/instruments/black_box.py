"""Who influences whom: parts of a black box's input are replaced, and the outputs that move are seen.

A part is replaced in one row of a batch by what another example holds there, so that every input stays valid; row by row the outputs are then
compared with those of the batch as it was, bit for bit. Shapes are the same in both runs, so what does not depend on a part does not move at all.
One more row is left as it was: where it moves too, calls do not repeat, and nothing can be told, or the rows of a batch are mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, OperationFailed

SEGMENTS_PER_RUN = 16
"""Parts that are replaced in one run, so that a large model stays within bounds."""
DONOR_EXAMPLES = 12
"""Examples that are searched for another value of a part."""
INFLUENCE_EXAMPLES = 6
"""Examples in which an influence is looked for that has to be there."""

REPEATS = 4
"""Times that a call is repeated before its outputs are said to move with what must not move them."""

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
    "rollout": (("z", "actions"), ("z",)),
}
"""The arguments that the example gives to every black box, and its outputs."""


@dataclass(frozen=True)
class Segment:
    """A part of the input: `path` into the example ("z", "actions.keys", "actions" for all of them), `index` behind the batch axis, () for all of it.

    >>> print(Segment("z", (2, 1)), Segment("actions.0", (3,)), Segment("task"))
    z[2, 1] actions.0[3] task
    """

    path: str
    index: tuple[Any, ...] = ()

    def __str__(self) -> str:
        shown = (":" if isinstance(place, slice) else str(place) for place in self.index)
        return self.path + (f"[{', '.join(shown)}]" if self.index else "")


@dataclass(frozen=True)
class Influence:
    """What moved when `part` was replaced: output → bool array of that output's shape, without the batch axis."""

    segment: Segment
    moved: Mapping[str, np.ndarray]

    def frames(self, output: str) -> np.ndarray:
        """bool (T,): the frames of an output in which anything moved."""
        moved = self.moved[output]
        return np.asarray(moved.reshape(len(moved), -1).any(1))

    def union(self, other: Influence) -> Influence:
        """What moved here or there."""
        return Influence(self.segment, {name: moved | other.moved[name] for name, moved in self.moved.items()})


# The black box and its inputs


def example_inputs(subject: Subject, operation: str, seed: int, batch: int, time: int) -> dict[str, Tree]:
    """The adapter's example, in NumPy, as far as the operation takes it; all clips are labelled where there are actions.

    `task` and `actions` are None where they are left out.
    """
    names, _ = BLACK_BOXES[operation]
    example = subject.call("example", seed, batch, time, seeded=seed)
    if not isinstance(example, Mapping):
        raise OperationFailed(f"example returned {type(example).__name__}; it needs a dict")
    found = {name: _numpy(subject, f"example: {name}", example[name]) for name in names if name in example}
    for path, leaf in leaves(found):
        if leaf.shape[:1] != (batch,):
            raise OperationFailed(
                f"example: {path} has shape {leaf.shape}; its first axis needs to be the batch, {batch}"
            )
    missing = [name for name in names if found.get(name) is None and name not in ("task", "actions", "labelled")]
    if missing:
        raise OperationFailed(f"example has no {' and no '.join(map(repr, missing))}, which {operation} takes")
    acted = any(True for _ in leaves(found.get("actions")))
    return {name: np.full(batch, acted) if name == "labelled" else found.get(name) for name in names}


def _numpy(subject: Subject, name: str, tree: Tree) -> Tree:
    if isinstance(tree, Mapping):
        return {key: _numpy(subject, name, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_numpy(subject, name, value) for value in tree]
    return None if tree is None else subject.read(name, tree)


def native_tree(subject: Subject, tree: Tree) -> Tree:
    """The tree in arrays of the adapter's framework."""
    return map_leaves(subject.native, tree)


def run_black_box(subject: Subject, operation: str, given: Mapping[str, Tree]) -> dict[str, np.ndarray]:
    """The outputs of a black box by name, (B, …); those that it leaves None are left out."""
    names, outputs = BLACK_BOXES[operation]
    returned = subject.call(operation, *(native_tree(subject, given[name]) for name in names), seeded=0)
    values = returned if len(outputs) > 1 else (returned,)
    if not isinstance(values, tuple | list) or len(values) != len(outputs):
        raise OperationFailed(
            f"{operation} returned {type(returned).__name__}; it needs a tuple ({', '.join(outputs)})"
        )
    return read_outputs(subject, operation, dict(zip(outputs, values, strict=True)), len(given[names[0]]))


def read_outputs(subject: Subject, operation: str, values: Mapping[str, Any], batch: int) -> dict[str, np.ndarray]:
    """Outputs in NumPy, those of several that are None left out. OperationFailed where the first two axes cannot be batch and time."""
    found = {
        name: subject.read(f"{operation}: {name}", x) for name, x in values.items() if x is not None or len(values) == 1
    }
    for name, x in found.items():
        if x.ndim < 2 or len(x) != batch:
            raise OperationFailed(f"{operation}: {name} has shape {x.shape}; it needs ({batch}, T, …)")
    return found


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a tree with their paths.

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
    """Whether an input differs between examples; not where it is left out, or holds nothing."""
    trees = [
        example_inputs(subject, operation, 1009 * seed, batch, time)[name] for seed in range(INFLUENCE_EXAMPLES + 1)
    ]
    first, *others = (dict(leaves(tree)) for tree in trees)
    return any(path not in other or not np.array_equal(x, other[path]) for other in others for path, x in first.items())


def map_leaves(function: Callable[[np.ndarray], np.ndarray], tree: Tree) -> Tree:
    """The tree with the function applied to each of its arrays."""
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_leaves(function, value) for value in tree]
    return None if tree is None else function(tree)


def action_components(given: Mapping[str, Tree]) -> list[Segment]:
    """Every action component: an array of a dict or list, or one channel of a single array (B, T, A)."""
    actions = given["actions"]
    if isinstance(actions, np.ndarray) and actions.ndim == 3:
        return [Segment("actions", (slice(None), channel)) for channel in range(actions.shape[2])]
    return [Segment(path) for path, _ in leaves(actions, "actions")]


def at_frame(component: Segment, frame: int) -> Segment:
    """One frame of an action component.

    >>> print(at_frame(Segment("actions", (slice(None), 1)), 2), at_frame(Segment("actions.keys"), 0))
    actions[2, 1] actions.keys[0]
    """
    return Segment(component.path, (frame, *component.index[1:]))


def spread_positions(count: int) -> list[int]:
    """At most four of `count` places, the first and the last among them.

    >>> spread_positions(3), spread_positions(256)
    ([0, 1, 2], [0, 85, 170, 255])
    """
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, 4))})


# Influences


def influences(
    subject: Subject,
    operation: str,
    parts: Sequence[Segment],
    *,
    seed: int,
    time: int,
    given: Mapping[str, Tree] | None = None,
) -> list[Influence]:
    """What each part moves. Parts that are the same in every example, or are not there, are left out.

    `given` replaces inputs of the example before anything else, for all rows alike: arrays without the batch axis.
    """
    found: list[Influence] = []
    for first in range(0, len(parts), SEGMENTS_PER_RUN):
        found.extend(
            _influences(subject, operation, parts[first : first + SEGMENTS_PER_RUN], seed + first, time, given or {})
        )
    return found


def combined_influences(
    subject: Subject,
    operation: str,
    parts: Sequence[Segment],
    enough: Callable[[Mapping[Segment, Influence]], bool],
    *,
    seed: int,
    time: int,
    given: Mapping[str, Tree] | None = None,
) -> dict[Segment, Influence]:
    """What each part moves in one example or another: `INFLUENCE_EXAMPLES` of them, or as many as it takes until that is `enough`."""
    found: dict[Segment, Influence] = {}
    for example in range(INFLUENCE_EXAMPLES):
        for each in influences(subject, operation, parts, seed=seed + 7919 * example, time=time, given=given):
            found[each.segment] = each.union(found[each.segment]) if each.segment in found else each
        if enough(found):
            break
    if not found:
        raise Inconclusive(f"every example is the same at {', '.join(map(str, parts))}: no influence can be seen")
    return found


def _influences(
    subject: Subject, operation: str, parts: Sequence[Segment], seed: int, time: int, given: Mapping[str, Tree]
) -> list[Influence]:
    batch = len(parts) + 1
    base = example_inputs(subject, operation, seed, batch, time)
    base |= {name: map_leaves(lambda x: np.repeat(x[None], batch, 0), tree) for name, tree in given.items()}
    touched = map_leaves(np.copy, base)
    replaced = _replace(subject, operation, base, touched, parts, seed, time)
    if not replaced:
        return []
    before, after = run_black_box(subject, operation, base), run_black_box(subject, operation, touched)
    moved = {name: _moved(name, x, after.get(name)) for name, x in before.items()}
    if any(each[-1].any() for each in moved.values()):
        undecided_unless_repeatable(subject, operation, base, before)
        undecided_unless_repeatable(subject, operation, touched, after)
        raise Deviation(
            f"the outputs of one sequence change with the inputs of other sequences of the batch of {batch}",
            call=f"{operation}(**example({seed}, {batch}, {time})), the last row unchanged and the others not",
        )
    return [Influence(part, {name: each[row] for name, each in moved.items()}) for row, part in replaced]


def _moved(name: str, before: np.ndarray, after: np.ndarray | None) -> np.ndarray:
    if after is None or after.shape != before.shape:
        shape = "None" if after is None else after.shape
        raise OperationFailed(f"{name} has shape {before.shape} or {shape}, on inputs of the same shapes")
    return ~np.asarray((before == after) | ((before != before) & (after != after)))


def undecided_unless_repeatable(
    subject: Subject, operation: str, given: Mapping[str, Tree], before: Mapping[str, np.ndarray]
) -> None:
    """Inconclusive where the call does not give what it gave `before`, bit for bit, each of a few times."""
    for _ in range(REPEATS):
        again = run_black_box(subject, operation, given)
        if any(_moved(name, x, again.get(name)).any() for name, x in before.items()):
            raise Inconclusive(
                f"{operation} does not give the same twice: whether an input moves an output cannot be seen"
            )


def undecided_unless_recurring(
    found: Mapping[Segment, Influence], again: Callable[[], Mapping[Segment, Influence]]
) -> None:
    """Inconclusive where an influence that must not be is not seen `again`, in the same examples, each of a few times."""
    for _ in range(REPEATS):
        seen = again()
        for part, influence in found.items():
            if any((x != seen[part].moved[name]).any() for name, x in influence.moved.items()):
                raise Inconclusive(
                    f"what {part} moves is not the same twice: whether it has an influence cannot be seen"
                )


def _replace(
    subject: Subject,
    operation: str,
    base: Mapping[str, Tree],
    touched: Mapping[str, Tree],
    parts: Sequence[Segment],
    seed: int,
    time: int,
) -> list[tuple[int, Segment]]:
    """Row by row, a part becomes what the first other example holds in which it differs; the rows in which there was one."""
    waiting = dict(enumerate(parts))
    rows, targets = dict(leaves(dict(base))), dict(leaves(dict(touched)))
    for shift in range(1, DONOR_EXAMPLES + 1):
        if not waiting:
            break
        other = dict(leaves(example_inputs(subject, operation, seed + 1009 * shift, len(parts) + 1, time)))
        for row, part in list(waiting.items()):
            if _exchange(rows, targets, other, row, part):
                del waiting[row]
    return [(row, part) for row, part in enumerate(parts) if row not in waiting]


def _exchange(
    rows: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    row: int,
    segment: Segment,
) -> bool:
    """Whether some row of the other example differs in the part, which is then that row's."""
    paths = [path for path in rows if path in other and f"{path}.".startswith(f"{segment.path}.")]
    for donor in np.roll(np.arange(len(next(iter(rows.values())))), -row):
        pairs = {path: (rows[path][(row, *segment.index)], other[path][(donor, *segment.index)]) for path in paths}
        if any(not np.array_equal(now, new) for now, new in pairs.values()):
            for path, (_, new) in pairs.items():
                targets[path][(row, *segment.index)] = new
            return True
    return False
