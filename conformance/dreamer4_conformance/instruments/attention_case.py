"""One call of `attention`: its inputs, the reference's outputs, and bounds of their rounding errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dreamer4_conformance.instruments.subject import EPS, Subject, smallest_normal
from dreamer4_conformance.verdicts import NotProvided, OperationFailed
from dreamer4_reference.sec34_attention import (
    attention,
    attention_gradients,
    attention_mask,
    attention_weights,
    soft_cap,
)

HEADS = ((1, 1), (2, 1), (3, 3), (4, 2), (6, 2), (6, 3))
"""Numbers of query heads and key/value heads."""
WIDTHS = (8, 16, 24)
CAPS = (2.0, 6.0, 50.0)
"""Exact in every dtype; small enough that the logits of `draw_attention_case` reach them."""
STRENGTHS = (1.0, 3.0, 9.0)
"""Scales of the queries: with the largest, one key dominates most rows."""


@dataclass(frozen=True)
class AttentionCase:
    """Arguments of `attention`: q (B, L, Hq, D), k and v (B, L, Hkv, D), and the options."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    causal: bool = False
    window: int | None = None
    softcap: float | None = None
    scale: float | None = None
    drawn_by: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the call."""
        return {"causal": self.causal, "window": self.window, "softcap": self.softcap, "scale": self.scale}

    def call(self, backend: str | None) -> str:
        """The call as Python."""
        shapes = [f"{name} {'x'.join(map(str, x.shape))}" for name, x in (("q", self.q), ("k, v", self.k))]
        chosen = {**self.options, **({} if backend is None else {"backend": backend})}
        options = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
        return f"attention({', '.join(shapes)}, {options})" + (f" of {self.drawn_by}" if self.drawn_by else "")

    @cached_property
    def mask(self) -> np.ndarray:
        """Mask (L, L): rows are queries, columns are keys, True = may attend."""
        length = self.q.shape[1]
        return np.asarray(attention_mask(length, length, causal=self.causal, window=self.window))

    @property
    def _reference_options(self) -> dict[str, Any]:
        return {"mask": self.mask, "softcap": self.softcap, "scale": self.scale}

    @property
    def expected(self) -> np.ndarray:
        """Output of the reference, (B, L, Hq, D)."""
        return np.asarray(attention(self.q, self.k, self.v, **self._reference_options))

    def expected_gradients(self, d_out: np.ndarray) -> tuple[np.ndarray, ...]:
        """Gradients dq, dk and dv of the reference for the output gradient d_out (B, L, Hq, D)."""
        return attention_gradients(self.q, self.k, self.v, d_out, **self._reference_options)

    # Rounding errors in units of eps: first order, with logits, cap, weights and sums rounded one after the other

    @property
    def _factor(self) -> float:
        return float(self.q.shape[-1] ** -0.5) if self.scale is None else self.scale

    def _repeated(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(x, self.q.shape[2] // x.shape[2], axis=2)

    def _pairs(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.einsum("bihd,bjhd->bhij", x, self._repeated(y))

    @cached_property
    def _p(self) -> np.ndarray:
        return np.asarray(attention_weights(self.q, self.k, **self._reference_options))

    @cached_property
    def _logit(self) -> np.ndarray:
        logit = self._pairs(self.q, self.k) * self._factor
        return logit if self.softcap is None else soft_cap(logit, self.softcap)

    @cached_property
    def _slope(self) -> np.ndarray:
        return np.ones_like(self._logit) if self.softcap is None else 1 - (self._logit / self.softcap) ** 2

    @cached_property
    def _size(self) -> np.ndarray:
        """Sum of the absolute terms of each logit before the cap."""
        return self._pairs(np.abs(self.q), np.abs(self.k)) * abs(self._factor)

    def _weight_terms(self, eps: float) -> np.ndarray:
        """Error of the weights p, (B, H, L, L). tanh, exp and the sum are computed in float32 or wider.

        In addition to its relative error, a weight loses what an underflow may lose: long before its logit is
        extraordinary, exp(logit − largest logit) is below the smallest normal number.
        """
        inside = min(1.0, EPS["float32"] / eps)
        of_logit = self._slope * self._size + np.abs(self._logit) + (self.softcap or 0.0) * inside
        of_competing_keys = (self._p * of_logit).sum(-1, keepdims=True) - self._p * of_logit
        entropy = -np.log(np.maximum(self._p, np.finfo(np.float64).tiny))
        total = np.abs(np.where(self.mask, self._logit, 0)).max(-1, keepdims=True)
        relative = 1 + (1 - self._p) * of_logit + of_competing_keys + entropy + (1 + total) * inside
        return np.asarray(self._p * relative + self._lost(eps))

    def _lost(self, eps: float) -> float:
        """What an underflow may lose of one product, in units of eps."""
        return smallest_normal(eps) / eps

    def terms(self, eps: float) -> np.ndarray:
        """Error of the output, (B, L, Hq, D)."""
        products = self._lost(eps) * len(self.mask)
        return products + np.einsum("bhij,bjhd->bihd", self._weight_terms(eps), self._repeated(np.abs(self.v)))

    def gradient_terms(self, d_out: np.ndarray, eps: float) -> tuple[np.ndarray, ...]:
        """Errors of dq, dk and dv for the output gradient d_out (B, L, Hq, D).

        The loss is a mean of weight · output: d_out and the sum over a group are rounded too, which dv shows.
        """
        p, of_p, lost = self._p, self._weight_terms(eps), self._lost(eps)
        size = self._pairs(np.abs(d_out), np.abs(self.v)) + lost * (self.q.shape[-1] + len(self.mask))
        dp = self._pairs(d_out, self.v)
        ds = np.abs(dp - (p * dp).sum(-1, keepdims=True))
        of_ds = of_p * ds + p * (size + (of_p * size).sum(-1, keepdims=True)) + lost
        moved = (self._slope * of_ds + self._of_slope * p * ds) * abs(self._factor) + lost
        of_q = np.einsum("bhij,bjhd->bihd", moved, self._repeated(np.abs(self.k)))
        of_k = np.einsum("bhij,bihd->bjhd", moved, np.abs(self.q))
        of_v = np.einsum("bhij,bihd->bjhd", of_p + p, np.abs(d_out))
        products = lost * len(self.mask)
        return of_q + products, self._grouped(of_k + products), self._grouped(of_v + products)

    @property
    def _of_slope(self) -> np.ndarray:
        if self.softcap is None:
            return np.zeros_like(self._logit)
        tanh = np.abs(self._logit) / self.softcap
        return 1 + 2 * tanh**2 + 2 * tanh * self._slope * self._size / self.softcap

    def _grouped(self, x: np.ndarray) -> np.ndarray:
        batch, length, heads, width = self.k.shape
        return np.asarray(x.reshape(batch, length, heads, -1, width).sum(3))


def draw_attention_case(
    subject: Subject, seed: int, batch: int, length: int, heads: tuple[int, int], width: int, strength: float = 1.0
) -> AttentionCase:
    """Draw inputs from `seed`: log-normal token norms, and a quarter of the queries with almost equal logits."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((batch, length, count, width)) for count in (heads[0], heads[1], heads[1]))
    q = q * strength * np.exp(rng.standard_normal((batch, length, 1, 1)) / 2)
    k = k * np.exp(rng.standard_normal((batch, length, 1, 1)) / 2)
    q[rng.random(q.shape[:2]) < 1 / 4] *= 1e-3
    call = f"attention_case.drawn(subject, {seed}, {batch}, {length}, {heads}, {width}, {strength})"
    return AttentionCase(subject.round(q), subject.round(k), subject.round(v), drawn_by=call)


def backends(subject: Subject) -> tuple[str | None, ...]:
    """The declared backends; (None,) if the adapter declares none."""
    return tuple(subject.adapter.backends) or (None,)


def _keywords(case: AttentionCase, backend: str | None) -> dict[str, Any]:
    return {**case.options, **({} if backend is None else {"backend": backend})}


def attention_output(subject: Subject, case: AttentionCase, backend: str | None) -> np.ndarray | None:
    """Output (B, L, Hq, D) of the operation; None if the backend raises NotImplementedError."""
    try:
        return subject.compute("attention", case.q, case.k, case.v, **_keywords(case, backend), shape=case.q.shape)
    except NotProvided:
        return None
    except OperationFailed as failed:
        raise OperationFailed(failed.message, call=case.call(backend)) from failed


def outputs_by_backend(subject: Subject, case: AttentionCase) -> Iterator[tuple[str | None, np.ndarray]]:
    """Yield each backend that supports the call, with its output."""
    for backend in backends(subject):
        got = attention_output(subject, case, backend)
        if got is not None:
            yield backend, got


def backend_gradients(
    subject: Subject, case: AttentionCase, weight: np.ndarray, backend: str | None
) -> tuple[np.ndarray, ...] | None:
    """Gradients dq, dk and dv of the mean of weight · output; None if the backend has no gradients.

    All gradients zero counts as no gradients: an attention for inference only behaves like that.
    """
    factor = subject.native(weight)

    def loss(q: Any, k: Any, v: Any) -> Any:
        out = subject.call("attention", q, k, v, **_keywords(case, backend))
        if isinstance(out, int | float | np.generic | np.ndarray):
            raise NotProvided(f"attention returns {type(out).__name__}, which carries no gradient")
        return out * factor

    try:
        gradients = subject.adapter.gradients(loss, *map(subject.native, (case.q, case.k, case.v)))
    except (NotProvided, NotImplementedError):
        return None
    except RuntimeError as error:
        message = f"attention: the gradient raised {type(error).__name__}: {error}"
        raise OperationFailed(message, call=case.call(backend)) from error
    return tuple(gradients) if any(gradient.any() for gradient in gradients) else None
