"""Sec. 3.4: the layers of both transformers, which mix space and time separately.

    x ← x + Attention(RMSNorm(x)),   x ← x + SwiGLU(RMSNorm(x));   after the last layer RMSNorm

In a space layer the S tokens of a frame attend to each other and to no other frame. In a time layer each token index
attends along its T frames to its past, at most C frames with the current one, and to no other token index. The T·S
tokens are never attended to all at once: S² T or S T C pairs instead of (S T)².
Queries and keys are normalised per head, with a gain per channel, then rotated by their index along the axis that the
layer mixes (A35 "both"; "time": space layers do not rotate). No biases.
Read as: every fourth layer mixes time. The time layer "replaces" a space layer (A25), or is added after one ("adds",
kind "both"). It is the last of the four (A39 "last"; "other" is any other position, here the first). C counts the
current frame (A30). The paper states neither the cap, 50, nor ε, 1e-6, nor the base of RoPE, 10000 (A26).

x (B, T, S, E).   The parameters of a layer are a mapping from the names in `layer_shapes` to arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, Unpack

import numpy as np
from jaxtyping import Bool, Float64

from dreamer4_reference.constants import TIME_EVERY
from dreamer4_reference.levels import require_float64, require_names, require_option, require_shape
from dreamer4_reference.sec34_attention import attention, attention_mask
from dreamer4_reference.sec34_norms import rms_norm
from dreamer4_reference.sec34_rope import rope
from dreamer4_reference.sec34_swiglu import swiglu

Parameters = Mapping[str, np.ndarray]
Kind = Literal["space", "time"]
Axes = Literal["both", "time"]


class Settings(TypedDict, total=False):
    """Attention settings that the paper leaves open, all optional.

    Attributes:
        softcap: cap c of the logits, finite and above 0; None for no cap. Default 50 (A26).
        eps: ε of RMSNorm and of the normalisation of queries and keys, at least 0. Default 1e-6 (A26).
        base: base of RoPE's frequencies, finite and above 0. Default 10000 (A26).
        axes: "both" rotates in space and time layers (A35, default), "time" in time layers only.
    """

    softcap: float | None
    eps: float
    base: float
    axes: Axes


def layer_kinds(
    depth: int,
    every: int = TIME_EVERY,
    *,
    time_layer: Literal["replaces", "adds"] = "replaces",
    position: Literal["last", "other"] = "last",
) -> list[str]:
    """Axis that each layer mixes: "space", "time" or, where a time layer is added, "both".

    Args:
        depth: number of entries, at least 1.
        every: period of time layers, at least 1; 4 in the paper.
        time_layer: "replaces" (A25, default): the time layer is one of the `depth` layers; "adds": it follows a space
            layer.
        position: "last" of each period (A39, default) or "other", here the first.

    Returns:
        One entry per layer i in [0, depth); "both" stands for a space layer followed by a time layer.

    Raises:
        ValueError: if depth or every is below 1, or an option is unknown.

    Example:
        >>> layer_kinds(4), layer_kinds(4, time_layer="adds")[-1]
        (['space', 'space', 'space', 'time'], 'both')
    """
    require_option("time_layer", time_layer, ("replaces", "adds"), equation="layers")
    require_option("position", position, ("last", "other"), equation="layers")
    if depth < 1 or every < 1:
        raise ValueError(f"layers: depth is {depth} and every is {every}, but both must be ≥ 1")
    mixing = "time" if time_layer == "replaces" else "both"
    index_mixing = every - 1 if position == "last" else 0
    return [mixing if index % every == index_mixing else "space" for index in range(depth)]


def layer_shapes(width: int, heads: int, kv_heads: int, head_width: int, mlp_width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of one layer.

    Args:
        width: E, channels of a token, at least 1.
        heads: Hq, number of query heads, at least 1.
        kv_heads: Hkv, number of key/value heads, a divisor of Hq.
        head_width: D, channels per head, even because of RoPE.
        mlp_width: F, hidden width of the MLP, at least 1.

    Returns:
        {name: shape}: norm1, norm2 (E,), q_gain, k_gain (D,), wq (E, Hq, D), wk, wv (E, Hkv, D), wo (Hq, D, E), w_gate,
        w_up (E, F), w_down (F, E).

    Example:
        >>> layer_shapes(8, 4, 2, 3, 16)["wk"]
        (8, 2, 3)
    """
    attends = {
        "wq": (width, heads, head_width),
        "wk": (width, kv_heads, head_width),
        "wv": (width, kv_heads, head_width),
    }
    gains = {"norm1": (width,), "q_gain": (head_width,), "k_gain": (head_width,), "norm2": (width,)}
    mlp = {"w_gate": (width, mlp_width), "w_up": (width, mlp_width), "w_down": (mlp_width, width)}
    return {**gains, **attends, "wo": (heads, head_width, width), **mlp}


def space_attention(
    x: Float64[np.ndarray, "B T S E"],
    layer: Parameters,
    *,
    allow: Bool[np.ndarray, "S S"] | None = None,
    **settings: Unpack[Settings],
) -> Float64[np.ndarray, "B T S E"]:
    """Attention over the S tokens of each frame separately, with input and output projections, without norm and
    residual.

    Args:
        x: tokens, float64, (B, T, S, E).
        layer: parameters of one layer, as in `layer_shapes`.
        allow: bool, (S, S), rows are queries, True = may attend; None allows every pair.
        settings: softcap, eps, base and axes, as in `Settings`.

    Returns:
        float64, (B, T, S, E).

    Raises:
        TypeError: if x or a parameter is not a float64 array, or allow is not bool.
        ValueError: if a parameter is missing, shapes do not match, a token may attend to none, or a setting is invalid.

    Example:
        >>> layer = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
        >>> layer |= {"wv": np.eye(2).reshape(2, 1, 2), "wo": np.eye(2).reshape(1, 2, 2)}
        >>> space_attention(np.array([[[[2.0, 1.0], [4.0, 1.0]]]]), layer).tolist()
        [[[[3.0, 1.0], [3.0, 1.0]]]]
    """
    _require_layer(x, layer)
    batch, time, tokens, width = x.shape
    allow = np.ones((tokens, tokens), bool) if allow is None else allow
    frames = x.reshape(batch * time, tokens, width)
    return _self_attention(frames, layer, mask=allow, axis="space", **settings).reshape(x.shape)


def time_attention(
    x: Float64[np.ndarray, "B T S E"],
    layer: Parameters,
    *,
    window: int | None = None,
    **settings: Unpack[Settings],
) -> Float64[np.ndarray, "B T S E"]:
    """Causal attention over the T frames of each token index separately, with projections, without norm and residual.

    Args:
        x: tokens, float64, (B, T, S, E).
        layer: parameters of one layer, as in `layer_shapes`.
        window: number of visible frames, the current frame included, at least 1; None for the whole past.
        settings: softcap, eps, base and axes, as in `Settings`.

    Returns:
        float64, (B, T, S, E).

    Raises:
        TypeError: if x or a parameter is not a float64 array.
        ValueError: if a parameter is missing, shapes do not match, window is below 1, or a setting is invalid.

    Example:
        >>> layer = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
        >>> layer |= {"wv": np.eye(2).reshape(2, 1, 2), "wo": np.eye(2).reshape(1, 2, 2)}
        >>> time_attention(np.array([[[[2.0, 1.0]], [[4.0, 1.0]]]]), layer).tolist()
        [[[[2.0, 1.0]], [[3.0, 1.0]]]]
    """
    _require_layer(x, layer)
    batch, time, tokens, width = x.shape
    mask = attention_mask(time, time, causal=True, window=window)
    sequences = x.swapaxes(1, 2).reshape(batch * tokens, time, width)
    mixed = _self_attention(sequences, layer, mask=mask, axis="time", **settings)
    return mixed.reshape(batch, tokens, time, width).swapaxes(1, 2)


def residual_layer(
    x: Float64[np.ndarray, "B T S E"],
    layer: Parameters,
    kind: Kind,
    *,
    allow: Bool[np.ndarray, "S S"] | None = None,
    window: int | None = None,
    **settings: Unpack[Settings],
) -> Float64[np.ndarray, "B T S E"]:
    """One complete layer: norm, attention, residual, norm, MLP, residual.

    Args:
        x: tokens, float64, (B, T, S, E).
        layer: parameters of one layer, as in `layer_shapes`.
        kind: "space" or "time".
        allow: mask of space layers, bool, (S, S), True = may attend; None allows every pair. Time layers ignore it.
        window: visible frames of time layers, the current frame included; None for the whole past. Space layers ignore
            it.
        settings: softcap, eps, base and axes, as in `Settings`.

    Returns:
        float64, (B, T, S, E).

    Raises:
        TypeError: if x or a parameter is not a float64 array, or allow is not bool.
        ValueError: if kind is unknown, a parameter is missing, shapes do not match, a token may attend to none, window
            is below 1, or a setting is invalid.

    Example:
        >>> zero = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
        >>> residual_layer(np.full((1, 1, 1, 2), 7.0), zero, "time").tolist()
        [[[[7.0, 7.0]]]]
    """
    require_option("kind", kind, ("space", "time"), equation="layers")
    _require_layer(x, layer)
    eps = settings.get("eps", 1e-6)
    normed = rms_norm(x, layer["norm1"], eps)
    if kind == "space":
        x = x + space_attention(normed, layer, allow=allow, **settings)
    else:
        x = x + time_attention(normed, layer, window=window, **settings)
    return x + swiglu(rms_norm(x, layer["norm2"], eps), layer["w_gate"], layer["w_up"], layer["w_down"])


def transformer(
    x: Float64[np.ndarray, "B T S E"],
    layers: Sequence[Parameters],
    final_norm: Float64[np.ndarray, " E"],
    kinds: Sequence[str],
    *,
    allow: Bool[np.ndarray, "S S"] | None = None,
    window: int | None = None,
    **settings: Unpack[Settings],
) -> Float64[np.ndarray, "B T S E"]:
    """All layers in order, then a final RMSNorm.

    Args:
        x: tokens, float64, (B, T, S, E).
        layers: parameters of each layer, as in `layer_shapes`; a "both" in kinds takes two, space before time.
        final_norm: gain of the final RMSNorm, float64, (E,).
        kinds: "space", "time" or "both", as from `layer_kinds`; [] applies only the final norm.
        allow: mask of space layers, bool, (S, S), True = may attend; None allows every pair.
        window: visible frames of time layers, at least 1, the current frame included; None for the whole past.
        settings: softcap, eps, base and axes, as in `Settings`.

    Returns:
        float64, (B, T, S, E).

    Raises:
        TypeError: if x or a parameter is not a float64 array, or allow is not bool.
        ValueError: if kinds and layers differ in length, a kind is unknown, a parameter is missing, shapes do not
            match, a token may attend to none, window is below 1, or a setting is invalid.

    Example:
        >>> zero = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
        >>> transformer(np.full((1, 1, 1, 2), 7.0), [zero, zero], np.ones(2), ["both"], eps=0.1).round(3).tolist()
        [[[[0.999, 0.999]]]]
    """
    expanded = [mixed for kind in kinds for mixed in (("space", "time") if kind == "both" else (kind,))]
    if len(expanded) != len(layers):
        raise ValueError(f"layers: kinds names {len(expanded)} layers, but layers has {len(layers)}")
    for layer, kind in zip(layers, expanded, strict=True):
        x = residual_layer(x, layer, kind, allow=allow, window=window, **settings)  # type: ignore[arg-type]
    return rms_norm(x, final_norm, settings.get("eps", 1e-6))


def _self_attention(
    x: Float64[np.ndarray, "N L E"],
    layer: Parameters,
    *,
    mask: Bool[np.ndarray, "L L"],
    axis: Kind,
    softcap: float | None = 50.0,
    eps: float = 1e-6,
    base: float = 10000.0,
    axes: Axes = "both",
) -> Float64[np.ndarray, "N L E"]:
    """Attention along the axis L of N separate sequences, between its input and output projections."""
    q, k, v = (np.einsum("nle,ehd->nlhd", x, layer[name]) for name in ("wq", "wk", "wv"))
    q, k = rms_norm(q, layer["q_gain"], eps), rms_norm(k, layer["k_gain"], eps)
    if axis == "time" or axes == "both":
        positions = np.arange(x.shape[1])
        q, k = rope(q, positions, base), rope(k, positions, base)
    return np.einsum("nlhd,hde->nle", attention(q, k, v, mask=mask, softcap=softcap), layer["wo"])


def _require_layer(x: np.ndarray, layer: Parameters) -> None:
    require_shape("x", x, (None,) * 4, equation="layers")
    require_names("layer", layer, layer_shapes(0, 0, 0, 0, 0), equation="layers")
    require_float64(equation="layers", x=x, **layer)
    require_shape("wq", layer["wq"], (x.shape[-1], None, None), equation="layers")
    require_shape("wk", layer["wk"], (x.shape[-1], None, None), equation="layers")
    (_, heads, head_width), kv_heads = layer["wq"].shape, layer["wk"].shape[1]
    shapes = layer_shapes(x.shape[-1], heads, kv_heads, head_width, layer["w_gate"].shape[-1])
    for name, shape in shapes.items():
        require_shape(name, layer[name], shape, equation="layers")
