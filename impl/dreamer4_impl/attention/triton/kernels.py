# mypy: ignore-errors
"""Sec. 3.4: the fused kernels of `attention` in Triton, one source for space and time.

    q' ← R g ⊙ q / rms(q),   oᵢ = Σⱼ softmaxⱼ(cap(scale · q'ᵢ·kⱼ)) vⱼ

forward and backward; a kernel of its own prepares the keys. A *sequence* is what one key/value head reads along the
axis: a fixed batch index b, a fixed index c on the cross axis (the axis that is not attended along), a fixed head.
Its *rows* are the queries of all heads of its group, row = query · GROUP + g. So keys and values are loaded once for
the group, and one frame of queries fills a tile.

Tensors are addressed as `base + b·strides[0] + c·strides[1] + i·strides[2] + h·strides[3] + d·strides[4]`: the host
orders the strides by axis, so that nothing is transposed or copied. An argument of None leaves out what it stands
for.

A tile of keys is *clear* for a tile of rows if nothing hides any of them. Clear tiles have a loop of their own, without
masks; a second loop, over what is before and after them, has masks.

Products accumulate in float32 with operands of the tensors' dtype, so that float32 is exact to rounding ("ieee").
Queries, weights and gradients of logits are rounded once before a product, and a row's sum is the sum of its rounded
weights. Logits are in base 2. There are no atomics: every sum has one order. The types are those of Triton's
compiler, unknown to mypy.

Arguments, for all kernels:

    q, k, v, out, d_out, d_q, d_k, d_v      tensors of five axes, each with its strides
    prepared_q                              prepared queries to be written, with the strides of d_q
    lse, delta                              log₂ Σⱼ 2^logit and Σ_d out ⊙ d_out: float32, one number per row, contiguous
    gain, cos, sin, eps                     of the preparation: (D,), (length, D/2), (length, D/2), contiguous; ε
    gain_sums                               gradient of the gain, one row per program: float32 (programs, D), contiguous
    cross_length, kv_heads, heads           length of the cross axis; number of key/value heads
    length_q, length_k, length              number of queries and of keys along the axis
    window, public                          keys within the window; number of keys before the private ones
    filled                                  pointer to the number of keys that hold data
    mask                                    uint8 (Lq, Lk), not 0 = may attend, with its strides
    scale, softcap                          of the logits
    keys, values, frames, slots, tokens     of a ring: its tensors, pointer to committed frames, C, tokens of a frame
    GROUP, HALF                             query heads of a key/value head; D/2
    CAUSAL, BOUNDED                         whether later keys are hidden; whether the cap is at most LARGEST_BOUND
    BLOCK_M, BLOCK_N                        rows and keys of a tile
"""

import triton
import triton.language as tl
from triton import knobs

#: Triton's interpreter multiplies bfloat16 wrongly and truncates to it, so both are done in float32 there.
INTERPRETED = tl.constexpr(knobs.runtime.interpret)
LOG2_E = tl.constexpr(1.4426950408889634)
#: Up to this cap a row's sum of 2^logit is far from both ends of float32 (e^64 is 2^92), so no maximum is subtracted.
#: At 80, 264 values beyond 23 would overflow.
LARGEST_BOUND = tl.constexpr(64.0)


def _device_function(function):
    # Interpreted it stays plain Python, because Triton would patch its language again at every call.
    return function if INTERPRETED.value else triton.jit(function)


@_device_function
def _dot(a, b, accumulator):
    """accumulator + a b; None is 0."""
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision="ieee")


@_device_function
def _rounded(x, like):
    """Float32 x in the dtype of `like`, rounded to nearest even."""
    if INTERPRETED and like.dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = bits.to(tl.float32, bitcast=True)
    return x.to(like.dtype)


@_device_function
def _reciprocal(x):
    """1/x for x in [2^−100, 2^100] in one instruction; a division takes four more to guard against others."""
    if INTERPRETED:
        return 1 / x
    else:  # noqa: RET505 - without the `else`, Triton would also compile the code after the branch it takes
        return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], tl.float32, is_pure=True, pack=1)


@_device_function
def _loop_bound(x):
    # Interpreted, a bound must be a number: Triton 3.6 converts an array of one element, which NumPy 2.4 refuses.
    if INTERPRETED:
        return x.handle.data.item() if isinstance(x, tl.tensor) else x
    else:  # noqa: RET505 - as in `_reciprocal`
        return x


@_device_function
def _pair_reciprocals(x):
    """1/x for x in [1, 2^50], with one reciprocal for two neighbours: 1/a = b · 1/ab."""
    pairs = tl.reshape(x, [x.shape[0], x.shape[1] // 2, 2])
    a, b = tl.split(pairs)
    inverse = _reciprocal(a * b)
    return tl.reshape(tl.join(inverse * b, inverse * a), [x.shape[0], x.shape[1]])


@_device_function
def _sigmoid(power, CLEAR: tl.constexpr):
    """1/(1 + 2^power). Beyond 46 it is that of 46, so that the product of two denominators does not overflow.

    Where keys may be hidden there are no pairs: a hidden key would change the rounding of its neighbour.
    """
    denominator = 1 + tl.exp2(tl.minimum(power, 46.0))
    return _pair_reciprocals(denominator) if CLEAR else _reciprocal(denominator)


@_device_function
def _tanh(x):
    """(1 − p)/(1 + p), where p = e^−2x. Below −16, where p would overflow eventually, it is −1.

    Near 0, where 1 − p has an absolute error of 2⁻²⁴ that large caps would magnify, a series.
    """
    power = tl.exp2(tl.maximum(x, -16.0) * (-2 * LOG2_E))
    square = x * x
    series = x * (1 + square * (-1 / 3 + square * (2 / 15 - square * (17 / 315))))
    return tl.where(square < 0.02, series, (1 - power) * _reciprocal(1 + power))


@_device_function
def _sequence(tiles, cross_length, kv_heads):
    """Tile and sequence of this program. Programs of one sequence are neighbours, to reuse its keys in the cache."""
    program = tl.program_id(0)
    tile, sequence = program % tiles, program // tiles
    kv_head, pair = sequence % kv_heads, sequence // kv_heads
    return tile, sequence, (pair // cross_length).to(tl.int64), (pair % cross_length).to(tl.int64), kv_head


@_device_function
def _base(tensor, strides, batch, cross, head):
    """Pointer to the first vector of a sequence; 64 bits, because a tensor may have more than 2³¹ elements."""
    return tensor + batch * strides[0] + cross * strides[1] + head.to(tl.int64) * strides[3]


@_device_function
def _pointers(base, strides, along, head, channel):
    """Pointers to (along, channel) of the head that is `head` after the base's; None is the base's."""
    vector = base + along.to(tl.int64) * strides[2]
    if head is not None:
        vector += head * strides[3]
    return vector[:, None] + channel[None, :] * strides[4]


@_device_function
def _halves(base, strides, along, head, valid, HALF: tl.constexpr):
    """Channels i and i + D/2, which RoPE rotates together; 0 where not valid."""
    first = _pointers(base, strides, along, head, tl.arange(0, HALF))
    second = first + HALF * strides[4]
    return tl.load(first, mask=valid[:, None], other=0.0), tl.load(second, mask=valid[:, None], other=0.0)


@_device_function
def _store_halves(base, strides, along, head, valid, x1, x2, HALF: tl.constexpr):
    first = _pointers(base, strides, along, head, tl.arange(0, HALF))
    tl.store(first, x1, mask=valid[:, None])
    tl.store(first + HALF * strides[4], x2, mask=valid[:, None])


@_device_function
def _vectors(base, strides, along, head, valid, HALF: tl.constexpr):
    """All channels; 0 where not valid, None is valid everywhere."""
    pointers = _pointers(base, strides, along, head, tl.arange(0, 2 * HALF))
    return tl.load(pointers) if valid is None else tl.load(pointers, mask=valid[:, None], other=0.0)


@_device_function
def _joined(x1, x2):
    """All channels of two halves."""
    halves = tl.trans(tl.join(x1, x2), 0, 2, 1)
    return tl.reshape(halves, [x1.shape[0], 2 * x1.shape[1]])


@_device_function
def _split(x, HALF: tl.constexpr):
    """Both halves of all channels."""
    return tl.split(tl.trans(tl.reshape(x, [x.shape[0], 2, HALF]), 0, 2, 1))


@_device_function
def _angles(cos, sin, position, valid, HALF: tl.constexpr):
    offset = position[:, None] * HALF + tl.arange(0, HALF)[None, :]
    return tl.load(cos + offset, mask=valid[:, None], other=1.0), tl.load(sin + offset, mask=valid[:, None], other=0.0)


@_device_function
def _gains(gain, HALF: tl.constexpr):
    channel = tl.arange(0, HALF)[None, :]
    return tl.load(gain + channel).to(tl.float32), tl.load(gain + HALF + channel).to(tl.float32)


@_device_function
def _inverse_rms(x1, x2, eps, HALF: tl.constexpr):
    mean_square = (tl.sum(x1 * x1, 1) + tl.sum(x2 * x2, 1)) / (2 * HALF)
    return tl.div_rn(1.0, tl.sqrt_rn(mean_square + eps))[:, None]


@_device_function
def _prepared(x1, x2, gain, cos, sin, eps, position, valid, HALF: tl.constexpr):
    """Norm, then rotation, in float32; the caller rounds."""
    x1, x2 = x1.to(tl.float32), x2.to(tl.float32)
    inverse_rms = _inverse_rms(x1, x2, eps, HALF)
    x1, x2 = x1 * inverse_rms, x2 * inverse_rms
    if gain is not None:
        gain1, gain2 = _gains(gain, HALF)
        x1, x2 = x1 * gain1, x2 * gain2
    c, s = _angles(cos, sin, position, valid, HALF)
    return x1 * c - x2 * s, x1 * s + x2 * c


@_device_function
def _prepared_backward(d1, d2, x1, x2, gain, gain_sums, program, cos, sin, eps, position, valid, HALF: tl.constexpr):
    """Gradient of the raw vectors. The gain's, summed over the rows of this program, is stored in `gain_sums`."""
    c, s = _angles(cos, sin, position, valid, HALF)
    d1, d2 = d1 * c + d2 * s, d2 * c - d1 * s
    x1, x2 = x1.to(tl.float32), x2.to(tl.float32)
    inverse_rms = _inverse_rms(x1, x2, eps, HALF)
    x1, x2 = x1 * inverse_rms, x2 * inverse_rms
    if gain is not None:
        sums = gain_sums + program.to(tl.int64) * (2 * HALF) + tl.arange(0, HALF)
        tl.store(sums, tl.sum(tl.where(valid[:, None], d1 * x1, 0.0), 0))
        tl.store(sums + HALF, tl.sum(tl.where(valid[:, None], d2 * x2, 0.0), 0))
        gain1, gain2 = _gains(gain, HALF)
        d1, d2 = d1 * gain1, d2 * gain2
    along = ((tl.sum(d1 * x1, 1) + tl.sum(d2 * x2, 1)) / (2 * HALF))[:, None]
    return (d1 - x1 * along) * inverse_rms, (d2 - x2 * along) * inverse_rms


@_device_function
def _logits(a, b, scale, softcap, shift, BOUNDED: tl.constexpr, CLEAR: tl.constexpr):
    """Logits of a's rows with b's, in base 2, minus `shift`; and their tanh, which is logit / softcap, 0 without a cap.

    A bounded logit is c tanh(s/c) = 2c σ(2s/c) − c: one multiplication and addition after the sigmoid.
    """
    product = _dot(a, tl.trans(b), None)
    if softcap is None:
        return product * (scale * LOG2_E) - shift, 0.0
    elif BOUNDED:  # noqa: RET505 - as in `_reciprocal`
        sigmoid = _sigmoid(product * (-2 * LOG2_E * scale / softcap), CLEAR)
        return sigmoid * (2 * softcap * LOG2_E) - (softcap * LOG2_E + shift), 2 * sigmoid - 1
    else:
        tanh = _tanh(product * (scale / softcap))
        return tanh * (softcap * LOG2_E) - shift, tanh


@_device_function
def _rule(query, key, behind, length_q, end, window, public, mask, mask_strides, CAUSAL: tl.constexpr):
    """`Visible.rule`, where `behind` is the query's position minus the key's."""
    visible = (query < length_q) & (key < end)
    if CAUSAL:
        visible = visible & (behind >= 0)
    if window is not None:
        visible = visible & (behind < window)
    if public is not None:
        visible = visible & ((key < public) | (behind + key >= public))
    if mask is not None:
        pointers = mask + query * mask_strides[0] + key * mask_strides[1]
        visible = visible & (tl.load(pointers, mask=visible, other=0) != 0)
    return visible


@_device_function
def _end(length_k, filled):
    """End of the keys that hold data."""
    return length_k if filled is None else tl.minimum(length_k, tl.load(filled).to(tl.int32))


@_device_function
def _key_range(
    tile, length_q, length_k, end, window,
    GROUP: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Range that includes all keys visible to a tile of rows."""
    start, stop = 0, end
    if CAUSAL:
        last = tl.minimum(((tile + 1) * BLOCK_M - 1) // GROUP, length_q - 1) + (length_k - length_q)
        stop = tl.minimum(end, last + 1)
    if window is not None:
        first = tile * BLOCK_M // GROUP + (length_k - length_q)
        start = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N
    return start, stop


@_device_function
def _row_range(first, last, behind, rows, window, GROUP: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr):
    """Range that includes all rows to which keys `first` to `last` are visible; query i has position i + `behind`."""
    start, stop = 0, rows
    if CAUSAL:
        start = tl.maximum(first - behind, 0) * GROUP // BLOCK_M * BLOCK_M
    if window is not None:
        stop = tl.minimum(rows, (last + window - behind) * GROUP)
    return start, stop


@_device_function
def _accumulated(logit, values, unit, total, sums, highest, BOUNDED: tl.constexpr):
    """Sums over one more tile of keys: of the weights, of the weighted values, and the highest logit."""
    if BOUNDED:
        weight = tl.exp2(logit)
    else:
        higher = tl.maximum(highest, tl.max(logit, 1))
        # Before its first visible key a row has the maximum −∞, and −∞ − (−∞) is NaN.
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        weight = tl.exp2(logit - shift[:, None])
        decay = tl.exp2(highest - shift)
        total, sums, highest = total * decay[:, None], sums * decay[:, None], higher
    weight = _rounded(weight, values)
    return _dot(weight, unit, total), _dot(weight, values, sums), highest


@_device_function
def _d_logit(weight, d_weight, tanh, softcap):
    """Gradient of the logit before the cap, of which `tanh` is that of `_logits`."""
    d_logit = weight * d_weight
    return d_logit if softcap is None else d_logit * (1 - tanh * tanh)


@_device_function
def _clear_keys(
    tile, start, stop, length_q, length_k, window, public,
    GROUP: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Range of the tiles, in [start, stop), of keys that all rows of a tile see; empty if there are none."""
    behind = length_k - length_q
    first, last = tile * BLOCK_M // GROUP, tl.minimum(((tile + 1) * BLOCK_M - 1) // GROUP, length_q - 1)
    clear_start, clear_stop = start, stop
    if CAUSAL:
        clear_stop = tl.minimum(clear_stop, first + behind + 1)
    if window is not None:
        clear_start = tl.maximum(clear_start, last + behind - window + 1)
    if public is not None:
        clear_stop = tl.minimum(clear_stop, public)
    clear_start = tl.cdiv(clear_start, BLOCK_N) * BLOCK_N
    return clear_start, tl.maximum(clear_start, clear_stop // BLOCK_N * BLOCK_N)


@_device_function
def _clear_rows(
    first, last, start, stop, behind, rows, end, window, public,
    GROUP: tl.constexpr, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Range of the tiles, in [start, stop), of rows that see all keys from `first` to `last`, as `_clear_keys`."""
    clear_start, clear_stop = start, tl.minimum(stop, rows)
    if CAUSAL:
        clear_start = tl.maximum(clear_start, (last - behind) * GROUP)
    if window is not None:
        clear_stop = tl.minimum(clear_stop, (first + window - behind) * GROUP)
    if public is not None:
        clear_stop = tl.where(last < public, clear_stop, start)
    clear_stop = tl.where(last < end, clear_stop, start)
    clear_start = tl.cdiv(clear_start, BLOCK_M) * BLOCK_M
    return clear_start, tl.maximum(clear_start, clear_stop // BLOCK_M * BLOCK_M)


@triton.jit
def attend(
    q, k, v, out, lse, gain, cos, sin, mask, filled,
    q_strides, k_strides, v_strides, out_strides, mask_strides,
    cross_length, kv_heads, length_q, length_k, window, public, scale, softcap, eps,
    GROUP: tl.constexpr, HALF: tl.constexpr, CAUSAL: tl.constexpr, BOUNDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out, and lse = log₂ Σⱼ 2^logit of every row, for one tile of rows of one sequence."""
    rows = length_q * GROUP
    tile, sequence, batch, cross, kv_head = _sequence(tl.cdiv(rows, BLOCK_M), cross_length, kv_heads)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    query, head, valid = row // GROUP, row % GROUP, row < rows
    position = query + (length_k - length_q)
    q = _base(q, q_strides, batch, cross, kv_head * GROUP)
    if cos is None:
        queries = _vectors(q, q_strides, query, head, valid, HALF)
    else:
        q1, q2 = _halves(q, q_strides, query, head, valid, HALF)
        prepared1, prepared2 = _prepared(q1, q2, gain, cos, sin, eps, query, valid, HALF)
        queries = _joined(_rounded(prepared1, q1), _rounded(prepared2, q2))
    k, v = _base(k, k_strides, batch, cross, kv_head), _base(v, v_strides, batch, cross, kv_head)

    # The tensor cores sum the rounded weights: to add them directly they would be converted back, which is slow.
    # A converted constant, because the interpreter has no bfloat16 constants before Triton 3.9.
    unit = tl.full([BLOCK_N, 8], 1.0, tl.float32).to(k.dtype.element_ty)
    total = tl.zeros([BLOCK_M, 8], tl.float32)
    highest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    sums = tl.zeros([BLOCK_M, 2 * HALF], tl.float32)
    end = _end(length_k, filled)
    start, stop = _key_range(tile, length_q, length_k, end, window, GROUP, CAUSAL, BLOCK_M, BLOCK_N)
    clear_start, clear_stop = start, start
    if mask is None:
        clear_start, clear_stop = _clear_keys(
            tile, start, stop, length_q, length_k, window, public, GROUP, CAUSAL, BLOCK_M, BLOCK_N
        )
    for n in range(_loop_bound(clear_start), _loop_bound(clear_stop), BLOCK_N):
        key = n + tl.arange(0, BLOCK_N)
        keys, values = _vectors(k, k_strides, key, None, None, HALF), _vectors(v, v_strides, key, None, None, HALF)
        logit, _ = _logits(queries, keys, scale, softcap, 0.0, BOUNDED, True)
        total, sums, highest = _accumulated(logit, values, unit, total, sums, highest, BOUNDED)
    clear = clear_stop - clear_start
    for n in range(_loop_bound(start), _loop_bound(stop - clear), BLOCK_N):
        key = tl.where(n < clear_start, n, n + clear) + tl.arange(0, BLOCK_N)
        keys, values = (
            _vectors(k, k_strides, key, None, key < stop, HALF),
            _vectors(v, v_strides, key, None, key < stop, HALF),
        )
        logit, _ = _logits(queries, keys, scale, softcap, 0.0, BOUNDED, False)
        q_index, k_index, behind = query[:, None], key[None, :], position[:, None] - key[None, :]
        visible = _rule(q_index, k_index, behind, length_q, stop, window, public, mask, mask_strides, CAUSAL)
        logit = tl.where(visible, logit, float("-inf"))
        total, sums, highest = _accumulated(logit, values, unit, total, sums, highest, BOUNDED)

    # Rows beyond the last, which are not stored, may have no visible key.
    total = tl.where(valid, tl.max(total, 1), 1.0)
    result = sums * _reciprocal(total)[:, None]
    out = _base(out, out_strides, batch, cross, kv_head * GROUP)
    pointers = _pointers(out, out_strides, query, head, tl.arange(0, 2 * HALF))
    tl.store(pointers, _rounded(result, queries), mask=valid[:, None])
    maximum = 0.0 if BOUNDED else highest
    tl.store(lse + sequence.to(tl.int64) * rows + row, maximum + tl.log2(total), mask=valid)


@triton.jit
def attend_queries_backward(
    q, k, v, out, lse, d_out, d_q, prepared_q, delta, gain_sums, gain, cos, sin, mask, filled,
    q_strides, k_strides, v_strides, out_strides, d_out_strides, d_q_strides, mask_strides,
    cross_length, kv_heads, length_q, length_k, window, public, scale, softcap, eps,
    GROUP: tl.constexpr, HALF: tl.constexpr, CAUSAL: tl.constexpr, BOUNDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of the raw queries and of their gain, for one tile of rows of one sequence.

    Stores δ = Σ_d out ⊙ d_out and the prepared queries for `attend_keys_backward`, which would otherwise prepare
    every query again for every tile of keys: more work than to write and read it once.
    """
    rows = length_q * GROUP
    tile, sequence, batch, cross, kv_head = _sequence(tl.cdiv(rows, BLOCK_M), cross_length, kv_heads)
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    query, head, valid = row // GROUP, row % GROUP, row < rows
    position = query + (length_k - length_q)
    first_head = kv_head * GROUP
    q, out = _base(q, q_strides, batch, cross, first_head), _base(out, out_strides, batch, cross, first_head)
    d_out = _base(d_out, d_out_strides, batch, cross, first_head)
    k, v = _base(k, k_strides, batch, cross, kv_head), _base(v, v_strides, batch, cross, kv_head)
    if cos is None:
        queries = _vectors(q, q_strides, query, head, valid, HALF)
    else:
        q1, q2 = _halves(q, q_strides, query, head, valid, HALF)
        prepared1, prepared2 = _prepared(q1, q2, gain, cos, sin, eps, query, valid, HALF)
        q1, q2 = _rounded(prepared1, q1), _rounded(prepared2, q2)
        prepared_q = _base(prepared_q, d_q_strides, batch, cross, first_head)
        _store_halves(prepared_q, d_q_strides, query, head, valid, q1, q2, HALF)
        queries = _joined(q1, q2)
    d_result = _vectors(d_out, d_out_strides, query, head, valid, HALF)
    result = _vectors(out, out_strides, query, head, valid, HALF)
    inner = tl.sum(result.to(tl.float32) * d_result.to(tl.float32), 1)
    offset = sequence.to(tl.int64) * rows + row
    tl.store(delta + offset, inner, mask=valid)
    normaliser = tl.load(lse + offset, mask=valid, other=0.0)

    d_queries = tl.zeros([BLOCK_M, 2 * HALF], tl.float32)
    end = _end(length_k, filled)
    start, stop = _key_range(tile, length_q, length_k, end, window, GROUP, CAUSAL, BLOCK_M, BLOCK_N)
    clear_start, clear_stop = start, start
    if mask is None:
        clear_start, clear_stop = _clear_keys(
            tile, start, stop, length_q, length_k, window, public, GROUP, CAUSAL, BLOCK_M, BLOCK_N
        )
    for n in range(_loop_bound(clear_start), _loop_bound(clear_stop), BLOCK_N):
        key = n + tl.arange(0, BLOCK_N)
        keys, values = _vectors(k, k_strides, key, None, None, HALF), _vectors(v, v_strides, key, None, None, HALF)
        logit, tanh = _logits(queries, keys, scale, softcap, normaliser[:, None], BOUNDED, True)
        d_weight = _dot(d_result, tl.trans(values), None)
        d_logit = _rounded(_d_logit(tl.exp2(logit), d_weight - inner[:, None], tanh, softcap), keys)
        d_queries = _dot(d_logit, keys, d_queries)
    clear = clear_stop - clear_start
    for n in range(_loop_bound(start), _loop_bound(stop - clear), BLOCK_N):
        key = tl.where(n < clear_start, n, n + clear) + tl.arange(0, BLOCK_N)
        keys = _vectors(k, k_strides, key, None, key < stop, HALF)
        values = _vectors(v, v_strides, key, None, key < stop, HALF)
        logit, tanh = _logits(queries, keys, scale, softcap, normaliser[:, None], BOUNDED, False)
        q_index, k_index, behind = query[:, None], key[None, :], position[:, None] - key[None, :]
        visible = _rule(q_index, k_index, behind, length_q, stop, window, public, mask, mask_strides, CAUSAL)
        weight = tl.exp2(tl.where(visible, logit, float("-inf")))
        d_weight = _dot(d_result, tl.trans(values), None)
        d_logit = _rounded(_d_logit(weight, d_weight - inner[:, None], tanh, softcap), keys)
        d_queries = _dot(d_logit, keys, d_queries)

    d_q1, d_q2 = _split(d_queries * scale, HALF)
    raw1, raw2 = _halves(q, q_strides, query, head, valid, HALF)
    if cos is not None:
        program = tl.program_id(0)
        d_q1, d_q2 = _prepared_backward(
            d_q1, d_q2, raw1, raw2, gain, gain_sums, program, cos, sin, eps, query, valid, HALF
        )
    d_q1, d_q2 = _rounded(d_q1, raw1), _rounded(d_q2, raw2)
    d_q = _base(d_q, d_q_strides, batch, cross, first_head)
    _store_halves(d_q, d_q_strides, query, head, valid, d_q1, d_q2, HALF)


@triton.jit
def attend_keys_backward(
    q, k, v, lse, d_out, d_k, d_v, delta, mask, filled,
    q_strides, k_strides, v_strides, d_out_strides, d_k_strides, d_v_strides, mask_strides,
    cross_length, kv_heads, length_q, length_k, window, public, scale, softcap,
    GROUP: tl.constexpr, HALF: tl.constexpr, CAUSAL: tl.constexpr, BOUNDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of the prepared keys and of the values, for one tile of keys of one sequence; q is prepared."""
    rows = length_q * GROUP
    tile, sequence, batch, cross, kv_head = _sequence(tl.cdiv(length_k, BLOCK_N), cross_length, kv_heads)
    key = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    end = _end(length_k, filled)
    k, v = _base(k, k_strides, batch, cross, kv_head), _base(v, v_strides, batch, cross, kv_head)
    keys = _vectors(k, k_strides, key, None, key < end, HALF)
    values = _vectors(v, v_strides, key, None, key < end, HALF)
    first_head = kv_head * GROUP
    q, d_out = _base(q, q_strides, batch, cross, first_head), _base(d_out, d_out_strides, batch, cross, first_head)

    d_keys, d_values = tl.zeros([BLOCK_N, 2 * HALF], tl.float32), tl.zeros([BLOCK_N, 2 * HALF], tl.float32)
    last = tl.minimum((tile + 1) * BLOCK_N, length_k) - 1
    first, ahead = tile * BLOCK_N, length_k - length_q
    start, stop = _row_range(first, last, ahead, rows, window, GROUP, CAUSAL, BLOCK_M)
    clear_start, clear_stop = start, start
    if mask is None:
        clear_start, clear_stop = _clear_rows(
            first, last, start, stop, ahead, rows, end, window, public, GROUP, CAUSAL, BLOCK_M
        )
    statistics = sequence.to(tl.int64) * rows
    for m in range(_loop_bound(clear_start), _loop_bound(clear_stop), BLOCK_M):
        row = m + tl.arange(0, BLOCK_M)
        query, head = row // GROUP, row % GROUP
        queries = _vectors(q, q_strides, query, head, None, HALF)
        d_result = _vectors(d_out, d_out_strides, query, head, None, HALF)
        normaliser, inner = tl.load(lse + statistics + row), tl.load(delta + statistics + row)
        logit, tanh = _logits(keys, queries, scale, softcap, normaliser[None, :], BOUNDED, True)
        weight = tl.exp2(logit)
        d_values = _dot(_rounded(weight, d_result), d_result, d_values)
        d_weight = _dot(values, tl.trans(d_result), None)
        d_logit = _rounded(_d_logit(weight, d_weight - inner[None, :], tanh, softcap), queries)
        d_keys = _dot(d_logit, queries, d_keys)
    clear = clear_stop - clear_start
    for m in range(_loop_bound(start), _loop_bound(stop - clear), BLOCK_M):
        row = tl.where(m < clear_start, m, m + clear) + tl.arange(0, BLOCK_M)
        query, head, valid = row // GROUP, row % GROUP, row < rows
        queries = _vectors(q, q_strides, query, head, valid, HALF)
        d_result = _vectors(d_out, d_out_strides, query, head, valid, HALF)
        normaliser = tl.load(lse + statistics + row, mask=valid, other=0.0)
        inner = tl.load(delta + statistics + row, mask=valid, other=0.0)
        logit, tanh = _logits(keys, queries, scale, softcap, normaliser[None, :], BOUNDED, False)
        behind = (query + ahead)[None, :] - key[:, None]
        visible = _rule(query[None, :], key[:, None], behind, length_q, end, window, public, mask, mask_strides, CAUSAL)
        weight = tl.exp2(tl.where(visible, logit, float("-inf")))
        d_values = _dot(_rounded(weight, d_result), d_result, d_values)
        d_weight = _dot(values, tl.trans(d_result), None)
        d_logit = _rounded(_d_logit(weight, d_weight - inner[None, :], tanh, softcap), queries)
        d_keys = _dot(d_logit, queries, d_keys)

    valid_key = (key < length_k)[:, None]
    d_k, d_v = _base(d_k, d_k_strides, batch, cross, kv_head), _base(d_v, d_v_strides, batch, cross, kv_head)
    channel = tl.arange(0, 2 * HALF)
    tl.store(_pointers(d_k, d_k_strides, key, None, channel), _rounded(d_keys * scale, keys), mask=valid_key)
    tl.store(_pointers(d_v, d_v_strides, key, None, channel), _rounded(d_values, values), mask=valid_key)


@triton.jit
def prepare_keys(
    k, out, gain, cos, sin, k_strides, out_strides, cross_length, heads, length, eps,
    HALF: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Norm and rotation of one tile of keys."""
    tile, _, batch, cross, head = _sequence(tl.cdiv(length, BLOCK_N), cross_length, heads)
    key = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    valid = key < length
    k1, k2 = _halves(_base(k, k_strides, batch, cross, head), k_strides, key, None, valid, HALF)
    prepared1, prepared2 = _prepared(k1, k2, gain, cos, sin, eps, key, valid, HALF)
    prepared1, prepared2 = _rounded(prepared1, k1), _rounded(prepared2, k2)
    out = _base(out, out_strides, batch, cross, head)
    _store_halves(out, out_strides, key, None, valid, prepared1, prepared2, HALF)


@triton.jit
def prepare_keys_backward(
    d_out, k, d_k, gain_sums, gain, cos, sin, d_out_strides, k_strides, d_k_strides, cross_length, heads, length, eps,
    HALF: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradient of one tile of raw keys, and their contribution to the gain's."""
    tile, _, batch, cross, head = _sequence(tl.cdiv(length, BLOCK_N), cross_length, heads)
    key = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    valid = key < length
    k1, k2 = _halves(_base(k, k_strides, batch, cross, head), k_strides, key, None, valid, HALF)
    d1, d2 = _halves(_base(d_out, d_out_strides, batch, cross, head), d_out_strides, key, None, valid, HALF)
    d1, d2 = d1.to(tl.float32), d2.to(tl.float32)
    program = tl.program_id(0)
    d1, d2 = _prepared_backward(d1, d2, k1, k2, gain, gain_sums, program, cos, sin, eps, key, valid, HALF)
    d_k = _base(d_k, d_k_strides, batch, cross, head)
    _store_halves(d_k, d_k_strides, key, None, valid, _rounded(d1, k1), _rounded(d2, k2), HALF)


@triton.jit
def write_keys(
    k, v, keys, values, frames, gain, cos, sin, k_strides, v_strides, keys_strides, values_strides,
    slots, heads, tokens, eps,
    HALF: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Norm and rotation of one frame's keys, and its values as they are, into slot frames mod C of two rings.

    Here i counts the tokens of the frame, which share one angle, and c the frames: 0 in k and v, the slot in a ring.
    """
    tile, _, batch, frame, head = _sequence(tl.cdiv(tokens, BLOCK_N), 1, heads)
    token = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    valid = token < tokens
    slot = tl.load(frames).to(tl.int64) % slots
    k1, k2 = _halves(_base(k, k_strides, batch, frame, head), k_strides, token, None, valid, HALF)
    prepared1, prepared2 = _prepared(k1, k2, gain, cos, sin, eps, token * 0, valid, HALF)
    prepared1, prepared2 = _rounded(prepared1, k1), _rounded(prepared2, k2)
    keys, values = _base(keys, keys_strides, batch, slot, head), _base(values, values_strides, batch, slot, head)
    _store_halves(keys, keys_strides, token, None, valid, prepared1, prepared2, HALF)
    v1, v2 = _halves(_base(v, v_strides, batch, frame, head), v_strides, token, None, valid, HALF)
    _store_halves(values, values_strides, token, None, valid, v1, v2, HALF)
