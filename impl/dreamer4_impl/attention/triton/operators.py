"""Backend "triton" of `attention`: the kernels as custom operators of torch, with their gradients.

    attend          queries, raw or prepared, with prepared keys: training, and decoding from a cache
    prepare_keys    QK-norm and RoPE of the keys
    write_keys      the same of one frame, into the ring of a cache

From the top: tiles, launches (which kernel, how many programs, which arguments), operators, and the functions that
`attention` and its cache call.

Float32 and bfloat16; heads of width 32, 64 and 128, other widths below 128, if prepared already, with copies; tensors
of any strides, which are read in place. Computed in float32; queries, weights and gradients of logits are rounded to
the tensors' dtype before a product. Deterministic; one graph under `torch.compile`; no host synchronisation. On CUDA,
or under Triton's interpreter (TRITON_INTERPRET=1).
"""

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from dreamer4_impl.attention.folding import Options
from dreamer4_impl.attention.qk_preparation import Preparation
from dreamer4_impl.attention.triton import HEAD_WIDTHS
from dreamer4_impl.attention.visibility import Visible

try:
    import triton

    from dreamer4_impl.attention.triton import kernels
except ImportError as error:
    raise ImportError("backend 'triton' needs Triton: pip install 'dreamer4-conformance[triton]'") from error

DTYPES: Final = (torch.float32, torch.bfloat16)


class Tile(NamedTuple):
    """Tile of one program of a kernel, and how the program is compiled.

    Args:
        rows: query rows of one program, a power of two.
        keys: keys of one iteration, a power of two.
        warps: warps of one program, a power of two.
        stages: stages of the software pipeline, at least 1.
        registers: largest number of registers of a thread, so that more programs fit on a multiprocessor; None is 255.
    """

    rows: int
    keys: int
    warps: int
    stages: int
    registers: int | None = None


#: (kernel, bytes of a number, width of a head) → tile. Chosen by registers, spills, programs on a multiprocessor and
#: executed instructions when compiled for sm_90; not yet by time. "decode" is `attend` for few rows, "frame" for few
#: programs.
TILES: Final[dict[tuple[str, int, int], Tile]] = {
    ("attend", 2, 32): Tile(64, 64, 4, 3),
    ("attend", 2, 64): Tile(64, 32, 4, 3, registers=128),
    ("attend", 2, 128): Tile(64, 32, 4, 3, registers=168),
    ("attend", 4, 32): Tile(32, 32, 4, 2),
    ("attend", 4, 64): Tile(64, 32, 8, 2),
    ("attend", 4, 128): Tile(64, 32, 8, 2),
    ("frame", 2, 32): Tile(32, 32, 4, 3),
    ("frame", 2, 64): Tile(32, 32, 4, 3),
    ("frame", 2, 128): Tile(32, 32, 4, 3),
    ("frame", 4, 32): Tile(32, 32, 4, 2),
    ("frame", 4, 64): Tile(64, 32, 8, 2),
    ("frame", 4, 128): Tile(64, 32, 8, 2),
    **{("decode", 2, width): Tile(16, 64, 4, 3) for width in HEAD_WIDTHS},
    **{("decode", 4, width): Tile(16, 32, 4, 2) for width in HEAD_WIDTHS},
    ("queries", 2, 32): Tile(64, 64, 4, 2),
    ("queries", 2, 64): Tile(128, 64, 8, 2),
    ("queries", 2, 128): Tile(64, 32, 4, 2),
    **{("queries", 4, width): Tile(32, 32, 8, 1) for width in HEAD_WIDTHS},
    ("keys", 2, 32): Tile(64, 64, 4, 2),
    ("keys", 2, 64): Tile(64, 64, 4, 2),
    ("keys", 2, 128): Tile(32, 64, 4, 2),
    **{("keys", 4, width): Tile(32, 32, 8, 1) for width in HEAD_WIDTHS},
}
#: Tile of the kernels that only norm, rotate and copy.
POINTWISE: Final = Tile(0, 32, 4, 1)
#: Up to so many rows of a sequence, `attend` uses the tile "decode".
FEW_ROWS: Final = 16
#: Up to so many programs of the tile "attend" it uses "frame": an H100 or H200 has as many multiprocessors.
FEW_PROGRAMS: Final = 132


def tile_of(kernel: str, q: Tensor) -> Tile:
    """Look up the tile of a kernel for the width and dtype of q.

    Args:
        kernel: "attend", "frame", "decode", "queries" or "keys".
        q: queries, (..., D), of a dtype in `DTYPES` and a width in `HEAD_WIDTHS`.

    Returns:
        The tile in `TILES`.

    Example:
        >>> tile_of("decode", torch.zeros(1, 1, 1, 4, 64)).rows
        16
    """
    return TILES[kernel, q.element_size(), q.shape[-1]]


class Launch(NamedTuple):
    """A launch of a kernel that is not made yet: for the operators, for ahead-of-time compilation and for tuning.

    Args:
        kernel: function of `kernels`.
        programs: how many run.
        arguments: of the kernel, by name.
        tile: of each program.
    """

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    tile: Tile

    @property
    def options(self) -> dict[str, Any]:
        """Options of the compiler; contraction to fused multiply-adds is explicit because its default will change."""
        tile = self.tile
        options = {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True}
        return options if tile.registers is None else options | {"maxnreg": tile.registers}

    def run(self) -> None:
        """Enqueue the kernel on the current stream of its tensors' device."""
        tensor = next(x for x in self.arguments.values() if isinstance(x, Tensor))
        if self.programs:
            with torch.cuda.device(tensor.get_device()):
                self.kernel[(self.programs,)](**self.arguments, **self.options)


class Sequences(NamedTuple):
    """Extents of one call. A sequence is what one key/value head reads along the axis, at one index of the cross axis.

    Args:
        batch: B, sequences.
        cross: length of the cross axis: frames for attention along space, tokens of a frame along time.
        kv_heads: Hkv, key/value heads.
        group: query heads of a key/value head, Hq / Hkv.
        width: D, channels of a head.
        length_q: queries along the axis.
        length_k: keys along the axis.
    """

    batch: int
    cross: int
    kv_heads: int
    group: int
    width: int
    length_q: int
    length_k: int

    @property
    def number(self) -> int:
        """Number of sequences of the call."""
        return self.batch * self.cross * self.kv_heads

    @property
    def rows(self) -> int:
        """Rows of a sequence: the queries of all heads of its group."""
        return self.length_q * self.group

    @property
    def statistics(self) -> tuple[int, ...]:
        """Shape of a tensor with one number per row, in the order of rows."""
        return self.batch, self.cross, self.kv_heads, self.length_q, self.group


def sequences(q: Tensor, k: Tensor, axis: str) -> Sequences:
    """Extents of a call.

    Args:
        q: queries, (B, Tq, Sq, Hq, D).
        k: keys, (B, Tk, Sk, Hkv, D).
        axis: "space" or "time", of attention.

    Returns:
        The extents.

    Example:
        >>> q, k = torch.zeros(2, 3, 5, 8, 32), torch.zeros(2, 7, 5, 4, 32)
        >>> sequences(q, k, "time").statistics
        (2, 5, 4, 3, 2)
    """
    along, cross = (2, 1) if axis == "space" else (1, 2)
    batch, kv_heads, width = q.shape[0], k.shape[3], q.shape[4]
    group = q.shape[3] // kv_heads
    return Sequences(batch, q.shape[cross], kv_heads, group, width, q.shape[along], k.shape[along])


def _flat_options(options: Options) -> tuple[Any, ...]:
    """Options as arguments of the operator `attend`, which must be tensors and plain values: `_OPTIONS`."""
    axis, preparation, visible, softcap, scale = options
    return axis, *_flat_preparation(preparation), *visible, softcap, scale


def _restore_options(axis: Any, *flat: Any) -> Options:
    return Options(axis, _restore_preparation(*flat[:4]), Visible(*flat[4:9]), *flat[9:])


def _flat_preparation(preparation: Preparation | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, float]:
    if preparation is None:
        return None, None, None, 0.0
    cos, sin = (table.to(torch.float32) for table in preparation.angles)
    return preparation.gain, cos, sin, preparation.eps


def _restore_preparation(gain: Tensor | None, cos: Tensor | None, sin: Tensor | None, eps: float) -> Preparation | None:
    return None if cos is None or sin is None else Preparation(gain, eps, (cos, sin))


def forward_launch(q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, options: Options) -> Launch:
    """Describe the launch of `kernels.attend` on these tensors.

    Args:
        q: queries, float32 or bfloat16, (B, Tq, Sq, Hq, D), any strides.
        k: prepared keys, dtype of q, (B, Tk, Sk, Hkv, D), any strides.
        v: values, dtype and shape of k, any strides.
        out: shape of q, any strides, to be written.
        lse: log₂ Σⱼ 2^logit, float32 of shape `Sequences.statistics`, contiguous, to be written.
        options: axis, preparation of q, visible keys, soft cap and scale.

    Returns:
        The launch, not made yet.
    """
    extents = sequences(q, k, options.axis)
    tile = _forward_tile(extents, q)
    arguments = _attention_arguments(extents, options) | _with_strides(options.axis, q=q, k=k, v=v, out=out)
    arguments |= _preparation_arguments(options.preparation)
    arguments |= {"lse": lse, "BLOCK_M": tile.rows, "BLOCK_N": tile.keys}
    return Launch(kernels.attend, extents.number * triton.cdiv(extents.rows, tile.rows), arguments, tile)


def _forward_tile(extents: Sequences, q: Tensor) -> Tile:
    if extents.rows <= FEW_ROWS:
        return tile_of("decode", q)
    tile = tile_of("attend", q)
    programs = extents.number * triton.cdiv(extents.rows, tile.rows)
    return tile_of("frame", q) if programs <= FEW_PROGRAMS else tile


class Gradients(NamedTuple):
    """Outputs of the backward kernels.

    Args:
        q: of the raw queries, any strides.
        k: of the prepared keys, any strides.
        v: of the values, any strides.
        delta: Σ_d out ⊙ d_out of every row, float32 of shape `Sequences.statistics`, contiguous.
        prepared_q: prepared queries, shape and strides of `q`; None if the queries come prepared.
        gain_sums: of the gain, summed over the rows of a program, float32 (programs, D), contiguous; None without a
            gain.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    delta: Tensor
    prepared_q: Tensor | None
    gain_sums: Tensor | None

    @classmethod
    def empty(cls, q: Tensor, k: Tensor, options: Options) -> "Gradients":
        """Allocate the outputs.

        Args:
            q: raw queries, (B, Tq, Sq, Hq, D), any strides.
            k: prepared keys, (B, Tk, Sk, Hkv, D), any strides.
            options: of the call.

        Returns:
            Buffers of arbitrary values.
        """
        extents, preparation = sequences(q, k, options.axis), options.preparation
        programs = extents.number * triton.cdiv(extents.rows, tile_of("queries", q).rows)
        return cls(
            q=q.new_empty(q.shape),
            k=k.new_empty(k.shape),
            v=k.new_empty(k.shape),
            delta=q.new_empty(extents.statistics, dtype=torch.float32),
            prepared_q=None if preparation is None else q.new_empty(q.shape),
            gain_sums=_gain_sums(preparation, programs),
        )


def backward_launches(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, options: Options, gradients: Gradients
) -> list[Launch]:
    """Launches of the gradient, in order.

    Args:
        q: queries, any strides.
        k: prepared keys, any strides.
        v: values, any strides.
        out: result of `forward_launch`.
        lse: result of `forward_launch`.
        d_out: gradient of `out`, any strides.
        options: of the call.
        gradients: to be written.

    Returns:
        Launches of `kernels.attend_queries_backward`, then of `kernels.attend_keys_backward`, which reads `delta` and
        `prepared_q` that the first wrote.
    """
    axis, extents = options.axis, sequences(q, k, options.axis)
    common = _attention_arguments(extents, options) | {"lse": lse, "delta": gradients.delta}
    queries, keys = tile_of("queries", q), tile_of("keys", q)
    first = common | _with_strides(axis, q=q, k=k, v=v, out=out, d_out=d_out, d_q=gradients.q)
    first |= _preparation_arguments(options.preparation) | {"BLOCK_M": queries.rows, "BLOCK_N": queries.keys}
    first |= {"prepared_q": gradients.prepared_q, "gain_sums": gradients.gain_sums}
    prepared = q if gradients.prepared_q is None else gradients.prepared_q
    second = common | _with_strides(axis, q=prepared, k=k, v=v, d_out=d_out, d_k=gradients.k, d_v=gradients.v)
    second |= {"BLOCK_M": keys.rows, "BLOCK_N": keys.keys}
    tiles = triton.cdiv(extents.rows, queries.rows), triton.cdiv(extents.length_k, keys.keys)
    return [
        Launch(kernels.attend_queries_backward, extents.number * tiles[0], first, queries),
        Launch(kernels.attend_keys_backward, extents.number * tiles[1], second, keys),
    ]


def prepare_launch(k: Tensor, out: Tensor, axis: str, preparation: Preparation | None) -> Launch:
    """Launch of the preparation of keys.

    Args:
        k: raw keys, any strides.
        out: shape of k, any strides, to be written.
        axis: "space" or "time".
        preparation: of the keys, angles in float32.

    Returns:
        A launch of `kernels.prepare_keys`.
    """
    programs, arguments = _keys_arguments(axis, preparation, k=k, out=out)
    return Launch(kernels.prepare_keys, programs, arguments, POINTWISE)


def prepare_backward_launch(
    d_out: Tensor, k: Tensor, d_k: Tensor, gain_sums: Tensor | None, axis: str, preparation: Preparation | None
) -> Launch:
    """Launch of the gradient of `prepare_launch`.

    Args:
        d_out: gradient of the prepared keys, any strides.
        k: raw keys, any strides.
        d_k: shape of k, any strides, to be written.
        gain_sums: as in `Gradients`, to be written; None without a gain.
        axis: "space" or "time".
        preparation: of the keys, angles in float32.

    Returns:
        A launch of `kernels.prepare_keys_backward`.
    """
    programs, arguments = _keys_arguments(axis, preparation, k=k, d_out=d_out, d_k=d_k)
    return Launch(kernels.prepare_keys_backward, programs, arguments | {"gain_sums": gain_sums}, POINTWISE)


def write_launch(
    k: Tensor, v: Tensor, keys: Tensor, values: Tensor, frames: Tensor, preparation: Preparation | None
) -> Launch:
    """Launch of writing one frame to a ring.

    Args:
        k: raw keys, (B, 1, S, H, D), any strides.
        v: values, (B, 1, S, H, D), any strides.
        keys: ring of C slots, (B, C, S, H, D), any strides; slot frames mod C is written.
        values: ring like `keys`.
        frames: committed frames, integer ().
        preparation: with the angles of one frame, in float32.

    Returns:
        A launch of `kernels.write_keys`.
    """
    batch, slots, tokens, heads, width = keys.shape
    arguments = _with_strides("space", k=k, v=v, keys=keys, values=values) | _preparation_arguments(preparation)
    arguments |= {"frames": frames, "slots": slots, "heads": heads, "tokens": tokens}
    arguments |= {"HALF": width // 2, "BLOCK_N": POINTWISE.keys}
    return Launch(kernels.write_keys, batch * heads * triton.cdiv(tokens, POINTWISE.keys), arguments, POINTWISE)


def _attention_arguments(extents: Sequences, options: Options) -> dict[str, Any]:
    """Arguments that all attention kernels take."""
    visible, softcap, length_k = options.visible, options.softcap, extents.length_k
    mask = None if visible.mask is None else visible.mask.view(torch.uint8)
    return {
        "cross_length": extents.cross,
        "kv_heads": extents.kv_heads,
        "length_q": extents.length_q,
        "length_k": length_k,
        "GROUP": extents.group,
        "HALF": extents.width // 2,
        "CAUSAL": visible.causal,
        "BOUNDED": softcap is not None and softcap <= kernels.LARGEST_BOUND.value,
        "window": visible.window,
        "public": length_k - visible.private if visible.private else None,
        "mask": mask,
        "mask_strides": None if mask is None else mask.stride(),
        "filled": visible.filled,
        "softcap": softcap,
        "scale": options.scale,
    }


def _preparation_arguments(preparation: Preparation | None) -> dict[str, Any]:
    """Contiguous, because the kernels address these tensors by position and channel only."""
    gain, cos, sin, eps = _flat_preparation(preparation)
    names = {"gain": gain, "cos": cos, "sin": sin}
    return {name: x if x is None else x.contiguous() for name, x in names.items()} | {"eps": eps}


def _keys_arguments(axis: str, preparation: Preparation | None, **tensors: Tensor) -> tuple[int, dict[str, Any]]:
    """Number of programs that prepare the keys, and their arguments."""
    extents = sequences(tensors["k"], tensors["k"], axis)
    counts = {"cross_length": extents.cross, "heads": extents.kv_heads, "length": extents.length_k}
    counts |= {"HALF": extents.width // 2, "BLOCK_N": POINTWISE.keys}
    arguments = _with_strides(axis, **tensors) | _preparation_arguments(preparation) | counts
    return _key_programs(extents), arguments


def _key_programs(extents: Sequences) -> int:
    return extents.number * triton.cdiv(extents.length_k, POINTWISE.keys)


def _with_strides(axis: str, **tensors: Tensor) -> dict[str, Any]:
    """Each tensor and its strides in the order in which the kernels count: batch, cross axis, axis, head, channel."""
    order = (0, 1, 2, 3, 4) if axis == "space" else (0, 2, 1, 3, 4)
    strides = {f"{name}_strides": tuple(x.stride(index) for index in order) for name, x in tensors.items()}
    return tensors | strides


def _gain_sums(preparation: Preparation | None, programs: int) -> Tensor | None:
    if preparation is None or preparation.gain is None:
        return None
    return preparation.gain.new_empty((programs, preparation.gain.shape[0]), dtype=torch.float32)


def _gain_gradient(gain: Tensor | None, sums: Tensor | None, like: Tensor) -> Tensor:
    """Sum over the programs, in torch's fixed order; without a gain empty, because an operator must return a tensor."""
    return like.new_empty(0) if gain is None or sums is None else sums.sum(0).to(gain.dtype)


_PREPARATION = "Tensor? gain, Tensor? cos, Tensor? sin, float eps"
_VISIBLE = "bool causal, int? window, int private, Tensor? mask, Tensor? filled"
_OPTIONS = f"str axis, {_PREPARATION}, {_VISIBLE}, float? softcap, float scale"


@torch.library.custom_op(
    "dreamer4::attend", mutates_args=(), schema=f"(Tensor q, Tensor k, Tensor v, {_OPTIONS}) -> (Tensor, Tensor)"
)
def _attend(q: Tensor, k: Tensor, v: Tensor, *flat: Any) -> tuple[Tensor, Tensor]:
    out, lse = _attend_shapes(q, k, v, *flat)
    forward_launch(q, k, v, out, lse, _restore_options(*flat)).run()
    return out, lse


@_attend.register_fake
def _attend_shapes(q: Tensor, k: Tensor, v: Tensor, axis: str, *flat: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(sequences(q, k, axis).statistics, dtype=torch.float32)


@torch.library.custom_op(
    "dreamer4::attend_backward",
    mutates_args=(),
    schema=f"(Tensor d_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, {_OPTIONS}) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
def _attend_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, axis: str, gain: Tensor | None, *flat: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    options = _restore_options(axis, gain, *flat)
    gradients = Gradients.empty(q, k, options)
    for launch in backward_launches(q, k, v, out, lse, d_out, options, gradients):
        launch.run()
    return gradients.q, gradients.k, gradients.v, _gain_gradient(gain, gradients.gain_sums, q)


@_attend_backward.register_fake
def _attend_backward_shapes(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, axis: str, gain: Tensor | None, *flat: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_gain = q.new_empty(0) if gain is None else gain.new_empty(gain.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), d_gain


def _save(ctx: Any, inputs: tuple[Any, ...], *outputs: Tensor) -> None:
    """Save the inputs of an operator, tensors and plain values, and some of its outputs."""
    ctx.plain = [None if isinstance(x, Tensor) else x for x in inputs]
    ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in inputs), *outputs)


def _saved(ctx: Any) -> tuple[list[Any], list[Tensor]]:
    """Inputs and outputs that `_save` saved."""
    count = len(ctx.plain)
    inputs = [x if tensor is None else tensor for x, tensor in zip(ctx.plain, ctx.saved_tensors[:count], strict=True)]
    return inputs, ctx.saved_tensors[count:]


def _save_attend(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _save(ctx, inputs, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate_attend(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    (q, k, v, axis, gain, *flat), (out, lse) = _saved(ctx)
    d_q, d_k, d_v, d_gain = _attend_backward(d_out, q, k, v, out, lse, axis, gain, *flat)
    return d_q, d_k, d_v, None, None if gain is None else d_gain, *[None] * len(flat)


_attend.register_autograd(_differentiate_attend, setup_context=_save_attend)


@torch.library.custom_op(
    "dreamer4::prepare_keys", mutates_args=(), schema=f"(Tensor k, str axis, {_PREPARATION}) -> Tensor"
)
def _prepare_keys(k: Tensor, axis: str, *flat: Any) -> Tensor:
    out = k.new_empty(k.shape)
    prepare_launch(k, out, axis, _restore_preparation(*flat)).run()
    return out


@_prepare_keys.register_fake
def _prepare_keys_shape(k: Tensor, axis: str, *flat: Any) -> Tensor:
    return k.new_empty(k.shape)


@torch.library.custom_op(
    "dreamer4::prepare_keys_backward",
    mutates_args=(),
    schema=f"(Tensor d_out, Tensor k, str axis, {_PREPARATION}) -> (Tensor, Tensor)",
)
def _prepare_keys_backward(
    d_out: Tensor, k: Tensor, axis: str, gain: Tensor | None, *flat: Any
) -> tuple[Tensor, Tensor]:
    d_k, preparation = k.new_empty(k.shape), _restore_preparation(gain, *flat)
    sums = _gain_sums(preparation, _key_programs(sequences(k, k, axis)))
    prepare_backward_launch(d_out, k, d_k, sums, axis, preparation).run()
    return d_k, _gain_gradient(gain, sums, k)


@_prepare_keys_backward.register_fake
def _prepare_keys_backward_shapes(
    d_out: Tensor, k: Tensor, axis: str, gain: Tensor | None, *flat: Any
) -> tuple[Tensor, Tensor]:
    return k.new_empty(k.shape), k.new_empty(0) if gain is None else gain.new_empty(gain.shape)


def _differentiate_prepare_keys(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
    (k, axis, gain, *flat), _ = _saved(ctx)
    d_k, d_gain = _prepare_keys_backward(d_out, k, axis, gain, *flat)
    return d_k, None, None if gain is None else d_gain, *[None] * len(flat)


_prepare_keys.register_autograd(
    _differentiate_prepare_keys, setup_context=lambda ctx, inputs, output: _save(ctx, inputs)
)


@torch.library.custom_op(
    "dreamer4::write_keys",
    mutates_args=("keys", "values"),
    schema=f"(Tensor k, Tensor v, Tensor(a!) keys, Tensor(b!) values, Tensor frames, {_PREPARATION}) -> ()",
)
def _write_keys(k: Tensor, v: Tensor, keys: Tensor, values: Tensor, frames: Tensor, *flat: Any) -> None:
    write_launch(k, v, keys, values, frames, _restore_preparation(*flat)).run()


@_write_keys.register_fake
def _write_keys_shape(k: Tensor, v: Tensor, keys: Tensor, values: Tensor, frames: Tensor, *flat: Any) -> None:
    return None


def attend(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    """Attend with the fused kernels: the backend "triton", whose arguments `attention` has checked.

    Differentiable in q, k, v and the gain. Prepared heads of another width, up to 128, are copied into wider ones.

    Args:
        q: queries, (B, Tq, Sq, Hq, D), any strides.
        k: prepared keys, (B, Tk, Sk, Hkv, D), any strides.
        v: values, shape of k, any strides.
        options: of the call.

    Returns:
        Weighted means of the values, shape and dtype of q, contiguous.

    Raises:
        NotImplementedError: if the kernels lack the dtype, device or width of q.
    """
    width = q.shape[-1]
    if options.preparation is None and width not in HEAD_WIDTHS and width < max(HEAD_WIDTHS):
        wider = min(size for size in HEAD_WIDTHS if size > width)
        q, k, v = (pad(x, (0, wider - width)) for x in (q, k, v))
        return attend(q, k, v, options)[..., :width]
    _require_covered("q", q)
    out, _ = _attend(q, k, v, *_flat_options(options))
    return out


def prepare_keys(k: Tensor, preparation: Preparation, axis: str) -> Tensor:
    """Norm and rotate keys. Differentiable in k and the gain.

    Args:
        k: raw keys, (B, T, S, H, D), any strides.
        preparation: with one angle for each position along the axis.
        axis: "space" or "time".

    Returns:
        Prepared keys, shape and dtype of k, contiguous.

    Raises:
        NotImplementedError: if the kernels lack the dtype, device or width of k.
    """
    _require_covered("k", k)
    return _prepare_keys(k, axis, *_flat_preparation(preparation))


def write_keys(k: Tensor, v: Tensor, preparation: Preparation, keys: Tensor, values: Tensor, frames: Tensor) -> None:
    """Norm, rotate and write one frame into slot frames mod C of a ring, in place, without gradient.

    Args:
        k: raw keys, (B, 1, S, H, D), any strides.
        v: values, (B, 1, S, H, D), any strides.
        preparation: with the angles of that frame.
        keys: prepared keys of the last C frames, (B, C, S, H, D), any strides.
        values: values of the last C frames, (B, C, S, H, D), any strides.
        frames: how many frames precede this one, integer () on the device.

    Raises:
        NotImplementedError: if the kernels lack the dtype, device or width of k.
    """
    _require_covered("k", k)
    _write_keys(k, v, keys, values, frames, *_flat_preparation(preparation))


def _require_covered(name: str, x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise NotImplementedError(
            f"backend 'triton' computes float32 and bfloat16; got {name} of {x.dtype}: use 'eager'"
        )
    if x.shape[-1] not in HEAD_WIDTHS:
        raise NotImplementedError(
            f"backend 'triton' has heads of width 32, 64 and 128; got {name} of width {x.shape[-1]}: "
            "use 'eager' or 'flex'"
        )
    if x.device.type == "cpu" and not kernels.INTERPRETED.value:
        raise NotImplementedError(
            "backend 'triton' runs on CUDA, on a CPU only under Triton's interpreter (TRITON_INTERPRET=1 before the "
            f"import); got {name} on the CPU: use 'eager' or 'flex'"
        )
