"""Checks of the tokenizer's shapes: the grid of patches, and the regrouping of its tokens for the dynamics."""

from __future__ import annotations

from functools import partial
from itertools import product

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
"""Height and width of the paper's frames, padded and not, and the text that names them."""


@check("tok.shapes", needs=("patch_grid",))
def check_frames_are_padded_to_full_patches(subject: Subject, trial: Trial) -> None:
    """The grid of patches covers a frame whose sides are padded to multiples of 16. Exact, for the paper's sizes."""
    for (height, width), name in SIZES.items():
        got, expected = frame_grid(subject, height, width), patch_grid(height, width)
        needed = f"with 16×16 pixels it has {expected[0]}×{expected[1]}"
        sentence, call = f"a frame of {name} has {got[0]}×{got[1]} patches; {needed}", f"patch_grid({height}, {width})"
        trial.fail_unless(got == expected, sentence, call=call, got=list(got), expected=list(expected))


@check("tok.shapes", needs=("regroup",))
def check_neighbouring_tokens_are_concatenated(subject: Subject, trial: Trial) -> None:
    """Bottleneck tokens 2i and 2i + 1 become the channels of dynamics token i. Exact.

    Under A36 = other every frame is rearranged in another order, the same for all frames.
    """
    z, call = labelled_latents(), "regroup(labelled_latents())"
    got = subject.compute("regroup", z, shape=(2, 2, *DYNAMICS_SHAPE))
    alone = subject.compute("regroup", z[:1, :1], shape=(1, 1, *DYNAMICS_SHAPE))
    sentence = "the frame of one video alone is regrouped differently"
    trial.fail_unless(np.array_equal(alone, got[:1, :1]), sentence, call="regroup(labelled_latents()[:1, :1])")
    pairs = np.all(got == regroup(z))
    if subject.readings["A36"] == "pairs":
        trial.fail_unless(pairs, _first_mismatch(z, got), call=call)
        return
    trial.fail_unless(not pairs, "tokens 2i and 2i + 1 are concatenated; A36 = other is declared", call=call)
    permuted = np.all(np.sort(got.reshape(4, -1)) == np.sort(z.reshape(4, -1)))
    trial.fail_unless(permuted, "the numbers of a frame are not a permutation of the bottleneck's", call=call)
    same = np.all(got / FRAME_MULTIPLES == got[0, 0])
    trial.fail_unless(same, "frames are not all rearranged in the same order", call=call)


def _first_mismatch(z: np.ndarray, got: np.ndarray) -> str:
    """The first regrouped number that is wrong, and the index of the bottleneck that it comes from."""
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(got != regroup(z))), got.shape))
    sources = [tuple(source) for source in np.argwhere(z == got[index]).tolist()]
    holds = f"holds the bottleneck's {sources[0]}" if sources else "holds no number of the bottleneck"
    return f"regrouped, (row, frame, token, channel) {index} {holds}; tokens 2i and 2i + 1 need to be concatenated"


@signature("patch_grid")
def signature_grids_of_the_papers_frames(subject: Subject) -> np.ndarray:
    """Rows and columns of patches, in tens."""

    def probe(size: tuple[int, int]) -> np.ndarray:
        return np.array(frame_grid(subject, *size)) / 10

    return np.concatenate([attempt(partial(probe, size), 2) for size in SIZES])


@signature("regroup")
def signature_one_frame_alone(subject: Subject) -> np.ndarray:
    """Whether a single frame of one video is regrouped as among others, and whether into consecutive pairs."""
    z = labelled_latents()

    def probe() -> np.ndarray:
        alone = subject.compute("regroup", z[:1, :1], shape=(1, 1, *DYNAMICS_SHAPE))
        among = subject.compute("regroup", z, shape=(2, 2, *DYNAMICS_SHAPE))[:1, :1]
        return np.array([np.array_equal(alone, among), np.array_equal(alone, regroup(z[:1, :1]))], float)

    return attempt(probe, 2)


@signature("regroup")
def signature_sources_of_regrouped_numbers(subject: Subject) -> np.ndarray:
    """The row, frame, token and channel that some regrouped numbers come from, as shares of the bottleneck's shape."""
    z = labelled_latents()
    sources = {value: index for index, value in np.ndenumerate(z)}

    def probe() -> np.ndarray:
        got = subject.compute("regroup", z, shape=(2, 2, *DYNAMICS_SHAPE))
        indices = product((0, 1), (0, 1), (0, 1, 100, 255), (0, 1, 17, 31))
        origins = [sources.get(float(got[index]), (-1, -1, -1, -1)) for index in indices]
        return np.array(origins) / np.array([2, 2, *BOTTLENECK])

    return attempt(probe, 64 * 4)
