"""Roles of the recorded calls of a loss: which rows belong to the student, and which are their two teacher calls.

The paper's three calls are recovered from any order, split or merge. If z0, τ and d were passed to the loss, a row with
the input z̃ and the labels (τ, d) is the student. Otherwise, or if a student is missing, these rules find the rows:

1. Rows that the loss depends on by its gradient, if they are as many as the rows of the data.
2. Otherwise the rows that it depends on, or all rows with d ≥ d_min if gradients do not tell, except those that are
   teachers of another row. A teacher has half the step; the first has the student's input, the second has a level half
   a step later and the input z̃ + b' d/2. If more rows than the data has remain, that input is wrong: then a row with
   such a level and the student's actions is a teacher too. A row with gradient is not a teacher if the same call was
   also made without gradient.
3. Without gradients, of equal calls the first is the student's. A row at d_min may go through the teacher too (A4): of
   equal inputs the first is the student. The second teacher is then recognised as in rule 2, after 0, d/2 or d.
4. Without gradients, a teacher call that no rule recognises has no teacher calls of its own, or adds a student to some
   rows. Then `students_per_row` keeps one student per row of the data: the one with the largest step, then with the
   lowest level, since teacher calls have a finer step or a later level.

`row_assignment` assigns the students to the rows of the data.

The first teacher call of a student has the student's input where d > d_min. The second is the remaining row with the
input z̃ + b' d/2, of several one with the labels (τ + d/2, d/2); else one with these labels, because the input is
wrong; else the nearest (`assign_in_turn`).

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.instruments.recorder import AnalyticNetwork, Call
from dreamer4_conformance.instruments.row_assignment import (
    MARGIN,
    RowAssignment,
    assign_in_turn,
    assign_rows,
    other_target,
    same_actions,
    surprise,
)


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
    def differentiable(self) -> bool:
        """True unless the loss is known not to depend on this call's output."""
        return self.gradient is not None

    @property
    def carries_gradient(self) -> bool:
        """True if the gradient with respect to this row's output is not zero."""
        return self.gradient is not None and bool(np.any(self.gradient != 0))


@dataclass(frozen=True)
class State:
    """What the student of every row of the data must receive: z (B, T, S, D), tau and d (B, T)."""

    z: np.ndarray
    tau: np.ndarray
    d: np.ndarray


@dataclass
class Match:
    """A student row, the row b of the data that it belongs to, and its teacher calls if they were identified."""

    row: int
    student: CallRow
    first: CallRow | None
    second: CallRow | None
    bootstrap: np.ndarray
    """Mask (T,) of the timesteps with d > d_min, where the paper requires teacher calls."""
    certain: bool = True
    """False if the student's input may as well come from another row with other data."""
    identified: bool = True
    """False if it may as well come from another row, even one of equal data."""

    @property
    def is_complete(self) -> bool:
        """True if both teacher calls were identified, or none is required."""
        return not self.bootstrap.any() or (self.first is not None and self.second is not None)


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
    """The rows that the loss depends on if there are `expected` of them, else none (rule 1).

    If there are as many as rows of the data, all are students: with coarse actions, one row may resemble the teacher of
    another. An output whose gradient is zero, as of a clamped error, may still be one that the loss depends on.
    """
    for group in ([row for row in rows if row.differentiable], [row for row in rows if row.carries_gradient]):
        if len(group) == expected:
            return group
    return []


def _candidates(rows: list[CallRow], d_min: float, expected: int) -> list[CallRow]:
    """Rows that may be the student's: those that the loss depends on, if the gradients tell, else all with d ≥ d_min.

    Some frameworks report a zero gradient for an output that the loss does not depend on; there only rows whose
    gradient is not zero are known to be the student's.
    """
    differentiable = [row for row in rows if row.differentiable]
    if 0 < len(differentiable) < len(rows):
        return differentiable
    carrying = [row for row in rows if row.carries_gradient]
    return carrying if len(carrying) >= expected else [row for row in rows if np.all(row.d >= d_min)]


def _students(rows: list[CallRow], d_min: float, tolerance: float, expected: int) -> list[CallRow]:
    """Find the student's rows by rules 1 to 3."""
    with_gradient = students_with_gradient(rows, expected)
    if with_gradient:
        return with_gradient
    candidates = _candidates(rows, d_min, expected)
    if not candidates:
        return []
    carrying = any(row.carries_gradient for row in candidates)
    if not carrying:
        candidates = _without_repetitions(candidates, d_min, expected)
    detached = [row for row in rows if carrying and not row.carries_gradient]
    # A flow term at the bootstrap term's own input is not a teacher if the same call was also made without gradient.
    teachers = {
        index
        for index in _teachers(candidates, d_min, tolerance, expected)
        if not any(_same_call(candidates[index], row, tolerance) for row in detached)
    }
    students = [row for index, row in enumerate(candidates) if index not in teachers]
    return students if carrying else _without_teachers_at_d_min(students, d_min, tolerance, expected)


def _without_repetitions(rows: list[CallRow], d_min: float, expected: int) -> list[CallRow]:
    """Keep the first of equal rows above d_min, unless the batch itself must have equal rows."""

    def content(row: CallRow) -> object:
        arrays = [array for array in (row.z, row.tau, row.d, row.actions) if array is not None]
        return id(row) if np.all(row.d <= d_min) else tuple(array.tobytes() for array in arrays)

    distinct: dict[object, CallRow] = {}
    for row in rows:
        distinct.setdefault(content(row), row)
    return list(distinct.values()) if len(distinct) >= expected else rows


def _teachers(rows: list[CallRow], d_min: float, tolerance: float, expected: int) -> set[int]:
    """Indices of the rows that are teachers of another row above d_min (rule 2)."""
    tau, d = (np.stack([getattr(row, name) for row in rows]) for name in ("tau", "d"))
    flow: np.ndarray = d <= d_min
    half = np.all((d == d[:, None] / 2) | flow[:, None], axis=2) & ~flow.all(1, keepdims=True)
    moved = half & np.all((tau == (tau + d / 2)[:, None]) | flow[:, None], axis=2)
    first = [
        (student, teacher)
        for student, teacher in np.argwhere(half).tolist()
        if student != teacher and _same_input(rows[teacher], rows[student], ~flow[student], tolerance)
    ]
    # If b' = 0, the second call has this input too; of both, the output of the one labelled τ is kept.
    first.sort(key=lambda pair: np.array_equal(*tau[list(pair)]))
    outputs = {student: rows[teacher].output for student, teacher in first}
    second = _second_teachers(rows, outputs, moved, ~flow, (0.5,), tolerance)
    teachers = {teacher for _, teacher in first} | set(second.values())
    if len(rows) - len(teachers) > expected:
        teachers |= _with_equal_actions(rows, moved, second)
    return teachers


def _second_teachers(
    rows: list[CallRow],
    outputs: Mapping[int, np.ndarray],
    allowed: np.ndarray,
    where: np.ndarray,
    shares: Sequence[float],
    tolerance: float,
) -> dict[int, int]:
    """Second teacher of each student, recognised by its input: index of the student → index of the teacher.

    Args:
        rows: N rows.
        outputs: index of a student → output of its first teacher call.
        allowed: mask of the pairs (student, teacher), (N, N).
        where: timesteps at which the inputs are compared, (N, T).
        shares: as of `_distances`.
        tolerance: relative, of the input.
    """
    gaps = np.full(allowed.shape, np.inf)
    inputs = np.stack([row.z for row in rows])
    for student, z1_hat in outputs.items():
        later = np.flatnonzero(allowed[student])
        distance, equal = _distances(inputs[later], rows[student], z1_hat, where[student], tolerance, shares)
        gaps[student, later] = np.where(equal, distance, np.inf)
    return {student: teacher for student, teacher in enumerate(assign_in_turn([gaps]).tolist()) if teacher >= 0}


def _with_equal_actions(rows: list[CallRow], allowed: np.ndarray, second: Mapping[int, int]) -> set[int]:
    """Indices of the rows that are allowed to be the teacher of a student without one and have its actions."""
    return {
        teacher
        for student, teacher in np.argwhere(allowed).tolist()
        if student not in second and rows[student].actions is not None and _same_actions(rows[teacher], rows[student])
    }


def _students_of_state(rows: list[CallRow], state: State, tolerance: float) -> list[CallRow]:
    """The student of every row of the data by its known state: input and labels. None if one is missing.

    Of equal calls, the one that the loss depends on is the student.
    """
    students: list[CallRow] = []
    ordered = sorted(rows, key=lambda row: (not row.carries_gradient, not row.differentiable))
    for z, tau, d in zip(state.z, state.tau, state.d, strict=True):
        for row in ordered:
            labelled = np.array_equal(row.tau, tau) and np.array_equal(row.d, d)
            scale = 1 + np.abs(z) / np.maximum(1 - tau, 1e-3)[:, None, None]
            if labelled and np.all(np.abs(row.z - z) <= tolerance * scale) and not _contains(students, row):
                students.append(row)
                break
    return students if len(students) == len(state.z) else []


def _contains(rows: list[CallRow], entry: CallRow) -> bool:
    return any(row is entry for row in rows)


def _without_teachers_at_d_min(students: list[CallRow], d_min: float, tolerance: float, expected: int) -> list[CallRow]:
    """Remove teacher calls at d_min by rule 3."""
    flow = [row for row in students if np.all(row.d <= d_min)]
    equal = [(j, i) for j in range(len(flow)) for i in range(j + 1, len(flow)) if np.array_equal(flow[i].z, flow[j].z)]
    first = {i for _, i in equal}
    outputs = {j: flow[i].output for j, i in equal if j not in first}
    if not outputs:
        return students
    allowed = np.zeros((len(flow), len(flow)), bool)
    free = [i for i in range(len(flow)) if i not in first and i not in outputs]
    allowed[np.ix_(list(outputs), free)] = True
    tau = np.stack([row.tau for row in flow])
    later = tau - tau[:, None]
    allowed &= np.all((later >= 0) & (later <= d_min), axis=2)
    second = _second_teachers(flow, outputs, allowed, np.ones_like(tau, bool), (0.0, 0.5, 1.0), tolerance)
    teachers = {*first, *second.values()}
    if len(students) - len(teachers) > expected:
        teachers |= _with_equal_actions(flow, allowed, second)
    calls_of_teachers = [flow[i] for i in teachers]
    return [row for row in students if not _contains(calls_of_teachers, row)]


def _same_call(first: CallRow, second: CallRow, tolerance: float) -> bool:
    same_labels = np.array_equal(first.tau, second.tau) and np.array_equal(first.d, second.d)
    return same_labels and _same_input(first, second, np.ones_like(first.d, bool), tolerance)


def _same_actions(first: CallRow, second: CallRow) -> bool:
    return first.actions is None or second.actions is None or np.array_equal(first.actions, second.actions)


def match_calls(
    calls: list[Call],
    z1: np.ndarray,
    actions: np.ndarray,
    network: AnalyticNetwork,
    *,
    d_min: float,
    eps: float,
    state: State | None = None,
) -> list[Match]:
    """Match the student rows with the rows of the data and with their teacher calls.

    Args:
        calls: all recorded calls of one evaluation.
        z1: clean data passed to the loss, (B, T, S, D).
        actions: actions passed to the loss, (B, T, A).
        network: the analytic network that was called.
        d_min: 1 / K_max.
        eps: spacing of 1 in the adapter's dtype.
        state: the student's input and labels in the order of the data, if they were passed to the loss.

    Returns:
        One match per student row, none if there is no student.
    """
    rows = [entry for entry in call_rows(calls) if entry.z.shape == z1.shape[1:]]
    tolerance = 4 * eps
    students = [] if state is None else _students_of_state(rows, state, tolerance)
    everything = np.ones(len(students), bool)
    assignment = RowAssignment(np.arange(len(students)), everything, everything)
    if not students:
        students = _students(rows, d_min, tolerance, len(z1))
        if not students:
            return []
        assignment = _assign(students, z1, actions, d_min)
    remaining = [entry for entry in rows if not _contains(students, entry)]
    matches = []
    columns = (assignment.rows, assignment.certain, assignment.identified)
    for student, row, certain, identified in zip(students, *map(np.ndarray.tolist, columns), strict=True):
        bootstrap = student.d > d_min
        first = _first_teacher(student, remaining, bootstrap, tolerance)
        remaining = [entry for entry in remaining if entry is not first]
        matches.append(Match(row, student, first, None, bootstrap, certain, identified))
    _assign_second(matches, remaining, network, tolerance)
    return matches


def _assign(students: list[CallRow], z1: np.ndarray, actions: np.ndarray, d_min: float) -> RowAssignment:
    z, tau = (np.stack([getattr(student, name) for student in students]) for name in ("z", "tau"))
    allowed = same_actions([student.actions for student in students], actions)
    cost = surprise(z, tau, z1)
    if all(student.gradient is not None for student in students):
        gradient, output = (
            np.stack([getattr(student, name) for student in students]) for name in ("gradient", "output")
        )
        flow = np.stack([student.d <= d_min for student in students])
        cost = cost + 2 * MARGIN * other_target(gradient, output, flow, z1)
    return assign_rows(np.where(allowed, cost, np.inf), z1)


def students_per_row(
    calls: list[Call], z1: np.ndarray, actions: np.ndarray, network: AnalyticNetwork, *, d_min: float, eps: float
) -> list[CallRow]:
    """Find the student's rows by rules 1 to 4. Arguments as of `match_calls`.

    Returns:
        The rows; none if there is no student.
    """
    matches = match_calls(calls, z1, actions, network, d_min=d_min, eps=eps)
    equally_many = len(matches) % len(z1) == 0 and all(match.is_complete for match in matches)
    if equally_many or any(match.student.carries_gradient for match in matches):
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


def _distances(
    inputs: np.ndarray,
    student: CallRow,
    z1_hat: np.ndarray,
    where: np.ndarray,
    tolerance: float,
    shares: Sequence[float] = (0.5,),
) -> tuple[np.ndarray, np.ndarray]:
    """Largest distance of each input from the second teacher's, (N,), and whether it is one of rounding, (N,).

    Args:
        inputs: N rows, (N, T, S, D).
        student: labelled τ and d, on the grid or not.
        z1_hat: output of its first teacher call, (T, S, D).
        where: timesteps that are compared, (T,).
        tolerance: relative to the terms of z̃ + b' d share.
        shares: steps between the teacher calls in units of d; in each timestep the nearest is taken.
    """
    remaining = np.maximum(1 - student.tau, student.d)[:, None, None]
    step = (z1_hat - student.z) / remaining * student.d[:, None, None]
    by_share = [np.abs(inputs - student.z - share * step).max((2, 3)) for share in shares]
    distance = np.min(by_share, axis=0)[:, where].max(1)
    terms = np.abs(student.z) + np.abs(z1_hat)
    return distance, distance <= 2 * tolerance * (1 + terms[where].max())


def _first_output(match: Match, network: AnalyticNetwork) -> np.ndarray:
    """Output of the first teacher call, or what the network returns for it if it is missing."""
    if match.first is not None:
        return match.first.output
    row = match.student
    actions = None if row.actions is None else row.actions[None]
    return network(row.z[None], row.tau[None], row.d[None] / 2, actions)[0]


def _labelled_second(student: CallRow, tau: np.ndarray, d: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mask (N,) of the labels (N, T) that are (τ + d/2, d/2) at these timesteps, off the grid within rounding."""
    right = (np.abs(tau - student.tau - student.d / 2) <= 1e-6) & (d == student.d / 2)
    return np.asarray(right.all(1, where=where))


def _assign_second(matches: list[Match], rows: list[CallRow], network: AnalyticNetwork, tolerance: float) -> None:
    """Assign to each student with bootstrap timesteps a row of its own, in the order of the module's docstring.

    As many students as possible have an equal input, then as many as possible right labels, because the nearest row may
    be another student's if the input is wrong. Of equally good rows, one with the student's actions is preferred.
    """
    students = [match for match in matches if match.bootstrap.any()]
    if not rows or not students:
        return
    inputs, tau, d = (np.stack([getattr(row, name) for row in rows]) for name in ("z", "tau", "d"))
    distances, same, equal, labelled = [], [], [], []
    for match in students:
        z1_hat = _first_output(match, network)
        distance, is_equal = _distances(inputs, match.student, z1_hat, match.bootstrap, tolerance)
        distances.append(distance)
        equal.append(is_equal)
        same.append([_same_actions(match.student, row) for row in rows])
        labelled.append(_labelled_second(match.student, tau, d, match.bootstrap))
    masks = [np.array(equal) & np.array(labelled), np.array(equal), np.array(labelled), np.ones_like(equal)]
    order = [mask & among for mask in masks for among in (np.array(same), np.array(True))]
    second = assign_in_turn([np.where(mask, distances, np.inf) for mask in order])
    for match, index in zip(students, second.tolist(), strict=True):
        match.second = None if index < 0 else rows[index]
