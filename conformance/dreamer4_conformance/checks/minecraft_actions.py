"""Checks of Minecraft's actions: 23 binaries, and the mouse in 121 = 11 × 11 μ-law classes.

The unit of a movement is the adapter's own, and so is the numbering of the classes: each axis is swept over 28 powers of two, and the bins of an axis
are known by the class of a movement along it. Edges between bins are found to a sixty-fourth of a doubling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dreamer4_conformance.instruments.dynamics import mouse_classes
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_reference.minecraft_actions import BINARIES, MOUSE_BINS

AXES = ("first", "second")
CLASSES = MOUSE_BINS**2
CENTRE = MOUSE_BINS // 2
STEPS = 64
"""Steps of a sweep to a doubling."""
DIAGONAL = 400
"""Movements along both axes."""
COUNTS = {"binary_actions": BINARIES, "mouse_classes": CLASSES}
"""Keys of `constants` and what they count."""


def sweep(subject: Subject) -> np.ndarray:
    """Movements along an axis, ascending and symmetric, from 2⁻¹² to 2¹⁶ and 0."""
    size = 2.0 ** (np.arange(-12 * STEPS, 16 * STEPS) / STEPS)
    return subject.round(np.concatenate([-size[::-1], [0.0], size]))


@dataclass(frozen=True)
class Axis:
    """One axis: the movements along it, the class of each, and the classes in the order in which they are met."""

    name: str
    x: np.ndarray
    seen: np.ndarray

    @property
    def changes(self) -> np.ndarray:
        """Places after which the class is another."""
        return np.flatnonzero(np.diff(self.seen))

    @property
    def bins(self) -> np.ndarray:
        """Class of each bin, from the most negative movement to the most positive."""
        return self.seen[np.append(self.changes, len(self.seen) - 1)]

    @property
    def edges(self) -> np.ndarray:
        """Those of the positive side."""
        return np.asarray(self.x[self.changes[len(self.changes) // 2 :] + 1])

    @property
    def widths(self) -> np.ndarray:
        """Of the bins between the edges, from the one next to the centre outwards; the last has no end."""
        return np.diff(self.edges)


def axes(subject: Subject) -> list[Axis]:
    """Both."""
    x = sweep(subject)
    still = np.zeros_like(x)
    pairs = (np.stack([x, still], 1), np.stack([still, x], 1))
    return [Axis(name, x, mouse_classes(subject, pair)) for name, pair in zip(AXES, pairs, strict=True)]


@check("data.actions", needs=("mouse_class",))
def check_each_axis_of_the_mouse_has_eleven_mu_law_bins(subject: Subject, trial: Trial) -> None:
    """In order, symmetric about no movement, and wider outwards by a factor that is the same from bin to bin, within a quarter."""
    for axis in axes(subject):
        call = f"mouse_class of movements along the {axis.name} axis, from −2¹⁶ to 2¹⁶"
        bins = axis.bins.tolist()
        in_order = len(set(bins)) == len(bins)
        trial.fail_unless(
            in_order, f"the classes along the {axis.name} axis do not follow each other: {bins}", call=call
        )
        sentence = f"the {axis.name} axis has {len(bins)} classes; it needs {MOUSE_BINS}"
        trial.fail_unless(len(bins) == MOUSE_BINS, sentence, call=call, got=bins)
        still = int(axis.seen[len(axis.x) // 2])
        sentence = f"no movement is class {bins.index(still) + 1} of {MOUSE_BINS} along the {axis.name} axis; it is the middle one"
        trial.fail_unless(bins.index(still) == CENTRE, sentence, call=call)
        mirrored = np.abs(axis.changes + axis.changes[::-1] + 1 - (len(axis.x) - 1))
        sentence = f"opposite movements along the {axis.name} axis are not in opposite classes"
        trial.fail_unless((mirrored <= 2).all(), sentence, call=call, got=axis.x[axis.changes].tolist())
        _widen(trial, axis, call)


def _widen(trial: Trial, axis: Axis, call: str) -> None:
    ratios = axis.widths[1:] / axis.widths[:-1]
    shown = ratios.round(2).tolist()
    sentence = f"along the {axis.name} axis each bin is {shown} times as wide as the one before it; by a μ-law they widen by one factor above 1"
    trial.fail_unless(
        ratios.min() > 1.05 and ratios.max() < 1.25 * ratios.min(), sentence, call=call, got=axis.edges.tolist()
    )


@check("data.actions", needs=("mouse_class",))
def check_the_class_is_the_pair_of_bins(subject: Subject, trial: Trial) -> None:
    """Exact: 121 pairs of bins are 121 classes, 0 to 120; other movements have the class of their pair, away from the edges."""
    one, other = axes(subject)
    x, y = (_middles(axis) for axis in (one, other))
    if len(x) != MOUSE_BINS or len(y) != MOUSE_BINS:
        trial.inconclusive(f"the axes have {len(x)} and {len(y)} classes, so pairs of them cannot be told")
    table = mouse_classes(subject, np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)).reshape(
        MOUSE_BINS, -1
    )
    found = sorted(set(table.ravel().tolist()))
    sentence = f"{len(found)} classes from {found[0]} to {found[-1]} occur; 11 × 11 bins are {CLASSES}, from 0 to {CLASSES - 1}"
    trial.fail_unless(found == list(range(CLASSES)), sentence, call="mouse_class, in the middle of each pair of bins")
    rng = np.random.default_rng(0)
    i, j = rng.integers(len(one.x), size=(2, DIAGONAL))
    far = ~_beside_an_edge(one, i) & ~_beside_an_edge(other, j)
    movement = np.stack([one.x[i], other.x[j]], 1)[far]
    expected = table[np.searchsorted(one.changes, i[far]), np.searchsorted(other.changes, j[far])]
    got = mouse_classes(subject, movement)
    worst = int(np.argmax(got != expected))
    sentence = f"movement {movement[worst].tolist()} is class {got[worst]}; its bins along the axes are class {expected[worst]}"
    trial.fail_unless(np.array_equal(got, expected), sentence, call=f"mouse_class([{movement[worst].tolist()}])")


def _middles(axis: Axis) -> np.ndarray:
    """A movement in each bin."""
    ends = np.concatenate([[0], axis.changes + 1, [len(axis.x)]])
    middle = (ends[:-1] + ends[1:]) // 2
    return np.asarray(axis.x[middle])


def _beside_an_edge(axis: Axis, places: np.ndarray) -> np.ndarray:
    """Whether a change of class follows a place or comes just before it."""
    return np.isin(places, axis.changes) | np.isin(places - 1, axis.changes)


@check("data.actions", needs=("mouse_class", "constants"))
def check_components_are_counted_as_in_the_paper(subject: Subject, trial: Trial) -> None:
    """Where `constants` counts them."""
    returned = subject.call("constants")
    counted = {name: returned[name] for name in COUNTS if isinstance(returned, Mapping) and name in returned}
    for name, value in counted.items():
        sentence = f"{name} is {value}; the paper has {COUNTS[name]}"
        got = float(subject.read("constants", value, ()))
        trial.fail_unless(got == COUNTS[name], sentence, call=f"constants()[{name!r}]", got=got, expected=COUNTS[name])
    if not counted:
        trial.inconclusive(f"constants() lacks {' and '.join(COUNTS)}")


@signature("mouse_class")
def signature_bins_of_the_mouse(subject: Subject) -> np.ndarray:
    """Number of bins, place of the centre, ratios of widths, order, and how many classes there are, on movements along the axes and between."""

    def of_axis(axis: Axis) -> np.ndarray:
        bins = axis.bins.tolist()
        edges = np.log2(axis.edges[:5]) / 4 if len(axis.edges) == 5 else np.full(5, -9.0)
        place = bins.index(axis.seen[len(axis.x) // 2])
        return np.array([len(bins) / 10, len(set(bins)) / 10, place / 10, *(edges - edges[0])])

    def spread() -> np.ndarray:
        one, other = axes(subject)
        pairs = np.stack(np.meshgrid(_middles(one)[:16], _middles(other)[:16], indexing="ij"), -1).reshape(-1, 2)
        found = mouse_classes(subject, pairs)
        return np.array([len(set(found.tolist())), found.min(), found.max()]) / 50

    along = [attempt(lambda index=index: of_axis(axes(subject)[index]), 8) for index in (0, 1)]  # type: ignore[misc]
    return np.concatenate([*along, attempt(spread, 3)])


@signature("constants")
def signature_counted_components(subject: Subject) -> np.ndarray:
    """How far each is off; 0 where it is not counted."""

    def probe() -> np.ndarray:
        returned = subject.call("constants")
        return np.array([float(returned.get(name, count)) - count for name, count in COUNTS.items()])

    return attempt(probe, len(COUNTS))
