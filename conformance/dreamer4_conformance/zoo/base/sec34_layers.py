"""Space and time layers in plain PyTorch (Sec. 3.4).

Parameters are drawn by name where they are used: random, and none of them zero.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dreamer4_conformance.zoo.base.sec34_attention import Attention

#: Keys and values (B·S, T, H, D) of the frames that each time layer has stored.
Past = dict[str, tuple[Tensor, Tensor]]


@cache
def _drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5


class Transformer(Attention):
    """Pre-norm residual space and time layers, computed in float32 at least."""

    device: str
    dtype: str
    k_max: int
    context_frames: int | None = 3
    depth = 8
    width = 16
    heads, kv_heads, head_width, mlp_width = 4, 2, 4, 24
    cap = 50.0

    @property
    def compute(self) -> torch.dtype:
        """The dtype of parameters and arithmetic."""
        return torch.promote_types(getattr(torch, self.dtype), torch.float32)

    def parameter(self, name: str, *shape: int) -> Tensor:
        """Parameter of this name: normal values / √(first axis), a copy of the same at every call."""
        return _drawn(name, shape).to(self.device, self.compute, copy=True)

    def gain(self, name: str, width: int) -> Tensor:
        """Gain of a norm, close to 1."""
        return 1 + 0.25 * self.parameter(name, width) * width**0.5

    # Layers

    def space_layer(self, x: Tensor) -> Tensor:
        """First layer of the dynamics, without a mask."""
        return self.layer(x.to(self.compute), "layer.0", "space").to(x.dtype)

    def time_layer(self, x: Tensor) -> Tensor:
        """The first time layer of the dynamics."""
        return self.layer(x.to(self.compute), "layer.3", "time").to(x.dtype)

    def block_zeroed(self, x: Tensor, kind: str) -> Tensor:
        """A layer whose output projections are zero."""
        return self.layer_of_kind(x, kind, zeroed=True)

    def transformer_layer(self, x: Tensor, kind: str) -> Tensor:
        """The first layer of this kind, without a mask."""
        return self.layer_of_kind(x, kind, zeroed=False)

    def layer_of_kind(self, x: Tensor, kind: str, *, zeroed: bool) -> Tensor:
        """The first space layer, or time layer, of the dynamics, the encoder or the decoder."""
        component, axis = kind.split(".")
        name = f"{'layer' if component == 'dynamics' else component}.{0 if axis == 'space' else 3}"
        return self.layer(x.to(self.compute), name, axis, zeroed=zeroed).to(x.dtype)

    def layer_kinds(self) -> list[str]:
        """Every fourth layer mixes time (A25, A39)."""
        remainder = self.time_every() - 1 if self.follows["A39"] == "last" else 0
        time = "time" if self.follows["A25"] == "replaces" else "both"
        return [time if index % self.time_every() == remainder else "space" for index in range(self.depth)]

    def time_every(self) -> int:
        """Distance between time layers."""
        return 4

    def layers(
        self, x: Tensor, allow: Tensor | None = None, past: Past | None = None, start: int = 0, stack: str = "layer"
    ) -> tuple[Tensor, Past]:
        """Applies all layers to x (B, T, S, D), after `start` cached frames; returns x and the new cache."""
        past = dict(past or {})
        for index, kinds in enumerate(self.layer_kinds()):
            for kind in ("space", "time") if kinds == "both" else (kinds,):
                name = f"{stack}.{index}" + (".time" if kinds == "both" and kind == "time" else "")
                x = self.layer(x, name, kind, allow=allow, past=past, start=start)
        return x, past

    def layer(
        self,
        x: Tensor,
        name: str,
        kind: str,
        *,
        allow: Tensor | None = None,
        past: Past | None = None,
        start: int = 0,
        zeroed: bool = False,
    ) -> Tensor:
        """x + attention(norm(x)), then + mlp(norm(x)). `allow` bool (S, S) is the mask of space layers."""
        normed = self.before(x, f"{name}.norm1")
        mixed = self.mixed_space(normed, name, allow) if kind == "space" else self.mixed_time(normed, name, past, start)
        x = self.residual(x, self.output(mixed, f"{name}.out", zeroed))
        gated = self.hidden(self.before(x, f"{name}.norm2"), name)
        return self.residual(x, self.output(gated, f"{name}.down", zeroed))

    def before(self, x: Tensor, name: str) -> Tensor:
        """Norm at the input of a sublayer."""
        return self.rms_norm(x, self.gain(name, x.shape[-1]), 1e-6)

    def residual(self, x: Tensor, update: Tensor) -> Tensor:
        return x + update

    def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
        """The last projection of a sublayer."""
        weight = self.parameter(name, x.shape[-1], self.width)
        return x @ (torch.zeros_like(weight) if zeroed else weight)

    def hidden(self, x: Tensor, name: str) -> Tensor:
        """silu(x W_gate) ⊙ x W_up."""
        gate, up = (self.parameter(f"{name}.{role}", self.width, self.mlp_width) for role in ("gate", "up"))
        return torch.nn.functional.silu(x @ gate) * (x @ up)

    def projections(self, x: Tensor, name: str, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v (N, L, H, D) of x (N, L, width): normalised per head, then rotated by their positions."""
        counts = {"q": self.heads, "k": self.kv_heads, "v": self.kv_heads}
        weights = {
            role: self.parameter(f"{name}.{role}", self.width, n * self.head_width) for role, n in counts.items()
        }
        q, k, v = ((x @ weights[role]).reshape(*x.shape[:2], n, self.head_width) for role, n in counts.items())
        q, k = (
            y * self.gain(f"{name}.{role}_gain", self.head_width)
            for role, y in zip(("q", "k"), self.qk_norm(q, k), strict=True)
        )
        return (q, k, v) if positions is None else (self.rope(q, positions), self.rope(k, positions), v)

    def mixed_space(self, x: Tensor, name: str, allow: Tensor | None) -> Tensor:
        """Attention among the tokens of each frame."""
        batch, time, tokens, _ = x.shape
        positions = None if self.follows["A35"] == "time" else torch.arange(tokens, device=x.device)
        q, k, v = self.projections(self.split_frames(x), name, positions)
        visible = torch.ones(tokens, tokens, dtype=torch.bool) if allow is None else allow
        out = self.attend(q, k, v, visible.to(x.device), self.cap)
        return self.join_frames(out.flatten(2), batch, time)

    def split_frames(self, x: Tensor) -> Tensor:
        """(B, T, S, D) → (B·T, S, D)."""
        return x.flatten(0, 1)

    def join_frames(self, x: Tensor, batch: int, time: int) -> Tensor:
        """(B·T, S, D) → (B, T, S, D)."""
        return x.reshape(batch, time, *x.shape[1:])

    def mixed_time(self, x: Tensor, name: str, past: Past | None, start: int) -> Tensor:
        """Attention of each token position over the last C frames."""
        batch, time, tokens, _ = x.shape
        positions = self.frame_positions(start, time, tokens).to(x.device)
        q, k, v = self.projections(self.split_positions(x), name, positions)
        if past is not None:
            k, v = past[name] = self.extend_cache(past.get(name), k, v)
        allow = self.time_mask(k.shape[1])[-time:]
        out = self.attend(q, k, v, allow.to(x.device), self.cap)
        return self.join_positions(out.flatten(2), batch, tokens)

    def split_positions(self, x: Tensor) -> Tensor:
        """(B, T, S, D) → (B·S, T, D)."""
        return x.transpose(1, 2).flatten(0, 1)

    def join_positions(self, x: Tensor, batch: int, tokens: int) -> Tensor:
        """(B·S, T, D) → (B, T, S, D)."""
        return x.reshape(batch, tokens, *x.shape[1:]).transpose(1, 2)

    def frame_positions(self, start: int, time: int, tokens: int) -> Tensor:
        """Index of each frame in its sequence."""
        return start + torch.arange(time)

    def extend_cache(self, past: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of cached and new frames."""
        return (k, v) if past is None else (torch.cat([past[0], k], 1), torch.cat([past[1], v], 1))

    def time_mask(self, length: int) -> Tensor:
        """bool (T, T): causal mask with the window."""
        return self.key_mask(length, True, self.window())

    def window(self) -> int | None:
        """Number of keys in a time layer's window, own frame included (A30)."""
        if self.context_frames is None:
            return None
        return self.context_frames + (self.follows["A30"] == "exclusive")
