"""Smoke calls of the tokenizer, its loss and its masked patches."""

from __future__ import annotations

from functools import partial

import numpy as np

from dreamer4_conformance.instruments.black_box import run_black_box
from dreamer4_conformance.instruments.result_types import as_floats, as_pair, as_shape
from dreamer4_conformance.instruments.smoke_calls.case import CHANNELS, SmokeCall, SmokeCase, computes
from dreamer4_conformance.instruments.tokenizer import DYNAMICS_SHAPE, dropout_masks, frame_grid, labelled_latents
from dreamer4_conformance.verdicts import NotProvided, OperationFailed


def _loss_normalizer(case: SmokeCase) -> None:
    normalizer = case.subject.call("loss_normalizer")
    if not callable(normalizer):
        raise OperationFailed(f"loss_normalizer returned {type(normalizer).__name__}; it needs n(name, value)")
    for value in (1.0, 0.5):
        native = case.subject.native(np.array(value))
        divided = case.subject.call_returned("loss_normalizer", normalizer, "mse", native)
        # Until the declared warm-up is over, the estimate may have any value.
        as_floats("loss_normalizer()", case.subject.read("loss_normalizer()", divided, ()), finite=False)


def _encode(case: SmokeCase) -> None:
    z = run_black_box(case.subject, "encode", case.example("encode"))["z"]
    as_floats("encode", as_shape("encode", z, (case.batch, case.time, None, None)))


def _video(operation: str, case: SmokeCase) -> None:
    video = as_floats(operation, run_black_box(case.subject, operation, case.example(operation))["video"])
    if video.shape[:2] != (case.batch, case.time):
        raise OperationFailed(f"{operation} returned shape {video.shape}; it needs ({case.batch}, {case.time}, …)")


def _decode_step(case: SmokeCase) -> None:
    if not case.subject.provides("decode_init"):
        raise NotProvided
    z = case.example("decode")["z"]
    state = case.subject.call("decode_init", case.batch)
    returned = case.subject.call("decode_step", state, case.subject.native(z[:, :1]))
    video, _ = as_pair("decode_step", returned, "video, state")
    frame = as_floats("decode_step", case.subject.read("decode_step", video))
    if frame.shape[:2] != (case.batch, 1):
        raise OperationFailed(f"decode_step returned shape {frame.shape}; it needs ({case.batch}, 1, …)")


def _mae_inputs(case: SmokeCase) -> tuple[np.ndarray, ...]:
    tokens, embedding = case.normal(case.batch, case.time, 5, CHANNELS), case.normal(CHANNELS)
    return tokens, np.arange(tokens[..., 0].size).reshape(tokens.shape[:3]) % 3 == 0, embedding


def _regroup(case: SmokeCase) -> None:
    z = labelled_latents()
    as_floats("regroup", case.subject.compute("regroup", z, shape=(*z.shape[:2], *DYNAMICS_SHAPE)))


CALLS: dict[str, SmokeCall] = {
    "tokenizer_loss": computes("tokenizer_loss", lambda case: (np.array(0.5), np.array(0.25)), scalar=True),
    "loss_normalizer": _loss_normalizer,
    "encode": _encode,
    "decode": partial(_video, "decode"),
    "reconstruct": partial(_video, "reconstruct"),
    "decode_step": _decode_step,
    "patch_dropout": lambda case: dropout_masks(case.subject, 0, case.batch, case.time, 6),
    "mae_replace": computes("mae_replace", _mae_inputs),
    "patch_grid": lambda case: frame_grid(case.subject, 256, 256),
    "regroup": _regroup,
}
