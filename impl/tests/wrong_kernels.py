"""Wrong kernels, each the real source but for one mistake, with the check that must reject it.

The text to be replaced occurs in the source exactly as often as is said here, so that none goes stale in silence.

Out of reach are: a row's sum of weights that were not rounded (its error lies within one rounding of the result), races
and asynchronous reads (for compute-sanitizer and repeats on a GPU), and what is merely slow: tiles that are visited for nothing.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from dreamer4_impl.attention.triton import operators as triton_attention


class Mutation(NamedTuple):
    """`old` becomes `new` at all its `count` places, with `also` everywhere; the check `rejected_by` must see it."""

    what: str
    old: str
    new: str
    rejected_by: str = "float32 space"
    count: int = 1
    also: tuple[str, str] | None = None


#: The bodies of the two kernels that a gradient passes through, told apart by what follows.
SLOPE = "        if softcap is not None:\n            d_logit = d_logit * (1 - tanh * tanh)\n        d_logit = _rounded(d_logit, {like})"
NO_SLOPE = "        d_logit = _rounded(d_logit, {like})"

CAP = {
    "cap-dropped": Mutation(
        "the capped logit is not used", "logit = tanh * (softcap * LOG2_E)", "logit = product * (scale * LOG2_E)"
    ),
    "cap-before-scale": Mutation(
        "c tanh(q·k / c), then the scale",
        "tanh = _tanh(product * (scale / softcap), BOUNDED)\n        logit = tanh * (softcap * LOG2_E)",
        "tanh = _tanh(product / softcap, BOUNDED)\n        logit = tanh * (softcap * scale * LOG2_E)",
    ),
    "cap-times-its-argument": Mutation(
        "(s/c) tanh(s/c): even, and without the c",
        "logit = tanh * (softcap * LOG2_E)",
        "logit = product * (scale / softcap) * tanh * LOG2_E",
    ),
    "cap-without-its-outer-factor": Mutation("tanh(s/c)", "logit = tanh * (softcap * LOG2_E)", "logit = tanh * LOG2_E"),
    "cap-even": Mutation(
        "tanh |s/c|",
        "tanh = (1 - power) * _reciprocal(1 + power)",
        "tanh = tl.abs((1 - power) * _reciprocal(1 + power))",
    ),
    "cap-coarse": Mutation(
        "tanh to 11 bits, as the hardware's",
        "tanh = (1 - power) * _reciprocal(1 + power)",
        "tanh = (1 - power) * _reciprocal(1 + power) * 1.00049",
    ),
    "cap-cancels-near-zero": Mutation(
        "tanh is the difference of two numbers near 1, however far the cap is away",
        "if not BOUNDED:\n        square",
        "if False:\n        square",
        "cap far away",
    ),
    "cap-by-its-series": Mutation(
        "the series of tanh is used where it does not converge",
        "tl.where(square < 0.02, series, tanh)",
        "tl.where(square < 2.0, series, tanh)",
        "float32 far cap",
    ),
    "natural-exponent": Mutation("2^s for e^s", "logit = tanh * (softcap * LOG2_E)", "logit = tanh * softcap"),
    "natural-exponent-without-cap": Mutation(
        "2^s for e^s",
        "logit, tanh = product * (scale * LOG2_E), 0.0",
        "logit, tanh = product * scale, 0.0",
        "float32 without cap and gains",
    ),
}
SEEN = {
    "window-plus-one": Mutation(
        "frames t − C … t", "seen & (behind < window)", "seen & (behind <= window)", "float32 time"
    ),
    "window-minus-one": Mutation(
        "frames t − C + 2 … t", "seen & (behind < window)", "seen & (behind < window - 1)", "window of all"
    ),
    "window-ignored": Mutation("all past frames", "seen & (behind < window)", "seen", "hidden past"),
    "window-skips-a-tile": Mutation(
        "the first tile of keys that has one within the window is left out",
        "start = tl.maximum(first - window + 1, 0) // BLOCK_N * BLOCK_N",
        "start = tl.cdiv(tl.maximum(first - window + 1, 0), BLOCK_N) * BLOCK_N",
        "float32 time",
    ),
    "causal-strict": Mutation(
        "no frame sees itself", "seen = seen & (behind >= 0)", "seen = seen & (behind > 0)", "float32 time"
    ),
    "causal-off": Mutation("the future is seen", "seen = seen & (behind >= 0)", "seen = seen", "hidden future"),
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
        "behind = (query + (length_k - length_q))[None, :] - key[:, None]",
        "behind = query[None, :] - key[:, None]",
        "float32 last queries",
    ),
    "rows-of-dk-without-offset": Mutation(
        "the first row that sees a tile of keys is sought as if queries and keys were as many",
        "start = tl.maximum(first - behind, 0) * GROUP",
        "start = first * GROUP",
        "float32 last queries",
    ),
    "rows-of-dk-without-window": Mutation(
        "the last row that sees a tile of keys is that of its last key",
        "(last + window - behind) * GROUP",
        "(last + 1 - behind) * GROUP",
        "float32 time",
    ),
    "private-plus-one": Mutation(
        "the first private key is seen by all", "(key < public)", "(key <= public)", "hidden private"
    ),
    "private-minus-one": Mutation("the last public key is private", "(key < public)", "(key < public - 1)"),
    "private-ignored": Mutation(
        "private keys are seen by all",
        "seen = seen & ((key < public) | (behind + key >= public))",
        "seen = seen",
        "hidden private",
    ),
    "private-first-query": Mutation(
        "the first private query is public", "(behind + key >= public)", "(behind + key > public)"
    ),
    "private-from-all": Mutation(
        "private keys are seen by none", "((key < public) | (behind + key >= public))", "(key < public)"
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
    "hidden-but-not-quite": Mutation(
        "what is hidden keeps a weight of 2⁻⁵⁰",
        'logit = tl.where(seen, logit, float("-inf"))',
        "logit = tl.where(seen, logit, logit - 50)",
        "hidden private",
    ),
    "tail-of-keys-seen": Mutation(
        "keys beyond the last are zeros that take a share",
        "seen = (query < length_q) & (key < end)",
        "seen = query < length_q",
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
        "_place(k, k_strides, batch, other, kv_head)",
        "_place(k, k_strides, batch, other, kv_head * 0)",
        count=3,
    ),
    "last-head-of-the-group-for-dk": Mutation(
        "dk and dv of a group are those of its last head",
        "d_weight = _dot(values, tl.trans(d_result), None)",
        "weight = tl.where((row % GROUP == GROUP - 1)[None, :], weight, 0.0)\n"
        "        d_weight = _dot(values, tl.trans(d_result), None)",
    ),
    "last-head-of-the-group-for-dv": Mutation(
        "dv of a group is that of its last head",
        "d_values = _dot(_rounded(weight, d_result), d_result, d_values)",
        "last_head = (row % GROUP == GROUP - 1)[None, :]\n"
        "        d_values = _dot(_rounded(tl.where(last_head, weight, 0.0), d_result), d_result, d_values)",
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
        "first = _at(place, strides, along, head, tl.arange(0, HALF))\n    second = first + HALF * strides[4]",
        "first = _at(place, strides, along, head, 2 * tl.arange(0, HALF))\n    second = first + strides[4]",
    ),
    "rope-inverse": Mutation(
        "by −θ", "return x1 * c - x2 * s, x1 * s + x2 * c", "return x1 * c + x2 * s, x2 * c - x1 * s"
    ),
    "rope-not-undone": Mutation(
        "the gradient is turned on, not back",
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
        "dg takes the second half with the first's vectors", "d2 * x2, 0.0), 0)", "d2 * x1, 0.0), 0)"
    ),
    "gain-gradient-beside": Mutation(
        "all programs leave their sums in one place",
        "gain_sums + program.to(tl.int64) * (2 * HALF)",
        "gain_sums + program.to(tl.int64) * 0",
    ),
    "gain-gradient-added-to-what-was-there": Mutation(
        "the sums of a program are added to an empty buffer",
        "tl.store(sums, tl.sum(tl.where(valid[:, None], d1 * x1, 0.0), 0))",
        "tl.store(sums, tl.load(sums) + tl.sum(tl.where(valid[:, None], d1 * x1, 0.0), 0))",
        "same bits",
    ),
    "norm-not-differentiated": Mutation(
        "the gradient keeps its part along the vector",
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
        "_store_halves(values, values_strides, place, None, valid, v1, v2, HALF)",
        "pass",
        "decoding",
    ),
    "ring-keys-raw": Mutation(
        "keys are written as they come",
        "_store_halves(keys, keys_strides, place, None, valid, turned1, turned2, HALF)",
        "_store_halves(keys, keys_strides, place, None, valid, k1, k2, HALF)",
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
        "a large cap is trusted like a small one",
        "LARGEST_BOUND = tl.constexpr(64.0)",
        "LARGEST_BOUND = tl.constexpr(1e9)",
        "large negative logits",
    ),
    "no-maximum-beyond-float32": Mutation(
        "so is one whose e^c is too large to be summed",
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
    "lse-natural": Mutation("ln for log₂", "base + tl.log2(total)", "base + tl.log(total)"),
    "lse-without-maximum": Mutation(
        "the maximum is not added",
        "0.0 if BOUNDED else highest",
        "tl.zeros_like(highest)",
        "float32 without cap and gains",
    ),
    "not-normalised": Mutation("the weighted sum is not divided", "result = sums / total[:, None]", "result = sums"),
}
BACKWARD = {
    "slope-missing-in-dq": Mutation("(1 − tanh²) is left out", SLOPE.format(like="k1"), NO_SLOPE.format(like="k1")),
    "slope-missing-in-dk": Mutation("(1 − tanh²) is left out", SLOPE.format(like="q1"), NO_SLOPE.format(like="q1")),
    "slope-linear": Mutation("1 − |tanh|", "d_logit * (1 - tanh * tanh)", "d_logit * (1 - tl.abs(tanh))", count=2),
    "delta-missing-in-dq": Mutation("the softmax is taken for exp", "(d_weight - inner[:, None])", "d_weight"),
    "delta-missing-in-dk": Mutation("the softmax is taken for exp", "(d_weight - inner[None, :])", "d_weight"),
    "delta-of-the-gradient": Mutation(
        "Σ d_out²", "tl.sum(result.to(tl.float32) * d_result", "tl.sum(d_result.to(tl.float32) * d_result"
    ),
    "scale-missing-in-dq": Mutation(
        "dq is that of the scaled logits' queries", "d_q1, d_q2 = d_q1 * scale, d_q2 * scale", "pass"
    ),
    "scale-missing-in-dk": Mutation(
        "dk is that of the scaled logits' keys",
        "_rounded(d_k1 * scale, k1), _rounded(d_k2 * scale, k2)",
        "_rounded(d_k1, k1), _rounded(d_k2, k2)",
    ),
    "dv-of-unnormalised-weights": Mutation(
        "dv takes 2^logit",
        "d_values = _dot(_rounded(weight, d_result), d_result, d_values)",
        'd_values = _dot(_rounded(tl.exp2(tl.where(seen, logit, float("-inf"))), d_result), d_result, d_values)',
    ),
}
ROUNDING = {
    "logits-rounded": Mutation(
        "logits are rounded before the exponential",
        "logit = tanh * (softcap * LOG2_E)",
        "logit = _rounded(tanh * (softcap * LOG2_E), a1).to(tl.float32)",
        "bfloat16 space",
    ),
    "lse-rounded": Mutation(
        "the backward pass gets a rounded lse",
        "base + tl.log2(total)",
        "_rounded(base + tl.log2(total), q1).to(tl.float32)",
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
        "tl.store(pointers, _rounded(result, q1), mask=valid[:, None])",
        "tl.store(pointers, _rounded(result, q1))",
        "storage space",
    ),
    "tail-of-dv-written": Mutation(
        "keys beyond the last are stored",
        "tl.store(pointers, _rounded(d_values, values), mask=valid_key[:, None])",
        "tl.store(pointers, _rounded(d_values, values))",
        "storage time",
    ),
    "tail-read": Mutation(
        "rows beyond the last are read",
        "tl.load(first, mask=valid[:, None], other=0.0), tl.load(second, mask=valid[:, None], other=0.0)",
        "tl.load(first), tl.load(second)",
        "storage time",
    ),
    "d-out-as-out-lies": Mutation(
        "the gradient is read by the strides of the output",
        "_whole(d_out, d_out_strides, query, head, valid, HALF)\n    result",
        "_whole(d_out, out_strides, query, head, valid, HALF)\n    result",
        "storage time",
    ),
}
MUTATIONS = CAP | SEEN | HEADS | PREPARATION | SOFTMAX | BACKWARD | ROUNDING | STORAGE


def mutated(mutation: Mutation, source: str) -> str:
    """The source with one mistake, or a ValueError that says that it has moved on."""
    found = source.count(mutation.old)
    if found != mutation.count:
        raise ValueError(f"expected {mutation.count} times, found {found} times: {mutation.old!r}")
    source = source.replace(mutation.old, mutation.new)
    if mutation.also is None:
        return source
    if mutation.also[0] not in source:
        raise ValueError(f"not found: {mutation.also[0]!r}")
    return source.replace(*mutation.also)


@contextmanager
def launching(source: str, folder: Path, name: str = "kernels") -> Iterator[None]:
    """While it lasts, the backend "triton" launches the kernels of this source, which Triton needs on disk."""
    path = folder / f"{name}.py"
    path.write_text(source)
    with mock.patch.object(triton_attention, "kernels", _imported(path)):
        yield


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
