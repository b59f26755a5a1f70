"""Who influences whom: parts of a black box's input are replaced, and the outputs that move are seen.

A part is replaced in one row of a batch by what another example holds there, so that every input stays valid; row by row the outputs are then
compared with those of the batch as it was, bit for bit. Shapes are the same in both runs, so what does not depend on a part does not move at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamer4_conformance.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, OperationFailed

ROWS = 16
"""Rows of one run, so that a large model stays within bounds."""
SEARCHED = 12
"""Examples that are searched for another value of a part."""

Tree = Any
"""An array, None, or a dict, list or tuple of such."""

BLACK_BOXES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dynamics": (("z", "tau", "d", "actions", "task", "labelled"), ("z_hat", "agent")),
    "encode": (("video",), ("z",)),
    "decode": (("z",), ("video",)),
    "reconstruct": (("video",), ("video",)),
    "space_layer": (("x",), ("x",)),
    "time_layer": (("x",), ("x",)),
}
"""The arguments and the outputs of every black box."""


@dataclass(frozen=True)
class Part:
    """A part of the input: `path` into the example ("z", "actions.keys"), `index` behind the batch axis, () for all of it.

    >>> print(Part("z", (2, 1)), Part("actions.0", (3,)), Part("task"))
    z[2, 1] actions.0[3] task
    """

    path: str
    index: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.path + (f"[{', '.join(map(str, self.index))}]" if self.index else "")


@dataclass(frozen=True)
class Influence:
    """What moved when `part` was replaced: output → bool array of that output's shape, without the batch axis."""

    part: Part
    moved: Mapping[str, np.ndarray]

    def frames(self, output: str) -> np.ndarray:
        """bool (T,): the frames of an output in which anything moved."""
        moved = self.moved[output]
        return moved.reshape(len(moved), -1).any(1)


def arguments(subject: Subject, operation: str, seed: int, batch: int, time: int) -> dict[str, Tree]:
    """The adapter's example, in NumPy, as far as the operation takes it; `task` is None and `labelled` True where it is left out."""
    names, _ = BLACK_BOXES[operation]
    example = subject.call("example", seed, batch, time)
    if not isinstance(example, Mapping):
        raise OperationFailed(f"example returned {type(example).__name__}; it needs a dict")
    found = {name: _numpy(subject, f"example: {name}", example[name]) for name in names if name in example}
    defaults: dict[str, Tree] = {"task": None, "actions": None, "labelled": np.ones(batch, bool)}
    missing = [name for name in names if name not in found and name not in defaults]
    if missing:
        raise OperationFailed(f"example has no {' and no '.join(map(repr, missing))}, which {operation} takes")
    return {name: found[name] if name in found else defaults[name] for name in names}


def _numpy(subject: Subject, name: str, tree: Tree) -> Tree:
    if isinstance(tree, Mapping):
        return {key: _numpy(subject, name, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_numpy(subject, name, value) for value in tree]
    return None if tree is None else subject.read(name, tree)


def native(subject: Subject, tree: Tree) -> Tree:
    """The tree in arrays of the adapter's framework."""
    if isinstance(tree, Mapping):
        return {key: native(subject, value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [native(subject, value) for value in tree]
    return subject.native(tree)


def run(subject: Subject, operation: str, given: Mapping[str, Tree]) -> dict[str, np.ndarray]:
    """The outputs of a black box by name; those that it leaves None are left out."""
    names, outputs = BLACK_BOXES[operation]
    returned = subject.call(operation, *(native(subject, given[name]) for name in names))
    values = returned if len(outputs) > 1 else (returned,)
    if not isinstance(values, tuple | list) or len(values) != len(outputs):
        raise OperationFailed(
            f"{operation} returned {type(returned).__name__}; it needs a tuple ({', '.join(outputs)})"
        )
    return {
        name: subject.read(f"{operation}: {name}", value)
        for name, value in zip(outputs, values, strict=True)
        if value is not None
    }


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


def components(given: Mapping[str, Tree]) -> list[Part]:
    """Every action component: an array of a dict or list, or one channel of a single array (B, T, A)."""
    actions = given["actions"]
    if isinstance(actions, np.ndarray) and actions.ndim == 3:
        return [Part("actions", (slice(None), channel)) for channel in range(actions.shape[2])]
    return [Part(path) for path, _ in leaves(actions, "actions")]


def influences(
    subject: Subject,
    operation: str,
    parts: list[Part],
    *,
    seed: int,
    time: int,
    given: Mapping[str, Tree] | None = None,
) -> list[Influence]:
    """What each part moves. `given` replaces inputs of the example, for all rows alike, before anything else."""
    found: list[Influence] = []
    for first in range(0, len(parts), ROWS):
        found.extend(_influences(subject, operation, parts[first : first + ROWS], seed + first, time, given or {}))
    return found


def _influences(
    subject: Subject, operation: str, parts: list[Part], seed: int, time: int, given: Mapping[str, Tree]
) -> list[Influence]:
    base = {**arguments(subject, operation, seed, len(parts), time), **given}
    touched = {name: _copy(tree) for name, tree in base.items()}
    for row, part in enumerate(parts):
        _replace(subject, operation, base, touched, row, part, seed, time)
    before, after = run(subject, operation, base), run(subject, operation, touched)
    return [
        Influence(part, {name: ~_same(before[name][row], after[name][row]) for name in before})
        for row, part in enumerate(parts)
    ]


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray((one == other) | ((one != one) & (other != other)))


def _copy(tree: Tree) -> Tree:
    if isinstance(tree, Mapping):
        return {key: _copy(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_copy(value) for value in tree]
    return None if tree is None else tree.copy()


def _replace(
    subject: Subject,
    operation: str,
    base: Mapping[str, Tree],
    touched: Mapping[str, Tree],
    row: int,
    part: Part,
    seed: int,
    time: int,
) -> None:
    """The part of one row becomes that of the first other example in which it differs."""
    batch, index = len(next(leaves(base))[1]), (row, *part.index)
    now = dict(leaves(base))[part.path][index]
    for shift in range(1, SEARCHED + 1):
        other = dict(leaves(arguments(subject, operation, seed + 1009 * shift, batch, time)))[part.path][index]
        if np.shape(other) == np.shape(now) and not np.array_equal(other, now):
            dict(leaves(touched))[part.path][index] = other
            return
    raise Inconclusive(f"example gives the same {part} at {SEARCHED} seeds: its influence cannot be seen")
