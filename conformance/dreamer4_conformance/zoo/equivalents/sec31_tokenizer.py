"""Equivalent tokenizers, each without the rest of the model so that all clauses are cheap to judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.verdicts import NotProvided
from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.equivalents import equivalent

# Whole tokenizers


class TokenizerOf(TorchAdapter):
    """The tokenizer of a textbook model, without its other operations."""

    model: type[TextbookModel] = TextbookModel
    context_frames = TextbookModel.context_frames

    @property
    def book(self) -> TextbookModel:
        """The model, with this adapter's device and dtype."""
        book = self.model("signal", **self.readings)
        book.device, book.dtype, book.context_frames = self.device, self.dtype, self.context_frames
        return book

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        example = self.book.example(seed, batch, time)
        return {"video": example["video"], "z": torch.tanh(example["z"])}

    def encode(self, video: Tensor) -> Tensor:
        return self.book.encode(video)

    def decode(self, z: Tensor) -> Tensor:
        return self.book.decode(z)

    def reconstruct(self, video: Tensor) -> Tensor:
        return self.decode(self.encode(video))

    def decode_init(self, batch: int) -> Any:
        return self.book.decode_init(batch)

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        return self.book.decode_step(state, z)


class CrossAttends(TextbookModel):
    """In the decoder, patches attend to each other and to the latents in two separate attentions."""

    def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
        if allow is None or not name.startswith("decoder"):
            return super().mixed_space(x, name, allow)
        latent = allow.all(0)
        own = super().mixed_space(x, name, latent[:, None] == latent)
        cross = super().mixed_space(x, f"{name}.cross", latent.expand_as(allow))
        return torch.where(latent[:, None], own, own + cross)


@equivalent("tokenizer-cross-attention")
class CrossAttention(TokenizerOf):
    """The decoder reads the latents by cross-attention."""

    model = CrossAttends


class PadsAround(TextbookModel):
    """Half of the padding goes before the frame."""

    def padding(self, size: int, padded: int) -> tuple[int, int]:
        missing = padded - size
        return missing - missing // 2, missing // 2


@equivalent("tokenizer-padded-around")
class PaddedAround(TokenizerOf):
    """Frames are padded on all sides."""

    model = PadsAround


class PerImage(TextbookModel):
    """Frames are encoded and decoded independently."""

    def layer_kinds(self) -> list[str]:
        return ["space"] * self.depth


@equivalent("tokenizer-of-images")
class OfImages(TokenizerOf):
    """A tokenizer of single images, without a time axis."""

    model = PerImage


class RegroupsAlternately(TextbookModel):
    """The channels of two tokens are interleaved."""

    def regroup(self, z: Tensor) -> Tensor:
        batch, time, tokens, channels = z.shape
        return z.reshape(batch, time, tokens // 2, 2, channels).transpose(3, 4).reshape(batch, time, tokens // 2, -1)

    def ungrouped(self, z: Tensor) -> Tensor:
        batch, time, tokens, channels = z.shape
        pairs = z.reshape(batch, time, tokens, channels // 2, 2).transpose(3, 4)
        return pairs.reshape(batch, time, 2 * tokens, channels // 2)


@equivalent("tokenizer-regrouped-otherwise")
class RegroupedOtherwise(TokenizerOf):
    """The channels of two tokens are interleaved (A36), and the context counts past frames only (A30)."""

    readings = {"A36": "other", "A30": "exclusive"}  # noqa: RUF012
    model = RegroupsAlternately

    def regroup(self, z: Tensor) -> Tensor:
        """(B, T, 512, 16) → (B, T, 256, 32)."""
        return self.book.regroup(z)


@equivalent("tokenizer-recomputes")
class Recomputes(TokenizerOf):
    """The cache holds z: each step decodes all frames so far again."""

    def decode_init(self, batch: int) -> Any:
        return []

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        return self.decode(torch.cat([*state, z], 1))[:, -1:], [*state, z]


@equivalent("tokenizer-rolling-cache")
class RollingCache(TokenizerOf):
    """The cache holds exactly the frames of the window and is changed in place."""

    def decode_init(self, batch: int) -> Any:
        return {"past": {}, "seen": 0}

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        video, (past, state["seen"]) = self.book.decode_step((state["past"], state["seen"]), z)
        recent: Past = {
            name: (k[:, -self.cache_length() :], v[:, -self.cache_length() :]) for name, (k, v) in past.items()
        }
        state["past"] = recent
        return video, state

    def cache_length(self) -> int:
        """Number of cached frames before the current one."""
        return (self.book.window() or 1) - 1


@equivalent("tokenizer-of-bytes")
class OfBytes(TokenizerOf):
    """Channels first, integers from 0 to 255; decoded values are clamped to [0, 1]."""

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        example = super().example(seed, batch, time)
        return {**example, "video": (255 * example["video"].float()).round().to(torch.uint8).movedim(-1, 2)}

    def encode(self, video: Tensor) -> Tensor:
        return super().encode((video.float() / 255).movedim(2, -1).to(getattr(torch, self.dtype)))

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).movedim(-1, 2).clamp(0, 1)

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        video, state = super().decode_step(state, z)
        return video.movedim(-1, 2).clamp(0, 1), state


@equivalent("tokenizer-shows-clipped-pixels")
class ShowsClippedPixels(TokenizerOf):
    """`decode` clips to the range of pixels, `decode_step` and the reconstruction that is trained do not."""

    def reconstruct(self, video: Tensor) -> Tensor:
        return super().decode(self.encode(video))

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).clamp(0, 1)


@equivalent("tokenizer-reconstructs-clipped-pixels")
class ReconstructsClippedPixels(TokenizerOf):
    """Frame by frame and in the end-to-end pass, pixels are clipped to [−1, 1]."""

    def reconstruct(self, video: Tensor) -> Tensor:
        return super().reconstruct(video).clamp(-1, 1)

    def decode_step(self, state: Any, z: Tensor) -> tuple[Tensor, Any]:
        video, state = super().decode_step(state, z)
        return video.clamp(-1, 1), state


class MixesLatentsOverTime(TextbookModel):
    """Time layers of the tokenizer mix the latents only; patches keep their value until the MLP."""

    def layer(self, x: Tensor, name: str, kind: str, **options: Any) -> Tensor:
        if kind == "space" or not name.startswith(("encoder", "decoder")):
            return super().layer(x, name, kind, **options)
        patches = self.patch_count()
        mixed = super().layer(x[:, :, patches:], name, kind, **options)
        gated = self.hidden(self.before(x[:, :, :patches], f"{name}.norm2"), name)
        update = self.output(gated, f"{name}.down", options.get("zeroed", False))
        return torch.cat([x[:, :, :patches] + update, mixed], 2)


@equivalent("tokenizer-latents-alone-over-time")
class LatentsAloneOverTime(TokenizerOf):
    """Only latents carry information over time. Layers of the tokenizer by kind, none of the dynamics."""

    model = MixesLatentsOverTime

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        example = self.book.example(seed, batch, time)
        inputs = {name: example[name] for name in ("x_encoder", "x_decoder")}
        return {**super().example(seed, batch, time), **inputs}

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        return self.of_tokenizer(kind).block_zeroed(x, kind)

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        return self.of_tokenizer(kind).transformer_layer(x, kind)

    def of_tokenizer(self, kind: str) -> TextbookModel:
        """The model, for kinds of layer that exist here."""
        if kind.startswith("dynamics"):
            raise NotProvided("a tokenizer has no layers of the dynamics")
        return self.book


class Saturates(TextbookModel):
    """Large values before the tanh."""

    def squash(self, x: Tensor) -> Tensor:
        return torch.tanh(12 * x)


@equivalent("tokenizer-saturated")
class Saturated(TokenizerOf):
    """Weights so large that most of z is rounded to ±1."""

    model = Saturates


@equivalent("tokenizer-encoder-alone")
class EncoderAlone(TorchAdapter):
    """An encoder without attention, in NumPy: a decaying average over the frames."""

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        video = np.random.default_rng(seed).random((batch, time, 4, 4))
        return {"video": self.to_native(video)}

    def encode(self, video: Tensor) -> Tensor:
        weight = np.random.default_rng(0).standard_normal((16, 24))
        frames, z = self.to_numpy(video).reshape(*video.shape[:2], 16), []
        state = np.zeros_like(frames[:, 0])
        for t in range(video.shape[1]):
            state = 0.5 * state + frames[:, t]
            z.append(np.tanh(state @ weight).reshape(-1, 6, 4))
        return self.to_native(np.stack(z, 1))


# Masks


@equivalent("masks-of-numbers")
class MasksOfNumbers(TorchAdapter):
    """Additive masks of 0 and −∞, computed for all pairs of modality numbers at once."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        if kind == "dynamics":
            raise NotProvided("a tokenizer's masks")
        names = sorted(set(modality))
        number = torch.tensor([names.index(name) for name in modality])
        latent = torch.tensor([name == "latent" for name in modality])
        additive = torch.zeros(len(modality), len(modality))
        free = latent[:, None] if kind == "encoder" else latent[None, :]
        additive = additive.masked_fill(~(free | (number[:, None] == number[None, :])), -torch.inf)
        return additive.masked_fill(frame[None, :] > frame[:, None], -torch.inf) == 0


@equivalent("masks-of-one-frame")
class MasksOfOneFrame(TorchAdapter):
    """Masks of space layers, in which other frames are never visible. One modality only."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        if kind == "dynamics":
            raise NotProvided("a tokenizer's masks")
        if set(modality) - {"latent", "image"}:
            raise ValueError(f"modality holds {sorted(set(modality))}; it supports latents and images only")
        latent = torch.tensor([name == "latent" for name in modality])
        rows, columns = latent[:, None], latent[None, :]
        allow = rows | ~columns if kind == "encoder" else ~rows | columns
        return allow & (frame[:, None] == frame[None, :])


@equivalent("masks-by-blocks")
class MasksByBlocks(TorchAdapter):
    """The mask of one frame, of the encoder alone, assembled from the blocks of latents and patches."""

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        if kind != "encoder":
            raise NotImplementedError("the decoder attends by cross-attention, without a mask")
        blocks = [
            torch.cat([torch.full((rows, columns), query in ("latent", key)) for key, columns in counts.items()], 1)
            for query, rows in counts.items()
        ]
        return torch.cat(blocks)


@equivalent("masks-in-numpy")
class MasksInNumpy(Adapter):
    """NumPy; time layers connect tokens of the same modality only, so other earlier tokens are masked."""

    def modality_mask(self, kind: str, modality: list[str], frame: np.ndarray) -> np.ndarray:
        name = np.array(modality)
        same = name[:, None] == name
        if kind == "dynamics":
            within = (name[:, None] == "agent") | (name != "agent")
        else:
            within = same | ((name == "latent")[:, None] if kind == "encoder" else name == "latent")
        behind = frame[:, None] - frame
        return np.asarray(np.where(behind == 0, within, (behind > 0) & same))
