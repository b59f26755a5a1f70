"""Equivalent ways to normalise queries, keys and tokens (Sec. 3.4)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter, TorchAdapter
from dreamer4_conformance.zoo.equivalents import equivalent
from dreamer4_conformance.zoo.equivalents.sec34_attention import AttentionAlone

functional = torch.nn.functional


@equivalent("qknorm-l2")
class L2(TorchAdapter):
    """Unit vectors, with the epsilon of F.normalize (A31 "l2")."""

    readings = {"A31": "l2"}  # noqa: RUF012

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)


@equivalent("qknorm-layernorm")
class Layer(TorchAdapter):
    """LayerNorm over the channels of a head, with its usual epsilon (A31 "layernorm")."""

    readings = {"A31": "layernorm"}  # noqa: RUF012

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return functional.layer_norm(q, q.shape[-1:]), functional.layer_norm(k, k.shape[-1:])


@equivalent("norms-fused")
class Fused(TorchAdapter):
    """torch's own RMSNorm, epsilon included, for tokens and heads; gate and up from one product."""

    def qk_norm(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return functional.rms_norm(q, q.shape[-1:], eps=1e-5), functional.rms_norm(k, k.shape[-1:], eps=1e-5)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], weight, eps)

    def swiglu(self, x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
        gate, up = (x @ torch.cat([w_gate, w_up], 1)).chunk(2, -1)
        return (up * gate * gate.sigmoid()) @ w_down


@equivalent("norms-half")
class HalfNorms(AttentionAlone):
    """Computed in the dtype of the inputs; queries and keys by their L2 norm times √D."""

    def normalise_head(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=-1) * x.shape[-1] ** 0.5

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight

    def rope(self, x: Tensor, positions: Tensor) -> Tensor:
        angle = self.rope_angles(positions, x.shape[-1] // 2)[:, None].float()
        return self.from_pairs(*self.rotate_pairs(*self.pairs(x), angle.cos().to(x.dtype), angle.sin().to(x.dtype)))


@equivalent("norms-numpy")
class InNumpy(Adapter):
    """NumPy, in the dtype of the inputs; rotation by 2×2 matrices."""

    def qk_norm(self, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        q_normed, k_normed = (x / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(1e-6)) for x in (q, k))
        return q_normed, k_normed

    def rope(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        width = x.shape[-1]
        angle = np.outer(positions, 10000.0 ** (-np.arange(0, width, 2) / width))
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).astype(x.dtype)
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        return np.einsum("rclp,blhpc->blhpr", matrix, pairs).reshape(x.shape)

    def rms_norm(self, x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
        return np.asarray(x / np.sqrt(np.square(x).mean(-1, keepdims=True) + x.dtype.type(eps)) * weight)

    def swiglu(self, x: np.ndarray, w_gate: np.ndarray, w_up: np.ndarray, w_down: np.ndarray) -> np.ndarray:
        gate = x @ w_gate
        return np.asarray((gate * (1 + np.tanh(gate / 2)) / 2 * (x @ w_up)) @ w_down)
