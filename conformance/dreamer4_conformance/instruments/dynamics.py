"""The dynamics as a black box: which frames an input has to reach, and the adapter's mask of its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Inconclusive, NotProvided, OperationFailed

DYNAMICS = ("dynamics", "example")


Influences = Mapping[Segment, Influence]


TIME = 4
"""Frames of the sequences in which influences are looked for."""


def past_frames(subject: Subject) -> int:
    """How many frames back the context goes (A30)."""
    return TIME if subject.window is None else subject.window - 1


def action_delay(subject: Subject, part: Segment) -> int:
    """Frames after which an input has to be seen: an action that is given with frame t may act on the next (A32)."""
    return int(part.path.startswith("actions") and subject.readings["A32"] == "current")


def inputs_of_frames(subject: Subject, time: int) -> list[Segment]:
    """z, τ, d and the actions of every frame; d where it is drawn for each (A3)."""
    names = ("z", "tau", "actions") if subject.readings["A3"] == "sequence" else ("z", "tau", "d", "actions")
    return [Segment(name, (t,)) for t in range(time) for name in names]


def influenced_frames(subject: Subject, part: Segment, time: int) -> range:
    """The frames that a part of frame t has to influence."""
    t = int(part.index[0])
    return range(t + action_delay(subject, part), min(time, t + past_frames(subject) + 1))


def missing_influences(subject: Subject, found: Influences, output: str, time: int) -> Iterator[tuple[Segment, int]]:
    """Parts of a frame, and frames of the output that they should have moved."""
    for part, influence in found.items():
        moved = influence.frames(output)
        yield from ((part, t) for t in influenced_frames(subject, part, time) if not moved[t])


def call_with(part: Segment, time: int) -> str:
    """What a reader would type."""
    return f"dynamics(**example(seed, batch, {time})), and with {part} of another example"


def output_names(found: Influences) -> list[str]:
    """Of `dynamics`: z_hat, and agent where there is one."""
    return list(next(iter(found.values())).moved)


def undecided_unless_z_hat_moves(found: Influences) -> None:
    """Inconclusive where z_hat moves with no input that was replaced: the parameters are not random."""
    moved = [influence.moved["z_hat"] for influence in found.values()]
    if not any(each.any() for each in moved):
        raise Inconclusive("z_hat moves with nothing: are the parameters random, zero-initialised ones too?")


WORLD_TOKENS = ("latent", "register", "label", "action")


MASK = ("modality_mask",)


def dynamics_mask(subject: Subject, names: tuple[str, ...]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Modality and frame of the tokens, two of each modality in two frames, and the adapter's mask.

    Not provided where it raises ValueError: not every model has all of these tokens, and a mask may be the tokenizer's alone.
    """
    modality = [name for name in names for _ in range(1 if name in ("label", "agent") else 2)] * 2
    frame = np.repeat([0, 1], len(modality) // 2)
    try:
        return modality, frame, adapter_mask(subject, "dynamics", modality, frame)
    except OperationFailed as failed:
        if failed.__cause__ is None:
            raise
        reason = f"{failed.message}, for tokens {', '.join(names)}"
        if isinstance(failed.__cause__, ValueError):
            raise NotProvided(reason) from failed
        raise Inconclusive(reason) from failed


def adapter_mask(subject: Subject, kind: str, modality: list[str], frame: np.ndarray) -> np.ndarray:
    """bool (N, N) of the adapter. OperationFailed where it holds anything else."""
    got = subject.compute("modality_mask", kind, modality, frame, shape=(len(modality),) * 2)
    if got.dtype != bool:
        raise OperationFailed(f"modality_mask returned {got.dtype} values; it needs booleans, True = may attend")
    return got


def mouse_classes(subject: Subject, movement: np.ndarray) -> np.ndarray:
    """int (N,). OperationFailed where they are not whole numbers."""
    got = subject.compute("mouse_class", movement, shape=(len(movement),))
    if got.dtype.kind not in "iu":
        raise OperationFailed(f"mouse_class returned {got.dtype} values; it needs whole numbers")
    return got
