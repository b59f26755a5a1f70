"""Mistakes in masked autoencoding."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
DROPOUT = ("patch_dropout",)
REPLACE = ("mae_replace",)


@mistake("mae-rate", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RateHalf(TextbookModel):
    """p ~ U(0, 0.5) instead of U(0, 0.9)."""

    def largest_probability(self) -> float:
        return 0.5


@mistake("mae-rate-two-fifths", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RateTwoFifths(TextbookModel):
    """p ~ U(0, 0.4) instead of U(0, 0.9)."""

    def largest_probability(self) -> float:
        return 0.4


@mistake("mae-rate-up-to-one", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RateUpToOne(TextbookModel):
    """p ~ U(0, 1) instead of U(0, 0.9)."""

    def largest_probability(self) -> float:
        return 1.0


@mistake("mae-rate-fixed", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RateFixed(TextbookModel):
    """p = 0.75 for every image, as in masked autoencoders."""

    def drop_probability(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return torch.full((batch, time, 1), 0.75, device=self.device)


@mistake("mae-rate-largest", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RateLargest(TextbookModel):
    """p = 0.9 for every image, the upper end of the range."""

    def drop_probability(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return torch.full((batch, time, 1), 0.9, device=self.device)


@mistake("mae-rate-per-batch", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RatePerBatch(TextbookModel):
    """One p for the whole batch."""

    def drop_probability(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return super().drop_probability(generator, 1, 1).expand(batch, time, 1)


@mistake("mae-rate-per-video", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RatePerVideo(TextbookModel):
    """One p for all frames of a video."""

    def drop_probability(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return super().drop_probability(generator, batch, 1).expand(batch, time, 1)


@mistake("mae-rate-per-frame", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class RatePerFrame(TextbookModel):
    """All videos of the batch share the p of each frame."""

    def drop_probability(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        return super().drop_probability(generator, 1, time).expand(batch, time, 1)


@mistake("mae-same-over-time", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class SameOverTime(TextbookModel):
    """The same patches are dropped in all frames of a video."""

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        return super().patch_dropout(seed, batch, 1, patches).expand(batch, time, patches)


@mistake("mae-same-in-batch", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class SameInBatch(TextbookModel):
    """The same patches are dropped in all rows of the batch."""

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        return super().patch_dropout(seed, 1, time, patches).expand(batch, time, patches)


@mistake("mae-shared-order", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class SharedOrder(TextbookModel):
    """Each image has its own p, but all frames of a video drop patches in the same order."""

    def dropped(self, generator: torch.Generator, p: Tensor, patches: int) -> Tensor:
        return self.share(generator, len(p), 1, patches) < p


@mistake("mae-contiguous", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class Contiguous(TextbookModel):
    """The dropped patches of an image are neighbours."""

    def dropped(self, generator: torch.Generator, p: Tensor, patches: int) -> Tensor:
        count = super().dropped(generator, p, patches).sum(-1, keepdim=True)
        start = (patches * self.share(generator, *p.shape)).long()
        return (torch.arange(patches, device=self.device) - start) % patches < count


@mistake("mae-first-patches", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class FirstPatches(TextbookModel):
    """The dropped patches are the first ones of an image, not a random choice."""

    def dropped(self, generator: torch.Generator, p: Tensor, patches: int) -> Tensor:
        return torch.arange(patches, device=self.device) < super().dropped(generator, p, patches).sum(-1, keepdim=True)


@mistake("mae-corner-kept", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class CornerKept(TextbookModel):
    """The first patch is never dropped."""

    def dropped(self, generator: torch.Generator, p: Tensor, patches: int) -> Tensor:
        return super().dropped(generator, p, patches) & (torch.arange(patches, device=self.device) > 0)


@mistake("mae-true-is-kept", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class TrueIsKept(TextbookModel):
    """p is the probability of keeping a patch."""

    def dropped(self, generator: torch.Generator, p: Tensor, patches: int) -> Tensor:
        return ~super().dropped(generator, p, patches)


@mistake("mae-seed-ignored", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class SeedIgnored(TextbookModel):
    """The seed is ignored: every batch drops the same patches."""

    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Tensor:
        return super().patch_dropout(0, batch, time, patches)


@mistake("mae-one-image-complete", clause="tok.mae-law", operations=DROPOUT, levels=SIGNAL)
class OneImageComplete(TextbookModel):
    """p grows over the images of a batch, so that a single image never drops a patch."""

    def drop_probability(self, generator: torch.Generator, batch: int, time: int) -> Tensor:
        p = super().drop_probability(generator, batch, time)
        return p if batch * time > 1 else 0 * p


@mistake("mae-at-inference", clause="tok.mae-law", operations=("encode",), levels=SIGNAL)
class AtInference(TextbookModel):
    """Patches are dropped at inference too."""

    def at_inference(self, tokens: Tensor) -> Tensor:
        dropped = torch.rand(tokens.shape[:3]).to(tokens.device) < 0.5
        return self.mae_replace(tokens, dropped, self.parameter("dropped", self.width))


@mistake("mae-fixed-at-inference", clause="tok.mae-embedding", operations=("encode",), levels=SIGNAL)
class FixedAtInference(TextbookModel):
    """At inference, a fixed set of patches is dropped."""

    def at_inference(self, tokens: Tensor) -> Tensor:
        dropped = torch.arange(tokens.shape[2], device=tokens.device) % 2 == 0
        return self.mae_replace(tokens, dropped.expand(tokens.shape[:3]), self.parameter("dropped", self.width))


@mistake("mae-zeros", clause="tok.mae-embedding", operations=REPLACE, levels=SIGNAL)
class Zeros(TextbookModel):
    """Dropped patches are replaced by zeros instead of by the learned embedding."""

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return tokens * ~mask[..., None]


@mistake("mae-embedding-added", clause="tok.mae-embedding", operations=REPLACE, levels=SIGNAL)
class EmbeddingAdded(TextbookModel):
    """The embedding is added to dropped patches, so they remain visible."""

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return tokens + mask[..., None] * embedding


@mistake("mae-kept-replaced", clause="tok.mae-embedding", operations=REPLACE, levels=SIGNAL)
class KeptReplaced(TextbookModel):
    """The mask is inverted: the remaining patches are replaced instead of the dropped ones."""

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return super().mae_replace(tokens, ~mask, embedding)


@mistake("mae-embedding-detached", clause="tok.mae-embedding", operations=REPLACE, levels=SIGNAL)
class EmbeddingDetached(TextbookModel):
    """The embedding is detached and receives no gradient."""

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return super().mae_replace(tokens, mask, embedding.detach())


@mistake("mae-gradient-through", clause="tok.mae-embedding", operations=REPLACE, levels=SIGNAL)
class GradientThrough(TextbookModel):
    """A dropped patch receives the gradient as if it had not been replaced."""

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return tokens + (super().mae_replace(tokens, mask, embedding) - tokens).detach()


@mistake("mae-rescaled", clause="tok.mae-embedding", operations=REPLACE, levels=SIGNAL)
class Rescaled(TextbookModel):
    """The remaining patches are divided by their share, as in dropout."""

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        share = (~mask).to(tokens.dtype).mean().clamp(min=1 / mask.numel())
        return super().mae_replace(tokens / share, mask, embedding)


@mistake("mae-first-mask", clause="tok.mae-embedding", operations=REPLACE, levels=SIGNAL)
class FirstMask(TextbookModel):
    """The mask of the first frame is used for all frames."""

    def mae_replace(self, tokens: Tensor, mask: Tensor, embedding: Tensor) -> Tensor:
        return super().mae_replace(tokens, mask[:, :1].expand_as(mask), embedding)


@mistake("dropout-in-reconstruction", clause="tok.mae-embedding", operations=("reconstruct",), levels=SIGNAL)
class DropoutInReconstruction(TextbookModel):
    """The end-to-end pass drops patches as in training, a fixed choice of them at inference too."""

    def reconstruct(self, video: Tensor) -> Tensor:
        dropped = torch.rand(video.shape[:4], generator=torch.Generator().manual_seed(3)).to(video.device) < 0.4
        return super().reconstruct(torch.where(dropped[..., None], 0.5, video))


@mistake("mae-drawn-in-reconstruction", clause="tok.mae-law", operations=("reconstruct",), levels=SIGNAL)
class DrawnInReconstruction(TextbookModel):
    """The end-to-end pass draws patches to drop at every call, at inference too."""

    def reconstruct(self, video: Tensor) -> Tensor:
        dropped = torch.rand(video.shape[:4]).to(video.device) < 0.4
        return super().reconstruct(torch.where(dropped[..., None], 0.5, video))
