"""Checks of the tokenizer's masks: `modality_mask` by its rule, and the influences that the models must have."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.black_box import Segment, example_inputs, influences, spread_positions
from dreamer4_conformance.instruments.dynamics import MASK, adapter_mask, frame_mask
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import (
    fail_unless_every_number_moves,
    fail_unless_segments_move_their_frame,
)
from dreamer4_conformance.verdicts import NotProvided, OperationFailed
from dreamer4_reference.sec31_masks import Kind, decoder_may_attend, encoder_may_attend, modality_mask

ONE_MODALITY, THREE_MODALITIES = ("latent", "image"), ("latent", "image", "sound", "touch")
"""Latents with one modality, and with three; the names of the last two are arbitrary."""
FRAMES = 4
RULES = {"encoder": encoder_may_attend, "decoder": decoder_may_attend}


def modalities(subject: Subject, kind: str) -> tuple[str, ...]:
    """Latents and the modalities that the adapter's mask supports: images only if it raises for more."""
    try:
        adapter_mask(subject, kind, list(THREE_MODALITIES), np.zeros(len(THREE_MODALITIES), np.int64))
    except (OperationFailed, NotProvided):
        return ONE_MODALITY
    return THREE_MODALITIES


@check("tok.encoder-mask", needs_one=MASK)
def check_encoder_mask_follows_its_rule(subject: Subject, trial: Trial) -> None:
    """In the encoder latents attend to every modality, and each modality only to itself: see `_fail_unless_rule`."""
    _fail_unless_rule(subject, trial, "encoder")


@check("tok.decoder-mask", needs_one=MASK)
def check_decoder_mask_follows_its_rule(subject: Subject, trial: Trial) -> None:
    """In the decoder modalities attend to themselves and latents, latents to latents: see `_fail_unless_rule`."""
    _fail_unless_rule(subject, trial, "decoder")


def _fail_unless_rule(subject: Subject, trial: Trial, kind: Kind) -> None:
    """Judge the mask of random tokens, in any order and number. Exact.

    Within a frame it must be the rule; later frames are hidden. Of earlier frames it may hide anything, as time layers
    may carry it, but shows nothing that the rule forbids. A mask that raises ValueError for latents and images is not
    provided: it is that of another model.
    """
    names = modalities(subject, kind)
    undecided_unless_mask_exists(subject, kind)
    tokens = st.lists(st.tuples(st.sampled_from(names), st.integers(0, FRAMES - 1)), min_size=1, max_size=16)

    def holds(drawn: list[tuple[str, int]]) -> None:
        modality, frame = [name for name, _ in drawn], np.array([t for _, t in drawn], np.int64)
        _compare(subject, trial, kind, modality, frame)

    # All modalities in both of two frames: Hypothesis may miss some pairs.
    _compare(subject, trial, kind, 2 * [*names, *names], np.repeat([0, 1], 2 * len(names)))
    trial.for_all(tokens, body=holds)


def undecided_unless_mask_exists(subject: Subject, kind: str) -> None:
    """Require a mask of latents and images.

    Raises:
        NotProvided: if the operation raises ValueError for them.
    """
    try:
        adapter_mask(subject, kind, list(ONE_MODALITY), np.zeros(len(ONE_MODALITY), np.int64))
    except OperationFailed as failed:
        if isinstance(failed.__cause__, ValueError):
            raise NotProvided(f"{failed.message}, for the {kind}'s {' and '.join(ONE_MODALITY)}") from failed
        raise


def _compare(subject: Subject, trial: Trial, kind: Kind, modality: list[str], frame: np.ndarray) -> None:
    expected = modality_mask(kind, modality, frame)
    if subject.provides("modality_mask"):
        _compare_masks(trial, kind, modality, frame, adapter_mask(subject, kind, modality, frame), expected)
    if subject.provides("space_mask"):
        tokens = [name for name, inside in zip(modality, frame == frame[0], strict=True) if inside]
        # In the order of the operation, so that its call shows the mask that is reported.
        tokens.sort(key=list(dict.fromkeys(tokens)).index)
        first = np.zeros(len(tokens), np.int64)
        own = modality_mask(kind, tokens, first)
        _compare_masks(trial, kind, tokens, first, frame_mask(subject, kind, tokens), own)


def _compare_masks(
    trial: Trial, kind: Kind, modality: list[str], frame: np.ndarray, got: np.ndarray, expected: np.ndarray
) -> None:
    gap = frame[:, None] - frame
    wrong = np.where(gap > 0, got & ~expected, got != expected)
    query, key = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    call = f"mask of the {kind} for {modality} of frames {frame.tolist()}, row {query}, column {key}"
    attends = "attends" if got[query, key] else "does not attend"
    sentence = _sentence(kind, f"{modality[query]!r} {attends} to {modality[key]!r}", int(gap[query, key]))
    trial.fail_unless(not wrong.any(), sentence, call=call, got=got.tolist(), expected=expected.tolist())


def _sentence(kind: str, pair: str, gap: int) -> str:
    where = "its own frame" if gap == 0 else "an earlier frame" if gap > 0 else "a later frame"
    rules = {
        "encoder": "latents attend to every modality, a modality only to itself, and no token to later frames",
        "decoder": "a modality attends to itself and latents, latents only to latents, and no token to later frames",
    }
    return f"in the {kind} a token of {pair} of {where}; {rules[kind]}"


@check("tok.encoder-mask", needs=("encode", "example"))
def check_latents_depend_on_every_position_of_their_frame(subject: Subject, trial: Trial) -> None:
    """One number of a frame of the video is replaced: z of that frame must change, wherever the number lies."""
    fail_unless_every_number_moves(subject, trial, "encode", "z")


@check("tok.decoder-mask", needs=("decode", "example"))
def check_video_depends_on_every_latent(subject: Subject, trial: Trial) -> None:
    """One latent is replaced, the first and the last among others: its frame of the video must change."""
    tokens = example_inputs(subject, "decode", 0, 1, 2)["z"].shape[2]
    segments = [Segment("z", (1, s)) for s in spread_positions(tokens)]
    fail_unless_segments_move_their_frame(subject, trial, "decode", segments, "video")


def _mask_entries(subject: Subject, kind: str, names: tuple[str, ...]) -> np.ndarray:
    """Entries that the paper decides: within a frame, of later frames, and of earlier frames against the rule."""
    count, rule = len(names), RULES[kind]
    got = adapter_mask(subject, kind, [*names, *names], np.repeat([0, 1], count))
    forbidden = np.array([[not rule(query, key) for key in names] for query in names])
    within, earlier = (got[:count, :count], got[count:, count:]), got[count:, :count][forbidden]
    return np.concatenate([block.ravel() for block in (*within, got[:count, count:], earlier)]).astype(np.float64)


def _masks(subject: Subject, names: tuple[str, ...]) -> np.ndarray:
    """The entries of both masks, see `_mask_entries`."""
    vectors = []
    for kind, rule in RULES.items():
        size = 3 * len(names) ** 2 + sum(not rule(query, key) for query in names for key in names)
        vectors.append(attempt(partial(_mask_entries, subject, kind, names), size))
    return np.concatenate(vectors)


@signature("modality_mask")
def signature_masks_of_one_modality(subject: Subject) -> np.ndarray:
    """Masks of encoder and decoder for two latents and two patches."""
    return _masks(subject, 2 * ONE_MODALITY)


@signature("modality_mask")
def signature_masks_of_three_modalities(subject: Subject) -> np.ndarray:
    """Masks of encoder and decoder for two tokens of latents and of three modalities."""
    return _masks(subject, 2 * THREE_MODALITIES)


@signature("space_mask")
def signature_masks_of_one_frame(subject: Subject) -> np.ndarray:
    """Masks of encoder and decoder for two tokens each of images and latents."""
    names = 2 * list(reversed(ONE_MODALITY))
    probes = [partial(frame_mask, subject, kind, names) for kind in RULES]
    return np.concatenate([attempt(probe, len(names) ** 2) for probe in probes])


@signature("encode")
def signature_positions_that_move_z(subject: Subject) -> np.ndarray:
    """Whether any, and whether every one, of some positions of a frame changes z of that frame."""
    return attempt(lambda: _any_and_all(subject, "encode", "video", "z"), 2)


@signature("decode")
def signature_latents_that_move_the_video(subject: Subject) -> np.ndarray:
    """Whether any, and whether every one, of some latents changes its frame of the video."""
    return attempt(lambda: _any_and_all(subject, "decode", "z", "video"), 2)


def _any_and_all(subject: Subject, operation: str, source: str, output: str) -> np.ndarray:
    axes = example_inputs(subject, operation, 0, 1, 2)[source].shape[2 : 4 if source == "video" else 3]
    segments = [Segment(source, (1, *position)) for position in product(*map(spread_positions, axes))]
    moved = [influence.frames(output)[-1] for influence in influences(subject, operation, segments, seed=0, time=2)]
    return np.array([any(moved), all(moved)], np.float64)
