"""The tokenizer in plain PyTorch (Sec. 3.1): encoder, decoder, masks, patch dropout and Minecraft's mouse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base.sec32_dynamics import Dynamics
from dreamer4_conformance.zoo.base.sec34_layers import Past


class Tokenizer(Dynamics):
    """Encoder [patches | latents] and decoder [patch queries | latents]; a video is (B, T, H, W, C)."""

    generator: Callable[[int], torch.Generator]
    channels = 6
    height, width_in_pixels, colours, patch = 3, 4, 3, 2

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        generator = torch.Generator().manual_seed(seed + 1)
        shape = (batch, time, self.height, self.width_in_pixels, self.colours)
        video = torch.rand(shape, generator=generator, dtype=torch.float64)
        tokens = self.patch_count() + 2 * self.spatial
        x = torch.randn(batch, time, tokens, self.width, generator=generator, dtype=torch.float64)
        values = {"video": video, "x_encoder": x, "x_decoder": x.flip(2)}
        return {
            **super().example(seed, batch, time),
            **{name: value.to(self.device, getattr(torch, self.dtype)) for name, value in values.items()},
        }

    def patch_count(self) -> int:
        """Patches of a frame; they come before the latents."""
        rows, columns = self.grid(self.height, self.width_in_pixels, self.patch)
        return rows * columns

    # From video to z

    def encode(self, video: Tensor) -> Tensor:
        """The latents of each frame, through the bottleneck."""
        return self.encoded(video)[0].to(video.dtype)

    def encoded(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, S, D) and the encoder's output for the patches."""
        patches = self.patchified(self.shown(video.to(self.compute)))
        tokens = patches @ self.parameter("patch.in", patches.shape[-1], self.width)
        tokens = self.at_inference(tokens + self.parameter("encoder.places", patches.shape[2], self.width))
        latents = self.parameter("latents", 2 * self.spatial, self.width) * (2 * self.spatial) ** 0.5
        x = torch.cat([tokens, latents.expand(*tokens.shape[:2], -1, -1)], 2)
        x, _ = self.layers(x, self.frame_mask("encoder", tokens.shape[2], len(latents)), stack="encoder")
        return self.regroup(self.bottleneck(x[:, :, tokens.shape[2] :])), x[:, :, : tokens.shape[2]]

    def shown(self, video: Tensor) -> Tensor:
        """Input of the encoder."""
        return video

    def at_inference(self, tokens: Tensor) -> Tensor:
        """Tokens without dropped patches."""
        return tokens

    def frame_mask(self, kind: str, patches: int, latents: int) -> Tensor:
        """bool (S, S) of one frame's tokens."""
        return self.space_mask(kind, {"image": patches, "latent": latents})

    def space_mask(self, kind: str, counts: Mapping[str, int]) -> Tensor:
        """The mask of tokens of one frame, grouped by modality."""
        names = [name for name, count in counts.items() for _ in range(count)]
        return self.modality_mask(kind, names, torch.zeros(len(names), dtype=torch.long, device=self.device))

    def bottleneck(self, latents: Tensor) -> Tensor:
        """Linear to fewer channels, then tanh."""
        weight = 1.5 * self.parameter("bottleneck", self.width, self.channels // 2)
        linear = self.before(latents, "bottleneck.norm") @ weight
        return self.squash(linear + self.parameter("bottleneck.bias", self.channels // 2) / 4)

    def squash(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    # From z to video

    def decode(self, z: Tensor) -> Tensor:
        return self.decoded(z.to(self.compute))[0].to(z.dtype)

    def reconstruct(self, video: Tensor) -> Tensor:
        """Decodes z without any other input."""
        return self.decode(self.encode(video))

    def decode_init(self, batch: int) -> tuple[Past, int]:
        return {}, 0

    def decode_step(self, state: tuple[Past, int], z: Tensor) -> tuple[Tensor, tuple[Past, int]]:
        past, start = state
        video, past = self.decoded(z.to(self.compute), past, start)
        return video.to(z.dtype), (past, start + z.shape[1])

    def decoded(
        self, z: Tensor, past: Past | None = None, start: int = 0, side: Tensor | None = None
    ) -> tuple[Tensor, Past]:
        """The video and the cache for the next frame. A mistake adds `side` to the patches."""
        rows, columns = self.grid(self.height, self.width_in_pixels, self.patch)
        latents = self.decoder_latents(self.ungrouped(z) @ self.parameter("latents.in", self.channels // 2, self.width))
        latents = latents + self.parameter("decoder.places", 16, self.width)[: latents.shape[2]]
        queries = self.parameter("queries", rows * columns, self.width) * (rows * columns) ** 0.5
        x = torch.cat([queries.expand(*z.shape[:2], -1, -1), latents], 2)
        allow = self.frame_mask("decoder", len(queries), latents.shape[2])
        x, past = self.layers(x, allow, past, start, stack="decoder")
        patches = x[:, :, : len(queries)] if side is None else x[:, :, : len(queries)] + side
        out = self.parameter("patch.out", self.width, self.patch**2 * self.colours)
        return self.unpatchified(self.before(patches, "patch.norm") @ out), past

    def decoder_latents(self, latents: Tensor) -> Tensor:
        """Latents that the decoder attends to: those of the same frame."""
        return latents

    # Shapes

    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        """Grid of patches of 16×16 pixels."""
        return self.grid(height, width, 16)

    def grid(self, height: int, width: int, patch: int) -> tuple[int, int]:
        """Rows and columns, padded to an even number of each: 360 → 384."""
        return 2 * -(-height // (2 * patch)), 2 * -(-width // (2 * patch))

    def padding(self, size: int, padded: int) -> tuple[int, int]:
        """Padding before and after an axis: all of it after."""
        return 0, padded - size

    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Padding of the two sides of the video."""
        grid = self.grid(self.height, self.width_in_pixels, self.patch)
        sizes = zip((self.height, self.width_in_pixels), grid, strict=True)
        down, across = (self.padding(size, count * self.patch) for size, count in sizes)
        return down, across

    def patchified(self, video: Tensor) -> Tensor:
        """(B, T, H, W, C) → (B, T, N, P), row by row."""
        down, across = self.margins()
        rows, columns = self.grid(self.height, self.width_in_pixels, self.patch)
        padded = torch.nn.functional.pad(video, (0, 0, *across, *down))
        folded = padded.reshape(*video.shape[:2], rows, self.patch, columns, self.patch, self.colours)
        return folded.transpose(3, 4).reshape(*video.shape[:2], rows * columns, -1)

    def unpatchified(self, patches: Tensor) -> Tensor:
        """(B, T, N, P) → (B, T, H, W, C), without the padding."""
        batch, time = patches.shape[:2]
        rows, columns = self.grid(self.height, self.width_in_pixels, self.patch)
        folded = patches.reshape(batch, time, rows, columns, self.patch, self.patch, self.colours).transpose(3, 4)
        padded = folded.reshape(batch, time, rows * self.patch, columns * self.patch, self.colours)
        (top, _), (left, _) = self.margins()
        return padded[:, :, top : top + self.height, left : left + self.width_in_pixels]

    def regroup(self, z: Tensor) -> Tensor:
        """Concatenates consecutive tokens; under A36 "other" token i of the first half and of the second."""
        batch, time, tokens, channels = z.shape
        if self.follows["A36"] == "other":
            z = z.reshape(batch, time, 2, tokens // 2, channels).transpose(2, 3)
        return z.reshape(batch, time, tokens // 2, 2 * channels)

    def ungrouped(self, z: Tensor) -> Tensor:
        """The tokens of `regroup`."""
        batch, time, tokens, channels = z.shape
        if self.follows["A36"] == "other":
            z = z.reshape(batch, time, tokens, 2, channels // 2).transpose(2, 3)
        return z.reshape(batch, time, 2 * tokens, channels // 2)

    # Masks

    def modality_mask(self, kind: str, modality: list[str], frame: Tensor) -> Tensor:
        """Mask of encoder or decoder for the frame and earlier ones."""
        if kind == "dynamics":
            return super().modality_mask(kind, modality, frame)
        sees = self.encoder_attends if kind == "encoder" else self.decoder_attends
        rule = [[sees(query, key) for key in modality] for query in modality]
        return torch.tensor(rule, device=frame.device) & self.causal_frames(frame)

    def causal_frames(self, frame: Tensor) -> Tensor:
        """True for keys whose frame is not later than the query's."""
        return frame[:, None] >= frame

    def encoder_attends(self, query: str, key: str) -> bool:
        """Latents attend to every modality, each modality only to itself."""
        return query in ("latent", key)

    def decoder_attends(self, query: str, key: str) -> bool:
        """Each modality attends to itself and the latents, latents only to latents."""
        return key in ("latent", query)

    # Patch dropout

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        """Draws p for each image, then its patches."""
        generator = self.generator(seed)
        return self.dropped(generator, self.drop_probability(generator, batch, time), patches)

    def drop_probability(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        """p ~ U(0, 0.9), (B, T, 1)."""
        return self.largest_probability() * self.share(generator, batch, time, 1)

    def largest_probability(self) -> float:
        """Upper end of the range of p."""
        return 0.9

    def share(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=self.device)

    def dropped(self, generator: torch.Generator, p: Tensor, patches: int) -> Tensor:
        """Each patch with probability p; under A33 "count" the nearest number to pN of them."""
        share = self.share(generator, *p.shape[:2], patches)
        if self.follows["A33"] == "bernoulli":
            return share < p
        return share.argsort(-1).argsort(-1) < (p * patches + 0.5).floor()

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        """Dropped patches replaced by the embedding."""
        return torch.where(mask[..., None], embedding, tokens)

    # Minecraft's mouse

    mouse_limit, mouse_mu, mouse_bins = 10.0, 10.0, 11

    def mouse_class(self, movement: Tensor) -> Tensor:
        """11 bins of the first axis times 11 of the second."""
        y = self.companded((movement.to(self.compute) / self.mouse_limit).clamp(-1, 1))
        bins = self.mouse_bin(y)
        return self.mouse_bins * bins[:, 0] + bins[:, 1]

    def companded(self, x: Tensor) -> Tensor:
        """μ-law of x in [−1, 1]."""
        return x.sign() * torch.log1p(self.mouse_mu * x.abs()) / math.log1p(self.mouse_mu)

    def mouse_bin(self, y: Tensor) -> Tensor:
        """Index of the nearest of 11 evenly spaced values."""
        half = self.mouse_bins // 2
        return (half * y).round().long() + half
