"""Roles of the recorded calls of a loss: which rows belong to the student, and which are their two teacher calls.

The paper's three calls are recovered from any order, split or merge. These rules find the student's rows:

1. Rows whose output carries gradient, if they are as many as the rows of the data.
2. Otherwise the rows with gradient, or all rows with d ≥ d_min if none has any, except those that are teachers of
   another row: a teacher has half the step, and the student's input or a level half a step later in the same row.
   A row with gradient is not a teacher if the same call was also made without gradient.
3. Without gradients, a row at d_min may go through the teacher too (A4): of equal inputs the first is the student, and
   a row half a step later is a teacher.
4. Without gradients, `students_per_row` keeps one student per row of the data: the one with the largest step, then with
   the lowest level, since the teacher calls of a row at d_min have a finer step or a later level.

The first teacher call of a student has the student's input where d > d_min; the second is the row nearest to
z̃ + b' d/2 among the remaining rows.

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
        """True if the loss depends on this row's output."""
        return self.gradient is not None and bool(np.any(self.gradient != 0))


@dataclass
class Match:
    """A student row, the row b of the data that it belongs to, and its teacher calls if they were identified."""

    row: int
    student: CallRow
    first: CallRow | None
    second: CallRow | None
    bootstrap: np.ndarray
    """Mask (T,) of the timesteps with d > d_min, where the paper requires teacher calls."""


def call_rows(calls: list[Call]) -> list[CallRow]:
    """Split every call into its rows, in order."""
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


def _same_input(first: CallRow, second: CallRow, where: np.ndarray, tolerance: float) -> bool:
    if first.z.shape != second.z.shape or not where.any():
        return False
    gap = np.abs(first.z[where] - second.z[where])
    return bool(np.all(gap <= tolerance * (1 + np.abs(first.z[where]))))


def students_with_gradient(rows: list[CallRow], expected: int) -> list[CallRow]:
    """The rows that carry gradient if there are `expected` of them, else none (rule 1).

    If there are as many as rows of the data, all are students: with coarse actions, one row may resemble the teacher of
    another.
    """
    carrying = [entry for entry in rows if entry.carries_gradient]
    return carrying if len(carrying) == expected else []


def _students(rows: list[CallRow], d_min: float, tolerance: float, expected: int) -> list[CallRow]:
    """Find the student's rows by rules 1 to 3."""
    with_gradient = students_with_gradient(rows, expected)
    if with_gradient:
        return with_gradient
    carrying = [entry for entry in rows if entry.carries_gradient]
    candidates = carrying or [entry for entry in rows if np.all(entry.d >= d_min)]
    if not candidates:
        return []
    tau, d = (np.stack([getattr(entry, name) for entry in candidates]) for name in ("tau", "d"))
    flow = d <= d_min
    half = np.all((d[:, None] == d / 2) | flow, axis=2) & ~flow.all(1)
    moved = np.all((tau[:, None] == tau + d / 2) | flow, axis=2)

    def is_teacher_of(entry: CallRow, student: CallRow, has_moved: bool) -> bool:
        same_row = entry.actions is not None and student.actions is not None and _same_actions(entry, student)
        return (has_moved and same_row) or _same_input(entry, student, student.d > d_min, tolerance)

    pairs = [(i, j) for i, j in np.argwhere(half) if i != j]
    teachers = {i for i, j in pairs if is_teacher_of(candidates[i], candidates[j], bool(moved[i, j]))}
    detached = [entry for entry in rows if carrying and not entry.carries_gradient]
    # A flow term at the bootstrap term's own input is not a teacher if the same call was also made without gradient.
    teachers = {i for i in teachers if not any(_same_call(candidates[i], entry, tolerance) for entry in detached)}
    students = [entry for index, entry in enumerate(candidates) if index not in teachers]
    return students if carrying else _without_teachers_at_d_min(students, d_min)


def _without_teachers_at_d_min(students: list[CallRow], d_min: float) -> list[CallRow]:
    """Remove teacher calls at d_min by rule 3."""
    flow = [entry for entry in students if np.all(entry.d <= d_min)]
    equal = [(i, j) for j in range(len(flow)) for i in range(j + 1, len(flow)) if np.array_equal(flow[i].z, flow[j].z)]
    repetitions = {i for i, _ in equal}
    originals = [flow[j] for j in sorted({j for _, j in equal} - repetitions)]

    def is_teacher(i: int) -> bool:
        later = (row is not flow[i] and row.actions is not None and _same_actions(row, flow[i]) for row in originals)
        return i in repetitions or any(later)

    teachers = [row for i, row in enumerate(flow) if is_teacher(i)]
    return [entry for entry in students if not any(entry is row for row in teachers)]


def _same_call(first: CallRow, second: CallRow, tolerance: float) -> bool:
    same_labels = np.array_equal(first.tau, second.tau) and np.array_equal(first.d, second.d)
    return same_labels and _same_input(first, second, np.ones_like(first.d, bool), tolerance)


def _same_actions(first: CallRow, second: CallRow) -> bool:
    return first.actions is None or second.actions is None or np.array_equal(first.actions, second.actions)


def _row(entry: CallRow, z1: np.ndarray, actions: np.ndarray, position: int | None) -> int | None:
    """Row b of the data by its actions, else by the likelihood of the noise; None if two rows are as likely."""
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
    """Match the student rows with the rows of the data and with their teacher calls.

    Args:
        calls: all recorded calls of one evaluation.
        z1: clean data passed to the loss, (B, T, S, D).
        actions: actions passed to the loss, (B, T, A).
        network: the analytic network that was called.
        d_min: 1 / K_max.
        eps: spacing of 1 in the adapter's dtype.

    Returns:
        One match per student row, none if there is no student; None if rows of the data cannot be distinguished.
    """
    rows = [entry for entry in call_rows(calls) if entry.z.shape == z1.shape[1:]]
    tolerance = 4 * eps
    students = _students(rows, d_min, tolerance, len(z1))
    if len(students) == 0:
        return []
    remaining = [entry for entry in rows if not any(entry is student for student in students)]
    matches = []
    in_order = len(students) == len(z1)
    for position, student in enumerate(students):
        row = _row(student, z1, actions, position if in_order else None)
        if row is None:
            return None
        bootstrap = student.d > d_min
        first = _first_teacher(student, remaining, bootstrap, tolerance)
        remaining = [entry for entry in remaining if entry is not first]
        matches.append(Match(row, student, first, None, bootstrap))
    _assign_second(matches, remaining, network)
    return matches


def students_per_row(
    calls: list[Call], z1: np.ndarray, actions: np.ndarray, network: AnalyticNetwork, *, d_min: float, eps: float
) -> list[CallRow]:
    """Find the student's rows by rules 1 to 4. Arguments as of `match_calls`.

    Returns:
        The rows; none if there is no student or rows of the data cannot be distinguished.
    """
    matches = match_calls(calls, z1, actions, network, d_min=d_min, eps=eps) or []
    if any(match.student.carries_gradient for match in matches):
        return [match.student for match in matches]
    finest_first = sorted(matches, key=lambda match: (match.student.d.sum(), -match.student.tau.sum()))
    return list({match.row: match.student for match in finest_first}.values())


def _first_teacher(student: CallRow, rows: list[CallRow], bootstrap: np.ndarray, tolerance: float) -> CallRow | None:
    """The nearest row that has the student's input where d > d_min, preferably one labelled d/2.

    An additional call, made for logging, has the same input.
    """
    if not rows or not bootstrap.any():
        return None
    gaps = np.abs(np.stack([entry.z for entry in rows]) - student.z)[:, bootstrap].max((1, 2, 3))

    def order(index: int) -> tuple[bool, float]:
        entry = rows[index]
        labelled = np.all((entry.tau == student.tau) & (2 * entry.d == student.d), where=bootstrap)
        return not labelled, float(gaps[index])

    near = np.flatnonzero(gaps <= tolerance * (1 + np.abs(student.z[bootstrap]).max())).tolist()
    equal = [index for index in near if _same_input(student, rows[index], bootstrap, tolerance)]
    return rows[min(equal, key=order)] if equal else None


def _second_input(network: AnalyticNetwork, student: CallRow) -> np.ndarray:
    """z' = z̃ + b' d/2 at the labels that were used, on the grid or not."""
    actions = None if student.actions is None else student.actions[None]
    z1_hat = network(student.z[None], student.tau[None], student.d[None] / 2, actions)[0]
    remaining = np.maximum(1 - student.tau, student.d)[:, None, None]
    return np.asarray(student.z + (z1_hat - student.z) / remaining * student.d[:, None, None] / 2)


def _assign_second(matches: list[Match], rows: list[CallRow], network: AnalyticNetwork) -> None:
    """Assign the nearest row to every student with bootstrap timesteps, the nearest pairs first."""
    if not rows:
        return
    inputs, pairs = np.stack([entry.z for entry in rows]), []
    for index, match in enumerate(matches):
        if match.bootstrap.any():
            z_prime = _second_input(network, match.student)
            gaps = np.abs(inputs - z_prime)[:, match.bootstrap].mean((1, 2, 3))
            pairs += [
                (not _same_actions(match.student, entry), gap, index, row)
                for row, (entry, gap) in enumerate(zip(rows, gaps.tolist(), strict=True))
            ]
    taken: set[int] = set()
    for _, _, index, row in sorted(pairs):
        if matches[index].second is None and row not in taken:
            matches[index].second = rows[row]
            taken.add(row)
