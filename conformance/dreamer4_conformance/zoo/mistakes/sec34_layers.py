"""Mistakes in the layers: mixing of space and time, residuals, norms, windows, positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.mistakes import mistake

SIGNAL = ("signal",)
SPACE, TIME, LAYERS = ("space_layer",), ("time_layer",), ("space_layer", "time_layer", "transformer_layer")

# Factorised attention


@mistake("space-layer-of-all-frames", clause="net.factorised", operations=SPACE, levels=SIGNAL)
class SpaceLayerOfAllFrames(TextbookModel):
    """A space layer attends to the T·S tokens of all frames."""

    def split_frames(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2)

    def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
        tiled = None if allow is None else allow.repeat(x.shape[1], x.shape[1])
        q, k, v = self.projections(self.split_frames(x), name, torch.arange(x.shape[1] * x.shape[2]))
        visible = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool) if tiled is None else tiled
        return self.attend(q, k, v, visible, self.cap).flatten(2).reshape(*x.shape[:3], -1)


@mistake("space-layer-of-the-batch", clause="net.factorised", operations=SPACE, levels=SIGNAL)
class SpaceLayerOfTheBatch(TextbookModel):
    """The output of the space layer is (T, B) instead of (B, T), which shows only where both exceed 1."""

    def join_frames(self, x: Tensor, batch: int, time: int) -> Tensor:
        return x.reshape(time, batch, *x.shape[1:]).transpose(0, 1)


@mistake("space-layer-sees-frame-before", clause="net.factorised", operations=SPACE, levels=SIGNAL)
class SpaceLayerSeesFrameBefore(TextbookModel):
    """Half of the channels of a space layer come from the previous frame (temporal shift)."""

    def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
        half = x.shape[-1] // 2
        before = torch.cat([x[:, :1], x[:, :-1]], 1)
        return super().mixed_space(torch.cat([x[..., :half], before[..., half:]], -1), name, allow)


@mistake("space-layer-causal", clause="net.factorised", operations=SPACE, levels=SIGNAL)
class SpaceLayerCausal(TextbookModel):
    """Space attention is causal over the tokens of a frame, as in a language model."""

    def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
        past = torch.ones(x.shape[2], x.shape[2], dtype=torch.bool).tril()
        return super().mixed_space(x, name, past if allow is None else past & allow)


@mistake("window-in-space", clause="net.factorised", operations=SPACE, levels=SIGNAL)
class WindowInSpace(TextbookModel):
    """The context window is applied to the tokens of a frame too."""

    def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
        index = torch.arange(x.shape[2])
        near = (index[:, None] - index).abs() < (self.window() or x.shape[2])
        return super().mixed_space(x, name, near if allow is None else near & allow)


@mistake("time-layer-not-transposed", clause="net.factorised", operations=TIME, levels=SIGNAL)
class TimeLayerNotTransposed(TextbookModel):
    """(B, T, S, D) is reshaped to (B·S, T, D) without a transpose, which mixes tokens and frames."""

    def split_positions(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0] * x.shape[2], x.shape[1], -1)

    def join_positions(self, x: Tensor, batch: int, tokens: int) -> Tensor:
        return x.reshape(batch, x.shape[1], tokens, -1)


@mistake("time-layer-of-the-batch", clause="net.factorised", operations=TIME, levels=SIGNAL)
class TimeLayerOfTheBatch(TextbookModel):
    """The output of the time layer is (S, B) instead of (B, S), which shows only where B exceeds 1."""

    def join_positions(self, x: Tensor, batch: int, tokens: int) -> Tensor:
        return x.reshape(tokens, batch, *x.shape[1:]).permute(1, 2, 0, 3)


@mistake("time-layer-of-all-places", clause="net.factorised", operations=TIME, levels=SIGNAL)
class TimeLayerOfAllPlaces(TextbookModel):
    """A time layer attends to all tokens of the visible frames instead of to its own token position."""

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        if past is not None:
            return super().mixed_time(x, name, past, start)
        time, tokens = x.shape[1:3]
        q, k, v = self.projections(x.flatten(1, 2), name, torch.arange(time).repeat_interleave(tokens))
        allow = self.time_mask(time).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
        return self.attend(q, k, v, allow, self.cap).flatten(2).reshape(*x.shape[:3], -1)


@mistake("time-layer-adds-frame-mean", clause="net.factorised", operations=TIME, levels=SIGNAL)
class TimeLayerAddsFrameMean(TextbookModel):
    """The mean of the frame is added to each token before time is mixed."""

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        return super().mixed_time(x + x.mean(2, keepdim=True), name, past, start)


@mistake("temporal-every-2", clause="net.factorised", operations=("layer_kinds",), levels=SIGNAL)
class TemporalEveryTwo(TextbookModel):
    """Every second layer mixes time."""

    def time_every(self) -> int:
        return 2


@mistake("temporal-every-8", clause="net.factorised", operations=("layer_kinds",), levels=SIGNAL)
class TemporalEveryEight(TextbookModel):
    """Every eighth layer mixes time."""

    def time_every(self) -> int:
        return 8


@mistake("temporal-everywhere", clause="net.factorised", operations=("layer_kinds",), levels=SIGNAL)
class TemporalEverywhere(TextbookModel):
    """Every layer mixes space and time."""

    def layer_kinds(self) -> list[str]:
        return ["both"] * self.depth


@mistake("temporal-last-quarter", clause="net.factorised", operations=("layer_kinds",), levels=SIGNAL)
class TemporalLastQuarter(TextbookModel):
    """A quarter of the layers mixes time, but all of them are at the end."""

    def layer_kinds(self) -> list[str]:
        return sorted(super().layer_kinds())


# The residual


@mistake("residual-scaled", clause="net.residual", operations=("block_zeroed",), levels=SIGNAL)
class ResidualScaled(TextbookModel):
    """The residual connection is (x + update)/√2 instead of x + update."""

    def residual(self, x: Tensor, update: Tensor) -> Tensor:
        return (x + update) / 2**0.5


@mistake("residual-missing", clause="net.residual", operations=("block_zeroed",), levels=SIGNAL)
class ResidualMissing(TextbookModel):
    """There is no residual connection: the output is the update."""

    def residual(self, x: Tensor, update: Tensor) -> Tensor:
        return update


@mistake("residual-not-of-all-tokens", clause="net.residual", operations=("block_zeroed",), levels=SIGNAL)
class ResidualNotOfAllTokens(TextbookModel):
    """The last token of a frame has no residual connection."""

    def residual(self, x: Tensor, update: Tensor) -> Tensor:
        return torch.cat([x[:, :, :-1] + update[:, :, :-1], update[:, :, -1:]], 2)


@mistake("residual-of-normed", clause="net.residual", operations=("block_zeroed",), levels=SIGNAL)
class ResidualOfNormed(TextbookModel):
    """The residual is norm(x) + update: the normalised input is carried on instead of x."""

    def residual(self, x: Tensor, update: Tensor) -> Tensor:
        return self.rms_norm(x, torch.ones_like(x[0, 0, 0]), 1e-6) + update


@mistake("residual-doubled", clause="net.residual", operations=("block_zeroed",), levels=SIGNAL)
class ResidualDoubled(TextbookModel):
    """In the tokenizer, time attention returns the normalised patches, which it leaves alone, and they are added."""

    unmixed: Tensor | None = None

    def layer(self, x: Tensor, name: str, kind: str, **options: Any) -> Tensor:
        of_tokenizer = kind == "time" and name.startswith(("encoder", "decoder"))
        self.unmixed = self.before(x, f"{name}.norm1")[:, :, : self.patch_count()] if of_tokenizer else None
        return super().layer(x, name, kind, **options)

    def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
        update = super().output(x, name, zeroed)
        if self.unmixed is None or not name.endswith(".out"):
            return update
        return torch.cat([self.unmixed, update[:, :, self.patch_count() :]], 2)


@mistake("residual-missing-in-decoder", clause="net.residual", operations=("block_zeroed",), levels=SIGNAL)
class ResidualMissingInDecoder(TextbookModel):
    """The space layers of the decoder have no residual connection."""

    def layer(self, x: Tensor, name: str, kind: str, **options: Any) -> Tensor:
        out = super().layer(x, name, kind, **options)
        return out - x if name.startswith("decoder") and kind == "space" else out


# Normalisation


@mistake("post-norm", clause="net.prenorm", operations=LAYERS, levels=SIGNAL)
class PostNorm(TextbookModel):
    """The norm comes after the residual, norm(x + sublayer(x)), as in the original transformer."""

    def before(self, x: Tensor, name: str) -> Tensor:
        return x

    def residual(self, x: Tensor, update: Tensor) -> Tensor:
        return self.rms_norm(x + update, torch.ones_like(x[0, 0, 0]), 1e-6)


@mistake("norm-missing", clause="net.prenorm", operations=LAYERS, levels=SIGNAL)
class NormMissing(TextbookModel):
    """Sublayers have no norm; only queries and keys are normalised."""

    depth = 4

    def before(self, x: Tensor, name: str) -> Tensor:
        return x


@mistake("norm-before-attention-only", clause="net.prenorm", operations=LAYERS, levels=SIGNAL)
class NormBeforeAttentionOnly(TextbookModel):
    """The MLP has no norm at its input."""

    depth = 4

    def before(self, x: Tensor, name: str) -> Tensor:
        return x if name.endswith("norm2") else super().before(x, name)


@mistake("norm-before-mlp-only", clause="net.prenorm", operations=LAYERS, levels=SIGNAL)
class NormBeforeMlpOnly(TextbookModel):
    """Attention has no norm at its input."""

    def before(self, x: Tensor, name: str) -> Tensor:
        return x if name.endswith("norm1") else super().before(x, name)


@mistake("norm-after-sublayer", clause="net.prenorm", operations=LAYERS, levels=SIGNAL)
class NormAfterSublayer(TextbookModel):
    """The norm is applied to the output of the sublayer, x + norm(sublayer(x)), instead of its input."""

    def before(self, x: Tensor, name: str) -> Tensor:
        return x

    def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
        update = super().output(x, name, zeroed)
        return self.rms_norm(update, torch.ones_like(update[0, 0, 0]), 1e-6)


@mistake("norm-over-tokens", clause="net.prenorm", operations=LAYERS, levels=SIGNAL)
class NormOverTokens(TextbookModel):
    """The RMS is taken over all tokens of a sequence instead of over the channels of each token."""

    def before(self, x: Tensor, name: str) -> Tensor:
        size = x.square().mean(tuple(range(1, x.ndim)), keepdim=True) + 1e-6
        return x / size.sqrt() * self.gain(name, x.shape[-1])


@mistake("norm-missing-in-tokenizer", clause="net.prenorm", operations=("transformer_layer",), levels=SIGNAL)
class NormMissingInTokenizer(TextbookModel):
    """The layers of the encoder have no norm at the input of attention."""

    def before(self, x: Tensor, name: str) -> Tensor:
        return x if name.startswith("encoder") and name.endswith("norm1") else super().before(x, name)


# Causality and window


@mistake("causal-not-passed", clause="attn.causal", operations=TIME, levels=SIGNAL)
class CausalNotPassed(TextbookModel):
    """A time layer calls attention without causal=True, so every frame attends to all frames."""

    def time_mask(self, length: int) -> Tensor:
        return self.key_mask(length, False, None)


@mistake("only-the-frame-before", clause="attn.causal", operations=TIME, levels=SIGNAL)
class OnlyTheFrameBefore(TextbookModel):
    """A frame attends to itself and the previous frame only, whatever the context length."""

    def time_mask(self, length: int) -> Tensor:
        return self.key_mask(length, True, 2)


@mistake("window-not-passed", clause="attn.window", operations=TIME, levels=SIGNAL)
class WindowNotPassed(TextbookModel):
    """A time layer calls attention without the window, so all earlier frames are visible."""

    def time_mask(self, length: int) -> Tensor:
        return self.key_mask(length, True, None)


@mistake("window-first-frame-kept", clause="attn.window", operations=TIME, levels=SIGNAL)
class WindowFirstFrameKept(TextbookModel):
    """The first frame of the sequence remains visible outside the window."""

    def time_mask(self, length: int) -> Tensor:
        return super().time_mask(length) | (torch.arange(length) == 0)


@mistake("frame-hidden-from-itself", clause="attn.window", operations=TIME, levels=SIGNAL)
class FrameHiddenFromItself(TextbookModel):
    """A frame attends to earlier frames but not to itself; the first attends to no frame."""

    def time_mask(self, length: int) -> Tensor:
        return super().time_mask(length) & ~torch.eye(length, dtype=torch.bool)

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        return super().weights(logits, allow, softcap, backend).nan_to_num(0.0)


# Positions


@mistake("rope-flattened", clause="attn.rope", operations=TIME, levels=SIGNAL)
class RopeFlattened(TextbookModel):
    """RoPE positions index the flattened space-time tokens, so that consecutive frames are S steps apart."""

    def frame_positions(self, start: int, time: int, tokens: int) -> Tensor:
        return super().frame_positions(start, time, tokens) * tokens


@mistake("positions-added-in-time", clause="attn.rope", operations=TIME, levels=SIGNAL)
class PositionsAddedInTime(TextbookModel):
    """A time layer adds a learned embedding of each frame's index to its input."""

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        index = self.frame_positions(start, *x.shape[1:3]) % 64
        return super().mixed_time(
            x + self.parameter("frame.index", 64, self.width)[index][:, None] * 8, name, past, start
        )


@mistake("rope-on-keys-only", clause="attn.rope", operations=TIME, levels=SIGNAL)
class RopeOnKeysOnly(TextbookModel):
    """Only keys are rotated, so scores depend on absolute positions."""

    def projections(self, x: Tensor, name: str, positions: Tensor | None) -> Any:
        q, _, _ = super().projections(x, name, None)
        return (q, *super().projections(x, name, positions)[1:])


@mistake("rope-restarts", clause="attn.rope", operations=TIME, levels=SIGNAL)
class RopeRestarts(TextbookModel):
    """Positions restart at 0 after every 4 frames."""

    def frame_positions(self, start: int, time: int, tokens: int) -> Tensor:
        return super().frame_positions(start, time, tokens) % 4


@mistake("rope-missing-in-time", clause="attn.rope", operations=TIME, levels=SIGNAL)
class RopeMissingInTime(TextbookModel):
    """Time layers do not apply RoPE."""

    def frame_positions(self, start: int, time: int, tokens: int) -> Tensor:
        return torch.zeros(time, dtype=torch.long)


@mistake("rope-missing-in-space", clause="attn.rope", operations=SPACE, levels=SIGNAL)
class RopeMissingInSpace(TextbookModel):
    """Space layers do not apply RoPE, without declaring reading A35."""

    def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
        q, k, v = self.projections(self.split_frames(x), name, None)
        visible = torch.ones(x.shape[2], x.shape[2], dtype=torch.bool) if allow is None else allow
        return self.join_frames(self.attend(q, k, v, visible, self.cap).flatten(2), *x.shape[:2])
