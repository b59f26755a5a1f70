"""Checks of who sees whom in the tokenizer: the masks as they are given, and what they let through."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
from hypothesis import strategies as st

from dreamer4_conformance.instruments.black_box import Segment, example_inputs, influences, spread_positions
from dreamer4_conformance.instruments.dynamics import adapter_mask
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_conformance.judging.influence_verdicts import (
    fail_unless_every_position_moves_z,
    fail_unless_segments_move_their_frame,
)
from dreamer4_conformance.verdicts import OperationFailed
from dreamer4_reference.sec31_masks import Kind, decoder_may_attend, encoder_may_attend, modality_mask

ONE, THREE = ("latent", "image"), ("latent", "image", "sound", "touch")
"""Latents with one modality, and with three; the names of the last two are the suite's own."""
FRAMES = 4


def modalities(subject: Subject, kind: str) -> tuple[str, ...]:
    """Those that the adapter's mask knows: it raises where it has one modality only."""
    try:
        adapter_mask(subject, kind, list(THREE), np.zeros(len(THREE), np.int64))
    except OperationFailed:
        return ONE
    return THREE


@check("tok.encoder-mask", needs=("modality_mask",))
def check_encoder_mask_follows_its_rule(subject: Subject, trial: Trial) -> None:
    """See `_follows_the_rule`."""
    _follows_the_rule(subject, trial, "encoder")


@check("tok.decoder-mask", needs=("modality_mask",))
def check_decoder_mask_follows_its_rule(subject: Subject, trial: Trial) -> None:
    """See `_follows_the_rule`."""
    _follows_the_rule(subject, trial, "decoder")


def _follows_the_rule(subject: Subject, trial: Trial, kind: Kind) -> None:
    """Exact within a frame, for tokens in any order and number. Later frames are never seen.

    Of earlier frames a mask may leave out what its time layers carry, but shows nothing that the rule forbids.
    """
    names = modalities(subject, kind)
    tokens = st.lists(st.tuples(st.sampled_from(names), st.integers(0, FRAMES - 1)), min_size=1, max_size=16)

    def holds(drawn: list[tuple[str, int]]) -> None:
        modality, frame = [name for name, _ in drawn], np.array([t for _, t in drawn], np.int64)
        _compare(subject, trial, kind, modality, frame)

    # Latents, images and the rest in two frames, in every pair of which Hypothesis may leave some out.
    _compare(subject, trial, kind, [*names, *names], np.repeat([0, 1], len(names)))
    trial.for_all(tokens, body=holds)


def _compare(subject: Subject, trial: Trial, kind: Kind, modality: list[str], frame: np.ndarray) -> None:
    got, expected = adapter_mask(subject, kind, modality, frame), modality_mask(kind, modality, frame)
    behind = frame[:, None] - frame
    wrong = np.where(behind > 0, got & ~expected, got != expected)
    query, key = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    call = f"modality_mask({kind!r}, {modality}, {frame.tolist()})[{query}, {key}]"
    sentence = _sentence(kind, modality[query], modality[key], int(behind[query, key]), sees=bool(got[query, key]))
    trial.fail_unless(not wrong.any(), sentence, call=call, got=got.tolist(), expected=expected.tolist())


def _sentence(kind: str, query: str, key: str, behind: int, *, sees: bool) -> str:
    where = "its own frame" if behind == 0 else "an earlier frame" if behind > 0 else "a later frame"
    rules = {
        "encoder": "latents see every modality, each modality only itself, and none sees later frames",
        "decoder": "each modality sees itself and the latents, latents only latents, and none sees later frames",
    }
    return f"in the {kind} a token of {query!r} {'sees' if sees else 'does not see'} {key!r} of {where}; {rules[kind]}"


@check("tok.encoder-mask", needs=("encode", "example"))
def check_latents_see_every_part_of_their_frame(subject: Subject, trial: Trial) -> None:
    """Nothing is hidden from them or cropped."""
    fail_unless_every_position_moves_z(subject, trial)


@check("tok.decoder-mask", needs=("decode", "example"))
def check_video_is_made_of_every_latent(subject: Subject, trial: Trial) -> None:
    """Each of some latents, the first and the last among them, moves its frame of the video."""
    tokens = example_inputs(subject, "decode", 0, 1, 2)["z"].shape[2]
    fail_unless_segments_move_their_frame(
        subject, trial, "decode", [Segment("z", (1, s)) for s in spread_positions(tokens)], "video"
    )


def _seen(subject: Subject, kind: str, names: tuple[str, ...]) -> np.ndarray:
    """What a mask says where that is not open: in a frame, of later frames, and of earlier frames against the rule."""
    rule = {"encoder": encoder_may_attend, "decoder": decoder_may_attend}[kind]
    got = adapter_mask(subject, kind, [*names, *names], np.repeat([0, 1], len(names)))
    first, second = got[: len(names)], got[len(names) :]
    forbidden = np.array([[not rule(query, key) for key in names] for query in names])
    parts = (
        first[:, : len(names)],
        second[:, len(names) :],
        first[:, len(names) :],
        second[:, : len(names)][forbidden],
    )
    return np.concatenate([part.ravel() for part in parts]).astype(np.float64)


def _masks(subject: Subject, names: tuple[str, ...]) -> np.ndarray:
    found = []
    for kind in ("encoder", "decoder"):
        rule = {"encoder": encoder_may_attend, "decoder": decoder_may_attend}[kind]
        size = 3 * len(names) ** 2 + sum(not rule(query, key) for query in names for key in names)
        found.append(attempt(partial(_seen, subject, kind, names), size))
    return np.concatenate(found)


@signature("modality_mask")
def signature_masks_of_one_modality(subject: Subject) -> np.ndarray:
    """See `_seen`."""
    return _masks(subject, ONE)


@signature("modality_mask")
def signature_masks_of_three_modalities(subject: Subject) -> np.ndarray:
    """See `_seen`."""
    return _masks(subject, THREE)


@signature("encode")
def signature_places_that_move_z(subject: Subject) -> np.ndarray:
    """Whether any, and whether each, of some places of a frame moves z of that frame."""
    return attempt(lambda: _any_and_all(subject, "encode", "video", "z"), 2)


@signature("decode")
def signature_latents_that_move_the_video(subject: Subject) -> np.ndarray:
    """Whether any, and whether each, of some latents moves its frame of the video."""
    return attempt(lambda: _any_and_all(subject, "decode", "z", "video"), 2)


def _any_and_all(subject: Subject, operation: str, source: str, output: str) -> np.ndarray:
    axes = example_inputs(subject, operation, 0, 1, 2)[source].shape[2 : 4 if source == "video" else 3]
    parts = [Segment(source, (1, *place)) for place in product(*map(spread_positions, axes))]
    moved = [each.frames(output)[-1] for each in influences(subject, operation, parts, seed=0, time=2)]
    return np.array([any(moved), all(moved)], np.float64)
