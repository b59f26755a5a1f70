"""Verdicts on influences: what a replaced input has to move, and what it must leave unmoved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dreamer4_conformance.instruments.black_box import Influence, Segment, combined_influences, example_inputs
from dreamer4_conformance.instruments.dynamics import dynamics_mask
from dreamer4_conformance.instruments.layers import (
    COARSE_EPS,
    missing_token_influences,
)
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial
from dreamer4_reference.sec31_masks import modality_mask


def fail_unless_influence(
    trial: Trial, subject: Subject, holds: bool | np.bool_, sentence: str, *, call: str = ""
) -> None:
    """An influence that has to be there. In bfloat16, which may round it away, its absence decides nothing."""
    if not holds and subject.adapter.dtype == "bfloat16":
        trial.inconclusive(f"{sentence}; in bfloat16 it may have been rounded away")
    trial.fail_unless(holds, sentence, call=call)


def fail_unless_mask_follows_reference(
    subject: Subject, trial: Trial, names: tuple[str, ...], about: tuple[str, ...], *, later: bool = False
) -> None:
    """Pairs with a token of `about`, by the reference: within a frame exactly, agents among themselves apart.

    Of earlier frames a mask may leave out what time layers carry; nobody sees an agent token there.
    `later`: pairs with a later frame, in place of all that.
    """
    modality, frame, got = dynamics_mask(subject, names)
    expected = modality_mask("dynamics", modality, frame)
    involved, agent = np.isin(modality, about), np.array(modality) == "agent"
    pairs = (involved[:, None] | involved) & ~(agent[:, None] & agent)
    behind = frame[:, None] - frame
    wrong = (
        (got & (behind < 0))
        if later
        else pairs & np.where(behind == 0, got != expected, got & ~expected & (behind > 0))
    )
    query, key = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    sees, gap = "sees" if got[query, key] else "does not see", int(behind[query, key])
    where = "its own frame" if gap == 0 else f"{'an earlier' if gap > 0 else 'a later'} frame"
    sentence = f"in the dynamics a token of {modality[query]!r} {sees} {modality[key]!r} of {where}"
    call = f"modality_mask('dynamics', {modality}, {frame.tolist()})[{query}, {key}]"
    trial.fail_unless(not wrong.any(), sentence, call=call, got=got.tolist(), expected=expected.tolist())


PLACES = 10
"""Places of a frame of the video that are replaced one by one."""


def fail_unless_every_position_moves_z(subject: Subject, trial: Trial) -> None:
    """Each of some places of a frame of the video, the first and the last of every axis among them, moves z of that frame."""
    axes = example_inputs(subject, "encode", 0, 1, 2)["video"].shape[2:4]
    rng = np.random.default_rng(0)
    drawn = [tuple(int(rng.integers(size)) for size in axes) for _ in range(PLACES)]
    places = dict.fromkeys([tuple(size - 1 for size in axes), (0,) * len(axes), *drawn])
    fail_unless_segments_move_their_frame(
        subject, trial, "encode", [Segment("video", (1, *place)) for place in places], "z"
    )


def fail_unless_segments_move_their_frame(
    subject: Subject, trial: Trial, operation: str, parts: list[Segment], output: str
) -> None:
    """Every part lies in frame 1 of 2."""

    def moves(found: Mapping[Segment, Influence]) -> dict[Segment, bool]:
        return {part: bool(each.frames(output)[-1]) for part, each in found.items()}

    found = moves(
        combined_influences(subject, operation, parts, lambda found: all(moves(found).values()), seed=0, time=2)
    )
    if not any(found.values()):
        trial.inconclusive(f"{operation} does not depend on its input at all")
    for part, holds in found.items():
        sentence = f"frame 1 of {output} does not change with {part}"
        fail_unless_influence(trial, subject, holds, sentence, call=f"{operation}(**example(0, {len(parts) + 1}, 2))")


def fail_unless_tokens_move(
    subject: Subject, trial: Trial, operation: str, parts: list[Segment], time: int, needed: np.ndarray
) -> None:
    """Deviation where only some of what is needed, bool (parts, T, S), moves; inconclusive where none of it does."""
    missing = missing_token_influences(subject, operation, parts, time, needed)
    if needed.any() and (missing == needed).all():
        trial.inconclusive(f"{operation} mixes nothing: are its parameters random, the output projection's too?")
    if missing.any() and subject.eps > COARSE_EPS:
        trial.inconclusive(f"an influence in {operation} was not seen in {subject.adapter.dtype}; float32 decides it")
    row, frame, token = np.argwhere(missing)[0] if missing.any() else (0, 0, 0)
    sentence = f"token {token} of frame {frame} of {operation}'s output does not change with {parts[row]}"
    trial.fail_unless(not missing.any(), sentence, call=f"{operation}(x) and {operation}(x with another {parts[row]})")
