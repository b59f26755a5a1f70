"""Sec. 3.4: attention along space or time, with grouped heads, a window and a soft cap, by a backend of choice.

    oᵢ = Σⱼ softmaxⱼ(cap(scale · qᵢ·kⱼ)) vⱼ  over the keys j visible to query i,   cap(s) = c tanh(s/c)

Query head h reads key/value head ⌊h / (Hq/Hkv)⌋. The scale, 1/√D, precedes the cap; the cap precedes the mask.
With `causal` and a window of C, the frames visible to frame t are t − C + 1 … t (A30).
"""

from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_integer, require_option, require_rank, require_shape
from dreamer4_impl.attention.chunked import chunked
from dreamer4_impl.attention.eager import eager, require_softcap
from dreamer4_impl.attention.folding import Axis, Backend, Options
from dreamer4_impl.attention.libraries import flex, sdpa
from dreamer4_impl.attention.qk_preparation import Preparation, prepare
from dreamer4_impl.attention.visibility import Visible


def _triton(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    # Imported at the first call, because Triton is an extra.
    from dreamer4_impl.attention.triton.operators import attend

    return attend(q, k, v, options)


#: Backends by name. To add a backend, add its entry here; CONTRIBUTING.md has the other steps.
BACKENDS: Final[dict[str, Backend]] = {
    "eager": eager,
    "chunked": chunked,
    "sdpa": sdpa,
    "flex": flex,
    "triton": _triton,
}


def attention(
    q: Float[Tensor, "B Tq Sq Hq D"],
    k: Float[Tensor, "B Tk Sk Hkv D"],
    v: Float[Tensor, "B Tk Sk Hkv D"],
    *,
    axis: Axis,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    mask: Bool[Tensor, "Lq Lk"] | None = None,
    private: int = 0,
    filled: Int[Tensor, ""] | None = None,
    preparation: Preparation | None = None,
    backend: str = "eager",
) -> Float[Tensor, "B Tq Sq Hq D"]:
    """Attend along one axis: each query to the visible keys.

    Backends, none of which falls back to another:

    - "eager": plain torch, computed in float32 (float64 for float64) and rounded once. Deterministic on a CPU.
    - "chunked": the same on a CPU, compiled, a few heads at a time, so that logits stay in the core's cache and
      little memory is allocated; for large inputs, forward and backward. Compiles each new shape.
    - "triton": one fused kernel, forward and backward, that prepares the queries too. Float32 and bfloat16, on CUDA
      (elsewhere under Triton's interpreter, for tests), any strides without a copy. Deterministic.
    - "sdpa": torch's own kernel, without a cap.
    - "flex": compiled FlexAttention, without float64, and on a CPU without gradients. Compiles each new shape. On a
      CPU it copies q and k where heads are narrower than 24.

    "sdpa" and "flex" read contiguous tensors as views, whatever the axis. All backends compile without graph breaks and
    without host synchronisation.

    Args:
        q: queries; Hq is a multiple of Hkv. q, k and v share dtype and device. Without elements (an empty batch, for
            example) the result is empty too.
        k: prepared keys, floating, (B, Tk, Sk, Hkv, D): normalised and rotated.
        v: values, floating, (B, Tk, Sk, Hkv, D).
        axis: "space" mixes the S tokens of each frame, "time" the T frames at each position in the frame. The length
            of the other axis is the same for q, k and v.
        causal: hide keys at later positions; the queries are the last of the keys' positions.
        window: with `causal`, how many keys a query attends to, 1 or more, its own included; None is all.
        softcap: c > 0 of the logits; None leaves the cap out.
        scale: of the logits, before the cap; None is 1/√D.
        mask: along the axis, True = may attend, bool, (Lq, Lk); keys that another option hides stay hidden. Every query
            needs a visible key.
        private: how many positions at the end are visible to each other only: the agent token, for example.
        filled: how many keys at the start hold data, 1 or more, on the device of q; None is all.
        preparation: of raw queries; None if they are prepared already.
        backend: a name in `BACKENDS`.

    Returns:
        Weighted means of the values, shape and dtype of q.

    Raises:
        ImportError: if the backend is "triton" and Triton is not installed.
        NotImplementedError: if the backend lacks an option, or the dtype, device or width of the tensors.
        TooManyFormsError: if "chunked" or "flex" would compile more shapes than `compilation.FORMS`.
        TypeError: if q, k or v is not a floating-point tensor or their dtypes differ, if the mask is not bool, or
            `filled` not an integer tensor.
        ValueError: if shapes or devices do not match, or an option is out of its range.

    Example:
        >>> q, v = torch.zeros(1, 2, 1, 1, 1), torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1, 1)
        >>> attention(q, q, v, axis="time", causal=True).flatten().tolist()
        [1.0, 2.0]
    """
    require_option("axis", axis, ("space", "time"))
    require_option("backend", backend, BACKENDS)
    _require_tensors(q, k, v, axis)
    visible = Visible(causal, window, private, mask, filled)
    _require_visible(visible, _length(q, axis), _length(k, axis), q)
    require_softcap(softcap)
    if q.numel() == 0:
        return q.clone()
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return BACKENDS[backend](q, k, v, Options(axis, preparation, visible, softcap, scale))


def prepare_keys(
    k: Float[Tensor, "B T S H D"], preparation: Preparation, axis: Axis, backend: str = "eager"
) -> Float[Tensor, "B T S H D"]:
    """Normalise and rotate the keys of `attention`, in one kernel if the backend is "triton", else by `prepare`.

    The numerical contract is that of `prepare`; "triton" computes in float32.

    Args:
        k: raw keys, as projected, floating, (B, T, S, H, D).
        preparation: with angles for S positions along space, or T along time.
        axis: "space" or "time", along which positions count.
        backend: that of `attention`.

    Returns:
        Prepared keys, shape and dtype of k.

    Raises:
        ImportError: if the backend is "triton" and Triton is not installed.
        NotImplementedError: if the backend is "triton" and lacks the dtype, device or width of k.
        TypeError: if k or the gain is not a floating-point tensor.
        ValueError: if ε is negative, or the gain has another shape than (D,) or is on another device than k.

    Example:
        >>> angles = torch.ones(3, 1), torch.zeros(3, 1)
        >>> prepare_keys(torch.ones(1, 3, 1, 1, 2), Preparation(None, 0.0, angles), "time").flatten().tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if backend == "triton":
        from dreamer4_impl.attention.triton import operators

        return operators.prepare_keys(k, preparation, axis)
    return prepare(k, preparation, axis)


def _length(x: Tensor, axis: Axis) -> int:
    return x.shape[2] if axis == "space" else x.shape[1]


def _require_tensors(q: Tensor, k: Tensor, v: Tensor, axis: Axis) -> None:
    require_floating(q=q, k=k, v=v)
    for name, x in (("q", q), ("k", k), ("v", v)):
        require_rank(name, x, 5, "(B, T, S, H, D)")
        if x.dtype != q.dtype:
            raise TypeError(f"{name} must have the dtype of q, {q.dtype}; got {x.dtype}")
    batch, time, space, heads, width = q.shape
    lengths = (time, k.shape[2]) if axis == "space" else (k.shape[1], space)
    require_shape("k", k, (batch, *lengths, k.shape[3], width), f"of q but for heads and {axis}", like=q)
    require_shape("v", v, k.shape, "of k", like=q)
    if k.shape[3] == 0 or heads % k.shape[3]:
        raise ValueError(f"q must have a multiple of k's {k.shape[3]} heads; got {heads}")
    if _length(k, axis) == 0:
        raise ValueError(f"k must have at least one key along {axis}; got shape {tuple(k.shape)}")


def _require_visible(visible: Visible, length_q: int, length_k: int, q: Tensor) -> None:
    causal, window, private, mask, filled = visible
    if causal and length_q > length_k:
        raise ValueError(f"causal queries are the last of the keys, so at most {length_k}; got {length_q}")
    if window is not None and not causal:
        raise ValueError(f"window comes with causal=True; got window {window!r} without")
    if window is not None and (not isinstance(window, int) or window < 1):
        raise ValueError(f"window counts keys, the query's own included: a whole number from 1; got {window!r}")
    if not isinstance(private, int) or not 0 <= private <= length_k:
        raise ValueError(f"private counts positions, from 0 to the number of keys, {length_k}; got {private!r}")
    if filled is not None:
        require_integer(filled=filled)
        require_shape("filled", filled, (), "(), a number on the device", like=q)
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask must be a bool tensor, True = may attend; got {getattr(mask, 'dtype', type(mask))}")
        require_shape("mask", mask, (length_q, length_k), "(Lq, Lk)", like=q)
