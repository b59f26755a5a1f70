"""Checks of the tokenizer's shapes: the grid of patches, and how its tokens are regrouped for the dynamics."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.instruments.tokenizer import (
    BOTTLENECK,
    DYNAMICS_SHAPE,
    FRAME_MULTIPLES,
    frame_grid,
    labelled_latents,
)
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_reference.sec31_tokenizer import patch_grid, regroup

SIZES = {(360, 640): "360×640 padded to 384×640", (384, 640): "384×640", (256, 256): "256×256"}
"""Height and width of the paper's frames, the padded one too."""


@check("tok.shapes", needs=("patch_grid",))
def check_frames_are_padded_to_whole_patches(subject: Subject, trial: Trial) -> None:
    """Exact, for the two sizes of the paper."""
    for (height, width), name in SIZES.items():
        (rows, columns), expected = frame_grid(subject, height, width), patch_grid(height, width)
        sentence = (
            f"a frame of {name} makes {rows}×{columns} patches; of 16×16 pixels it makes {expected[0]}×{expected[1]}"
        )
        call = f"patch_grid({height}, {width})"
        trial.fail_unless(
            (rows, columns) == expected, sentence, call=call, got=[rows, columns], expected=list(expected)
        )


@check("tok.shapes", needs=("regroup",))
def check_neighbouring_tokens_go_side_by_side(subject: Subject, trial: Trial) -> None:
    """Exact; under A36 "other" every frame is put in another order, the same for all."""
    z = labelled_latents()
    got, call = subject.compute("regroup", z, shape=(2, 2, *DYNAMICS_SHAPE)), "regroup(labelled_latents())"
    pairs = bool((got == regroup(z)).all())
    if subject.readings["A36"] == "pairs":
        trial.fail_unless(pairs, _what_went_where(z, got), call=call)
        return
    trial.fail_unless(not pairs, "consecutive tokens go side by side; declared is A36 = other", call=call)
    kept = bool((np.sort(got.reshape(4, -1)) == np.sort(z.reshape(4, -1))).all())
    trial.fail_unless(kept, "the numbers of a frame are not those of the bottleneck in another order", call=call)
    same = bool((got / FRAME_MULTIPLES == got[0, 0]).all())
    trial.fail_unless(same, "frames are not all put in the same order", call=call)


def _what_went_where(z: np.ndarray, got: np.ndarray) -> str:
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(got != regroup(z))), got.shape))
    source = [tuple(each) for each in np.argwhere(z == got[place]).tolist()]
    holds = f"holds the bottleneck's {source[0]}" if source else "holds no number of the bottleneck"
    return f"regrouped, (row, frame, token, channel) {place} {holds}; tokens 2i and 2i + 1 go side by side"


@signature("patch_grid")
def signature_grids_of_the_papers_frames(subject: Subject) -> np.ndarray:
    """In tens of patches."""
    rows_and_columns = (attempt(lambda size=size: np.array(frame_grid(subject, *size)) / 10, 2) for size in SIZES)  # type: ignore[misc]
    return np.concatenate(list(rows_and_columns))


@signature("regroup")
def signature_where_numbers_go(subject: Subject) -> np.ndarray:
    """At some places of two frames: the frame, token and channel that the number came from, as shares."""
    z = labelled_latents()
    source = {value: place for place, value in np.ndenumerate(z)}

    def probe() -> np.ndarray:
        got = subject.compute("regroup", z, shape=(2, 2, *DYNAMICS_SHAPE))
        places = [(b, t, s, c) for b in (0, 1) for t in (0, 1) for s in (0, 1, 100, 255) for c in (0, 1, 17, 31)]
        found = [source.get(float(got[place]), (-1, -1, -1, -1)) for place in places]
        return np.array(found) / np.array([2, 2, *BOTTLENECK])

    return attempt(probe, 64 * 4)
