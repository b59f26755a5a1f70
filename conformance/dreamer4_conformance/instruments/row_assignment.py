"""Assignment of the student's rows to the rows of the data that they were computed from, never by the order of calls.

A loss may call the network on any subset or order of the rows. A row of the data is recognised by its actions if the
network receives them, and by the likelihood of the noise z0 = (z̃ − τ z1)/(1 − τ), which is standard normal for the
right row only. At τ = 0 the input does not depend on the data; there the gradient at d_min tells the target, and the
others are assigned jointly, to the rows that remain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

MARGIN = 30.0
"""Difference of log-likelihoods from which a row is recognised: an error has a probability of about e^−30."""
JOINT = 6
"""Largest number of rows whose permutations are compared."""


@dataclass(frozen=True)
class RowAssignment:
    """Rows of the data of M students, (M,).

    `certain` (M,): the data of the row was recognised. `identified` (M,): the row itself was, among rows of equal data.
    """

    rows: np.ndarray
    certain: np.ndarray
    identified: np.ndarray


def surprise(z: np.ndarray, tau: np.ndarray, z1: np.ndarray) -> np.ndarray:
    """−log-likelihood (M, B) of the noise in inputs z (M, T, S, D) at levels tau (M, T) for data z1 (B, T, S, D)."""
    level = np.minimum(tau, 1 - 1e-3)[:, None, :, None, None]
    noise = (z[:, None] - level * z1) / (1 - level)
    return np.nan_to_num((noise**2).sum((2, 3, 4)) / 2, nan=np.inf)


def other_target(gradient: np.ndarray, output: np.ndarray, flow: np.ndarray, z1: np.ndarray) -> np.ndarray:
    """Mask (M, B): at a timestep at d_min the gradient of student m does not point from z1 of row b to its output.

    Args:
        gradient: with respect to the outputs, (M, T, S, D).
        output: of the network, (M, T, S, D).
        flow: mask of the timesteps at d_min, (M, T).
        z1: data, (B, T, S, D).
    """
    error = output[:, None] - z1
    along = (error * gradient[:, None]).sum((3, 4))
    lengths = np.sqrt((error**2).sum((3, 4)) * (gradient**2).sum((2, 3))[:, None])
    return np.asarray((flow[:, None] & (along < 0.99 * lengths)).any(2))


def same_actions(received: list[np.ndarray | None], actions: np.ndarray) -> np.ndarray:
    """Mask (M, B): row b has the actions that student m received. All True where these are of another kind."""
    allowed = np.ones((len(received), len(actions)), bool)
    for index, entry in enumerate(received):
        if entry is not None and entry.shape == actions.shape[1:]:
            equal = np.all(np.abs(entry - actions) <= 1e-2 * (1 + np.abs(actions)), axis=(1, 2))
            allowed[index] = equal | ~equal.any()
    return allowed


def assign_rows(cost: np.ndarray, z1: np.ndarray) -> RowAssignment:
    """Assign students to rows of the data.

    A student goes to the row of the lowest cost if every row with other data costs at least `MARGIN` more. The others
    share the rows that remain, if every row has equally many students: the cheapest permutation is taken.

    Args:
        cost: −log-likelihood of each pair, infinite if impossible, (M, B).
        z1: data, (B, T, S, D); rows with equal data are interchangeable.

    Returns:
        The rows. They are certain where all permutations within `MARGIN` of the cheapest agree.

    Example:
        >>> z1 = np.arange(3.0).reshape(3, 1, 1, 1)
        >>> found = assign_rows(np.array([[0.0, 90.0, 90.0], [5.0, 5.0, 5.0], [90.0, 90.0, 0.0]]), z1)
        >>> found.rows.tolist(), found.certain.tolist()
        ([0, 1, 2], [True, True, True])
    """
    group = np.unique(z1.reshape(len(z1), -1), axis=0, return_inverse=True)[1].ravel()
    rows, numbers = cost.argmin(1), np.arange(len(z1))
    certain, identified = (_stands_out(cost, rows, labels) for labels in (group, numbers))
    unclear = np.flatnonzero(~certain)
    share, remainder = divmod(len(cost), len(z1))
    capacity = share - np.bincount(rows[certain], minlength=len(z1))
    if 0 < len(unclear) <= JOINT and remainder == 0 and (capacity >= 0).all():
        best, near = _cheapest(cost[unclear], np.repeat(numbers, capacity))
        rows[unclear] = best
        certain[unclear], identified[unclear] = ((labels[near] == labels[best]).all(0) for labels in (group, numbers))
    return RowAssignment(rows, certain, identified)


def _stands_out(cost: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mask (M,): every row with another label costs at least `MARGIN` more than the student's."""
    rivals = np.where(labels == labels[rows][:, None], np.inf, cost).min(1)
    return np.asarray(rivals > cost.min(1) + MARGIN)


def _cheapest(cost: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest permutation of the slots, (M,), and all that cost at most `MARGIN` more, (N, M)."""
    orders = np.array(list(permutations(range(len(slots)))))
    total = cost[:, slots][np.arange(len(cost)), orders].sum(1)
    return slots[orders[total.argmin()]], slots[orders[total <= total.min() + MARGIN]]


def assign_in_turn(costs: Sequence[np.ndarray]) -> np.ndarray:
    """Assign a row of its own to each student: by the first costs to as many as possible, to the others by the next.

    A student receives the cheapest row that is free. If all rows that it may have are taken, students before it move
    to other rows if that frees one.

    Args:
        costs: of each pair, infinite if impossible, (M, N) each.

    Returns:
        The row of each student, (M,); −1 if there is none for it.

    Example:
        >>> both, first = [0.0, 1.0], [0.1, np.inf]
        >>> assign_in_turn([np.array([both, first])]).tolist()
        [1, 0]
    """
    assigned = np.full(len(costs[0]), -1)
    for cost in costs:
        free = np.setdiff1d(np.arange(cost.shape[1]), assigned)
        choices = {}
        for student in np.flatnonzero(assigned < 0).tolist():
            possible = free[np.isfinite(cost[student, free])]
            choices[student] = possible[np.argsort(cost[student, possible], kind="stable")].tolist()
        for student, row in _matching(choices).items():
            assigned[student] = row
    return assigned


def _matching(choices: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """Student → row for as many students as possible, by shortest augmenting paths."""
    students: dict[int, int] = {}  # by row
    rows: dict[int, int] = {}  # by student
    exhausted: set[int] = set()  # rows that no move of students frees
    for newcomer in choices:
        wanted_by: dict[int, int] = {}
        queue = deque([newcomer])
        path_end = None
        while queue and path_end is None:
            student = queue.popleft()
            for row in choices[student]:
                if row not in wanted_by and row not in exhausted:
                    wanted_by[row] = student
                    if row not in students:
                        path_end = row
                        break
                    queue.append(students[row])
        if path_end is None:
            exhausted |= wanted_by.keys()
        while path_end is not None:
            student = wanted_by[path_end]
            students[path_end] = student
            rows[student], path_end = path_end, rows.get(student)
    return rows
