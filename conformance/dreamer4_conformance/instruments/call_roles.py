"""Roles of the recorded calls of a loss: which rows are the student's, and which are their two teacher calls.

The paper's three calls are recovered from any order, split or merge. The student's rows are found by these rules:

1. Rows whose output carries gradient, where they are as many as the rows of the data.
2. Otherwise the rows with gradient, or all rows with d ≥ d_min where none has any, that no other row explains as its
   teacher: a teacher has half the step, and sees the student's own input or stands half a step later in the same row.
   A row with gradient is no teacher where the same call was made without gradient as well.
3. Without gradient a row at d_min may go through the teacher too (A4): of equal inputs the first is the student, and a
   row half a step later is a teacher.
4. `students_per_row` keeps one student for each row of the data without gradient: that with the largest step, then with
   the lowest level, since what a row at d_min carries in teacher calls has a finer step or a later level.

The first teacher call of a student sees its own input where d > d_min; the second is the row nearest to z̃ + b' d/2 among
those left.

    >>> from dreamer4_conformance.instruments.recorder import CONSTANT
    >>> z, actions = np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1))
    >>> def call(z, tau, d):
    ...     tau, d = np.array([[tau]]), np.array([[d]])
    ...     return Call(z, tau, d, actions, CONSTANT(z, tau, d, actions))
    >>> calls = [call(z, 0.0, 0.25), call(z + 1, 0.25, 0.25), call(z, 0.0, 0.5)]
    >>> [roles] = match_calls(calls, z, actions, CONSTANT, d_min=0.25, eps=1e-16)
    >>> roles.student.call, roles.first.call, roles.second.call
    (2, 0, 1)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call


@dataclass(eq=False)
class CallRow:
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
    student: CallRow
    first: CallRow | None
    second: CallRow | None
    bootstrap: np.ndarray
    """Timesteps (T,) where d > d_min: there the paper asks for teacher calls."""


def call_rows(calls: list[Call]) -> list[CallRow]:
    """Every row of every call, in order."""
    return [
        CallRow(
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


def _same_input(one: CallRow, other: CallRow, where: np.ndarray, tolerance: float) -> bool:
    if one.z.shape != other.z.shape or not where.any():
        return False
    gap = np.abs(one.z[where] - other.z[where])
    return bool(np.all(gap <= tolerance * (1 + np.abs(one.z[where]))))


def students_with_gradient(rows: list[CallRow], expected: int) -> list[CallRow]:
    """The rows that carry gradient where there are `expected` of them, else none (rule 1).

    As many as the data has rows are all students: coarse actions may make one row look like the teacher of another.
    """
    carrying = [entry for entry in rows if entry.carries_gradient]
    return carrying if len(carrying) == expected else []


def _students(rows: list[CallRow], d_min: float, tolerance: float, expected: int) -> list[CallRow]:
    """The student's rows by rules 1 to 3."""
    with_gradient = students_with_gradient(rows, expected)
    if with_gradient:
        return with_gradient
    carrying = [entry for entry in rows if entry.carries_gradient]
    candidates = carrying or [entry for entry in rows if np.all(entry.d >= d_min)]
    if not candidates:
        return []
    tau, d = (np.stack([getattr(entry, name) for entry in candidates]) for name in ("tau", "d"))
    elsewhere = d <= d_min
    half = np.all((d[:, None] == d / 2) | elsewhere, axis=2) & ~elsewhere.all(1)
    moved = np.all((tau[:, None] == tau + d / 2) | elsewhere, axis=2)

    def explains(other: CallRow, entry: CallRow, has_moved: bool) -> bool:
        same_row = entry.actions is not None and other.actions is not None and _same_actions(entry, other)
        return (has_moved and same_row) or _same_input(entry, other, other.d > d_min, tolerance)

    teachers = {i for i, j in np.argwhere(half) if i != j and explains(candidates[j], candidates[i], bool(moved[i, j]))}
    silent = [entry for entry in rows if carrying and not entry.carries_gradient]
    # A flow term at the bootstrap term's own input is no teacher where the same call was made without gradient as well.
    teachers = {i for i in teachers if not any(_same_call(candidates[i], entry, tolerance) for entry in silent)}
    students = [entry for index, entry in enumerate(candidates) if index not in teachers]
    return students if carrying else _apart_from_teachers_at_d_min(students, d_min)


def _apart_from_teachers_at_d_min(students: list[CallRow], d_min: float) -> list[CallRow]:
    """Without gradient, and where a row at d_min goes through the teacher too (A4): of equal inputs the first.

    A row half a step on is none either.
    """
    flow = [entry for entry in students if np.all(entry.d <= d_min)]
    again = [(i, j) for j in range(len(flow)) for i in range(j + 1, len(flow)) if np.array_equal(flow[i].z, flow[j].z)]
    twice = {i for i, _ in again}
    repeated = [flow[j] for j in sorted({j for _, j in again} - twice)]

    def is_teacher(entry: CallRow) -> bool:
        if any(entry is flow[i] for i in twice):
            return True
        return any(one is not entry and one.actions is not None and _same_actions(one, entry) for one in repeated)

    return [entry for entry in students if not (any(entry is one for one in flow) and is_teacher(entry))]


def _same_call(one: CallRow, other: CallRow, tolerance: float) -> bool:
    same_labels = np.array_equal(one.tau, other.tau) and np.array_equal(one.d, other.d)
    return same_labels and _same_input(one, other, np.ones_like(one.d, bool), tolerance)


def _same_actions(one: CallRow, other: CallRow) -> bool:
    return one.actions is None or other.actions is None or np.array_equal(one.actions, other.actions)


def _row(entry: CallRow, z1: np.ndarray, actions: np.ndarray, position: int | None) -> int | None:
    """Row b of the data: by its actions, else by how likely the noise is that the labels imply. None where two rows explain it."""
    if entry.actions is not None and entry.actions.shape == actions.shape[1:]:
        equal = np.flatnonzero(np.all(np.abs(entry.actions - actions) <= 1e-2 * (1 + np.abs(actions)), axis=(1, 2)))
        if len(equal) == 1:
            return int(equal[0])
    if len(z1) == 1:
        return 0
    tau = np.minimum(entry.tau, 1 - 1e-3)[:, None, None]
    surprise = (((entry.z - tau * z1) / (1 - tau)) ** 2).sum((1, 2, 3)) / 2
    best = int(np.argmin(surprise))
    if position is not None and surprise[position] <= surprise[best] + 30:
        return position
    return best if np.sort(surprise)[1] > surprise[best] + 30 else None


def match_calls(
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
    rows = [entry for entry in call_rows(calls) if entry.z.shape == z1.shape[1:]]
    tolerance = 4 * eps
    students = _students(rows, d_min, tolerance, len(z1))
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
        first = _first_teacher(student, left, bootstrap, tolerance)
        left = [entry for entry in left if entry is not first]
        matches.append(Match(row, student, first, None, bootstrap))
    _assign_second(matches, left, network)
    return matches


def students_per_row(
    calls: list[Call], z1: np.ndarray, actions: np.ndarray, network: AnalyticNetwork, *, d_min: float, eps: float
) -> list[CallRow]:
    """The student's rows by rules 1 to 4; none where rows of the data cannot be distinguished. Arguments as of `match`."""
    matches = match_calls(calls, z1, actions, network, d_min=d_min, eps=eps) or []
    if any(match_calls.student.carries_gradient for match_calls in matches):
        return [match_calls.student for match_calls in matches]
    finest_first = sorted(
        matches, key=lambda match_calls: (match_calls.student.d.sum(), -match_calls.student.tau.sum())
    )
    return list({match_calls.row: match_calls.student for match_calls in finest_first}.values())


def _first_teacher(student: CallRow, left: list[CallRow], bootstrap: np.ndarray, tolerance: float) -> CallRow | None:
    """Of the rows with the student's own input where d > d_min the nearest; one labelled d/2 before any other.

    A call beyond the paper's three, made to log something, has that input as well.
    """
    if not left or not bootstrap.any():
        return None
    gaps = np.abs(np.stack([entry.z for entry in left]) - student.z)[:, bootstrap].max((1, 2, 3))

    def order(place: int) -> tuple[bool, float]:
        entry = left[place]
        labelled = np.all((entry.tau == student.tau) & (2 * entry.d == student.d), where=bootstrap)
        return not labelled, float(gaps[place])

    near = np.flatnonzero(gaps <= tolerance * (1 + np.abs(student.z[bootstrap]).max())).tolist()
    alike = [place for place in near if _same_input(student, left[place], bootstrap, tolerance)]
    return left[min(alike, key=order)] if alike else None


def _second_input(network: AnalyticNetwork, student: CallRow) -> np.ndarray:
    """z' = z̃ + b' d/2 at whatever labels were used, on the grid or not."""
    given = None if student.actions is None else student.actions[None]
    z1_hat = network(student.z[None], student.tau[None], student.d[None] / 2, given)[0]
    remaining = np.maximum(1 - student.tau, student.d)[:, None, None]
    return np.asarray(student.z + (z1_hat - student.z) / remaining * student.d[:, None, None] / 2)


def _assign_second(matches: list[Match], left: list[CallRow], network: AnalyticNetwork) -> None:
    """Gives every student with bootstrap timesteps the nearest of the rows left; the nearest pairs first."""
    if not left:
        return
    inputs, pairs = np.stack([entry.z for entry in left]), []
    for index, found in enumerate(matches):
        if found.bootstrap.any():
            z_prime = _second_input(network, found.student)
            gaps = np.abs(inputs - z_prime)[:, found.bootstrap].mean((1, 2, 3))
            pairs += [
                (not _same_actions(found.student, entry), gap, index, place)
                for place, (entry, gap) in enumerate(zip(left, gaps.tolist(), strict=True))
            ]
    taken: set[int] = set()
    for _, _, index, place in sorted(pairs):
        if matches[index].second is None and place not in taken:
            matches[index].second = left[place]
            taken.add(place)
