"""Attention, its norms and its rotation in plain PyTorch (Sec. 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from dreamer4_conformance.adapter import AttentionOptions


class Attention:
    """Operations of one layer. `follows` holds the option of every reading; half precision is computed in float32."""

    follows: dict[str, str]
    backends: Sequence[str] = ("einsum", "matmul")

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, *, backend: str = "einsum", **options: Unpack[AttentionOptions]
    ) -> Tensor:
        """softmax(mask(cap(scale q·k))) v, with k and v repeated for the query heads of a group."""
        compute, dtype = torch.promote_types(q.dtype, torch.float32), q.dtype
        allow = self.key_mask(q.shape[1], options["causal"], options["window"]).to(q.device)
        q, k, v = (x.to(compute) for x in (q, k, v))
        out = self.attend(q, k, v, allow, options["softcap"], options.get("scale"), backend)
        return out.to(dtype)

    def key_mask(self, length: int, causal: bool, window: int | None) -> Tensor:
        """bool (L, L): query i attends to key j if j ≤ i and i − j < window."""
        behind = torch.arange(length)[:, None] - torch.arange(length)
        allow = behind >= 0 if causal else torch.ones(length, length, dtype=torch.bool)
        return allow if window is None else allow & self.inside(behind, window)

    def inside(self, behind: Tensor, window: int) -> Tensor:
        """True for keys inside the window, which includes the query's own key."""
        return behind < window

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        allow: Tensor,
        softcap: float | None,
        scale: float | None = None,
        backend: str = "einsum",
    ) -> Tensor:
        """q (N, Lq, Hq, D), k, v (N, Lk, Hkv, D), allow bool (Lq, Lk) → (N, Lq, Hq, D)."""
        k, v = (self.repeated(x, q.shape[2] // k.shape[2]) for x in (k, v))
        logits = self.logits(q, k, self.scaled(scale, q.shape[-1]), backend)
        weights = self.weights(logits, allow, softcap, backend)
        return torch.einsum("nhij,njhd->nihd", weights, v)

    def repeated(self, x: Tensor, times: int) -> Tensor:
        """Repeats each key/value head for `times` consecutive query heads."""
        return x.repeat_interleave(times, dim=2)

    def scaled(self, scale: float | None, width: int) -> float:
        """The scale, 1/√D by default."""
        return width**-0.5 if scale is None else scale

    def logits(self, q: Tensor, k: Tensor, scale: float, backend: str) -> Tensor:
        """scale q·k, (N, H, Lq, Lk)."""
        if backend == "matmul":
            return q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * scale
        return torch.einsum("nihd,njhd->nhij", q * scale, k)

    def weights(self, logits: Tensor, allow: Tensor, softcap: float | None, backend: str) -> Tensor:
        """softmax over the visible keys, after the cap."""
        capped = logits if softcap is None else self.soft_cap(logits, softcap)
        return capped.masked_fill(~allow, -torch.inf).softmax(-1)

    def soft_cap(self, logits: Tensor, cap: float) -> Tensor:
        return cap * torch.tanh(logits / cap)

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, each head normalised separately."""
        return self.normalise_head(q), self.normalise_head(k)

    def normalise_head(self, x: Tensor) -> Tensor:
        """Normalises over the channels of one head, by the option of A31."""
        compute = torch.promote_types(x.dtype, torch.float32)
        y = x.to(compute)
        if self.follows["A31"] == "layernorm":
            y = y - y.mean(-1, keepdim=True)
        size = y.norm(dim=-1, keepdim=True) if self.follows["A31"] == "l2" else y.square().mean(-1, keepdim=True).sqrt()
        return (y / size).to(x.dtype)

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotates pair i of the channels of every head (…, L, H, D) by position · 10000^(−2i/D)."""
        compute = torch.promote_types(x.dtype, torch.float32)
        angle = self.rope_angles(self.rope_positions(positions), x.shape[-1] // 2)[:, None]
        cos, sin = angle.cos().to(compute), angle.sin().to(compute)
        first, second = self.pairs(x.to(compute))
        return self.from_pairs(*self.rotate_pairs(first, second, cos, sin)).to(x.dtype)

    rope_base = 10000.0

    def rope_positions(self, positions: Tensor) -> Tensor:
        """Positions along one axis, unchanged."""
        return positions

    def rope_angles(self, positions: Tensor, pairs: int) -> Tensor:
        """Angles (L, pairs), in float64 so that large positions keep their precision."""
        exponent = torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs
        return positions.double()[:, None] * self.rope_base**-exponent

    def pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs channel i with channel i + D/2."""
        first, second = x.chunk(2, -1)
        return first, second

    def from_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """Inverse operation of `pairs`."""
        return torch.cat([first, second], -1)

    def rotate_pairs(self, first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Rotates each pair by its angle."""
        return first * cos - second * sin, second * cos + first * sin

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """weight · x / √(mean(x²) + eps)."""
        compute = torch.promote_types(x.dtype, torch.float32)
        y = x.to(compute)
        return (weight.to(compute) * y * self.inverse_root(y.square().mean(-1, keepdim=True), eps)).to(x.dtype)

    def inverse_root(self, mean_square: Tensor, eps: float) -> Tensor:
        return (mean_square + eps).rsqrt()

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        """(silu(x W_gate) ⊙ x W_up) W_down."""
        return self.gated(x @ w_gate, x @ w_up) @ w_down

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return torch.nn.functional.silu(gate) * up
