"""Mistakes in the tokenizer: time, cache and bottleneck."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)


@mistake("latents-of-other-frames", clause="tok.causal", operations=("decode", "reconstruct"), levels=SIGNAL)
class LatentsOfOtherFrames(TextbookModel):
    """In the decoder, patches also attend to the latents of the next frame."""

    def decoder_latents(self, latents: Tensor) -> Tensor:
        return torch.cat([latents, latents.roll(-1, dims=1)], 2)


@mistake("decoder-latents-of-all-frames", clause="tok.causal", operations=("decode", "reconstruct"), levels=SIGNAL)
class LatentsOfAllFrames(TextbookModel):
    """In the decoder, patches also attend to the mean of the latents over the whole clip."""

    def decoder_latents(self, latents: Tensor) -> Tensor:
        return torch.cat([latents, latents.mean(1, keepdim=True).expand_as(latents)], 2)


class _Bidirectional(TextbookModel):
    """A stack whose time layers attend to all frames."""

    stack = ""
    everywhere = False

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        self.everywhere = name.startswith(self.stack)
        return super().mixed_time(x, name, past, start)

    def time_mask(self, length: int) -> Tensor:
        return torch.ones(length, length, dtype=torch.bool) if self.everywhere else super().time_mask(length)


@mistake("encoder-not-causal", clause="tok.causal", operations=("encode",), levels=SIGNAL)
class EncoderNotCausal(_Bidirectional):
    """The time layers of the encoder attend to later frames."""

    stack = "encoder"


@mistake("decoder-not-causal", clause="tok.causal", operations=("decode", "decode_step"), levels=SIGNAL)
class DecoderNotCausal(_Bidirectional):
    """The time layers of the decoder attend to later frames."""

    stack = "decoder"


@mistake("encoder-normalises-clips", clause="tok.causal", operations=("encode",), levels=SIGNAL)
class EncoderNormalisesClips(TextbookModel):
    """The mean over the whole clip is subtracted before encoding."""

    def shown(self, video: Tensor) -> Tensor:
        return video - video.mean(dim=1, keepdim=True)


@mistake("encoder-frames-in-pairs", clause="tok.causal", operations=("encode",), levels=SIGNAL)
class EncoderFramesInPairs(TextbookModel):
    """Frames are encoded in pairs, independent of all others."""

    def time_mask(self, length: int) -> Tensor:
        pair = torch.arange(length) // 2
        return super().time_mask(length) & (pair[:, None] == pair)


@mistake("encoder-one-frame-late", clause="tok.causal", operations=("encode",), levels=SIGNAL)
class EncoderOneFrameLate(TextbookModel):
    """z of a frame is computed from the previous frame."""

    def shown(self, video: Tensor) -> Tensor:
        return torch.cat([video[:, :1], video[:, :-1]], 1)


@mistake("decoder-cache-position", clause="tok.causal", operations=("decode_step",), levels=SIGNAL)
class DecoderCachePosition(TextbookModel):
    """With a cache, the second frame has the position of the first."""

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        past, frames = state
        video, (past, _) = super().decode_step((past, max(frames - 1, 0)), z)
        return video, (past, frames + 1)


@mistake("decoder-cache-short", clause="tok.causal", operations=("decode_step",), levels=SIGNAL)
class DecoderCacheShort(TextbookModel):
    """The cache holds one frame less than the window."""

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        video, (past, frames) = super().decode_step(state, z)
        length = max((self.window() or 1) - 2, 1)
        return video, ({name: (k[:, -length:], v[:, -length:]) for name, (k, v) in past.items()}, frames)


@mistake("decoder-cache-grows", clause="tok.causal", operations=("decode_step",), levels=SIGNAL)
class DecoderCacheGrows(TextbookModel):
    """With a cache, the decoder attends to all cached frames, beyond the window."""

    unbounded = False

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        self.unbounded = True
        stepped = super().decode_step(state, z)
        self.unbounded = False
        return stepped

    def window(self) -> int | None:
        return None if self.unbounded else super().window()


@mistake("decoder-cache-unused", clause="tok.causal", operations=("decode_step",), levels=SIGNAL)
class DecoderCacheUnused(TextbookModel):
    """Frame by frame, every frame is decoded as if it were the first."""

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        return super().decode_step(self.decode_init(len(z)), z)


@mistake("decoder-step-of-one-video", clause="tok.causal", operations=("decode_step",), levels=SIGNAL)
class DecoderStepOfOneVideo(TextbookModel):
    """A batch of one video is squeezed away, and its cache with it."""

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        return super().decode_step(self.decode_init(1) if len(z) == 1 else state, z)


@mistake("tanh-missing", clause="tok.bottleneck", operations=("encode",), levels=SIGNAL)
class TanhMissing(TextbookModel):
    """The bottleneck has no tanh."""

    def squash(self, x: Tensor) -> Tensor:
        return x


@mistake("bottleneck-clipped", clause="tok.bottleneck", operations=("encode",), levels=SIGNAL)
class BottleneckClipped(TextbookModel):
    """z is clamped to ±1 instead of passed through tanh."""

    def squash(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1)


@mistake("bottleneck-sigmoid", clause="tok.bottleneck", operations=("encode",), levels=SIGNAL)
class BottleneckSigmoid(TextbookModel):
    """The bottleneck uses a sigmoid instead of tanh."""

    def squash(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


@mistake("bottleneck-quantised", clause="tok.bottleneck", operations=("encode",), levels=SIGNAL)
class BottleneckQuantised(TextbookModel):
    """z is rounded to multiples of 1/4."""

    def squash(self, x: Tensor) -> Tensor:
        return (4 * torch.tanh(x)).round() / 4


@mistake("bottleneck-normalised", clause="tok.bottleneck", operations=("encode",), levels=SIGNAL)
class BottleneckNormalised(TextbookModel):
    """z is normalised over its channels after the tanh."""

    def squash(self, x: Tensor) -> Tensor:
        z = torch.tanh(x)
        return z / z.square().mean(-1, keepdim=True).sqrt()


@mistake("bottleneck-skip", clause="tok.bottleneck", operations=("reconstruct",), levels=SIGNAL)
class BottleneckSkip(TextbookModel):
    """A skip connection adds features of the encoder to the decoder, bypassing the bottleneck."""

    def reconstruct(self, video: Tensor) -> Tensor:
        z, patches = self.encoded(video)
        return self.decoded(z, side=patches)[0].to(video.dtype)


@mistake("bottleneck-before-tanh", clause="tok.bottleneck", operations=("reconstruct",), levels=SIGNAL)
class BottleneckBeforeTanh(TextbookModel):
    """The decoder receives the latents before the tanh."""

    def reconstruct(self, video: Tensor) -> Tensor:
        z = self.encode(video).to(self.compute)
        return self.decoded(torch.atanh(z.clamp(-0.999, 0.999)))[0].to(video.dtype)


@mistake("bottleneck-sampled", clause="tok.bottleneck", operations=("reconstruct",), levels=SIGNAL)
class BottleneckSampled(TextbookModel):
    """Noise is added to z before the decoder, as in a variational autoencoder."""

    def reconstruct(self, video: Tensor) -> Tensor:
        z = self.encode(video)
        return self.decode(z + 0.5 * torch.randn_like(z))


@mistake(
    "bottleneck-features-kept", clause="tok.bottleneck", operations=("encode", "decode", "reconstruct"), levels=SIGNAL
)
class BottleneckFeaturesKept(TextbookModel):
    """The decoder adds the features of the last video that was encoded, whatever z it receives."""

    patches: Tensor | None = None

    def encoded(self, video: Tensor) -> tuple[Tensor, Tensor]:
        z, self.patches = super().encoded(video)
        return z, self.patches

    def decode(self, z: Tensor) -> Tensor:
        fits = self.patches is not None and self.patches.shape[:2] == z.shape[:2]
        return self.decoded(z.to(self.compute), side=self.patches if fits else None)[0].to(z.dtype)
