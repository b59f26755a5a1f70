"""Attention along one axis of five as attention of plain sequences: the form that most backends compute.

Along space, every frame is a sequence. Along time, every position in the frame is S·H heads of one sequence, so that
the fold is a view of contiguous tensors for both axes.
"""

from collections.abc import Callable
from functools import wraps
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

from dreamer4_impl.attention.qk_preparation import Preparation, prepare
from dreamer4_impl.attention.visibility import Visible

Axis: TypeAlias = Literal["space", "time"]


class Options(NamedTuple):
    """Options of one call of `attention`.

    Args:
        axis: "space" or "time".
        preparation: of raw queries; None if they are prepared already.
        visible: which keys each query may attend to, at least one.
        softcap: c > 0 of the logits; None leaves the cap out.
        scale: of the logits, before the cap.
    """

    axis: Axis
    preparation: Preparation | None
    visible: Visible
    softcap: float | None
    scale: float


#: `backend(q, k, v, options) -> out`, tensors as in `attention`.
Backend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Options], Tensor]
#: `kernel(q, k, v, visible, softcap, scale) -> out` of N sequences: q and out (N, Hq, Lq, D), k and v
#: (N, Hkv, Lk, D), of any strides. Query head h attends to key/value head ⌊h / (Hq/Hkv)⌋.
Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, Visible, float | None, float], Tensor]


def folded(kernel: Kernel) -> Backend:
    """Make a backend of a kernel for sequences.

    Args:
        kernel: attention of prepared queries, keys and values.

    Returns:
        A backend that prepares the queries, folds its tensors, and returns the kernel's result in the shape of q.
    """

    @wraps(kernel)
    def _backend(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        axis, preparation, visible, softcap, scale = options
        if preparation is not None:
            q = prepare(q, preparation, axis)
        out = kernel(_fold(q, axis), _fold(k, axis), _fold(v, axis), visible, softcap, scale)
        return out.transpose(1, 2).reshape(q.shape)

    return _backend


def _fold(x: Tensor, axis: Axis) -> Tensor:
    """(B, T, S, H, D) → (N, heads, L, D).

    Grouped heads survive the fold over time: head h at position s becomes number s·H + h, and s·Hq + h divided by the
    size of a group is s·Hkv + ⌊h/group⌋.
    """
    return (x.flatten(0, 1) if axis == "space" else x.flatten(2, 3)).transpose(1, 2)
