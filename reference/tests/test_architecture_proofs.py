"""Proofs that the checks of the architecture rely on: SymPy proves the formula, NumPy compares the code with it."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import sympy as sp

from dreamer4_reference.sec31_patch_dropout import drop_count_law
from dreamer4_reference.sec34_attention import (
    attention,
    attention_gradients,
    attention_mask,
    attention_weights,
    soft_cap,
)
from dreamer4_reference.sec34_layers import layer_shapes, residual_layer
from dreamer4_reference.sec34_norms import qk_norm, rms_norm
from dreamer4_reference.sec34_rope import Layout, rope, rope_angles

Array = np.ndarray
p, p_prime, theta = sp.symbols("p p' theta", real=True)
x, cap = sp.Symbol("x", real=True), sp.Symbol("c", positive=True)
capped = cap * sp.tanh(x / cap)


def turn(angle: sp.Expr) -> sp.Matrix:
    """Rotation of one pair of channels by RoPE."""
    return sp.Matrix([[sp.cos(angle), -sp.sin(angle)], [sp.sin(angle), sp.cos(angle)]])


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def random_layer(seed: int = 0) -> dict[str, Array]:
    shapes = layer_shapes(8, heads=4, kv_heads=2, head_width=4, mlp_width=6)
    return {name: draw(*shape, seed=seed + i) + (len(shape) == 1) for i, (name, shape) in enumerate(shapes.items())}


# RoPE


def test_a_score_depends_on_the_difference_of_positions_alone() -> None:
    # (R(p) q)ᵀ R(p') k = qᵀ R(p)ᵀ R(p') k for every q and k.
    between = turn(p * theta).T * turn(p_prime * theta)
    assert sp.simplify(between - turn((p_prime - p) * theta)) == sp.zeros(2)


def test_rotation_preserves_norms_and_is_inverted_by_its_opposite() -> None:
    assert sp.simplify(turn(p * theta).T * turn(p * theta)) == sp.eye(2)
    assert sp.simplify(turn(p * theta) * turn(-p * theta)) == sp.eye(2)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_code_rotates_each_pair_as_in_the_proof(layout: Layout) -> None:
    values, positions = draw(1, 4, 1, 6), np.array([0, 3, 17, -2])
    angles, turned = rope_angles(positions, 6), rope(values, positions, layout=layout)
    pairs = [(0, 3), (1, 4), (2, 5)] if layout == "half" else [(0, 1), (2, 3), (4, 5)]
    for row, pair in np.ndindex(4, 3):
        matrix = np.array(turn(sp.Float(angles[row, pair], 17)), dtype=np.float64)
        expected = matrix @ values[0, row, 0, pairs[pair]]
        np.testing.assert_allclose(turned[0, row, 0, pairs[pair]], expected, rtol=1e-12)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_shifting_all_positions_changes_no_score(layout: Layout) -> None:
    q, k, positions = draw(2, 5, 3, 8), draw(2, 5, 3, 8, seed=1), np.arange(5)

    def scores(offset: int) -> Array:
        turned = (rope(y, positions + offset, layout=layout) for y in (q, k))
        return np.einsum("bihd,bjhd->bhij", *turned)

    np.testing.assert_allclose(scores(0), scores(1000), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose((rope(q, positions, layout=layout) ** 2).sum(-1), (q**2).sum(-1), rtol=1e-12)


def test_rope_layouts_differ_by_a_permutation_of_channels_only() -> None:
    q, k, positions = draw(2, 5, 3, 8), draw(2, 5, 3, 8, seed=1), np.arange(5)
    order = np.arange(8).reshape(2, 4).T.ravel()
    half = [rope(y, positions) for y in (q, k)]
    interleaved = [rope(y[..., order], positions, layout="interleaved") for y in (q, k)]
    for one, other in zip(half, interleaved, strict=True):
        assert np.array_equal(one[..., order], other)
    np.testing.assert_allclose(
        np.einsum("bihd,bjhd->bhij", *half), np.einsum("bihd,bjhd->bhij", *interleaved), rtol=1e-12
    )


# Soft cap, QK-norm, grouped queries


def test_the_slope_of_the_cap_is_1_minus_the_square_of_its_output_over_c() -> None:
    slope = sp.diff(capped, x)
    assert sp.simplify(slope - (1 - (capped / cap) ** 2)) == 0
    assert slope.subs(x, 0) == 1


def test_cap_is_odd_and_bounded_and_tends_to_the_identity() -> None:
    assert sp.simplify(capped + capped.subs(x, -x)) == 0
    assert sp.limit(capped, x, sp.oo) == cap
    assert sp.limit(capped, cap, sp.oo) == x


def test_code_caps_as_in_the_proof() -> None:
    logits = np.linspace(-90, 90, 37)
    np.testing.assert_allclose(soft_cap(logits, 30.0), sp.lambdify(x, capped.subs(cap, 30.0))(logits), rtol=1e-14)


def test_normalised_queries_and_keys_give_logits_of_at_most_the_root_of_d() -> None:
    q, k = qk_norm(draw(2, 5, 3, 16), draw(2, 5, 3, 16, seed=1))
    aligned = np.einsum("bihd,bihd->bih", q, q) / 4
    logits = np.einsum("bihd,bjhd->bhij", q, k) / 4
    np.testing.assert_allclose(aligned, 4, rtol=1e-12)
    assert (np.abs(logits) < 4).all()


def test_grouped_queries_equal_attention_with_repeated_key_and_value_heads() -> None:
    q, k, v, d_out = draw(2, 4, 6, 5), draw(2, 4, 2, 5, seed=1), draw(2, 4, 2, 5, seed=2), draw(2, 4, 6, 5, seed=3)
    mask = attention_mask(4, 4, causal=True, window=3)
    # Query heads 0, 1, 2 use the first key/value head, 3, 4, 5 the second.
    wide_k, wide_v = k[:, :, [0, 0, 0, 1, 1, 1]], v[:, :, [0, 0, 0, 1, 1, 1]]
    assert np.array_equal(
        attention(q, k, v, mask=mask, softcap=2.0), attention(q, wide_k, wide_v, mask=mask, softcap=2.0)
    )
    dq, dk, dv = attention_gradients(q, k, v, d_out, mask=mask, softcap=2.0)
    wide_dq, wide_dk, wide_dv = attention_gradients(q, wide_k, wide_v, d_out, mask=mask, softcap=2.0)
    np.testing.assert_allclose(dq, wide_dq, rtol=1e-12)
    for narrow, wide in ((dk, wide_dk), (dv, wide_dv)):
        summed = np.stack([wide[:, :, :3].sum(2), wide[:, :, 3:].sum(2)], axis=2)
        np.testing.assert_allclose(narrow, summed, rtol=1e-12, atol=1e-15)


def test_the_slope_of_the_softmax_is_p_times_the_identity_minus_p() -> None:
    s = sp.symbols("s1:4", real=True)
    total = sum(sp.exp(one) for one in s)
    weight = [sp.exp(one) / total for one in s]
    for i in range(3):
        for j in range(3):
            assert sp.simplify(sp.diff(weight[i], s[j]) - weight[i] * (int(i == j) - weight[j])) == 0


def test_adding_a_constant_to_the_logits_of_a_query_changes_no_weight() -> None:
    # So a key that shifts all logits equally has no effect: a test of influence needs keys that differ.
    q, k = draw(1, 3, 1, 4), draw(1, 3, 1, 4, seed=1)
    mask = attention_mask(3, 3, causal=True, window=None)
    shifted = k + draw(1, 1, 1, 4, seed=2)
    np.testing.assert_allclose(attention_weights(q, k, mask=mask), attention_weights(q, shifted, mask=mask), rtol=1e-12)


# Layers


def test_for_large_x_rms_norm_depends_on_the_direction_only() -> None:
    scale, mean_square, epsilon = sp.symbols("alpha m epsilon", positive=True)
    normed = scale * x / sp.sqrt(scale**2 * mean_square + epsilon)
    assert sp.simplify(sp.limit(normed, scale, sp.oo) - x / sp.sqrt(mean_square)) == 0
    assert sp.simplify(normed.subs(epsilon, 0) - x / sp.sqrt(mean_square)) == 0
    assert np.array_equal(rms_norm(draw(3, 8), np.ones(8), 0.0), rms_norm(4 * draw(3, 8), np.ones(8), 0.0))


@pytest.mark.parametrize("kind", ["space", "time"])
def test_update_of_a_prenorm_layer_converges_as_x_grows(kind: Any) -> None:
    layer, start = random_layer(), draw(1, 4, 3, 8)
    updates = [residual_layer(scale * start, layer, kind) - scale * start for scale in (2.0**20, 2.0**24, 2.0**28)]
    distance = [np.abs(update - updates[-1]).max() / np.abs(updates[-1]).max() for update in updates[:-1]]
    # The remainder is the first sublayer's share of the second sublayer's input, which falls as 1/scale.
    assert distance[0] < 1e-4
    assert distance[1] < distance[0] / 8
    assert not np.allclose(updates[-1], residual_layer(start, layer, kind) - start, rtol=1e-2)


def test_space_attention_equals_full_attention_masked_to_the_frame() -> None:
    q, k, v = (draw(2, 3, 4, 2, 6, seed=seed) for seed in range(3))
    frame = np.repeat(np.arange(3), 4)
    whole = attention(*(y.reshape(2, 12, 2, 6) for y in (q, k, v)), mask=frame[:, None] == frame)
    full = np.ones((4, 4), bool)
    folded = attention(*(y.reshape(6, 4, 2, 6) for y in (q, k, v)), mask=full)
    np.testing.assert_allclose(folded.reshape(whole.shape), whole, rtol=1e-12, atol=1e-14)


def test_time_attention_equals_full_attention_masked_to_index_and_past() -> None:
    q, k, v = (draw(2, 3, 4, 2, 6, seed=seed) for seed in range(3))
    frame, place = np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3)
    allowed = (place[:, None] == place) & (frame[:, None] >= frame)
    whole = attention(*(y.reshape(2, 12, 2, 6) for y in (q, k, v)), mask=allowed)
    places = (y.swapaxes(1, 2).reshape(8, 3, 2, 6) for y in (q, k, v))
    folded = attention(*places, mask=attention_mask(3, 3, causal=True, window=None))
    np.testing.assert_allclose(
        folded.reshape(2, 4, 3, 2, 6).swapaxes(1, 2).reshape(whole.shape), whole, rtol=1e-12, atol=1e-14
    )


def test_time_layers_permute_with_tokens_and_space_layers_with_frames() -> None:
    layer, tokens = random_layer(3), draw(2, 4, 5, 8)
    places, frames = np.array([2, 0, 4, 1, 3]), np.array([3, 1, 0, 2])
    by_time = residual_layer(tokens, layer, "time", window=2)
    by_space = residual_layer(tokens, layer, "space")
    np.testing.assert_allclose(residual_layer(tokens[:, :, places], layer, "time", window=2), by_time[:, :, places])
    np.testing.assert_allclose(residual_layer(tokens[:, frames], layer, "space"), by_space[:, frames])


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_stacked_time_layers_reach_depth_times_c_minus_1_frames_back(window: int, depth: int) -> None:
    one = attention_mask(14, 14, causal=True, window=window).astype(int)
    reached = np.linalg.matrix_power(one, depth) > 0
    assert np.array_equal(reached, attention_mask(14, 14, causal=True, window=depth * (window - 1) + 1))


# Patch dropout


def test_drop_count_formula_is_the_integral_of_the_binomial_over_p() -> None:
    share, patches = sp.Symbol("p", positive=True), 4
    for n, probability in enumerate(drop_count_law(patches)):
        binomial = sp.binomial(patches, n) * share**n * (1 - share) ** (patches - n)
        exact = sp.integrate(binomial, (share, 0, sp.Rational(9, 10))) / sp.Rational(9, 10)
        assert float(exact) == probability


def test_count_draw_rounds_a_uniform_share_to_the_nearest_whole_number() -> None:
    end, patches = sp.Rational(9, 10), 6
    cuts = [sp.Integer(0), *[sp.Rational(2 * n + 1, 2) for n in range(5)], end * patches]
    lengths = [(right - left) / (end * patches) for left, right in pairwise(cuts)]
    assert drop_count_law(patches, draw="count").tolist() == [*map(float, lengths), 0.0]
