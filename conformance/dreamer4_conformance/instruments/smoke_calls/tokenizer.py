"""First calls of the tokenizer and of what belongs to it."""

from __future__ import annotations

import numpy as np

from dreamer4_conformance.checks.minecraft_actions import classes
from dreamer4_conformance.checks.sec31_patch_dropout import masks
from dreamer4_conformance.checks.tokenizer_shapes import DYNAMICS, grid, labelled_latents
from dreamer4_conformance.instruments.black_box import arguments, run
from dreamer4_conformance.instruments.smoke_calls import CHANNELS, Occasion, contact, dimensions, floats, pair
from dreamer4_conformance.verdicts import NotProvided, OperationFailed


@contact
def _encode(at: Occasion) -> None:
    z = run(at.subject, "encode", arguments(at.subject, "encode", 0, at.batch, at.time))["z"]
    floats("encode", dimensions("encode", z, (at.batch, at.time, None, None)))


@contact
def _decode(at: Occasion) -> None:
    _video("decode", at)


@contact
def _reconstruct(at: Occasion) -> None:
    _video("reconstruct", at)


def _video(operation: str, at: Occasion) -> np.ndarray:
    video = run(at.subject, operation, arguments(at.subject, operation, 0, at.batch, at.time))["video"]
    floats(operation, video)
    if video.shape[:2] != (at.batch, at.time):
        raise OperationFailed(f"{operation} returned shape {video.shape}; it needs ({at.batch}, {at.time}, …)")
    return video


@contact
def _decode_step(at: Occasion) -> None:
    if not at.subject.provides("decode_init"):
        raise NotProvided
    z = arguments(at.subject, "decode", 0, at.batch, at.time)["z"]
    state = at.subject.call("decode_init", at.batch)
    video, _ = pair("decode_step", at.subject.call("decode_step", state, at.subject.native(z[:, :1])), "video, state")
    frame = floats("decode_step", at.subject.read("decode_step", video))
    if frame.shape[:2] != (at.batch, 1):
        raise OperationFailed(f"decode_step returned shape {frame.shape}; it needs ({at.batch}, 1, …)")


@contact
def _modality_mask(at: Occasion) -> None:
    modality, frame = ["latent", "image", "latent", "image"], np.array([0, 0, 1, 1])
    for kind in ("encoder", "decoder"):
        mask = at.subject.compute("modality_mask", kind, modality, frame, shape=(4, 4))
        if mask.dtype != bool:
            raise OperationFailed(f"modality_mask returned {mask.dtype} values; it needs booleans, True = may attend")


@contact
def _patch_dropout(at: Occasion) -> None:
    masks(at.subject, 0, at.batch, at.time, 6)


@contact
def _mae_replace(at: Occasion) -> None:
    tokens, embedding = at.normal(at.batch, at.time, 5, CHANNELS), at.normal(CHANNELS)
    mask = np.arange(tokens[..., 0].size).reshape(tokens.shape[:3]) % 3 == 0
    floats("mae_replace", at.subject.compute("mae_replace", tokens, mask, embedding, shape=tokens.shape))


@contact
def _patch_grid(at: Occasion) -> None:
    grid(at.subject, 256, 256)


@contact
def _regroup(at: Occasion) -> None:
    z = labelled_latents()
    floats("regroup", at.subject.compute("regroup", z, shape=(*z.shape[:2], *DYNAMICS)))


@contact
def _mouse_class(at: Occasion) -> None:
    classes(at.subject, at.normal(at.batch, 2))
