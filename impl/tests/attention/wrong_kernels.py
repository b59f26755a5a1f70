"""Wrong kernels: the source with one mistake each, and the check that must reject it.

The text to be replaced must occur in the source exactly as often as stated here, so that no mutation becomes stale
unnoticed.

Not covered: a row's sum of weights that were not rounded (its error is within one rounding of the result), races and
asynchronous reads (for compute-sanitizer and repeats on a GPU), and mistakes that are only slow, such as superfluous
tiles.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from dreamer4_impl.attention.triton import operators


class Mutation(NamedTuple):
    """Replace `old` by `new`, which occurs `count` times, and `also` everywhere; the check `rejected_by` must fail."""

    mistake: str
    old: str
    new: str
    rejected_by: str = "float32 space"
    count: int = 1
    also: tuple[str, str] | None = None


#: The capped logit and its tanh, where the cap bounds the logits.
CAPPED = "return sigmoid * (2 * softcap * LOG2_E) - (softcap * LOG2_E + shift), 2 * sigmoid - 1"
POWER = "sigmoid = _sigmoid(product * (-2 * LOG2_E * scale / softcap), CLEAR)"

CAP = {
    "cap-dropped": Mutation(
        "the logit is not capped", CAPPED, "return product * (scale * LOG2_E) - shift, 2 * sigmoid - 1"
    ),
    "cap-before-scale": Mutation(
        "c tanh(q·k / c), then the scale",
        f"{POWER}\n        {CAPPED}",
        "sigmoid = _sigmoid(product * (-2 * LOG2_E / softcap), CLEAR)\n"
        "        return (2 * sigmoid - 1) * (softcap * scale * LOG2_E) - shift, 2 * sigmoid - 1",
    ),
    "cap-times-its-argument": Mutation(
        "(s/c) tanh(s/c): even, and without the c",
        CAPPED,
        "return product * (scale / softcap) * (2 * sigmoid - 1) * LOG2_E - shift, 2 * sigmoid - 1",
    ),
    "cap-without-its-outer-factor": Mutation(
        "tanh(s/c)", CAPPED, "return sigmoid * (2 * LOG2_E) - (LOG2_E + shift), 2 * sigmoid - 1"
    ),
    "cap-even": Mutation("tanh |s/c|", POWER, POWER.replace("product", "tl.abs(product)")),
    "cap-coarse": Mutation(
        "tanh to 11 bits, as the hardware's",
        "2 * softcap * LOG2_E) - (softcap",
        "2.00049 * softcap * LOG2_E) - (softcap",
    ),
    "cap-cancels-near-zero": Mutation(
        "tanh is the difference of two numbers near 1, however large the cap is",
        "tl.where(square < 0.02, series",
        "tl.where(square < 0.0, series",
        "cap far away",
    ),
    "cap-by-its-series": Mutation(
        "the series of tanh is used where it does not converge",
        "tl.where(square < 0.02, series",
        "tl.where(square < 2.0, series",
        "float32 far cap",
    ),
    "cap-of-a-pair-overflows": Mutation(
        "the product of two denominators is infinite, and its reciprocal 0",
        "tl.minimum(power, 46.0)",
        "tl.minimum(power, 127.0)",
        "distant neighbours",
    ),
    "cap-of-a-pair-without-end": Mutation(
        "a denominator is infinite, and its neighbour 0 · ∞", "tl.minimum(power, 46.0)", "power", "distant neighbours"
    ),
    "cap-of-a-pair-swapped": Mutation(
        "two neighbours have each other's reciprocal",
        "tl.join(inverse * b, inverse * a)",
        "tl.join(inverse * a, inverse * b)",
    ),
    "cap-of-a-pair-of-hidden-keys": Mutation(
        "a hidden key changes the rounding of its neighbour",
        "_pair_reciprocals(denominator) if CLEAR else _reciprocal(denominator)",
        "_pair_reciprocals(denominator)",
        "hidden past",
    ),
    "natural-exponent": Mutation("2^s for e^s", CAPPED, CAPPED.replace(" * LOG2_E", "")),
    "natural-exponent-without-cap": Mutation(
        "2^s for e^s",
        "return product * (scale * LOG2_E) - shift, 0.0",
        "return product * scale - shift, 0.0",
        "float32 without cap and gains",
    ),
}
CLEAR = {
    "clear-keys-beyond-the-first-query": Mutation(
        "the last key of a clear tile is later than the first query",
        "clear_stop = tl.minimum(clear_stop, first + behind + 1)",
        "clear_stop = tl.minimum(clear_stop, first + behind + 2)",
        "clear keys, causal",
    ),
    "clear-keys-before-the-window": Mutation(
        "the first key of a clear tile is hidden from the last query",
        "clear_start = tl.maximum(clear_start, last + behind - window + 1)",
        "clear_start = tl.maximum(clear_start, last + behind - window)",
        "clear keys, window",
    ),
    "clear-keys-private": Mutation(
        "the last key of a clear tile is private",
        "clear_stop = tl.minimum(clear_stop, public)",
        "clear_stop = tl.minimum(clear_stop, public + 1)",
        "clear keys, private",
    ),
    "clear-keys-empty": Mutation(
        "the last key of a clear tile holds no data",
        "clear_start, clear_stop = start, stop\n",
        "clear_start, clear_stop = start, stop + 1\n",
        "clear slots",
    ),
    "clear-keys-of-part-of-a-tile": Mutation(
        "a clear tile ends beyond the last key",
        "clear_stop // BLOCK_N * BLOCK_N",
        "tl.cdiv(clear_stop, BLOCK_N) * BLOCK_N",
    ),
    "clear-rows-before-the-last-key": Mutation(
        "the first query of a clear tile is earlier than the last key",
        "clear_start = tl.maximum(clear_start, (last - behind) * GROUP)",
        "clear_start = tl.maximum(clear_start, (last - behind - 1) * GROUP)",
        "clear rows, causal",
    ),
    "clear-rows-beyond-the-window": Mutation(
        "the last query of a clear tile does not see the first key",
        "clear_stop = tl.minimum(clear_stop, (first + window - behind) * GROUP)",
        "clear_stop = tl.minimum(clear_stop, (first + window - behind + 1) * GROUP)",
        "clear rows, window",
    ),
    "clear-rows-private": Mutation(
        "the last key is private",
        "clear_stop = tl.where(last < public, clear_stop, start)",
        "clear_stop = tl.where(last <= public, clear_stop, start)",
        "clear keys, private",
    ),
    "clear-rows-of-part-of-a-tile": Mutation(
        "a clear tile ends beyond the last row",
        "clear_stop // BLOCK_M * BLOCK_M",
        "tl.cdiv(clear_stop, BLOCK_M) * BLOCK_M",
        "storage space",
    ),
    "clear-despite-a-mask": Mutation(
        "the mask is ignored in clear tiles", "if mask is None:", "if True:", "float32 masked", 3
    ),
    "clear-keys-twice": Mutation(
        "clear tiles are in the other loop too",
        "range(_loop_bound(start), _loop_bound(stop - clear), BLOCK_N)",
        "range(_loop_bound(start), _loop_bound(stop), BLOCK_N)",
        count=2,
        also=("tl.where(n < clear_start, n, n + clear)", "n"),
    ),
    "clear-rows-twice": Mutation(
        "clear tiles are in the other loop too",
        "range(_loop_bound(start), _loop_bound(stop - clear), BLOCK_M)",
        "range(_loop_bound(start), _loop_bound(stop), BLOCK_M)",
        also=("tl.where(m < clear_start, m, m + clear)", "m"),
    ),
}
VISIBLE = {
    "window-plus-one": Mutation(
        "frames t − C … t", "visible & (behind < window)", "visible & (behind <= window)", "float32 time"
    ),
    "window-minus-one": Mutation(
        "frames t − C + 2 … t", "visible & (behind < window)", "visible & (behind < window - 1)", "window of all"
    ),
    "window-ignored": Mutation("all past frames", "visible & (behind < window)", "visible", "hidden past"),
    "window-skips-a-tile": Mutation(
        "the first tile of keys that reaches into the window is left out",
        "start = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N",
        "start = tl.cdiv(tl.maximum(first - window + 1, 0), BLOCK_N) * BLOCK_N",
        "float32 time",
    ),
    "causal-strict": Mutation(
        "each frame is hidden from itself",
        "visible = visible & (behind >= 0)",
        "visible = visible & (behind > 0)",
        "float32 time",
    ),
    "causal-off": Mutation(
        "later frames are visible", "visible = visible & (behind >= 0)", "visible = visible", "hidden future"
    ),
    "causal-last-key": Mutation(
        "the last key of the last query of a tile is left out",
        "stop = tl.minimum(end, last + 1)",
        "stop = tl.minimum(end, last)",
        "float32 time",
    ),
    "queries-are-the-first": Mutation(
        "fewer queries than keys stand at the first positions",
        "position = query + (length_k - length_q)",
        "position = query",
        "float32 last queries",
        count=2,
    ),
    "queries-are-the-first-for-dk": Mutation(
        "the same in the gradient of keys and values alone",
        "behind = (query + ahead)[None, :] - key[:, None]",
        "behind = query[None, :] - key[:, None]",
        "float32 last queries",
    ),
    "rows-of-dk-without-offset": Mutation(
        "the first row of a tile of keys is computed as if there were as many queries as keys",
        "start = tl.maximum(first - behind, 0) * GROUP",
        "start = first * GROUP",
        "float32 last queries",
    ),
    "rows-of-dk-without-window": Mutation(
        "the last row of a tile of keys is that of its last key",
        "(last + window - behind) * GROUP",
        "(last + 1 - behind) * GROUP",
        "float32 time",
    ),
    "private-plus-one": Mutation(
        "the first private key is visible to all", "(key < public)", "(key <= public)", "hidden private"
    ),
    "private-minus-one": Mutation("the last public key is private", "(key < public)", "(key < public - 1)"),
    "private-ignored": Mutation(
        "private keys are visible to all",
        "visible = visible & ((key < public) | (behind + key >= public))",
        "visible = visible",
        "hidden private",
    ),
    "private-first-query": Mutation(
        "the first private query is public", "(behind + key >= public)", "(behind + key > public)"
    ),
    "private-from-all": Mutation(
        "private keys are visible to none", "((key < public) | (behind + key >= public))", "(key < public)"
    ),
    "filled-plus-one": Mutation(
        "the first empty slot is read",
        "tl.load(filled).to(tl.int32))",
        "tl.load(filled).to(tl.int32) + 1)",
        "hidden slots",
    ),
    "filled-minus-one": Mutation(
        "the last filled slot is not read",
        "tl.load(filled).to(tl.int32))",
        "tl.load(filled).to(tl.int32) - 1)",
        "float32 one frame",
    ),
    "filled-ignored": Mutation(
        "empty slots are read", "length_k if filled is None else", "length_k if True else", "decoding"
    ),
    "mask-transposed": Mutation(
        "mask[key, query]",
        "mask + query * mask_strides[0] + key * mask_strides[1]",
        "mask + query * mask_strides[1] + key * mask_strides[0]",
        "float32 masked",
    ),
    "mask-inverted": Mutation("True hides", "other=0) != 0)", "other=0) == 0)", "float32 masked"),
    "hidden-keys-not-quite": Mutation(
        "hidden keys have a weight of 2⁻⁵⁰",
        'logit = tl.where(visible, logit, float("-inf"))',
        "logit = tl.where(visible, logit, logit - 50)",
        "hidden private",
    ),
    "tail-of-keys-visible": Mutation(
        "keys beyond the last are zeros with a weight",
        "visible = (query < length_q) & (key < end)",
        "visible = query < length_q",
        "float32 wide",
    ),
}
HEADS = {
    "heads-interleaved": Mutation(
        "query head h reads key/value head h mod Hkv",
        "kv_head * GROUP",
        "kv_head",
        "repeated heads",
        count=4,
        also=("row // GROUP, row % GROUP, row < rows", "row // GROUP, row % GROUP * kv_heads, row < rows"),
    ),
    "first-head-for-all": Mutation(
        "all queries read key/value head 0",
        "_base(k, k_strides, batch, cross, kv_head)",
        "_base(k, k_strides, batch, cross, kv_head * 0)",
        count=3,
    ),
    "last-head-of-the-group-for-dk": Mutation(
        "dk and dv of a group are those of its last head",
        "d_weight = _dot(values, tl.trans(d_result), None)",
        "weight = tl.where((row % GROUP == GROUP - 1)[None, :], weight, 0.0)\n"
        "        d_weight = _dot(values, tl.trans(d_result), None)",
        count=2,
    ),
    "last-head-of-the-group-for-dv": Mutation(
        "dv of a group is that of its last head",
        "d_values = _dot(_rounded(weight, d_result), d_result, d_values)",
        "last_head = (row % GROUP == GROUP - 1)[None, :]\n"
        "        d_values = _dot(_rounded(tl.where(last_head, weight, 0.0), d_result), d_result, d_values)",
        count=2,
    ),
}
PREPARATION = {
    "rope-off-by-one": Mutation(
        "the angles of the position before",
        "offset = position[:, None] * HALF",
        "offset = tl.maximum(position - 1, 0)[:, None] * HALF",
    ),
    "rope-at-zero": Mutation(
        "the angles of the first position", "offset = position[:, None] * HALF", "offset = position[:, None] * 0"
    ),
    "rope-interleaved": Mutation(
        "channels 2i and 2i + 1 form a pair",
        "first = _pointers(base, strides, along, head, tl.arange(0, HALF))\n    second = first + HALF * strides[4]",
        "first = _pointers(base, strides, along, head, 2 * tl.arange(0, HALF))\n    second = first + strides[4]",
    ),
    "rope-inverse": Mutation(
        "by −θ", "return x1 * c - x2 * s, x1 * s + x2 * c", "return x1 * c + x2 * s, x2 * c - x1 * s"
    ),
    "rope-not-undone": Mutation(
        "the gradient is rotated forward, not back",
        "d1, d2 = d1 * c + d2 * s, d2 * c - d1 * s",
        "d1, d2 = d1 * c - d2 * s, d2 * c + d1 * s",
    ),
    "norm-of-half-a-head": Mutation(
        "the mean is that over D/2", "tl.sum(x2 * x2, 1)) / (2 * HALF)", "tl.sum(x2 * x2, 1)) / HALF"
    ),
    "norm-of-the-first-half": Mutation(
        "the mean square of the first half",
        "(tl.sum(x1 * x1, 1) + tl.sum(x2 * x2, 1)) / (2 * HALF)",
        "tl.sum(x1 * x1, 1) / HALF",
    ),
    "norm-over-all-heads": Mutation(
        "one norm for all rows of a tile",
        "return tl.div_rn(1.0, tl.sqrt_rn(mean_square + eps))[:, None]",
        "mean_square = mean_square * 0 + tl.sum(mean_square, 0) / mean_square.shape[0]\n"
        "    return tl.div_rn(1.0, tl.sqrt_rn(mean_square + eps))[:, None]",
    ),
    "eps-outside": Mutation("√ms + ε", "tl.sqrt_rn(mean_square + eps)", "(tl.sqrt_rn(mean_square) + eps)"),
    "eps-missing": Mutation("√ms", "tl.sqrt_rn(mean_square + eps)", "tl.sqrt_rn(mean_square)"),
    "gain-missing": Mutation("g = 1", "x1, x2 = x1 * gain1, x2 * gain2", "x1, x2 = x1 + 0 * gain1, x2 + 0 * gain2"),
    "gain-of-the-first-half": Mutation(
        "both halves have the first half's", "tl.load(gain + HALF + channel)", "tl.load(gain + channel)"
    ),
    "gain-missing-backward": Mutation(
        "the gradient of the raw vectors lacks g",
        "d1, d2 = d1 * gain1, d2 * gain2",
        "d1, d2 = d1 + 0 * gain1, d2 + 0 * gain2",
    ),
    "gain-gradient-of-raw-vectors": Mutation(
        "dg of the second half uses the vectors of the first", "d2 * x2, 0.0), 0)", "d2 * x1, 0.0), 0)"
    ),
    "gain-gradient-in-one-row": Mutation(
        "all programs store their sums in one row",
        "gain_sums + program.to(tl.int64) * (2 * HALF)",
        "gain_sums + program.to(tl.int64) * 0",
    ),
    "gain-gradient-added-to-initial-values": Mutation(
        "the sums of a program are added to an uninitialised buffer",
        "tl.store(sums, tl.sum(tl.where(valid[:, None], d1 * x1, 0.0), 0))",
        "tl.store(sums, tl.load(sums) + tl.sum(tl.where(valid[:, None], d1 * x1, 0.0), 0))",
        "same bits",
    ),
    "norm-not-differentiated": Mutation(
        "the gradient keeps its component along the vector",
        "return (d1 - x1 * along) * inverse_rms, (d2 - x2 * along) * inverse_rms",
        "return d1 * inverse_rms, d2 * inverse_rms",
    ),
    "norm-not-scaled-backward": Mutation(
        "the gradient is not divided by the norm",
        "return (d1 - x1 * along) * inverse_rms, (d2 - x2 * along) * inverse_rms",
        "return d1 - x1 * along, d2 - x2 * along",
    ),
    "ring-slot-plus-one": Mutation(
        "frame t lies in slot t + 1",
        "tl.load(frames).to(tl.int64) % slots",
        "(tl.load(frames).to(tl.int64) + 1) % slots",
        "decoding",
    ),
    "ring-without-end": Mutation(
        "a full ring keeps its first frames",
        "tl.load(frames).to(tl.int64) % slots",
        "tl.minimum(tl.load(frames).to(tl.int64), slots - 1)",
        "decoding",
    ),
    "ring-without-values": Mutation(
        "only the keys are written",
        "_store_halves(values, values_strides, token, None, valid, v1, v2, HALF)",
        "pass",
        "decoding",
    ),
    "ring-keys-raw": Mutation(
        "keys are written without preparation",
        "_store_halves(keys, keys_strides, token, None, valid, prepared1, prepared2, HALF)",
        "_store_halves(keys, keys_strides, token, None, valid, k1, k2, HALF)",
        "decoding",
    ),
}
SOFTMAX = {
    "no-maximum": Mutation(
        "logits are exponentiated as they are, with or without a cap",
        "higher = tl.maximum(highest, tl.max(logit, 1))",
        "higher = tl.zeros_like(highest)",
        "large logits",
    ),
    "no-maximum-below-any-cap": Mutation(
        "a large cap is treated like a small one",
        "LARGEST_BOUND = tl.constexpr(64.0)",
        "LARGEST_BOUND = tl.constexpr(1e9)",
        "large negative logits",
    ),
    "no-maximum-beyond-float32": Mutation(
        "so is a cap whose e^c is too large to be summed",
        "LARGEST_BOUND = tl.constexpr(64.0)",
        "LARGEST_BOUND = tl.constexpr(89.0)",
        "logits beyond a large cap",
    ),
    "sums-not-decayed": Mutation(
        "a higher maximum leaves the weighted sum as it was",
        "sums * decay[:, None], higher",
        "sums, higher",
        "float32 without cap and gains",
    ),
    "total-not-decayed": Mutation(
        "a higher maximum leaves the row's sum as it was",
        "total, sums, highest = total * decay[:, None],",
        "total, sums, highest = total,",
        "float32 without cap and gains",
    ),
    "lse-natural": Mutation("ln for log₂", "maximum + tl.log2(total)", "maximum + tl.log(total)"),
    "lse-without-maximum": Mutation(
        "the maximum is not added",
        "0.0 if BOUNDED else highest",
        "tl.zeros_like(highest)",
        "float32 without cap and gains",
    ),
    "not-normalised": Mutation(
        "the weighted sum is not divided", "result = sums * _reciprocal(total)[:, None]", "result = sums"
    ),
}
BACKWARD = {
    "slope-missing-in-dq": Mutation(
        "(1 − tanh²) is left out", "inner[:, None], tanh, softcap)", "inner[:, None], tanh, None)", count=2
    ),
    "slope-missing-in-dk": Mutation(
        "(1 − tanh²) is left out", "inner[None, :], tanh, softcap)", "inner[None, :], tanh, None)", count=2
    ),
    "slope-linear": Mutation("1 − |tanh|", "d_logit * (1 - tanh * tanh)", "d_logit * (1 - tl.abs(tanh))"),
    "delta-missing-in-dq": Mutation(
        "softmax is differentiated like exp", "d_weight - inner[:, None]", "d_weight", count=2
    ),
    "delta-missing-in-dk": Mutation(
        "softmax is differentiated like exp", "d_weight - inner[None, :]", "d_weight", count=2
    ),
    "delta-of-the-gradient": Mutation(
        "Σ d_out²", "tl.sum(result.to(tl.float32) * d_result", "tl.sum(d_result.to(tl.float32) * d_result"
    ),
    "scale-missing-in-dq": Mutation(
        "dq is that of the scaled logits' queries", "_split(d_queries * scale, HALF)", "_split(d_queries, HALF)"
    ),
    "scale-missing-in-dk": Mutation(
        "dk is that of the scaled logits' keys", "_rounded(d_keys * scale, keys)", "_rounded(d_keys, keys)"
    ),
    "dv-of-unnormalised-weights": Mutation(
        "dv uses 2^logit",
        "d_values = _dot(_rounded(weight, d_result), d_result, d_values)",
        "d_values = _dot(_rounded(weight * tl.exp2(normaliser)[None, :], d_result), d_result, d_values)",
        count=2,
    ),
}
ROUNDING = {
    "logits-rounded": Mutation(
        "logits are rounded before the exponential",
        CAPPED,
        "logit = sigmoid * (2 * softcap * LOG2_E) - (softcap * LOG2_E + shift)\n"
        "        return _rounded(logit, a).to(tl.float32), 2 * sigmoid - 1",
        "bfloat16 space",
    ),
    "lse-rounded": Mutation(
        "the backward pass reads a rounded lse",
        "maximum + tl.log2(total)",
        "_rounded(maximum + tl.log2(total), queries).to(tl.float32)",
        "bfloat16 space",
    ),
    "queries-in-bfloat16": Mutation(
        "the norm of float32 goes through bfloat16",
        "x1, x2 = x1 * gain1, x2 * gain2",
        "x1, x2 = (x1 * gain1).to(tl.bfloat16).to(tl.float32), (x2 * gain2).to(tl.bfloat16).to(tl.float32)",
    ),
}
STORAGE = {
    "tail-of-out-written": Mutation(
        "rows beyond the last are stored",
        "tl.store(pointers, _rounded(result, queries), mask=valid[:, None])",
        "tl.store(pointers, _rounded(result, queries))",
        "storage space",
    ),
    "tail-of-dv-written": Mutation(
        "keys beyond the last are stored",
        "_rounded(d_values, values), mask=valid_key)",
        "_rounded(d_values, values))",
        "storage time",
    ),
    "tail-read": Mutation(
        "rows beyond the last are read",
        "tl.load(pointers) if valid is None else",
        "tl.load(pointers) if True else",
        "storage time",
    ),
    "d-out-with-strides-of-out": Mutation(
        "the gradient is read by the strides of the output",
        "_vectors(d_out, d_out_strides, query, head, valid, HALF)\n    result",
        "_vectors(d_out, out_strides, query, head, valid, HALF)\n    result",
        "storage time",
    ),
}
MUTATIONS = CAP | CLEAR | VISIBLE | HEADS | PREPARATION | SOFTMAX | BACKWARD | ROUNDING | STORAGE


def mutated(mutation: Mutation, source: str) -> str:
    """Source with one mistake; raises ValueError if the text to be replaced is not there."""
    count = source.count(mutation.old)
    if count != mutation.count:
        raise ValueError(f"expected {mutation.count} times, found {count} times: {mutation.old!r}")
    source = source.replace(mutation.old, mutation.new)
    if mutation.also is None:
        return source
    if mutation.also[0] not in source:
        raise ValueError(f"not found: {mutation.also[0]!r}")
    return source.replace(*mutation.also)


@contextmanager
def launching(source: str, folder: Path, name: str = "kernels") -> Iterator[None]:
    """Make the backend "triton" launch the kernels of this source, which Triton needs in a file."""
    path = folder / f"{name}.py"
    path.write_text(source)
    with mock.patch.object(operators, "kernels", _imported(path)):
        yield


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
