"""Mistakes in the attention masks of the tokenizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
MASK = ("modality_mask", "space_mask")
ACROSS_FRAMES = ("modality_mask",)


@mistake("masks-swapped", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class MasksSwapped(TextbookModel):
    """The masks of encoder and decoder are swapped."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        return super().modality_mask({"encoder": "decoder", "decoder": "encoder"}.get(kind, kind), modality, frame)


@mistake("mask-polarity", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class MaskPolarity(TextbookModel):
    """The mask is inverted: True forbids attention."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        return ~super().modality_mask(kind, modality, frame)


@mistake("mask-transposed", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class MaskTransposed(TextbookModel):
    """The mask is transposed: its rows are keys."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        return super().modality_mask(kind, modality, frame).T


@mistake("mask-sees-future", clause="tok.encoder-mask", operations=ACROSS_FRAMES, levels=SIGNAL)
class MaskSeesFuture(TextbookModel):
    """The mask is not causal: its rule applies to later frames too."""

    def causal_frames(self, frame: Tensor) -> Tensor:
        return torch.ones(len(frame), len(frame), dtype=torch.bool, device=frame.device)


@mistake("mask-causal-over-tokens", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class MaskCausalOverTokens(TextbookModel):
    """The mask is causal over tokens: later tokens of the same frame are masked."""

    def causal_frames(self, frame: Tensor) -> Tensor:
        return super().causal_frames(frame).tril()


@mistake("mask-ignores-frames-before", clause="tok.encoder-mask", operations=ACROSS_FRAMES, levels=SIGNAL)
class MaskOpenToThePast(TextbookModel):
    """In earlier frames every token is visible, whatever its modality."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        return super().modality_mask(kind, modality, frame) | (frame[:, None] > frame)


@mistake("encoder-modalities-mixed", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class EncoderModalitiesMixed(TextbookModel):
    """In the encoder, modalities attend to each other."""

    def encoder_attends(self, query: str, key: str) -> bool:
        return query == "latent" or key != "latent"


@mistake("encoder-patches-see-latents", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class EncoderPatchesSeeLatents(TextbookModel):
    """In the encoder, every modality attends to the latents too."""

    def encoder_attends(self, query: str, key: str) -> bool:
        return super().encoder_attends(query, key) or key == "latent"


@mistake("encoder-full", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class EncoderFull(TextbookModel):
    """In the encoder, all tokens of a frame attend to each other."""

    def encoder_attends(self, query: str, key: str) -> bool:
        return True


@mistake("encoder-latents-see-images-alone", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class EncoderLatentsSeeImagesAlone(TextbookModel):
    """In the encoder, latents attend to image patches but to no further modality."""

    def encoder_attends(self, query: str, key: str) -> bool:
        return super().encoder_attends(query, key) and (query == key or key in ("latent", "image"))


@mistake("encoder-latents-not-themselves", clause="tok.encoder-mask", operations=MASK, levels=SIGNAL)
class EncoderLatentsNotThemselves(TextbookModel):
    """In the encoder, latents attend to the modalities but not to latents."""

    def encoder_attends(self, query: str, key: str) -> bool:
        return key != "latent" and super().encoder_attends(query, key)


@mistake("mask-of-a-frame-transposed", clause="tok.encoder-mask", operations=("space_mask",), levels=SIGNAL)
class MaskOfAFrameTransposed(TextbookModel):
    """The mask of one frame has keys as rows, the mask over frames is right."""

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        return super().space_mask(kind, counts).T


@mistake("mask-of-a-frame-latents-first", clause="tok.encoder-mask", operations=("space_mask",), levels=SIGNAL)
class MaskOfAFrameLatentsFirst(TextbookModel):
    """The mask of one frame puts the latents first, whatever the order of the tokens."""

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        ordered = dict(sorted(counts.items(), key=lambda item: item[0] != "latent"))
        return super().space_mask(kind, ordered)


@mistake("encoder-crops", clause="tok.encoder-mask", operations=("encode",), levels=SIGNAL)
class EncoderCrops(TextbookModel):
    """Frames are cropped to whole patches, so the last rows have no influence."""

    def shown(self, video: Tensor) -> Tensor:
        rows = self.height // self.patch * self.patch
        return torch.cat([video[:, :, :rows], torch.zeros_like(video[:, :, rows:])], 2)


@mistake("decoder-latents-see-patches", clause="tok.decoder-mask", operations=MASK, levels=SIGNAL)
class DecoderLatentsSeePatches(TextbookModel):
    """In the decoder, latents attend to the patches too."""

    def decoder_attends(self, query: str, key: str) -> bool:
        return query == "latent" or super().decoder_attends(query, key)


@mistake("decoder-modalities-mixed", clause="tok.decoder-mask", operations=MASK, levels=SIGNAL)
class DecoderModalitiesMixed(TextbookModel):
    """In the decoder, modalities attend to each other."""

    def decoder_attends(self, query: str, key: str) -> bool:
        return key == "latent" or query != "latent"


@mistake("decoder-cross-attention-alone", clause="tok.decoder-mask", operations=MASK, levels=SIGNAL)
class DecoderCrossAttentionAlone(TextbookModel):
    """In the decoder, a modality attends to the latents but not to itself."""

    def decoder_attends(self, query: str, key: str) -> bool:
        return key == "latent"


@mistake("decoder-patches-blind", clause="tok.decoder-mask", operations=MASK, levels=SIGNAL)
class DecoderPatchesBlind(TextbookModel):
    """In the decoder, each modality attends to itself but not to the latents."""

    def decoder_attends(self, query: str, key: str) -> bool:
        return query == key


@mistake("decoder-latents-not-themselves", clause="tok.decoder-mask", operations=MASK, levels=SIGNAL)
class DecoderLatentsNotThemselves(TextbookModel):
    """In the decoder, a latent attends to no latent: they are blind to each other."""

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        latent = torch.tensor([name == "latent" for name in modality], device=frame.device)
        hidden = (kind == "decoder") & latent[:, None] & latent & ~torch.eye(len(modality), dtype=torch.bool)
        return super().modality_mask(kind, modality, frame) & ~hidden


@mistake("decoder-images-alone-see-latents", clause="tok.decoder-mask", operations=MASK, levels=SIGNAL)
class DecoderImagesAloneSeeLatents(TextbookModel):
    """In the decoder, image patches attend to the latents, and further modalities do not."""

    def decoder_attends(self, query: str, key: str) -> bool:
        return query == key or (query == "image" and key == "latent")


@mistake("decoder-half-the-latents", clause="tok.decoder-mask", operations=("decode",), levels=SIGNAL)
class DecoderHalfTheLatents(TextbookModel):
    """The decoder uses only the first half of the latents."""

    def decoder_latents(self, latents: Tensor) -> Tensor:
        return latents[:, :, : latents.shape[2] // 2]
