"""Backend "triton" of `attention`: the kernels of `triton_kernels` as custom operators of torch, with their gradients.

    attend          queries, raw or prepared, against keys: training, and cached decode
    prepare_keys    QK-norm and RoPE of the keys
    write_keys      the same of one frame, straight into the ring of a cache

Float32 and bfloat16; heads of width 32, 64 and 128, narrower ones, if they are prepared already, with copies; tensors of any
strides, which are read where they lie. Computed in float32; queries, weights and gradients of logits are rounded to the
tensors' dtype before a product. Deterministic; one graph under `torch.compile`; no host synchronisation. On CUDA, or under
Triton's interpreter (TRITON_INTERPRET=1).
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from dreamer4_impl.attention.dispatch import TRITON_WIDTHS as WIDTHS
from dreamer4_impl.attention.qk_preparation import Preparation

try:
    import triton

    from dreamer4_impl.attention.triton import kernels
except ImportError as error:
    raise ImportError("backend 'triton' needs Triton: pip install 'dreamer4-conformance[triton]'") from error

if TYPE_CHECKING:
    from dreamer4_impl.attention.dispatch import Visible

Strides: TypeAlias = tuple[int, ...]


class Tile(NamedTuple):
    """How one program of a kernel is cut: rows of queries, keys, warps, and loads in flight."""

    rows: int
    keys: int
    warps: int
    stages: int


DTYPES: Final = (torch.float32, torch.bfloat16)
#: (kernel, bytes of a number, head width) → tile. Chosen by what compiling for sm_90 says, where in bfloat16 only the queries'
#: gradient of width 128 spills, a little; not yet by time. "decode" is `attend` for few rows.
TILES: Final[dict[tuple[str, int, int], Tile]] = {
    ("attend", 2, 32): Tile(64, 64, 4, 3),
    ("attend", 2, 64): Tile(128, 64, 8, 3),
    ("attend", 2, 128): Tile(128, 64, 8, 3),
    ("attend", 4, 32): Tile(32, 32, 4, 2),
    ("attend", 4, 64): Tile(64, 32, 8, 2),
    ("attend", 4, 128): Tile(64, 32, 8, 2),
    ("decode", 2, 32): Tile(16, 64, 4, 3),
    ("decode", 2, 64): Tile(16, 64, 4, 3),
    ("decode", 2, 128): Tile(16, 64, 4, 3),
    ("decode", 4, 32): Tile(16, 32, 4, 2),
    ("decode", 4, 64): Tile(16, 32, 4, 2),
    ("decode", 4, 128): Tile(16, 32, 4, 2),
    ("queries", 2, 32): Tile(64, 64, 4, 2),
    ("queries", 2, 64): Tile(128, 64, 8, 2),
    ("queries", 2, 128): Tile(128, 64, 8, 2),
    ("queries", 4, 32): Tile(32, 32, 8, 1),
    ("queries", 4, 64): Tile(32, 32, 8, 1),
    ("queries", 4, 128): Tile(32, 32, 8, 1),
    ("keys", 2, 32): Tile(64, 64, 4, 2),
    ("keys", 2, 64): Tile(64, 64, 4, 2),
    ("keys", 2, 128): Tile(32, 128, 8, 2),
    ("keys", 4, 32): Tile(32, 32, 8, 1),
    ("keys", 4, 64): Tile(32, 32, 8, 1),
    ("keys", 4, 128): Tile(32, 32, 8, 1),
}
#: The kernels that only norm, rotate and copy.
POINTWISE: Final = Tile(0, 32, 4, 1)
#: Up to so many rows of a sequence, `attend` takes the tile "decode".
FEW_ROWS: Final = 16


class Launch(NamedTuple):
    """One launch of a kernel, not yet made: for the launchers, for ahead-of-time compilation and for tuning."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    tile: Tile

    @property
    def options(self) -> dict[str, Any]:
        """Of the compiler, where contraction to fused multiply-adds is said because its default will change."""
        return {"num_warps": self.tile.warps, "num_stages": self.tile.stages, "enable_fp_fusion": True}

    def run(self) -> None:
        """Enqueue it on the current stream of the device that its tensors lie on."""
        tensor = next(x for x in self.arguments.values() if isinstance(x, Tensor))
        if self.programs:
            with torch.cuda.device(tensor.get_device()):
                self.kernel[(self.programs,)](**self.arguments, **self.options)


class Sequences(NamedTuple):
    """How rows and keys of one call are counted."""

    axis: str
    batch: int
    others: int
    kv_heads: int
    group: int
    width: int
    length_q: int
    length_k: int

    @property
    def number(self) -> int:
        """Of sequences: what one key/value head sees along the axis."""
        return self.batch * self.others * self.kv_heads

    @property
    def rows(self) -> int:
        """Queries of one sequence, those of all heads of its group."""
        return self.length_q * self.group

    @property
    def statistics(self) -> tuple[int, ...]:
        """Shape of one number per row, in the order of rows."""
        return self.batch, self.others, self.kv_heads, self.length_q, self.group

    def arguments(self) -> dict[str, int]:
        """What every kernel of attention is told."""
        names = {"others": self.others, "kv_heads": self.kv_heads, "length_q": self.length_q, "length_k": self.length_k}
        return names | {"GROUP": self.group, "HALF": self.width // 2}


def sequences(q: Tensor, k: Tensor, axis: str) -> Sequences:
    """Count them.

    >>> q, k = torch.zeros(2, 3, 5, 8, 32), torch.zeros(2, 7, 5, 4, 32)
    >>> sequences(q, k, "time").statistics
    (2, 5, 4, 3, 2)
    """
    along, other = (2, 1) if axis == "space" else (1, 2)
    batch, kv_heads, width = q.shape[0], k.shape[3], q.shape[4]
    group = q.shape[3] // kv_heads
    return Sequences(axis, batch, q.shape[other], kv_heads, group, width, q.shape[along], k.shape[along])


def strides_along(x: Tensor, axis: str) -> Strides:
    """(batch, other axis, axis, head, channel): the order in which the kernels count.

    >>> strides_along(torch.zeros(2, 3, 5, 4, 32), "time")
    (1920, 128, 640, 32, 1)
    """
    batch, time, space, head, channel = x.stride()
    return (batch, time, space, head, channel) if axis == "space" else (batch, space, time, head, channel)


class Rules(NamedTuple):
    """What a query sees and how its logits are made; plain numbers and tensors, as an operator takes them."""

    causal: bool
    window: int | None
    private: int
    mask: Tensor | None
    filled: Tensor | None
    softcap: float | None
    scale: float

    def arguments(self, length_k: int) -> dict[str, Any]:
        """What every kernel of attention is told."""
        mask = None if self.mask is None else self.mask.view(torch.uint8)
        return {
            "CAUSAL": self.causal,
            "BOUNDED": self.softcap is not None and self.softcap <= kernels.LARGEST_BOUND.value,
            "window": self.window,
            "public": length_k - self.private if self.private else None,
            "mask": mask,
            "mask_strides": None if mask is None else mask.stride(),
            "filled": self.filled,
            "softcap": self.softcap,
            "scale": self.scale,
        }


class Turn(NamedTuple):
    """A `Preparation`, unfolded; without angles queries are prepared already."""

    gain: Tensor | None
    cos: Tensor | None
    sin: Tensor | None
    eps: float

    def arguments(self) -> dict[str, Any]:
        """Contiguous, because the kernels address them by position and channel alone."""
        names = {"gain": self.gain, "cos": self.cos, "sin": self.sin}
        return {name: x if x is None else x.contiguous() for name, x in names.items()} | {"eps": self.eps}


def forward_launch(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, axis: str, rules: Rules, turn: Turn
) -> Launch:
    """Write out (the shape of q, any strides) and lse (`Sequences.statistics`, float32, base 2, contiguous)."""
    counted = sequences(q, k, axis)
    tile = tile_of("decode" if counted.rows <= FEW_ROWS else "attend", q)
    arguments = _tensors(axis, q=q, k=k, v=v, out=out) | {"lse": lse} | counted.arguments()
    arguments |= rules.arguments(counted.length_k) | turn.arguments() | {"BLOCK_M": tile.rows, "BLOCK_N": tile.keys}
    return Launch(kernels.attend, counted.number * triton.cdiv(counted.rows, tile.rows), arguments, tile)


def backward_launches(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, axis: str, rules: Rules, turn: Turn,
    gradients: "Gradients",
) -> list[Launch]:  # fmt: skip
    """Fill `gradients`: first the queries', which leave what the keys' need."""
    counted = sequences(q, k, axis)
    common = counted.arguments() | rules.arguments(counted.length_k) | {"lse": lse, "delta": gradients.delta}
    queries, keys = tile_of("queries", q), tile_of("keys", q)
    tensors = _tensors(axis, q=q, k=k, v=v, out=out, d_out=d_out, d_q=gradients.q)
    first = common | tensors | turn.arguments() | {"BLOCK_M": queries.rows, "BLOCK_N": queries.keys}
    first |= {"prepared_q": gradients.prepared_q, "gain_sums": gradients.gain_sums}
    prepared = q if gradients.prepared_q is None else gradients.prepared_q
    tensors = _tensors(axis, q=prepared, k=k, v=v, d_out=d_out, d_k=gradients.k, d_v=gradients.v)
    second = common | tensors | {"BLOCK_M": keys.rows, "BLOCK_N": keys.keys}
    tiles = triton.cdiv(counted.rows, queries.rows), triton.cdiv(counted.length_k, keys.keys)
    return [
        Launch(kernels.attend_queries_backward, counted.number * tiles[0], first, queries),
        Launch(kernels.attend_keys_backward, counted.number * tiles[1], second, keys),
    ]


class Gradients(NamedTuple):
    """What the backward kernels write: q, k, v of any strides, those of `prepared_q` being those of q; the rest contiguous."""

    q: Tensor
    k: Tensor
    v: Tensor
    delta: Tensor
    prepared_q: Tensor | None
    gain_sums: Tensor | None

    @classmethod
    def empty(cls, q: Tensor, k: Tensor, axis: str, turn: Turn) -> "Gradients":
        """Room for them."""
        counted = sequences(q, k, axis)
        programs = counted.number * triton.cdiv(counted.rows, tile_of("queries", q).rows)
        return cls(
            q=q.new_empty(q.shape),
            k=k.new_empty(k.shape),
            v=k.new_empty(k.shape),
            delta=q.new_empty(counted.statistics, dtype=torch.float32),
            prepared_q=None if turn.cos is None else q.new_empty(q.shape),
            gain_sums=_gain_sums(turn.gain, programs),
        )


def prepare_launch(k: Tensor, out: Tensor, axis: str, turn: Turn) -> Launch:
    """Write the prepared keys to out, of any strides."""
    programs, counts = _tiles_of_keys(k, axis)
    arguments = _tensors(axis, k=k, out=out) | counts | turn.arguments()
    return Launch(kernels.prepare_keys, programs, arguments, POINTWISE)


def prepare_backward_launch(
    d_out: Tensor, k: Tensor, d_k: Tensor, gain_sums: Tensor | None, axis: str, turn: Turn
) -> Launch:
    """Write the gradient of the raw keys to d_k, of any strides, and the gain's, program by program, to gain_sums."""
    programs, counts = _tiles_of_keys(k, axis)
    arguments = _tensors(axis, d_out=d_out, k=k, d_k=d_k) | {"gain_sums": gain_sums} | counts | turn.arguments()
    return Launch(kernels.prepare_keys_backward, programs, arguments, POINTWISE)


def write_launch(k: Tensor, v: Tensor, keys: Tensor, values: Tensor, frames: Tensor, turn: Turn) -> Launch:
    """Write one frame's prepared keys and its values to slot frames mod C."""
    batch, slots, places, heads, width = keys.shape
    arguments = _tensors("space", k=k, v=v, keys=keys, values=values) | turn.arguments()
    arguments |= {"frames": frames, "slots": slots, "heads": heads, "places": places}
    arguments |= {"HALF": width // 2, "BLOCK_N": POINTWISE.keys}
    return Launch(kernels.write_keys, batch * heads * triton.cdiv(places, POINTWISE.keys), arguments, POINTWISE)


def tile_of(kernel: str, q: Tensor) -> Tile:
    """The tile of a kernel for the width and dtype of q.

    >>> tile_of("decode", torch.zeros(1, 1, 1, 4, 64)).rows
    16
    """
    return TILES[kernel, q.element_size(), q.shape[-1]]


def _tensors(axis: str, **tensors: Tensor) -> dict[str, Any]:
    """Every tensor with its strides, by the names that the kernels give them."""
    return tensors | {f"{name}_strides": strides_along(x, axis) for name, x in tensors.items()}


def _tiles_of_keys(k: Tensor, axis: str) -> tuple[int, dict[str, int]]:
    """How many programs prepare k, and what they are told."""
    counted = sequences(k, k, axis)
    programs = counted.number * triton.cdiv(counted.length_k, POINTWISE.keys)
    counts = {"others": counted.others, "heads": counted.kv_heads, "length": counted.length_k}
    return programs, counts | {"HALF": counted.width // 2, "BLOCK_N": POINTWISE.keys}


def _gain_sums(gain: Tensor | None, programs: int) -> Tensor | None:
    return None if gain is None else gain.new_empty((programs, gain.shape[0]), dtype=torch.float32)


def _gain_gradient(gain: Tensor | None, sums: Tensor | None, like: Tensor) -> Tensor:
    """Sum over the programs, in torch's fixed order; an operator must return a tensor, so none is one of no elements."""
    return like.new_empty(0) if gain is None or sums is None else sums.sum(0).to(gain.dtype)


_TURN = "Tensor? gain, Tensor? cos, Tensor? sin, float eps"
_RULES = "bool causal, int? window, int private, Tensor? mask, Tensor? filled, float? softcap, float scale"


@torch.library.custom_op(
    "dreamer4::attend",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, str axis, {_TURN}, {_RULES}) -> (Tensor, Tensor)",
)
def _attend(q: Tensor, k: Tensor, v: Tensor, axis: str, *options: Any) -> tuple[Tensor, Tensor]:
    out, lse = _attend_shapes(q, k, v, axis, *options)
    forward_launch(q, k, v, out, lse, axis, Rules(*options[4:]), Turn(*options[:4])).run()
    return out, lse


@_attend.register_fake
def _attend_shapes(q: Tensor, k: Tensor, v: Tensor, axis: str, *options: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(sequences(q, k, axis).statistics, dtype=torch.float32)


@torch.library.custom_op(
    "dreamer4::attend_backward",
    mutates_args=(),
    schema="(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, str axis, "
    f"{_TURN}, {_RULES}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _attend_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, axis: str, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    turn, rules = Turn(*options[:4]), Rules(*options[4:])
    gradients = Gradients.empty(q, k, axis, turn)
    for launch in backward_launches(q, k, v, out, lse, d_out, axis, rules, turn, gradients):
        launch.run()
    return gradients.q, gradients.k, gradients.v, _gain_gradient(turn.gain, gradients.gain_sums, q)


@_attend_backward.register_fake
def _attend_backward_shapes(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, axis: str, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gain = options[0]
    d_gain = q.new_empty(0) if gain is None else gain.new_empty(gain.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), d_gain


def _save_attend(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, ctx.axis, gain, cos, sin, ctx.eps, *rules = inputs
    ctx.causal, ctx.window, ctx.private, mask, filled, ctx.softcap, ctx.scale = rules
    ctx.save_for_backward(q, k, v, *output, gain, cos, sin, mask, filled)
    ctx.mark_non_differentiable(output[1])


def _differentiate_attend(ctx: Any, d_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, gain, cos, sin, mask, filled = ctx.saved_tensors
    rules = Rules(ctx.causal, ctx.window, ctx.private, mask, filled, ctx.softcap, ctx.scale)
    turn = Turn(gain, cos, sin, ctx.eps)
    d_q, d_k, d_v, d_gain = _attend_backward(d_out, q, k, v, out, lse, ctx.axis, *turn, *rules)
    nothing = [None] * (len(turn) - 1 + len(rules))
    return d_q, d_k, d_v, None, None if gain is None else d_gain, *nothing


_attend.register_autograd(_differentiate_attend, setup_context=_save_attend)


@torch.library.custom_op("dreamer4::prepare_keys", mutates_args=(), schema=f"(Tensor k, str axis, {_TURN}) -> Tensor")
def _prepare_keys(k: Tensor, axis: str, *turn: Any) -> Tensor:
    out = k.new_empty(k.shape)
    prepare_launch(k, out, axis, Turn(*turn)).run()
    return out


@_prepare_keys.register_fake
def _prepare_keys_shape(k: Tensor, axis: str, *turn: Any) -> Tensor:
    return k.new_empty(k.shape)


@torch.library.custom_op(
    "dreamer4::prepare_keys_backward",
    mutates_args=(),
    schema=f"(Tensor d_out, Tensor k, str axis, {_TURN}) -> (Tensor, Tensor)",
)
def _prepare_keys_backward(d_out: Tensor, k: Tensor, axis: str, *options: Any) -> tuple[Tensor, Tensor]:
    turn, d_k = Turn(*options), k.new_empty(k.shape)
    sums = _gain_sums(turn.gain, _tiles_of_keys(k, axis)[0])
    prepare_backward_launch(d_out, k, d_k, sums, axis, turn).run()
    return d_k, _gain_gradient(turn.gain, sums, k)


@_prepare_keys_backward.register_fake
def _prepare_keys_backward_shapes(d_out: Tensor, k: Tensor, axis: str, *options: Any) -> tuple[Tensor, Tensor]:
    gain = options[0]
    return k.new_empty(k.shape), k.new_empty(0) if gain is None else gain.new_empty(gain.shape)


def _save_prepare_keys(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    k, ctx.axis, *angles, ctx.eps = inputs
    ctx.save_for_backward(k, *angles)


def _differentiate_prepare_keys(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
    k, gain, *angles = ctx.saved_tensors
    d_k, d_gain = _prepare_keys_backward(d_out, k, ctx.axis, gain, *angles, ctx.eps)
    return d_k, None, None if gain is None else d_gain, None, None, None


_prepare_keys.register_autograd(_differentiate_prepare_keys, setup_context=_save_prepare_keys)


@torch.library.custom_op(
    "dreamer4::write_keys",
    mutates_args=("keys", "values"),
    schema=f"(Tensor k, Tensor v, Tensor(a!) keys, Tensor(b!) values, Tensor frames, {_TURN}) -> ()",
)
def _write_keys(k: Tensor, v: Tensor, keys: Tensor, values: Tensor, frames: Tensor, *turn: Any) -> None:
    write_launch(k, v, keys, values, frames, Turn(*turn)).run()


@_write_keys.register_fake
def _write_keys_shape(k: Tensor, v: Tensor, keys: Tensor, values: Tensor, frames: Tensor, *turn: Any) -> None:
    return None


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    axis: str,
    visible: "Visible",
    softcap: float | None,
    scale: float,
    preparation: Preparation | None,
) -> Tensor:
    """The backend: q (B, Tq, Sq, Hq, D), k and v (B, Tk, Sk, Hkv, D), the keys prepared → the shape of q, contiguous.

    Differentiable in q, k, v and the gain. Prepared heads of another width, up to 128, are copied into wider ones. The
    arguments are checked by `attention`.
    """
    width = q.shape[-1]
    if preparation is None and width not in WIDTHS and width < max(WIDTHS):
        wider = min(wide for wide in WIDTHS if wide > width)
        q, k, v = (pad(x, (0, wider - width)) for x in (q, k, v))
        return attend(q, k, v, axis, visible, softcap, scale, None)[..., :width]
    _check("q", q)
    rules = Rules(visible.causal, visible.window, visible.private, visible.mask, visible.filled, softcap, scale)
    out, _ = _attend(q, k, v, axis, *_unfold(preparation), *rules)
    return out


def prepare_keys(k: Tensor, preparation: Preparation, axis: str) -> Tensor:
    """Norm and rotate k (B, T, S, H, D), of any strides → contiguous; differentiable in k and the gain."""
    _check("k", k)
    return _prepare_keys(k, axis, *_unfold(preparation))


def write_keys(k: Tensor, v: Tensor, preparation: Preparation, keys: Tensor, values: Tensor, frames: Tensor) -> None:
    """Norm, rotate and write one frame, k and v (B, 1, S, H, D), into slot frames mod C of keys and values (B, C, S, H, D).

    In place, without gradient; `preparation` has the angles of that one frame, `frames` is a number on the device.
    """
    _check("k", k)
    _write_keys(k, v, keys, values, frames, *_unfold(preparation))


def _unfold(preparation: Preparation | None) -> Turn:
    if preparation is None:
        return Turn(None, None, None, 0.0)
    cos, sin = (table.to(torch.float32) for table in preparation.angles)
    return Turn(preparation.gain, cos, sin, preparation.eps)


def _check(name: str, x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise NotImplementedError(
            f"backend 'triton' computes float32 and bfloat16; got {name} of {x.dtype}: use 'eager'"
        )
    if x.shape[-1] not in WIDTHS:
        raise NotImplementedError(
            f"backend 'triton' has heads of width 32, 64 and 128; got {name} of width {x.shape[-1]}: use 'eager' or 'flex'"
        )
    if x.device.type == "cpu" and not kernels.INTERPRETED.value:
        raise NotImplementedError(
            "backend 'triton' runs on CUDA, on a CPU only under Triton's interpreter (TRITON_INTERPRET=1 before the "
            f"import); got {name} on the CPU: use 'eager' or 'flex'"
        )
