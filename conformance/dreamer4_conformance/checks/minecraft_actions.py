"""Checks of Minecraft's actions: 23 binaries, and the mouse in 121 = 11 × 11 μ-law classes.

The unit of a movement and the numbering of classes are the adapter's. Each axis is therefore swept over 28 powers of
two, fewer if the operation rejects large movements; the classes along it are its bins, with edges to the accuracy of
1/64 octave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.dynamics import mouse_classes
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.minecraft_actions import BINARIES, MOUSE_BINS

AXES = ("first", "second")
CLASSES = MOUSE_BINS**2
CENTRE = MOUSE_BINS // 2
STEPS = 64
"""Steps of a sweep per octave."""
EDGE_ROUNDING = 1 / (3 * STEPS)
"""Tolerance of an edge in `signature_bins_of_the_mouse`: above one step of the sweep, 1/(4 STEPS)."""
DIAGONAL = 400
"""Number of movements along both axes that are judged."""
COUNTS = {"binary_actions": BINARIES, "mouse_classes": CLASSES}
"""Keys of `constants` and the paper's values."""


def sweep(subject: Subject) -> np.ndarray:
    """Movements along an axis in ascending order: 0 and ±2⁻¹² to ±2¹⁶, without those that `mouse_class` rejects."""
    size = subject.round(2.0 ** (np.arange(-12 * STEPS, 16 * STEPS) / STEPS))
    least, most = 12 * STEPS + 1, len(size)
    if not _accepts(subject, size[-1]):
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (middle, most) if _accepts(subject, size[middle - 1]) else (least, middle)
        size = size[:least]
    return np.concatenate([-size[::-1], [0.0], size])


def _accepts(subject: Subject, size: float) -> bool:
    try:
        mouse_classes(subject, np.array([[size, 0.0], [-size, size]]))
    except OperationFailed:
        return False
    return True


@dataclass(frozen=True)
class Axis:
    """One axis of the mouse: `x` are the movements along it, in ascending order, `classes` the class of each."""

    name: str
    x: np.ndarray
    classes: np.ndarray

    @property
    def changes(self) -> np.ndarray:
        """Indices of the movements after which the class changes."""
        return np.flatnonzero(np.diff(self.classes))

    @property
    def bins(self) -> list[int]:
        """Class of each bin, from the most negative movement to the most positive."""
        return [int(index) for index in self.classes[np.append(self.changes, len(self.classes) - 1)]]

    @property
    def centre(self) -> int:
        """Index of the bin of no movement; of the first bin with its class."""
        return self.bins.index(int(self.classes[len(self.x) // 2]))

    @property
    def edges(self) -> np.ndarray:
        """Positive edges between bins."""
        return np.asarray(self.x[self.changes[len(self.changes) // 2 :] + 1])


def mouse_axes(subject: Subject) -> list[Axis]:
    """Both axes of the mouse, swept one at a time."""
    x = sweep(subject)
    zeros = np.zeros_like(x)
    pairs = (np.stack([x, zeros], 1), np.stack([zeros, x], 1))
    return [Axis(name, x, mouse_classes(subject, pair)) for name, pair in zip(AXES, pairs, strict=True)]


@check("data.actions", needs=("mouse_class",))
def check_each_axis_of_the_mouse_has_eleven_mu_law_bins(subject: Subject, trial: Trial) -> None:
    """Each axis has 11 classes in order, symmetric about no movement, whose widths grow outwards by a constant factor.

    Ratios of neighbouring widths exceed 1.05 and agree within a quarter; edges are symmetric within two steps.
    """
    for axis in mouse_axes(subject):
        call, bins = f"mouse_class of movements along the {axis.name} axis, up to ±{axis.x[-1]:g}", axis.bins
        sentence = f"a class occurs in two separate ranges of the {axis.name} axis: {bins}"
        trial.fail_unless(len(set(bins)) == len(bins), sentence, call=call)
        sentence = f"the {axis.name} axis has {len(bins)} classes; it needs {MOUSE_BINS}"
        trial.fail_unless(len(bins) == MOUSE_BINS, sentence, call=call, got=bins)
        sentence = f"no movement is in bin {axis.centre} of the {axis.name} axis, counted from 0; it needs bin {CENTRE}"
        trial.fail_unless(axis.centre == CENTRE, sentence, call=call)
        asymmetry = np.abs(axis.changes + axis.changes[::-1] + 1 - (len(axis.x) - 1))
        sentence = f"opposite movements along the {axis.name} axis are not in opposite bins"
        trial.fail_unless((asymmetry <= 2).all(), sentence, call=call, got=axis.x[axis.changes].tolist())
        _fail_unless_widths_grow(trial, axis, call)


def _fail_unless_widths_grow(trial: Trial, axis: Axis, call: str) -> None:
    widths = np.diff(axis.edges)
    ratios = widths[1:] / widths[:-1]
    growth = f"from the centre of the {axis.name} axis the widths of bins grow by {ratios.round(2).tolist()}"
    constant = ratios.min() > 1.05 and ratios.max() < 1.25 * ratios.min()
    sentence = f"{growth}; by a μ-law they grow by a constant factor above 1"
    trial.fail_unless(constant, sentence, call=call, got=axis.edges.tolist())


@check("data.actions", needs=("mouse_class",))
def check_the_class_is_the_pair_of_bins(subject: Subject, trial: Trial) -> None:
    """The 121 pairs of bins are the classes 0 to 120, and a movement has the class of its pair of bins.

    Exact, at the middles of the bins and at random movements that are not next to an edge.
    """
    axes = mouse_axes(subject)
    middles = [_middles(axis) for axis in axes]
    counts = [len(middle) for middle in middles]
    if counts != [MOUSE_BINS] * 2:
        trial.inconclusive(f"the axes have {counts[0]} and {counts[1]} bins; pairs need {MOUSE_BINS} bins on each axis")
    table = mouse_classes(subject, _pairs(*middles)).reshape(MOUSE_BINS, -1)
    classes = sorted(set(table.ravel().tolist()))
    sentence = f"{len(classes)} classes from {classes[0]} to {classes[-1]} occur; 11 × 11 bins are classes 0 to 120"
    trial.fail_unless(classes == list(range(CLASSES)), sentence, call="mouse_class, in the middle of each pair of bins")
    indices = np.random.default_rng(0).integers(len(axes[0].x), size=(2, DIAGONAL))
    indices = indices[:, ~np.any([_next_to_an_edge(*pair) for pair in zip(axes, indices, strict=True)], 0)]
    movement = np.stack([axis.x[i] for axis, i in zip(axes, indices, strict=True)], 1)
    expected = table[tuple(np.searchsorted(axis.changes, i) for axis, i in zip(axes, indices, strict=True))]
    got = mouse_classes(subject, movement)
    worst = int(np.argmax(got != expected))
    sentence = f"movement {movement[worst].tolist()} has class {got[worst]}; its bins have class {expected[worst]}"
    trial.fail_unless(np.array_equal(got, expected), sentence, call=f"mouse_class([{movement[worst].tolist()}])")


def _middles(axis: Axis) -> np.ndarray:
    """A movement in the middle of each bin."""
    ends = np.concatenate([[0], axis.changes + 1, [len(axis.x)]])
    return np.asarray(axis.x[(ends[:-1] + ends[1:]) // 2])


def _pairs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Every movement (N, 2) of a first coordinate with a second one."""
    return np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)


def _next_to_an_edge(axis: Axis, indices: np.ndarray) -> np.ndarray:
    """Whether the class changes directly before or after each indexed movement of an axis."""
    return np.isin(indices, axis.changes) | np.isin(indices - 1, axis.changes)


@check("data.actions", needs=("mouse_class", "constants"))
def check_components_are_counted_as_in_the_paper(subject: Subject, trial: Trial) -> None:
    """The numbers of binary actions and mouse classes in `constants` are 23 and 121. Exact."""
    returned = subject.call("constants")
    declared = {name: returned[name] for name in COUNTS if isinstance(returned, Mapping) and name in returned}
    for name, value in declared.items():
        sentence = f"{name} is {value}; the paper has {COUNTS[name]}"
        got = float(subject.read("constants", value, ()))
        trial.fail_unless(got == COUNTS[name], sentence, call=f"constants()[{name!r}]", got=got, expected=COUNTS[name])
    if not declared:
        trial.inconclusive(f"constants() lacks {' and '.join(COUNTS)}")


@signature("mouse_class", tolerance=EDGE_ROUNDING)
def signature_bins_of_the_mouse(subject: Subject) -> np.ndarray:
    """Number of bins and classes, central bin and edges of each axis; number and range of the classes of pairs."""

    def bins_of(index: int) -> np.ndarray:
        axis = mouse_axes(subject)[index]
        edges = np.log2(axis.edges[:5]) / 4 if len(axis.edges) == 5 else np.full(5, -9.0)
        return np.array([len(axis.bins) / 10, len(set(axis.bins)) / 10, axis.centre / 10, *(edges - edges[0])])

    def classes_of_pairs() -> np.ndarray:
        classes = mouse_classes(subject, _pairs(*(_middles(axis)[:16] for axis in mouse_axes(subject))))
        return np.array([len(set(classes.tolist())), classes.min(), classes.max()]) / 50

    along = [attempt(partial(bins_of, index), 8) for index in (0, 1)]
    return np.concatenate([*along, attempt(classes_of_pairs, 3)])


@signature("constants")
def signature_counted_components(subject: Subject) -> np.ndarray:
    """The deviation of each count from the paper's; 0 if `constants` lacks it."""

    def probe() -> np.ndarray:
        returned = subject.call("constants")
        return np.array([float(returned.get(name, count)) - count for name, count in COUNTS.items()])

    return attempt(probe, len(COUNTS))
