"""Eq. (5), (9), (10), (11), two-hot and the loss normalisation: properties that hold for every input."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer4_reference.eq05_tokenizer_loss import tokenizer_loss
from dreamer4_reference.eq09_multi_token import multi_token_loss, multi_token_targets
from dreamer4_reference.eq10_lambda_return import advantages, lambda_returns, value_loss, value_loss_gradient
from dreamer4_reference.eq11_pmpo import policy_loss, policy_loss_factored, policy_loss_gradient
from dreamer4_reference.loss_normalisation import RunningRMS
from dreamer4_reference.twohot import Space, log_softmax, softmax, symexp_bins, symlog, twohot_decode, twohot_encode

Array = np.ndarray
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
spaces: tuple[Space, ...] = ("raw", "symlog")
BINS = symexp_bins()


def central_differences(loss: Callable[[Array], float], logits: Array, step: float = 1e-5) -> Array:
    gradient = np.empty_like(logits)
    for index in np.ndindex(*logits.shape):
        shift = np.zeros_like(logits)
        shift[index] = step
        gradient[index] = (loss(logits + shift) - loss(logits - shift)) / (2 * step)
    return gradient


def policy_case(seed: int, states: int = 6, classes: int = 4) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    logits, prior_logits = rng.normal(size=(2, states, classes))
    return logits, prior_logits, rng.integers(0, classes, states), rng.normal(size=states)


def test_the_perceptual_term_counts_a_fifth() -> None:
    assert tokenizer_loss(mse=0.0, lpips=1.0) == 0.2
    assert tokenizer_loss(mse=1.0, lpips=0.0) == 1.0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_normalised_losses_do_not_depend_on_their_scale(scale: float) -> None:
    values = np.random.default_rng(0).uniform(1, 2, 200)
    plain, scaled = RunningRMS(), RunningRMS()
    np.testing.assert_allclose([scaled("mse", scale * x) for x in values], [plain("mse", x) for x in values])


def test_the_divisor_is_the_bias_corrected_root_mean_square() -> None:
    values = np.random.default_rng(0).normal(size=30)
    normalise = RunningRMS(decay=0.9)
    for n, value in enumerate(values, start=1):
        age_weights = 0.9 ** np.arange(n)[::-1]
        rms = np.sqrt(np.average(values[:n] ** 2, weights=age_weights))
        np.testing.assert_allclose(normalise("mse", value), value / rms)


def test_spike_stays_visible_and_a_change_of_scale_averages_out() -> None:
    normalise = RunningRMS()
    for _ in range(1000):
        normalise("mse", 1.0)
    assert normalise("mse", 10.0) > 5
    for _ in range(5000):
        after = normalise("mse", 10.0)
    np.testing.assert_allclose(after, 1.0)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e200])
def test_non_finite_value_does_not_poison_the_estimate(poison: float) -> None:
    normalise, untouched = RunningRMS(), RunningRMS()
    for name in (normalise, untouched):
        name("mse", 2.0)
    assert np.isnan(poison) == np.isnan(normalise("mse", poison))
    assert normalise("mse", 3.0) == untouched("mse", 3.0)


def test_terms_have_separate_estimates_and_zeros_stay_zero() -> None:
    normalise = RunningRMS()
    normalise("mse", 1e6)
    assert normalise("lpips", 1e-6) == pytest.approx(1.0)
    assert normalise("flow", 0.0) == 0.0


@few
@given(seeds, st.integers(1, 5), st.sets(st.integers(0, 7), min_size=1).map(sorted).map(tuple))
def test_targets_lie_as_many_steps_ahead_as_their_distance(seed: int, time: int, distances: tuple[int, ...]) -> None:
    x = np.random.default_rng(seed).integers(0, 99, (2, time))
    targets, valid = multi_token_targets(x, distances)
    for b, t, i in np.ndindex(*targets.shape):
        inside = t + distances[i] < time
        assert valid[b, t, i] == inside
        assert targets[b, t, i] == (x[b, t + distances[i]] if inside else 0)


def test_readings_of_the_multi_token_loss_differ_as_documented() -> None:
    log_prob = np.random.default_rng(0).normal(size=(2, 3, 4))
    valid = multi_token_targets(np.zeros((2, 3)), (0, 1, 2, 3))[1]
    sums = [-log_prob[:, : 3 - n, n].sum() for n in range(4)]
    by_valid, by_all = [sums[n] / (2 * (3 - n)) for n in range(3)], [sums[n] / 6 for n in range(3)]
    assert multi_token_loss(log_prob, valid) == pytest.approx(sum(by_valid))
    assert multi_token_loss(log_prob, valid, over="mean") == pytest.approx(sum(by_valid) / 4)
    assert multi_token_loss(log_prob, valid, positions="all") == pytest.approx(sum(by_all))


@few
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5), st.sampled_from(spaces))
def test_two_hot_is_a_distribution_over_two_adjacent_bins(values: list[float], space: Space) -> None:
    for p in twohot_encode(np.array(values), BINS, space=space):
        (used,) = np.nonzero(p)
        assert (p >= 0).all()
        assert p.sum() == 1
        assert used[-1] - used[0] <= 1


@few
@given(st.floats(-4e8, 4e8), st.sampled_from(spaces))
def test_decoding_an_encoded_value_returns_it(value: float, space: Space) -> None:
    decoded = twohot_decode(twohot_encode(np.array([value]), BINS, space=space), BINS, space=space)
    neighbours = np.abs(BINS[[max(np.searchsorted(BINS, value) - 1, 0), np.searchsorted(BINS, value)]]).max()
    np.testing.assert_allclose(decoded, [value], rtol=0, atol=1e-13 * (1 + neighbours))


@pytest.mark.parametrize("space", spaces)
def test_every_bin_decodes_to_itself_and_outer_values_to_the_edge_bin(space: Space) -> None:
    assert (twohot_encode(BINS, BINS, space=space) == np.eye(len(BINS))).all()
    beyond = twohot_encode(np.array([-np.inf, -1e9, 1e9, np.inf]), BINS, space=space)
    assert beyond.argmax(1).tolist() == [0, 0, len(BINS) - 1, len(BINS) - 1]


def test_mixture_decodes_to_the_mean_of_its_values_only_in_raw_space() -> None:
    values = np.array([0.0, 100.0])
    for space, mean in (("raw", 50.0), ("symlog", np.expm1(symlog(values).mean()))):
        mixture = twohot_encode(values, BINS, space=space).mean(0, keepdims=True)
        np.testing.assert_allclose(twohot_decode(mixture, BINS, space=space), [mean])


@pytest.mark.parametrize("num", [2, 41, 254, 255])
@pytest.mark.parametrize("space", spaces)
def test_uniform_logits_decode_to_exactly_zero(num: int, space: Space) -> None:
    bins = symexp_bins(num)
    assert twohot_decode(softmax(np.zeros((1, num))), bins, space=space).tolist() == [0.0]
    assert (bins == -bins[::-1]).all()


@few
@given(seeds, st.floats(-1e3, 1e3))
def test_a_constant_added_to_the_logits_changes_nothing(seed: int, constant: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(2, 5))
    np.testing.assert_allclose(log_softmax(logits + constant), log_softmax(logits), atol=1e-11)
    np.testing.assert_allclose(softmax(logits).sum(-1), 1.0)


@few
@given(seeds, st.integers(1, 6), st.sampled_from(["v_next", "v_same"]))
def test_returns_are_linear_in_rewards_and_values(seed: int, horizon: int, mixture: str) -> None:
    rng = np.random.default_rng(seed)
    first, second = ((rng.normal(size=(2, horizon)), rng.normal(size=(2, horizon + 1))) for _ in range(2))
    cont = rng.uniform(size=(2, horizon))
    both = lambda_returns(1e3 * first[0] + second[0], 1e3 * first[1] + second[1], cont, mixture=mixture)
    apart = 1e3 * lambda_returns(*first, cont, mixture=mixture) + lambda_returns(*second, cont, mixture=mixture)
    np.testing.assert_allclose(both, apart, rtol=1e-9, atol=1e-9)


@few
@given(seeds, st.integers(0, 4))
def test_an_episode_end_cuts_everything_after_it_and_nothing_before(seed: int, end: int) -> None:
    rng = np.random.default_rng(seed)
    reward, value, cont = rng.normal(size=(1, 5)), rng.normal(size=(1, 6)), np.ones((1, 5))
    cont[:, end] = 0
    returns = lambda_returns(reward, value, cont)
    assert returns[0, end] == reward[0, end]
    reward[:, end + 1 :] += 1
    value[:, end + 1 :] += 1
    np.testing.assert_array_equal(lambda_returns(reward, value, cont)[:, : end + 1], returns[:, : end + 1])
    reward[:, end] += 1
    assert (lambda_returns(reward, value, cont)[:, : end + 1] > returns[:, : end + 1]).all()


def test_the_next_pairing_shifts_the_continuation_by_one() -> None:
    rng = np.random.default_rng(0)
    reward, value, cont = rng.normal(size=(2, 4)), rng.normal(size=(2, 5)), rng.uniform(size=(2, 4))
    shifted = np.concatenate([cont[:, 1:], np.ones((2, 1))], axis=1)
    np.testing.assert_array_equal(
        lambda_returns(reward, value, cont, pairing="next"), lambda_returns(reward, value, shifted)
    )


def test_the_advantage_is_the_return_minus_the_states_own_value() -> None:
    rng = np.random.default_rng(0)
    case = rng.normal(size=(2, 4)), rng.normal(size=(2, 5)), rng.uniform(size=(2, 4))
    np.testing.assert_array_equal(advantages(*case), lambda_returns(*case) - case[1][:, :4])


@few
@given(seeds, st.sampled_from(spaces))
def test_value_loss_gradient_equals_finite_differences(seed: int, space: Space) -> None:
    rng = np.random.default_rng(seed)
    logits, returns, bins = rng.normal(size=(3, 7)), rng.normal(size=3) * 10, symexp_bins(7, -3, 3)
    slope = central_differences(lambda x: value_loss(x, returns, bins, space=space), logits)
    np.testing.assert_allclose(value_loss_gradient(logits, returns, bins, space=space), slope, atol=1e-9)


@few
@given(seeds, st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([0.0, 0.3]))
def test_policy_loss_gradient_equals_finite_differences(seed: int, alpha: float, beta: float) -> None:
    logits, *rest = policy_case(seed)
    slope = central_differences(lambda x: policy_loss(x, *rest, alpha, beta), logits)
    np.testing.assert_allclose(policy_loss_gradient(logits, *rest, alpha, beta), slope, atol=1e-9)


@few
@given(seeds)
def test_policy_loss_is_the_sum_of_its_three_terms(seed: int) -> None:
    logits, prior_logits, action, advantage = policy_case(seed)
    pi, prior = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, prior_logits))
    bad, good = ([np.log(pi[i, action[i]]) for i in range(6) if (advantage[i] >= 0) == sign] for sign in (False, True))
    terms = 0.8 * np.mean(bad or [0]) - 0.2 * np.mean(good or [0]) + 0.7 * (pi * np.log(pi / prior)).sum() / 6
    assert policy_loss(logits, prior_logits, action, advantage, alpha=0.2, beta=0.7) == pytest.approx(terms)


@few
@given(seeds)
def test_only_the_sign_of_the_advantage_matters_and_zero_is_positive(seed: int) -> None:
    logits, prior_logits, action, advantage = policy_case(seed)
    advantage[0] = 0
    sign = np.where(advantage < 0, -1.0, 1.0)
    assert policy_loss(logits, prior_logits, action, advantage) == policy_loss(logits, prior_logits, action, sign)


@few
@given(seeds)
def test_without_the_prior_duplicating_one_set_changes_nothing(seed: int) -> None:
    case = policy_case(seed)
    row = np.concatenate([np.arange(6), np.flatnonzero(case[3] < 0)])
    twice = policy_loss(*(x[row] for x in case), alpha=0.3, beta=0.0)
    assert twice == pytest.approx(policy_loss(*case, alpha=0.3, beta=0.0), rel=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_an_empty_set_contributes_nothing(sign: float) -> None:
    logits, prior_logits, action, _ = policy_case(0)
    log_prob = log_softmax(logits)[np.arange(6), action]
    loss = policy_loss(logits, prior_logits, action, np.full(6, sign), alpha=0.3, beta=0.0)
    assert loss == pytest.approx({-1.0: 0.7, 1.0: -0.3}[sign] * log_prob.mean())


@few
@given(seeds)
def test_independent_components_equal_one_policy_over_their_product(seed: int) -> None:
    first, second = policy_case(seed, classes=3), policy_case(seed + 1, classes=4)
    product = [(first[i][:, :, None] + second[i][:, None, :]).reshape(6, 12) for i in (0, 1)]
    joint = policy_loss(*product, first[2] * 4 + second[2], first[3])
    components = [[first[i], second[i]] for i in (0, 1)]
    factored = policy_loss_factored(*components, np.stack([first[2], second[2]], axis=1), first[3])
    assert factored == pytest.approx(joint)
