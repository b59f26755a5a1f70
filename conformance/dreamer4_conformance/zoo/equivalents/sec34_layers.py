"""Equivalent ways to build the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.base.sec34_layers import Past
from dreamer4_conformance.zoo.equivalents import equivalent

# Whole models


@equivalent("layers-time-added")
class TimeAdded(TextbookModel):
    """Every fourth layer mixes time in addition to space (A25), the first of each four (A39)."""

    def __init__(self) -> None:
        super().__init__(A25="adds", A39="other")


@equivalent("layers-context-exclusive")
class ContextExclusive(TextbookModel):
    """C counts past frames only (A30)."""

    def __init__(self) -> None:
        super().__init__(A30="exclusive")


@equivalent("layers-sandwich-norm")
class SandwichNorm(TextbookModel):
    """The output of a sublayer is normalised too, before it is added."""

    def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
        return self.before(super().output(x, name, zeroed), f"{name}.after")


# Layers by themselves


class LayersOf(TorchAdapter):
    """The layers of a textbook model without its other operations, so that all clauses are cheap to judge."""

    model: type[TextbookModel] = TextbookModel
    context_frames = TextbookModel.context_frames

    @property
    def book(self) -> TextbookModel:
        """The model, with this adapter's device and dtype."""
        book = self.model("signal", **self.readings)
        book.device, book.dtype, book.context_frames = self.device, self.dtype, self.context_frames
        return book

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        return {"x": self.book.example(seed, batch, time)["x"]}

    def space_layer(self, x: Tensor) -> Tensor:
        return self.book.space_layer(x)

    def time_layer(self, x: Tensor) -> Tensor:
        return self.book.time_layer(x)

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        return self.book.block_zeroed(x, kind)

    def layer_kinds(self) -> list[str]:
        return self.book.layer_kinds()


@equivalent("layers-unbounded")
class Unbounded(LayersOf):
    """Time layers have no window."""

    context_frames = None


@equivalent("layers-long-context")
class LongContext(LayersOf):
    """A window of 24 frames."""

    context_frames = 24


@equivalent("layers-two-frames")
class TwoFrames(LayersOf):
    """A window of 2 frames, too short to show the order of past frames."""

    context_frames = 2


@equivalent("layers-shallow")
class Shallow(LayersOf):
    """Two layers, so there is no fourth one that mixes time."""

    class model(TextbookModel):  # noqa: N801
        """The textbook model with depth 2."""

        depth = 2


@equivalent("layers-six")
class Six(LayersOf):
    """Six layers, which is not a multiple of four."""

    class model(TextbookModel):  # noqa: N801
        """The textbook model with depth 6."""

        depth = 6


@equivalent("layers-time-only-rotated")
class TimeOnlyRotated(LayersOf):
    """RoPE over time only (A35); tokens get learned position embeddings before the first layer."""

    readings = {"A35": "time"}  # noqa: RUF012


@equivalent("layers-unit-queries")
class UnitQueries(LayersOf):
    """QK-norm to unit length (A31) over √D: all logits are small, and the weights nearly equal."""

    readings = {"A31": "l2"}  # noqa: RUF012


@equivalent("layers-interleaved-rotation")
class InterleavedRotation(LayersOf):
    """RoPE rotates adjacent channels, in float32 whatever the model's dtype."""

    class model(TextbookModel):  # noqa: N801
        """Model whose RoPE pairs even and odd channels."""

        def rope(self, x: Tensor, positions: Tensor) -> Tensor:
            pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
            frequency = 10000.0 ** -torch.linspace(0, 1, pairs.shape[-1] + 1, dtype=x.dtype)[:-1]
            angle = positions[:, None, None].to(x.dtype) * frequency
            return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


@equivalent("layers-parallel")
class ParallelSublayers(LayersOf):
    """Parallel attention and MLP: both read the same normalised x."""

    class model(TextbookModel):  # noqa: N801
        """Model of layers x + attention(norm(x)) + mlp(norm(x))."""

        def layer(self, x: Tensor, name: str, kind: str, **options: Any) -> Tensor:
            normed, zeroed = self.before(x, f"{name}.norm"), options.get("zeroed", False)
            past, start = options.get("past"), options.get("start", 0)
            mixed = (
                self.mixed_space(normed, name, options.get("allow"))
                if kind == "space"
                else self.mixed_time(normed, name, past, start)
            )
            gated = self.hidden(normed, name)
            return x + self.output(mixed, f"{name}.out", zeroed) + self.output(gated, f"{name}.down", zeroed)


@equivalent("layers-attention-only")
class AttentionOnly(LayersOf):
    """Attention and MLP are separate layers; mixing layers have no MLP."""

    class model(TextbookModel):  # noqa: N801
        """Model of layers x + attention(norm(x))."""

        def hidden(self, x: Tensor, name: str) -> Tensor:
            return torch.zeros_like(super().hidden(x, name))


@equivalent("layers-layernorm")
class CentredNorm(LayersOf):
    """LayerNorm with biases before each sublayer, and biases after it."""

    class model(TextbookModel):  # noqa: N801
        """Model with LayerNorm instead of RMSNorm."""

        def before(self, x: Tensor, name: str) -> Tensor:
            width = x.shape[-1]
            return nn.functional.layer_norm(x, (width,), self.gain(name, width), self.parameter(f"{name}.bias", width))

        def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
            out = super().output(x, name, zeroed)
            return out if zeroed else out + self.parameter(f"{name}.bias", self.width)


@equivalent("layers-small-updates")
class SmallUpdates(LayersOf):
    """Output projections as small as at the start of training."""

    class model(TextbookModel):  # noqa: N801
        """Model with updates scaled by 1/50."""

        def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
            return 0.02 * super().output(x, name, zeroed)


@equivalent("layers-large-updates")
class LargeUpdates(LayersOf):
    """Output projections much larger than the residual."""

    class model(TextbookModel):  # noqa: N801
        """Model with updates scaled by 100."""

        def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
            return 100 * super().output(x, name, zeroed)


@equivalent("layers-sharp-attention")
class SharpAttention(LayersOf):
    """Large gains of queries and keys, so that nearly all weight is on one key."""

    class model(TextbookModel):  # noqa: N801
        """Model with logits up to the cap."""

        def gain(self, name: str, width: int) -> Tensor:
            return super().gain(name, width) * (4 if name.endswith("_gain") else 1)


@equivalent("layers-dense-masks")
class DenseMasks(LayersOf):
    """One attention over all T·S tokens, with a mask that separates frames or token positions."""

    class model(TextbookModel):  # noqa: N801
        """Model whose layers flatten (B, T, S, D) to (B, T·S, D)."""

        def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
            time, tokens = x.shape[1:3]
            inside = torch.ones(tokens, tokens, dtype=torch.bool) if allow is None else allow
            allowed = torch.kron(torch.eye(time), inside.float()).bool()
            return self.dense(x, name, allowed, torch.arange(tokens).repeat(time))

        def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
            time, tokens = x.shape[1:3]
            allowed = torch.kron(self.time_mask(time).float(), torch.eye(tokens)).bool()
            return self.dense(x, name, allowed, torch.arange(time).repeat_interleave(tokens))

        def dense(self, x: Tensor, name: str, allowed: Tensor, positions: Tensor) -> Tensor:
            q, k, v = self.projections(x.flatten(1, 2), name, positions)
            return self.attend(q, k, v, allowed, self.cap).flatten(2).reshape(*x.shape[:3], -1)


@equivalent("layers-bound-to-their-tokens")
class BoundToTheirTokens(LayersOf):
    """Layers with a fixed number of tokens per frame, which refuse any other."""

    def time_layer(self, x: Tensor) -> Tensor:
        return super().time_layer(x.view(*x.shape[:2], 5, -1))


class Block(nn.Module):
    """A pre-norm layer of PyTorch's modules, along axis 1 of (N, L, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attention by `scaled_dot_product_attention`; mask bool (L, L), True = may attend."""
        heads = self.qkv(self.norm1(x)).reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (self.rotate_pairs(nn.functional.normalize(y, dim=-1) * y.shape[-1] ** 0.5) for y in heads[:2])
        mixed = nn.functional.scaled_dot_product_attention(q, k, heads[2], attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        update: Tensor = self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return x + update

    def rotate_pairs(self, x: Tensor) -> Tensor:
        """RoPE with angles in float32."""
        half = x.shape[-1] // 2
        angle = torch.arange(x.shape[-2])[:, None] * 100.0 ** (-torch.arange(half) / half)
        first, second = x.float().chunk(2, -1)
        rotated = torch.cat(
            [first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1
        )
        return rotated.to(x.dtype)


@equivalent("layers-modules")
class Modules(TorchAdapter):
    """PyTorch's modules and attention, biases everywhere, GELU, all in the adapter's dtype."""

    context_frames = 4

    def block(self, seed: int) -> Block:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            block = Block(24, 3)
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.mul_(2)
        return block.to(self.device, getattr(torch, self.dtype)).requires_grad_(False)

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        return {"x": torch.randn(batch, time, 6, 24, generator=generator).to(self.device, getattr(torch, self.dtype))}

    def space_layer(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.block(0)(x.flatten(0, 1), None)
        return mixed.reshape(x.shape)

    def time_layer(self, x: Tensor) -> Tensor:
        behind = torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])
        mask = (behind >= 0) & (behind < self.context_frames)
        mixed: Tensor = self.block(1)(x.transpose(1, 2).flatten(0, 1), mask)
        return mixed.reshape(x.transpose(1, 2).shape).transpose(1, 2)

    def block_zeroed(self, x: Tensor) -> Tensor:  # type: ignore[override]  # of one kind
        block = self.block(0)
        for projection in (block.out, block.down):
            projection.weight.zero_()
            projection.bias.zero_()
        mixed: Tensor = block(x.flatten(0, 1), None)
        return mixed.reshape(x.shape)


@equivalent("layers-in-numpy")
class InNumpy(Adapter):
    """NumPy, query by query, with grouped queries and a ReLU² in the MLP."""

    context_frames = 3
    heads, groups, head_width, width = 4, 2, 6, 12

    def weights(self, seed: int) -> dict[str, np.ndarray]:
        rng, inner, hidden = np.random.default_rng(seed), self.heads * self.head_width, 20
        shapes = {"q": inner, "k": inner // self.groups, "v": inner // self.groups, "up": hidden}
        drawn = {name: rng.standard_normal((self.width, columns)) / 3 for name, columns in shapes.items()}
        into = {"out": inner, "down": hidden}
        return drawn | {name: rng.standard_normal((rows, self.width)) / 4 for name, rows in into.items()}

    def example(self, seed: int, batch: int, time: int) -> Mapping[str, Any]:
        shape = (batch, time, 4, self.width)
        return {"x": np.random.default_rng(seed).standard_normal(shape).astype(self.dtype)}

    def space_layer(self, x: np.ndarray) -> np.ndarray:
        return self.residual_layer(x, self.weights(0), last=x.shape[2])

    def time_layer(self, x: np.ndarray) -> np.ndarray:
        return self.residual_layer(x.swapaxes(1, 2), self.weights(1), last=0).swapaxes(1, 2)

    def block_zeroed(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]  # of one kind
        zeros = {name: np.zeros_like(weight) for name, weight in self.weights(0).items()}
        return self.residual_layer(x, self.weights(0) | {name: zeros[name] for name in ("out", "down")}, x.shape[2])

    def residual_layer(self, x: np.ndarray, weights: dict[str, np.ndarray], last: int) -> np.ndarray:
        """Mixes axis 2: all tokens if `last` is their number, else the last three up to each."""
        wide = x.astype(np.float64)
        normed = self.normalised(wide)
        q, k, v = (self.split_heads(normed @ weights[name]) for name in "qkv")
        index = np.arange(x.shape[2])
        q, k = (self.turned(self.normalised(y), index) for y in (q, k))
        mixed = np.empty_like(q)
        for i in index:
            keys = slice(0, last) if last else slice(max(0, i + 1 - self.context_frames), i + 1)
            for head in range(self.heads):
                group = head // self.groups
                score = (k[:, :, keys, group] @ q[:, :, i, head, :, None])[..., 0] / self.head_width**0.5
                share = np.exp(score - score.max(-1, keepdims=True))
                values = (share[..., None] * v[:, :, keys, group]).sum(2)
                mixed[:, :, i, head] = values / share.sum(-1, keepdims=True)
        wide = wide + mixed.reshape(*x.shape[:3], -1) @ weights["out"]
        hidden = np.maximum(self.normalised(wide) @ weights["up"], 0) ** 2
        return (wide + hidden @ weights["down"]).astype(x.dtype)

    def normalised(self, x: np.ndarray) -> np.ndarray:
        """Divides by the root mean square of the channels."""
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6))

    def split_heads(self, x: np.ndarray) -> np.ndarray:
        """Splits the channels into heads."""
        return x.reshape(*x.shape[:-1], -1, self.head_width)

    def turned(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Rotates adjacent channels as complex numbers."""
        half = self.head_width // 2
        angle = index[:, None, None] * 30.0 ** (-np.arange(half) / half)
        numbers = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
        return np.stack([numbers.real, numbers.imag], -1).reshape(x.shape)
