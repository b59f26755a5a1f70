"""Mistakes that depend on the number of frames: those that follow, and those beyond the reach of the time layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.base.sec34_layers import Past, Transformer
from dreamer4_conformance.zoo.mistakes import mistake
from dreamer4_conformance.zoo.mistakes.sec32_dynamics import WholeSequences

SIGNAL = ("signal",)


def counted_from_the_end(model: Transformer, x: Tensor) -> Tensor:
    """Tokens (B, T, S, D) plus an embedding of the number of frames that follow."""
    following = torch.arange(x.shape[1] - 1, -1, -1, device=x.device) % 64
    return x + 8 * model.parameter("following", 64, x.shape[-1])[following][:, None]


@mistake("frames-counted-from-the-end", clause="net.prefix", operations=("dynamics",), levels=SIGNAL)
class FramesCountedFromTheEnd(WholeSequences):
    """Each frame has a position embedding that is counted from the end of the sequence."""

    def frame_tokens(self, *inputs: Any) -> Tensor:
        return counted_from_the_end(self, super().frame_tokens(*inputs))


@mistake("clip-length-dependence", clause="net.prefix", operations=("encode",), levels=SIGNAL)
class ClipLengthDependence(TextbookModel):
    """The encoder scales its tokens by the number of frames of the clip."""

    def at_inference(self, tokens: Tensor) -> Tensor:
        return tokens / tokens.shape[1]


@mistake("decoder-counts-from-the-end", clause="net.prefix", operations=("decode",), levels=SIGNAL)
class DecoderCountsFromTheEnd(TextbookModel):
    """The latents of each frame have a position embedding that is counted from the end of the clip."""

    def decoder_latents(self, latents: Tensor) -> Tensor:
        return counted_from_the_end(self, latents)


@mistake("window-in-first-time-layer", clause="attn.window", operations=("dynamics",), levels=SIGNAL)
class WindowInFirstTimeLayer(TextbookModel):
    """Only the first of two time layers has the window; the second attends to all earlier frames."""

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        context = self.context_frames
        self.context_frames = context if name.startswith("layer.3") else None
        try:
            return super().mixed_time(x, name, past, start)
        finally:
            self.context_frames = context
