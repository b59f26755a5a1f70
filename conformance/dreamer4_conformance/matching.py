"""Which recorded row is the student's, and which are its two teacher calls: the paper's three calls recovered from any order, split or merge.

The student is the row whose output carries gradient; where there is no gradient, labels and inputs tell. The first teacher call sees the student's
own input where d > d_min; the second is the row nearest to z̃ + b' d/2 among those left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.recorder import AnalyticNetwork, Call


@dataclass(eq=False)
class Entry:
    """One row of one call: z, output (T, S, D); tau, d (T,); actions (T, A); gradient as output, or None."""

    call: int
    z: np.ndarray
    tau: np.ndarray
    d: np.ndarray
    actions: np.ndarray | None
    output: np.ndarray
    copied: bool
    gradient: np.ndarray | None

    @property
    def carries_gradient(self) -> bool:
        """Whether the loss moves with this row's output."""
        return self.gradient is not None and bool(np.any(self.gradient != 0))


@dataclass
class Match:
    """A student row with the row b of the data that it belongs to, and its teacher calls where they were found."""

    row: int
    student: Entry
    first: Entry | None
    second: Entry | None
    bootstrap: np.ndarray
    """Timesteps (T,) where d > d_min: there the paper asks for teacher calls."""


def entries(calls: list[Call]) -> list[Entry]:
    """Every row of every call, in order."""
    return [
        Entry(
            index,
            call.z[row],
            call.tau[row],
            call.d[row],
            None if call.actions is None else call.actions[row],
            call.output[row],
            call.copied,
            None if call.gradient is None else call.gradient[row],
        )
        for index, call in enumerate(calls)
        for row in range(len(call.z))
    ]


def _same_input(one: Entry, other: Entry, where: np.ndarray, tolerance: float) -> bool:
    if one.z.shape != other.z.shape or not where.any():
        return False
    gap = np.abs(one.z[where] - other.z[where])
    return bool(np.all(gap <= tolerance * (1 + np.abs(one.z[where]))))


def _students(rows: list[Entry], d_min: float, tolerance: float) -> list[Entry]:
    """Rows that no other row explains as its teacher, among those with gradient where there is any."""
    carrying = [entry for entry in rows if entry.carries_gradient]
    candidates = carrying or rows

    def is_teacher(entry: Entry) -> bool:
        for other in candidates:
            bootstrap = other.d > d_min
            if other is entry or not bootstrap.any() or entry.z.shape != other.z.shape:
                continue
            half = np.all(entry.d[bootstrap] == other.d[bootstrap] / 2)
            moved = np.all(entry.tau[bootstrap] == (other.tau + other.d / 2)[bootstrap])
            same_row = entry.actions is not None and other.actions is not None and _same_actions(entry, other)
            if half and (_same_input(entry, other, bootstrap, tolerance) or (moved and same_row)):
                return True
        return False

    return [entry for entry in candidates if not is_teacher(entry)]


def _same_actions(one: Entry, other: Entry) -> bool:
    return one.actions is None or other.actions is None or np.array_equal(one.actions, other.actions)


def _row(entry: Entry, z1: np.ndarray, actions: np.ndarray, position: int | None) -> int | None:
    """Row b of the data: by its actions, else by how likely the noise is that the labels imply. None where two rows explain it."""
    if entry.actions is not None and entry.actions.shape == actions.shape[1:]:
        equal = [b for b in range(len(actions)) if np.allclose(entry.actions, actions[b], rtol=1e-2, atol=1e-2)]
        if len(equal) == 1:
            return equal[0]
    if len(z1) == 1:
        return 0
    tau = np.minimum(entry.tau, 1 - 1e-3)[:, None, None]
    surprise = (((entry.z - tau * z1) / (1 - tau)) ** 2).sum((1, 2, 3)) / 2
    best = int(np.argmin(surprise))
    if position is not None and surprise[position] <= surprise[best] + 30:
        return position
    return best if np.sort(surprise)[1] > surprise[best] + 30 else None


def match(
    calls: list[Call],
    z1: np.ndarray,
    actions: np.ndarray,
    network: AnalyticNetwork,
    *,
    d_min: float,
    eps: float,
) -> list[Match] | None:
    """The student rows with their teachers; None where a row of the data cannot be told apart from another.

    z1 (B, T, S, D), actions (B, T, A), as handed to the loss.
    """
    rows = [entry for entry in entries(calls) if entry.z.shape == z1.shape[1:]]
    tolerance = 4 * eps
    students = _students(rows, d_min, tolerance)
    if len(students) == 0:
        return []
    left = [entry for entry in rows if not any(entry is student for student in students)]
    matches = []
    in_order = len(students) == len(z1)
    for position, student in enumerate(students):
        row = _row(student, z1, actions, position if in_order else None)
        if row is None:
            return None
        bootstrap = student.d > d_min
        alike = [entry for entry in left if _same_input(student, entry, bootstrap, tolerance)]
        first = min(alike, key=lambda entry: float(np.abs(entry.z - student.z)[bootstrap].max()), default=None)
        if first is not None:
            left.remove(first)
        matches.append(Match(row, student, first, None, bootstrap))
    _assign_second(matches, left, network)
    return matches


def _second_input(network: AnalyticNetwork, student: Entry) -> np.ndarray:
    """z' = z̃ + b' d/2 at whatever labels were used, on the grid or not."""
    given = None if student.actions is None else student.actions[None]
    z1_hat = network(student.z[None], student.tau[None], student.d[None] / 2, given)[0]
    remaining = np.maximum(1 - student.tau, student.d)[:, None, None]
    return np.asarray(student.z + (z1_hat - student.z) / remaining * student.d[:, None, None] / 2)


def _assign_second(matches: list[Match], left: list[Entry], network: AnalyticNetwork) -> None:
    """Gives every student with bootstrap timesteps the nearest of the rows left; the nearest pairs first."""
    pairs = []
    for index, found in enumerate(matches):
        if not found.bootstrap.any():
            continue
        student = found.student
        z_prime = _second_input(network, student)
        for entry in left:
            gap = float(np.abs(entry.z - z_prime)[found.bootstrap].mean())
            pairs.append((not _same_actions(student, entry), gap, index, entry))
    taken: list[Entry] = []
    for _, _, index, entry in sorted(pairs, key=lambda pair: pair[:3]):
        if matches[index].second is None and not any(entry is other for other in taken):
            matches[index].second = entry
            taken.append(entry)
