"""Sec. 3.4: the layers of both transformers, which mix space and time in turn.

    x ← x + Attention(RMSNorm(x)),   x ← x + SwiGLU(RMSNorm(x));   after the last layer RMSNorm

A space layer lets the S tokens of a frame attend to each other and never sees another frame. A time layer lets the T
frames of one place attend to their past, C frames with their own, and never sees another place. The T·S tokens are
never attended to all at once: S² T or S T C pairs instead of (S T)².
Queries and keys are normalised for each head, with a gain for each channel, then rotated by their index along the axis
that the layer mixes (A35 "both"; "time": space layers do not rotate). No biases.
Read as: once every 4 layers time is mixed (A25: the time layer "replaces" a space layer; "adds": it follows one, "both"),
in the last of the four (A39 "last"; "other" is any other place, here the first). C counts the current frame (A30).
The paper gives neither the cap, 50, nor ε, 1e-6, nor the base of RoPE, 10000 (A26).

x (B, T, S, E).   One layer's parameters are a mapping from the names of `layer_shapes` to arrays.
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
    """What the paper leaves open about attention: c (None for no cap), ε, the base of RoPE and its axes (A26, A35)."""

    softcap: float | None
    eps: float
    base: float
    axes: Axes


def layer_kinds(
    depth: int,
    every: int = TIME_EVERY,
    *,
    time_layer: Literal["replaces", "adds"] = "replaces",
    place: Literal["last", "other"] = "last",
) -> list[str]:
    """What each layer mixes: "space", "time", or, where the time layer is added, "both".

    >>> layer_kinds(4), layer_kinds(4, time_layer="adds")[-1]
    (['space', 'space', 'space', 'time'], 'both')
    """
    require_option("time_layer", time_layer, ("replaces", "adds"), equation="layers")
    require_option("place", place, ("last", "other"), equation="layers")
    if depth < 1 or every < 1:
        raise ValueError(f"layers: depth is {depth} and every is {every}, but both must be ≥ 1")
    mixing = "time" if time_layer == "replaces" else "both"
    index_mixing = every - 1 if place == "last" else 0
    return [mixing if index % every == index_mixing else "space" for index in range(depth)]


def layer_shapes(width: int, heads: int, kv_heads: int, head_width: int, mlp_width: int) -> dict[str, tuple[int, ...]]:
    """The parameters of one layer and their shapes: width E, heads Hq, kv_heads Hkv, head_width D, mlp_width F.

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
    """Every frame is a sequence of its own: the S tokens that `allow` lets see each other, all of them without it.

    >>> layer = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
    >>> layer |= {"wv": np.eye(2).reshape(2, 1, 2), "wo": np.eye(2).reshape(1, 2, 2)}
    >>> space_attention(np.array([[[[2.0, 1.0], [4.0, 1.0]]]]), layer).tolist()
    [[[[3.0, 1.0], [3.0, 1.0]]]]
    """
    _check(x, layer)
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
    """Every place is a sequence of its own: its T frames, each seeing itself and the window − 1 before it.

    >>> layer = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
    >>> layer |= {"wv": np.eye(2).reshape(2, 1, 2), "wo": np.eye(2).reshape(1, 2, 2)}
    >>> time_attention(np.array([[[[2.0, 1.0]], [[4.0, 1.0]]]]), layer).tolist()
    [[[[2.0, 1.0]], [[3.0, 1.0]]]]
    """
    _check(x, layer)
    batch, time, tokens, width = x.shape
    mask = attention_mask(time, time, causal=True, window=window)
    places = x.swapaxes(1, 2).reshape(batch * tokens, time, width)
    mixed = _self_attention(places, layer, mask=mask, axis="time", **settings)
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
    """One whole layer; `allow` is for space layers, `window` for time layers.

    >>> zero = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
    >>> residual_layer(np.full((1, 1, 1, 2), 7.0), zero, "time").tolist()
    [[[[7.0, 7.0]]]]
    """
    require_option("kind", kind, ("space", "time"), equation="layers")
    _check(x, layer)
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
    """All layers, then a norm. kinds as from `layer_kinds`; "both" takes two layers, space and then time.

    >>> zero = {name: np.zeros(shape) for name, shape in layer_shapes(2, 1, 1, 2, 3).items()}
    >>> transformer(np.full((1, 1, 1, 2), 7.0), [zero, zero], np.ones(2), ["both"], eps=0.1).round(3).tolist()
    [[[[0.999, 0.999]]]]
    """
    each = [kind for kinds_of_one in kinds for kind in {"both": ("space", "time")}.get(kinds_of_one, (kinds_of_one,))]
    if len(each) != len(layers):
        raise ValueError(f"layers: kinds asks for {len(each)} layers, but layers has {len(layers)}")
    for layer, kind in zip(layers, each, strict=True):
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


def _check(x: np.ndarray, layer: Parameters) -> None:
    require_shape("x", x, (None,) * 4, equation="layers")
    require_names("layer", layer, layer_shapes(0, 0, 0, 0, 0), equation="layers")
    require_float64(equation="layers", x=x, **layer)
    require_shape("wq", layer["wq"], (x.shape[-1], None, None), equation="layers")
    require_shape("wk", layer["wk"], (x.shape[-1], None, None), equation="layers")
    (_, heads, head_width), kv_heads = layer["wq"].shape, layer["wk"].shape[1]
    shapes = layer_shapes(x.shape[-1], heads, kv_heads, head_width, layer["w_gate"].shape[-1])
    for name, shape in shapes.items():
        require_shape(name, layer[name], shape, equation="layers")
