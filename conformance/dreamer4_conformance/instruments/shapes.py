"""Shapes at which the suite calls operations: many, or few where each new shape takes seconds (`few_shapes`)."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer4_conformance.instruments.subject import Subject

LEVEL_BATCH = (512, 32)
"""(B, T) of the batch from whose student labels the law of Eq. (4) is judged."""


@dataclass(frozen=True)
class Shapes:
    """Shapes for one kind of adapter, before `min_batch` and `min_time`; those of pairs are (B, T).

    Attributes:
        ordinary: batch of the smoke calls, and of checks that need any batch.
        losses: (B, T, S, D) of loss evaluations, from which Hypothesis draws.
        unequal: batches on which an exchange of B and T shows.
        finite: batch of levels at which a loss must be finite.
        reseeded: batch whose levels differ between seeds.
        weighted: number of batches from which weights are estimated, and their shape.
        one_length: whether an axis has one length where Hypothesis draws lengths otherwise.
    """

    ordinary: tuple[int, int]
    losses: tuple[tuple[int, int, int, int], ...]
    unequal: tuple[tuple[int, int], ...]
    finite: tuple[int, int]
    reseeded: tuple[int, int]
    weighted: tuple[int, tuple[int, int]]
    one_length: bool

    def shortest(self, smallest: int, largest: int) -> int:
        """Shortest length to draw for an axis of `smallest` to `largest`."""
        return largest if self.one_length else smallest


MANY = Shapes(
    ordinary=(3, 4),
    losses=((1, 1, 1, 1), (2, 1, 3, 2), (1, 2, 1, 3), (2, 3, 2, 1), (3, 2, 3, 1), (3, 3, 1, 2), (3, 4, 2, 3)),
    unequal=((2, 3), (3, 2), (3, 3), (3, 1), (1, 3), (1, 1), (2, 2), (6, 5)),
    finite=(64, 4),
    reseeded=(256, 1),
    weighted=(6, (16, 4)),
    one_length=False,
)
FEW = Shapes(
    ordinary=(8, 3),
    losses=((8, 3, 2, 3), (1, 1, 2, 3)),
    unequal=((8, 3), (1, 1)),
    finite=(8, 3),
    reseeded=LEVEL_BATCH,  # compiled already
    weighted=(12, (8, 3)),
    one_length=True,
)


def suite_shapes(subject: Subject) -> Shapes:
    """Shapes for the adapter."""
    return FEW if subject.adapter.few_shapes else MANY
