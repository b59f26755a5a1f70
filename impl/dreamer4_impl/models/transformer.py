"""Sec. 3.4: the block-causal transformer of tokenizer and dynamics, factorised into space and time.

    x ← x + attention(norm(x)),   x ← x + swiglu(norm(x))

in every layer. Most layers attend over space, among the tokens of a frame; every fourth attends over time, causally
among the tokens of the same index in the last C frames. Read as: the time layer replaces a space layer (A25), the last
of four (A39); the context includes the current frame (A30); queries and keys are normalised (A31) before RoPE, which
counts tokens in space layers and frames in time layers (A35).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dreamer4_impl.arguments import (
    require_dtype,
    require_floating,
    require_option,
    require_rank,
    require_shape,
    require_size,
)
from dreamer4_impl.attention import BACKENDS, Cache, Preparation, Visible, attention, prepare_keys
from dreamer4_impl.attention.triton import HEAD_WIDTHS as TRITON_WIDTHS
from dreamer4_impl.layers.joined import SharedInput
from dreamer4_impl.layers.rms_norm import RMSNorm
from dreamer4_impl.layers.rope import Rotation, rotation
from dreamer4_impl.layers.swiglu import SwiGLU
from dreamer4_impl.precision import casts_automatically, compute_dtype

Kind: TypeAlias = Literal["space", "time"]


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a transformer.

    Args:
        width: channels of the residual stream, 1 or more.
        depth: number of layers, 1 or more.
        heads: query heads, a multiple of kv_heads.
        kv_heads: key/value heads (GQA), 1 or more.
        head_width: channels of one head, even.
        mlp_width: inner width of SwiGLU, 1 or more.
        context: C, frames to which a time layer attends, the current one included (A30); 1 or more.
        time_every: layers of a group, of which the last attends over time; 1 or more.
        softcap: soft cap c of the attention logits, above 0; None is no cap. The paper gives no value (A26).
        rope_base: base of the rotation frequencies, above 0. The paper gives no value (A26).
        norm_eps: ε of every RMSNorm, above 0.
        out_scale: initial scale of the matrices that write to the residual stream, above 0; None is (2 depth)^−½, with
            which the size of the stream does not depend on the depth. A shallow transformer with 1 learns faster.
        qk_gain: initial gain of queries and of keys, above 0. Attention logits start with a standard deviation of about
            qk_gain²: with 1, a token starts near the mean of all that it sees.
        backend: a name in `attention.dispatch.BACKENDS`.

    Raises:
        ValueError: if a value is out of range, or the values or the backend do not fit together.

    Example:
        >>> TransformerConfig(width=8, depth=4, heads=4, kv_heads=3, head_width=2, mlp_width=16, context=8)
        Traceback (most recent call last):
        ValueError: heads must be a multiple of kv_heads; got 4 and 3
    """

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    context: int
    time_every: int = 4
    softcap: float | None = 50.0
    rope_base: float = 10000.0
    norm_eps: float = 1e-6
    out_scale: float | None = None
    qk_gain: float = 1.0
    backend: str = "eager"

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "kv_heads", "head_width", "mlp_width", "context", "time_every"):
            require_size(**{name: getattr(self, name)})
        if self.heads % self.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads; got {self.heads} and {self.kv_heads}")
        if self.head_width % 2:
            raise ValueError(f"head_width must be even, because RoPE turns pairs of channels; got {self.head_width}")
        for name in ("softcap", "rope_base", "norm_eps", "out_scale", "qk_gain"):
            number = getattr(self, name)
            if not (name in ("softcap", "out_scale") and number is None) and (
                number is None or not 0 < number < math.inf
            ):
                raise ValueError(f"{name} must be above 0 and finite; got {getattr(self, name)!r}")
        require_option("backend", self.backend, BACKENDS)
        if self.backend == "sdpa" and self.softcap is not None:
            raise ValueError(f"backend 'sdpa' has no soft cap, so softcap must be None; got {self.softcap!r}")
        if self.backend == "triton" and self.head_width not in TRITON_WIDTHS:
            raise ValueError(f"backend 'triton' needs a head_width of {TRITON_WIDTHS}; got {self.head_width}")

    @property
    def initial_out_scale(self) -> float:
        """Initial scale of the matrices that write to the residual stream.

        Returns:
            `out_scale`, or its default (2 depth)^−½.
        """
        return (2 * self.depth) ** -0.5 if self.out_scale is None else self.out_scale

    def layer_kinds(self) -> list[Kind]:
        """List the axis of attention of every layer.

        Returns:
            "space" or "time" for every layer, from the first.

        Example:
            >>> config = TransformerConfig(width=8, depth=4, heads=1, kv_heads=1, head_width=8, mlp_width=16, context=8)
            >>> config.layer_kinds()
            ['space', 'space', 'space', 'time']
        """
        return ["time" if index % self.time_every == self.time_every - 1 else "space" for index in range(self.depth)]

    def angles(self, positions: Int[Tensor, "L"]) -> Rotation:
        """Compute the rotations of RoPE for the heads of this transformer.

        Args:
            positions: numbers of tokens or frames, integer, (L,).

        Returns:
            Cosines and sines, (L, head_width/2) each, as `rotation` returns them.

        Raises:
            TypeError: if positions is not an integer tensor.
            ValueError: if head_width or rope_base is out of range, which the configuration excludes.

        Example:
            >>> config = TransformerConfig(width=8, depth=4, heads=1, kv_heads=1, head_width=8, mlp_width=16, context=8)
            >>> config.angles(torch.arange(3))[0].shape
            torch.Size([3, 4])
        """
        return rotation(positions, self.head_width, self.rope_base)

    @property
    def past_frames(self) -> Visible:
        """Visible frames of attention over time without a cache.

        Returns:
            Causal attention to C frames, the current one included.
        """
        return Visible(causal=True, window=self.context)


class Turn(NamedTuple):
    """One of several frames that attend in turn: the cache after the frames before it, its keys and its rotation."""

    cache: Cache
    visible: Visible
    angles: Rotation


class Past(NamedTuple):
    """Cache of a time layer, its index among the time layers, whether to keep the new frames, and their turns."""

    cache: Cache
    layer: int
    commit: bool
    turns: Sequence[Turn] = ()


class SelfAttention(SharedInput):
    """Projections, QK-norm, RoPE and attention along one axis; no biases.

    Matrices map by x @ w. They are drawn from N(0, 1/fan_in), the output's times `config.out_scale`; gains are
    `config.qk_gain`.

    Args:
        config: sizes.
        kind: "space" for the tokens of a frame, "time" for the frames at one token index.
    """

    def __init__(self, config: TransformerConfig, kind: Kind) -> None:
        super().__init__()
        self.config, self.kind = config, kind
        queries, keys = config.heads * config.head_width, config.kv_heads * config.head_width
        self.wq = nn.Parameter(torch.randn(config.width, queries) * config.width**-0.5)
        self.wk = nn.Parameter(torch.randn(config.width, keys) * config.width**-0.5)
        self.wv = nn.Parameter(torch.randn(config.width, keys) * config.width**-0.5)
        self.wo = nn.Parameter(torch.randn(queries, config.width) * (config.initial_out_scale * queries**-0.5))
        self.q_gain = nn.Parameter(torch.full((config.head_width,), config.qk_gain))
        self.k_gain = nn.Parameter(torch.full((config.head_width,), config.qk_gain))

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """List the matrices of queries, keys and values.

        Returns:
            wq, wk and wv.
        """
        return self.wq, self.wk, self.wv

    def forward(
        self, x: Float[Tensor, "B T S D"], angles: Rotation, visible: Visible, past: Past | None = None
    ) -> Float[Tensor, "B T S D"]:
        """Apply the attention.

        Args:
            x: normalised tokens, (B, T, S, width).
            angles: rotations of the tokens in a frame, or of the frames, as `rotation` returns them.
            visible: which keys each query may attend to.
            past: cache of a time layer; None is no past.

        Returns:
            Update of the residual stream in the dtype of x, (B, T, S, width).

        Raises:
            NotImplementedError: if the attention backend does not cover device, dtype or gradient.
            TypeError: if dtypes do not match.
            ValueError: if shapes or devices do not match.
        """
        q, k, v = (self._heads(product) for product in self.products(x))
        if past is None or not past.turns:
            out = self._attend(q, k, v, angles, visible, past)
        else:
            out = self._attend_in_turn(q, k, v, past)
        return out.flatten(3) @ self.wo

    def _attend_in_turn(self, q: Tensor, k: Tensor, v: Tensor, past: Past) -> Float[Tensor, "B T S H D"]:
        """Attend frame by frame: a new frame overwrites one that the frames before it may still see."""
        out = []
        for index, turn in enumerate(past.turns):
            frame, step = slice(index, index + 1), Past(turn.cache, past.layer, commit=True)
            out.append(self._attend(q[:, frame], k[:, frame], v[:, frame], turn.angles, turn.visible, step))
        return torch.cat(out, dim=1)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, angles: Rotation, visible: Visible, past: Past | None
    ) -> Float[Tensor, "B T S H D"]:
        config = self.config
        queries, keys = (Preparation(gain, config.norm_eps, angles) for gain in (self.q_gain, self.k_gain))
        if past is None:
            k = prepare_keys(k, keys, self.kind, config.backend)
        else:
            k, v = past.cache.extend(past.layer, k, v, keys, commit=past.commit, backend=config.backend)
        options = visible._asdict() | {"softcap": config.softcap, "preparation": queries, "backend": config.backend}
        return attention(q, k, v, axis=self.kind, **options)

    def _heads(self, x: Tensor) -> Float[Tensor, "B T S H D"]:
        return x.view(*x.shape[:-1], -1, self.config.head_width)


class Layer(nn.Module):
    """Residual layer: x + attention(norm(x)), then x + swiglu(norm(x)).

    Args:
        config: sizes.
        kind: "space" mixes the tokens of a frame, "time" the frames at one token index, causally.

    Raises:
        ValueError: if kind is unknown.

    Example:
        >>> config = TransformerConfig(width=8, depth=4, heads=2, kv_heads=1, head_width=4, mlp_width=16, context=2)
        >>> Layer(config, "time")(torch.zeros(1, 3, 2, 8)).shape
        torch.Size([1, 3, 2, 8])
    """

    def __init__(self, config: TransformerConfig, kind: Kind) -> None:
        super().__init__()
        require_option("kind", kind, ("space", "time"))
        self.config, self.kind = config, kind
        self.norm1 = RMSNorm(config.width, config.norm_eps)
        self.attention = SelfAttention(config, kind)
        self.norm2 = RMSNorm(config.width, config.norm_eps)
        self.mlp = SwiGLU(config.width, config.mlp_width, out_scale=config.initial_out_scale)

    def forward(
        self,
        x: Float[Tensor, "B T S D"],
        *,
        visible: Visible | None = None,
        angles: Rotation | None = None,
        past: Past | None = None,
    ) -> Float[Tensor, "B T S D"]:
        """Apply the layer.

        Args:
            x: tokens, (B, T, S, width).
            visible: which keys each query may attend to; None is all over space, and `config.past_frames` over time.
            angles: rotations of the tokens in a frame, or of the frames, as `rotation` returns them; None counts from
                0.
            past: cache of a time layer, for which `visible` must come from that cache; None is no past.

        Returns:
            Tokens in the dtype of x, (B, T, S, width).

        Raises:
            NotImplementedError: if the attention backend does not cover device, dtype or gradient.
            TypeError: if dtypes do not match.
            ValueError: if shapes or devices do not match.

        Example:
            >>> config = TransformerConfig(width=8, depth=4, heads=2, kv_heads=1, head_width=4, mlp_width=16, context=2)
            >>> Layer(config, "space")(torch.zeros(1, 1, 3, 8), visible=Visible(private=1)).shape
            torch.Size([1, 1, 3, 8])
        """
        if angles is None:
            length = x.shape[2] if self.kind == "space" else x.shape[1]
            angles = self.config.angles(torch.arange(length, device=x.device))
        if visible is None:
            visible = Visible() if self.kind == "space" else self.config.past_frames
        x = x + self.attention(self.norm1(x), angles, visible, past)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Stack of layers, without a norm at the end.

    Matrix products run in the dtype of x, that of the parameters unless autocast is on; norms, RoPE and the softmax in
    float32 at least. Differentiable; deterministic on a CPU; compiles without graph breaks, once for every shape, with
    a cache too; no host synchronisation. With backend "flex" on a CPU, only under torch.no_grad().

    Args:
        config: sizes.

    Attributes:
        recompute: True recomputes the activations of each layer in the backward pass instead of storing them.

    Example:
        >>> config = TransformerConfig(width=8, depth=4, heads=2, kv_heads=1, head_width=4, mlp_width=16, context=2)
        >>> model, x = Transformer(config), torch.randn(1, 3, 2, 8)
        >>> cache = model.empty_cache(batch=1, space=2)
        >>> steps = [model(x[:, time : time + 1], cache=cache) for time in range(3)]
        >>> bool(torch.allclose(torch.cat(steps, dim=1), model(x), atol=1e-5))
        True
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, self.recompute = config, False
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config.layer_kinds())

    def forward(
        self,
        x: Float[Tensor, "B T S D"],
        *,
        private: int = 0,
        cache: Cache | None = None,
        commit: bool = True,
        ahead: bool = False,
    ) -> Float[Tensor, "B T S D"]:
        """Apply all layers.

        With and without a cache, a frame attends to the same frames: in every time layer at most the last C.

        Args:
            x: tokens of T frames in the dtype of the parameters unless autocast is on, (B, T, S, width).
            private: number of tokens at the end of a frame to which only they attend, from `masks.private_tokens`.
            cache: past of the frames of this call, from `empty_cache`, without gradient; None is no past.
            commit: add the frames to the cache; False leaves the past of the next call unchanged.
            ahead: with a cache and commit, add all frames but the last. Frames attend over time in turn, so that
                nothing of the past is copied.

        Returns:
            Tokens in the dtype of x, (B, T, S, width).

        Raises:
            NotImplementedError: if the attention backend does not cover device, dtype or gradient.
            TypeError: if x has a wrong dtype.
            ValueError: if shape or device of x or the shape of the cache does not match.

        Example:
            >>> config = TransformerConfig(width=8, depth=1, heads=2, kv_heads=1, head_width=4, mlp_width=16, context=2)
            >>> Transformer(config)(torch.zeros(1, 1, 2, 8)).shape
            torch.Size([1, 1, 2, 8])
        """
        self._require_inputs(x, cache)
        if cache is None:
            return self._apply_layers(x, private, torch.arange(x.shape[1], device=x.device))
        with torch.no_grad():
            out = self._apply_layers(x, private, cache.positions(x.shape[1]), cache, commit, ahead)
            if commit:
                cache.advance(x.shape[1] - ahead)
        return out

    def empty_cache(self, batch: int, space: int, dtype: torch.dtype | None = None) -> Cache:
        """Allocate a cache before the first frame.

        Args:
            batch: B, sequences, 1 or more.
            space: S, tokens of a frame, 1 or more.
            dtype: dtype of keys and values; None is that of the parameters, or under autocast that of autocast.

        Returns:
            Empty cache on the device of the parameters.

        Example:
            >>> config = TransformerConfig(width=8, depth=4, heads=2, kv_heads=1, head_width=4, mlp_width=16, context=3)
            >>> Transformer(config).empty_cache(batch=2, space=5).keys.shape
            torch.Size([1, 2, 3, 5, 1, 4])
        """
        weight = next(self.parameters())
        automatic = casts_automatically(weight.device)
        computed = torch.get_autocast_dtype(weight.device.type) if automatic else weight.dtype
        return Cache.empty(self._cache_shape(batch, space), dtype=dtype or computed, device=weight.device)

    def _cache_shape(self, batch: int, space: int) -> tuple[int, ...]:
        config = self.config
        layers = config.layer_kinds().count("time")
        return layers, batch, config.context, space, config.kv_heads, config.head_width

    def _apply_layers(
        self,
        x: Tensor,
        private: int,
        frames: Tensor,
        cache: Cache | None = None,
        commit: bool = False,
        in_turn: bool = False,
    ) -> Tensor:
        """Apply the layers; rotations and masks are the same for all layers, so they are computed once."""
        tokens = torch.arange(x.shape[2], device=x.device)
        angles = {"space": self._angles(tokens, x), "time": self._angles(frames, x)}
        over_time = self.config.past_frames if cache is None else cache.visible(x.shape[1])
        visible = {"space": Visible(private=private), "time": over_time}
        turns = _turns(cache, angles["time"], x.shape[1]) if cache is not None and in_turn else ()
        kinds = self.config.layer_kinds()
        for index, (kind, layer) in enumerate(zip(kinds, self.layers, strict=True)):
            past = None if kind == "space" or cache is None else Past(cache, kinds[:index].count("time"), commit, turns)
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(
                    layer, x, visible=visible[kind], angles=angles[kind], use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = layer(x, visible=visible[kind], angles=angles[kind], past=past)
        return x

    def _angles(self, positions: Tensor, x: Tensor) -> Rotation:
        cos, sin = self.config.angles(positions)
        return cos.to(compute_dtype(x)), sin.to(compute_dtype(x))

    def _require_inputs(self, x: Tensor, cache: Cache | None) -> None:
        require_floating(x=x)
        require_rank("x", x, 4, "(B, T, S, D)")
        batch, time, space, _ = x.shape
        require_shape("x", x, (batch, time, space, self.config.width), "(B, T, S, width)", like=next(self.parameters()))
        require_dtype("x", x, next(self.parameters()))
        if cache is not None:
            expected = self._cache_shape(batch, space)
            require_shape("the cache's keys", cache.keys, expected, "(layers, B, C, S, H, D)", like=x)


def _turns(cache: Cache, angles: Rotation, frames: int) -> list[Turn]:
    """Turns of new frames, the same in every time layer."""
    caches = [cache.after(index) for index in range(frames)]
    rotations = [(angles[0][index : index + 1], angles[1][index : index + 1]) for index in range(frames)]
    return [Turn(past, past.visible(1), turned) for past, turned in zip(caches, rotations, strict=True)]
