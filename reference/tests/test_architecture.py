"""Modules of the architecture on random inputs, compared with explicit loops and finite differences."""

from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
import pytest

from dreamer4_reference.minecraft_actions import mouse_class, mu_law
from dreamer4_reference.sec31_masks import modality_mask
from dreamer4_reference.sec31_patch_dropout import Draw, drop_count_law, patch_dropout, replace_dropped
from dreamer4_reference.sec31_tokenizer import bottleneck, patch_grid, regroup, unregroup
from dreamer4_reference.sec32_dynamics import action_tokens, label_token, level_index, step_index
from dreamer4_reference.sec34_attention import (
    attention,
    attention_gradients,
    attention_mask,
    attention_weights,
    may_attend,
    soft_cap,
)
from dreamer4_reference.sec34_layers import layer_kinds, layer_shapes, residual_layer, transformer
from dreamer4_reference.sec34_norms import Norm, qk_norm, rms_norm
from dreamer4_reference.sec34_swiglu import silu, swiglu

Array = np.ndarray
QUERIES, KEYS, CAP = 3, 5, 2.0


def heads(seed: int, *, causal: bool = True, window: int | None = 2) -> dict[str, Any]:
    """Queries of 4 heads, keys and values of 2, large enough that a cap of 2 acts."""
    rng = np.random.default_rng(seed)
    q, k, v = rng.normal(size=(2, QUERIES, 4, 6)), rng.normal(size=(2, KEYS, 2, 6)), rng.normal(size=(2, KEYS, 2, 6))
    return {"q": 2 * q, "k": 2 * k, "v": v, "mask": attention_mask(QUERIES, KEYS, causal=causal, window=window)}


def one_query(q: Array, k: Array, v: Array, mask: Array, cap: float | None, b: int, i: int, h: int) -> Array:
    """Output of one query of one head, by a loop over the visible keys."""
    group = q.shape[2] // k.shape[2]
    total, out = 0.0, np.zeros(q.shape[3])
    for j in range(k.shape[1]):
        if mask[i, j]:
            logit = float(q[b, i, h] @ k[b, j, h // group]) / q.shape[3] ** 0.5
            weight = np.exp(logit if cap is None else cap * np.tanh(logit / cap))
            total, out = total + weight, out + weight * v[b, j, h // group]
    return np.asarray(out / total)


def numerical_gradient(function: Callable[[Array], float], x: Array, step: float = 1e-6) -> Array:
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


# Attention


@pytest.mark.parametrize("cap", [None, CAP])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_attention_is_the_loop_over_the_keys_that_each_query_may_attend_to(
    cap: float | None, window: int | None
) -> None:
    case = heads(0, window=window)
    out = attention(**case, softcap=cap)
    for b, i, h in np.ndindex(2, QUERIES, 4):
        np.testing.assert_allclose(out[b, i, h], one_query(**case, cap=cap, b=b, i=i, h=h), rtol=1e-12)


def test_last_query_of_a_prefix_sees_the_same_keys_as_in_the_full_sequence() -> None:
    whole = attention_mask(7, 7, causal=True, window=3)
    assert np.array_equal(attention_mask(2, 7, causal=True, window=3), whole[-2:])


def test_window_of_c_keys_is_the_query_and_the_c_minus_1_before_it() -> None:
    seen = [[j for j in range(6) if may_attend(i, j, causal=True, window=3)] for i in range(6)]
    assert seen == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]


def test_window_as_long_as_the_sequence_equals_no_window() -> None:
    unlimited = attention_mask(5, 5, causal=True, window=None)
    assert np.array_equal(attention_mask(5, 5, causal=True, window=5), unlimited)
    assert not np.array_equal(attention_mask(5, 5, causal=True, window=4), unlimited)


@pytest.mark.parametrize("cap", [None, CAP])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_attention_gradients_equal_finite_differences(cap: float | None, scale: float | None) -> None:
    case = heads(1)
    d_out = np.random.default_rng(2).normal(size=case["q"].shape)
    found = attention_gradients(**case, d_out=d_out, softcap=cap, scale=scale)
    for name, gradient in zip(("q", "k", "v"), found, strict=True):

        def loss(x: Array, name: str = name) -> float:
            return float((attention(**(case | {name: x}), softcap=cap, scale=scale) * d_out).sum())

        np.testing.assert_allclose(gradient, numerical_gradient(loss, case[name]), rtol=1e-6, atol=1e-8)


def test_masked_keys_and_values_have_no_effect_at_any_magnitude() -> None:
    case = heads(3, window=None)
    changed = case | {"k": case["k"].copy(), "v": case["v"].copy()}
    changed["k"][:, -1], changed["v"][:, -1] = 1e6, -1e6
    before, after = attention(**case), attention(**changed)
    assert np.array_equal(before[:, :-1], after[:, :-1])
    assert not np.array_equal(before[:, -1], after[:, -1])


def test_the_weights_of_a_query_sum_to_1_over_the_keys_that_it_sees() -> None:
    case = heads(4)
    weights = attention_weights(case["q"], case["k"], mask=case["mask"], softcap=CAP)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-14)
    assert ((weights > 0) == case["mask"]).all()


def test_the_scale_precedes_the_cap() -> None:
    case = heads(5)
    scaled = attention(**(case | {"q": case["q"] * 0.3}), softcap=CAP, scale=1.0)
    np.testing.assert_allclose(attention(**case, softcap=CAP, scale=0.3), scaled, rtol=1e-12)
    capped_first = attention(**case, softcap=CAP / 0.3, scale=0.3)
    assert not np.allclose(attention(**case, softcap=CAP, scale=0.3), capped_first)


def test_large_cap_equals_no_cap_and_small_cap_bounds_the_logits() -> None:
    logits = np.array([-300.0, -1.0, 0.0, 1.0, 300.0])
    np.testing.assert_allclose(soft_cap(logits, 1e9), logits, rtol=1e-12)
    assert (np.abs(soft_cap(logits, 50.0)) <= 50).all()
    assert np.array_equal(soft_cap(-logits, 50.0), -soft_cap(logits, 50.0))


# Norms and MLP


@pytest.mark.parametrize("norm", ["rms", "l2", "layernorm"])
def test_rescaling_q_or_k_changes_nothing_after_qk_norm(norm: Norm) -> None:
    case = heads(6)
    q, k = qk_norm(case["q"], case["k"], norm=norm)
    q_scaled, k_scaled = qk_norm(1e-3 * case["q"], 1e5 * case["k"], norm=norm)
    np.testing.assert_allclose(q, q_scaled, rtol=1e-12)
    np.testing.assert_allclose(k, k_scaled, rtol=1e-12)


def test_qk_norms_have_their_lengths_and_only_layernorm_is_centred() -> None:
    case = heads(7)
    rms, l2, centred = (qk_norm(case["q"], case["k"], norm=norm)[0] for norm in ("rms", "l2", "layernorm"))
    for q, length in ((rms, 6.0), (l2, 1.0), (centred, 6.0)):
        np.testing.assert_allclose((q**2).sum(-1), length, rtol=1e-12)
    np.testing.assert_allclose(rms, l2 * 6**0.5, rtol=1e-12)
    np.testing.assert_allclose(centred.mean(-1), 0, atol=1e-14)
    assert (np.abs(rms.mean(-1)) > 1e-3).any()


def test_rms_norm_with_zero_eps_equals_qk_norm() -> None:
    case = heads(8)
    np.testing.assert_allclose(rms_norm(case["q"], np.ones(6), eps=0.0), qk_norm(case["q"], case["k"])[0], rtol=1e-14)


def test_epsilon_is_added_to_the_mean_of_squares() -> None:
    assert rms_norm(np.array([1.0, 1.0]), np.array([2.0, 6.0]), eps=3.0).tolist() == [1.0, 3.0]


def test_silu_is_x_times_the_logistic_of_x() -> None:
    x = np.linspace(-30, 30, 601)
    np.testing.assert_allclose(silu(x), x / (1 + np.exp(-x)), rtol=1e-13)


def test_swiglu_gates_with_its_first_matrix() -> None:
    rng = np.random.default_rng(9)
    x, gate, up, down = (rng.normal(size=s) for s in ((2, 3, 4), (4, 5), (4, 5), (5, 4)))
    expected = np.zeros_like(x)
    for b, n in np.ndindex(2, 3):
        for f in range(5):
            a = float(x[b, n] @ gate[:, f])
            expected[b, n] += a / (1 + np.exp(-a)) * (x[b, n] @ up[:, f]) * down[f]
    np.testing.assert_allclose(swiglu(x, gate, up, down), expected, rtol=1e-12)


# Layers


def random_layers(seed: int, depth: int, *, width: int = 8) -> list[dict[str, Array]]:
    """Random parameters without zeros, gains about 1, so that every input has an effect."""
    rng = np.random.default_rng(seed)
    shapes = layer_shapes(width, heads=4, kv_heads=2, head_width=4, mlp_width=6)
    return [{name: rng.normal(size=shape) + (len(shape) == 1) for name, shape in shapes.items()} for _ in range(depth)]


def tokens(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(2, 6, 5, 8))


def moved(function: Callable[[Array], Array], x: Array, index: tuple[int | slice, ...]) -> Array:
    """Mask (T, S) of the tokens of the first sequence that change with x[index]."""
    changed = x.copy()
    changed[index] += 1.0
    return np.asarray((function(x) != function(changed))[0].any(-1))


def test_space_layer_changes_exactly_the_tokens_of_the_perturbed_frame() -> None:
    (layer,) = random_layers(10, 1)
    found = moved(lambda x: residual_layer(x, layer, "space"), tokens(0), (0, 2, 3))
    assert np.array_equal(found, np.arange(6)[:, None] + np.zeros(5) == 2)


def test_time_layer_changes_one_token_index_from_its_frame_to_the_window_end() -> None:
    (layer,) = random_layers(11, 1)
    found = moved(lambda x: residual_layer(x, layer, "time", window=3), tokens(1), (0, 2, 3))
    assert sorted(map(tuple, np.argwhere(found).tolist())) == [(2, 3), (3, 3), (4, 3)]


def test_several_layers_stay_causal_and_reach_every_token_of_every_later_frame() -> None:
    layers = random_layers(12, 8)
    found = moved(lambda x: transformer(x, layers, np.ones(8), layer_kinds(8)), tokens(2), (0, 2, 3))
    assert np.array_equal(found, np.arange(6)[:, None] + np.zeros(5) >= 2)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_stacked_layers_open_no_path_that_the_mask_forbids(kind: Any) -> None:
    allow = modality_mask(kind, ["latent", "latent", "image", "image", "speech"], np.zeros(5, int))
    layers = random_layers(13, 8)

    def stacked(x: Array) -> Array:
        return transformer(x, layers, np.ones(8), layer_kinds(8), allow=allow)

    for token in range(5):
        found = moved(stacked, tokens(3), (0, 1, token))
        assert np.array_equal(found[1:], np.broadcast_to(allow[:, token], (5, 5)))
        assert not found[0].any()


@pytest.mark.parametrize("kind", ["space", "time"])
def test_layer_with_zero_attention_and_mlp_output_is_the_identity(kind: Any) -> None:
    (layer,) = random_layers(14, 1)
    zeroed = layer | {"wo": 0 * layer["wo"], "w_down": 0 * layer["w_down"]}
    assert np.array_equal(residual_layer(tokens(4), zeroed, kind), tokens(4))
    assert not np.array_equal(residual_layer(tokens(4), layer, kind), tokens(4))


@pytest.mark.parametrize("kind", ["space", "time"])
def test_frame_by_frame_equals_the_full_sequence(kind: Any) -> None:
    (layer,) = random_layers(15, 1)
    x = tokens(5)
    whole = residual_layer(x, layer, kind, window=3)
    for frames in range(1, 7):
        prefix = residual_layer(x[:, :frames], layer, kind, window=3)
        np.testing.assert_allclose(prefix, whole[:, :frames], rtol=1e-12)


def test_dropping_frames_outside_the_window_does_not_change_the_output() -> None:
    (layer,) = random_layers(16, 1)
    x = tokens(6)
    np.testing.assert_allclose(
        residual_layer(x[:, 3:], layer, "time", window=3)[:, -1],
        residual_layer(x, layer, "time", window=3)[:, -1],
        rtol=1e-10,
    )


@pytest.mark.parametrize("kind", ["space", "time"])
def test_layer_ignores_query_and_key_lengths_but_not_their_gains(kind: Any) -> None:
    (layer,) = random_layers(19, 1)
    expected = residual_layer(tokens(9), layer, kind, eps=1e-12)
    for name in ("wq", "wk"):
        longer = residual_layer(tokens(9), layer | {name: 1e3 * layer[name]}, kind, eps=1e-12)
        np.testing.assert_allclose(longer, expected, rtol=1e-9)
    for name in ("q_gain", "k_gain"):
        assert not np.allclose(residual_layer(tokens(9), layer | {name: 2 * layer[name]}, kind, eps=1e-12), expected)


def test_without_rope_in_space_the_order_of_a_frames_tokens_is_irrelevant() -> None:
    (layer,) = random_layers(17, 1)
    x, order = tokens(7), np.array([3, 1, 4, 0, 2])
    unrotated = residual_layer(x, layer, "space", axes="time")
    np.testing.assert_allclose(residual_layer(x[:, :, order], layer, "space", axes="time"), unrotated[:, :, order])
    assert not np.allclose(
        residual_layer(x[:, :, order], layer, "space"), residual_layer(x, layer, "space")[:, :, order]
    )


def test_a_quarter_of_the_layers_mixes_time() -> None:
    assert layer_kinds(9) == ["space", "space", "space", "time"] * 2 + ["space"]
    assert layer_kinds(4, position="other") == ["time", "space", "space", "space"]
    assert layer_kinds(6, 3, time_layer="adds") == ["space", "space", "both"] * 2
    assert layer_kinds(2, 1) == ["time", "time"]


def test_an_added_time_layer_follows_its_space_layer() -> None:
    first, second = random_layers(18, 2)
    x, gain = tokens(8), np.ones(8)
    both = transformer(x, [first, second], gain, ["both"], window=2)
    assert np.array_equal(both, transformer(x, [first, second], gain, ["space", "time"], window=2))


# Masks


def test_each_modality_sees_what_encoder_and_decoder_allow() -> None:
    modality, frame = ["latent", "image", "speech"], np.zeros(3, int)
    assert modality_mask("encoder", modality, frame).astype(int).tolist() == [[1, 1, 1], [0, 1, 0], [0, 0, 1]]
    assert modality_mask("decoder", modality, frame).astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_dynamics_mask_hides_agent_tokens_and_nothing_else() -> None:
    modality = ["latent", "register", "label", "action", "agent"]
    allowed = modality_mask("dynamics", modality, np.zeros(5, int))
    assert allowed[:, :4].all()
    assert allowed[:, 4].tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("kind", ["encoder", "decoder", "dynamics"])
def test_modality_masks_are_transitive(kind: Any) -> None:
    modality = ["latent", "image", "speech", "register", "label", "action", "agent"] * 3
    allowed = modality_mask(kind, modality, np.arange(21) // 7)
    two_hops = (allowed.astype(int) @ allowed.astype(int)) > 0
    assert np.array_equal(two_hops, allowed)


# Patch dropout


@pytest.mark.parametrize("draw", ["bernoulli", "count"])
@pytest.mark.parametrize("patches", [1, 2, 7, 960])
def test_drop_count_distribution_sums_to_1_with_mean_share_045(draw: Draw, patches: int) -> None:
    law = drop_count_law(patches, draw=draw)
    assert law.sum() == pytest.approx(1, rel=1e-12)
    assert (law >= 0).all()
    share = law @ np.arange(patches + 1) / patches
    # Rounding is unbiased over whole bins; the first and last are cut off by 0 and 0.9 N and miss at most ∫ x dx to ½.
    assert share == pytest.approx(0.45, abs=1e-12 if draw == "bernoulli" else 1 / (8 * 0.9 * patches**2))


def test_bernoulli_drop_counts_equal_the_integral_over_p() -> None:
    patches, nodes = 6, 20_001
    p = np.linspace(0, 0.9, nodes)
    simpson = np.r_[1, np.tile([4, 2], (nodes - 3) // 2), 4, 1] / 3 * (p[1] - p[0]) / 0.9
    for n, probability in enumerate(drop_count_law(patches)):
        binomial = comb(patches, n) * p**n * (1 - p) ** (patches - n)
        assert probability == pytest.approx(float(simpson @ binomial), rel=1e-9)


@pytest.mark.parametrize("draw", ["bernoulli", "count"])
def test_drawn_masks_follow_the_law(draw: Draw) -> None:
    patches, images = 5, 40_000
    counts = patch_dropout(np.random.default_rng(0), images // 4, 4, patches, draw=draw).sum(-1).ravel()
    found, expected = np.bincount(counts, minlength=patches + 1) / images, drop_count_law(patches, draw=draw)
    deviation = np.sqrt(expected * (1 - expected) / images)
    assert (np.abs(found - expected) <= 5 * deviation).all()


def test_every_image_of_a_video_has_its_own_p() -> None:
    share = patch_dropout(np.random.default_rng(1), 4_000, 2, 200).mean(-1)
    assert abs(np.corrcoef(share[:, 0], share[:, 1])[0, 1]) < 0.08
    assert share.std() == pytest.approx(0.9 / 12**0.5, rel=0.05)


def test_which_patches_a_count_drops_is_uniform() -> None:
    often = patch_dropout(np.random.default_rng(2), 10_000, 1, 5, draw="count").mean((0, 1))
    assert often == pytest.approx(0.45, abs=0.03)


def test_dropped_patches_become_the_embedding_and_others_stay() -> None:
    rng = np.random.default_rng(3)
    patches, mask, embedding = rng.normal(size=(2, 3, 4, 5)), rng.random((2, 3, 4)) < 0.5, rng.normal(size=5)
    replaced = replace_dropped(patches, mask, embedding)
    assert np.array_equal(replaced[~mask], patches[~mask])
    assert (replaced[mask] == embedding).all()


# Tokenizer and dynamics


def test_the_frames_of_the_paper_have_960_and_256_patches() -> None:
    assert patch_grid(360, 640) == patch_grid(384, 640) == (24, 40)
    assert patch_grid(256, 256) == (16, 16)
    assert patch_grid(1, 33, patch=16) == (2, 4)


def test_bottleneck_is_bounded_and_preserves_signs() -> None:
    x = np.random.default_rng(4).normal(size=(3, 7)) * 50
    z = bottleneck(x, np.eye(7), np.zeros(7))
    assert (np.abs(z) <= 1).all()
    assert np.array_equal(np.sign(z), np.sign(x))


def test_regrouping_puts_consecutive_pairs_side_by_side_and_can_be_undone() -> None:
    z = np.random.default_rng(5).normal(size=(2, 3, 512, 16))
    wide = regroup(z)
    assert wide.shape == (2, 3, 256, 32)
    assert np.array_equal(wide[:, :, 7], np.concatenate([z[:, :, 14], z[:, :, 15]], -1))
    assert np.array_equal(unregroup(wide), z)


def test_every_pair_of_labels_has_a_token_of_its_own() -> None:
    k_max = 8
    tau, d = np.meshgrid(np.arange(k_max) / k_max, 0.5 ** np.arange(4))
    tables = np.random.default_rng(6).normal(size=(k_max, 3)), np.random.default_rng(7).normal(size=(4, 3))
    labels = label_token(tau, d, *tables)
    assert len({tuple(label) for label in labels.reshape(-1, 6).tolist()}) == 4 * k_max
    assert np.array_equal(labels[..., :3], np.broadcast_to(tables[0], (4, k_max, 3)))


def test_a_clean_frame_has_the_last_level_and_a_level_between_two_the_nearer() -> None:
    assert level_index(np.array([1.0, 1 - 1 / 64, 0.9, 0.0]), 64).tolist() == [63, 63, 58, 0]
    assert step_index(0.5 ** np.arange(7), 64).tolist() == list(range(7))


def test_components_are_added_to_the_embedding_where_there_are_actions() -> None:
    rng = np.random.default_rng(8)
    parts, embedding = [rng.normal(size=(2, 3, 2, 4)) for _ in range(3)], rng.normal(size=(2, 4))
    found = action_tokens(parts, embedding, np.array([True, False]))
    np.testing.assert_allclose(found[0], embedding + parts[0][0] + parts[1][0] + parts[2][0])
    assert (found[1] == embedding).all()
    assert (action_tokens([], embedding, np.array([True]), time=3) == embedding).all()


# Minecraft


def test_mouse_has_121_classes_and_no_movement_is_the_centre() -> None:
    # The middle of each bin, by the inverse of the μ-law.
    axis = np.sign(bins := np.linspace(-1, 1, 11)) * 10 * (11 ** np.abs(bins) - 1) / 10
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    assert mouse_class(grid).tolist() == list(range(121))
    assert mouse_class(np.zeros((1, 2))).tolist() == [60]


def test_mouse_bins_are_narrow_near_0_and_clip_at_the_limit() -> None:
    x = np.linspace(0, 10, 2001)
    second = mouse_class(np.stack([np.zeros_like(x), x], -1)) % 11 - 5
    widths = np.bincount(second)[1:5]
    assert (np.diff(widths) > 0).all()
    assert mouse_class(np.array([[99.0, -1e9]])).tolist() == [110]
    np.testing.assert_allclose(mu_law(-x), -mu_law(x))
