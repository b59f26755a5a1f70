"""What the adapters of edwhu/dreamer4-jax and its forks read from sealed training steps equals their source."""

from typing import Any, cast

import numpy as np
import pytest

from dreamer4_conformance.adapters.edwhu import Edwhu
from dreamer4_conformance.adapters.edwhu_forks import Irayshon, Kih00
from dreamer4_reference.eq10_lambda_return import lambda_returns

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", params=(Edwhu, Kih00, Irayshon))
def theirs(request: pytest.FixtureRequest) -> Edwhu:
    try:
        return cast("Edwhu", request.param())
    except (FileNotFoundError, ModuleNotFoundError) as absent:
        pytest.skip(f"{request.param.name}: {absent}")


def test_defaults_of_a_fork_differ_in_gamma_only(theirs: Edwhu) -> None:
    expected = {"num_steps": 4, "gamma": 0.997, "alpha": 0.5, "beta": 0.3, "mtp_length": 2, "mae_max": 0.9}
    expected |= {"lpips_weight": 0.2} | ({"gamma": 0.9} if isinstance(theirs, Kih00) else {})
    assert theirs.constants() == pytest.approx(expected)
    assert theirs.version == theirs.commit


def test_returns_are_the_recursion_without_continuation(theirs: Edwhu) -> None:
    rng = np.random.default_rng(0)
    reward, value, cont = rng.standard_normal((2, 3)), rng.standard_normal((2, 4)), np.zeros((2, 3))
    got = theirs.lambda_returns(*map(theirs.to_native, (reward, value, cont)), 0.75, 0.5)
    expected = lambda_returns(reward, value, np.ones_like(cont), 0.75, 0.5)
    np.testing.assert_allclose(theirs.to_numpy(got), expected, rtol=1e-5, atol=1e-6)


def test_sampler_labels_its_input_with_the_next_level(theirs: Edwhu) -> None:
    calls = []

    def network(z: Any, tau: Any, d: Any, actions: Any) -> Any:
        calls.append((theirs.to_numpy(tau), theirs.to_numpy(d), theirs.to_numpy(actions)))
        return z

    context, actions = np.ones((1, 2, 1, 1)), np.arange(6.0).reshape(1, 3, 2)
    theirs.sample_frame(network, theirs.to_native(context), 4, 0, theirs.to_native(actions))
    assert [tau.ravel().tolist() for tau, _, _ in calls] == [[x] * 3 for x in (0.25, 0.5, 0.75, 0.875)]
    assert all((d == 1 / 4).all() and np.array_equal(a, actions) for _, d, a in calls)


def test_targets_and_bins_keep_their_conventions(theirs: Edwhu) -> None:
    for x, first in ((np.arange(4)[None], 1), (np.arange(4.0)[None], 0)):
        targets, valid = map(np.asarray, theirs.mtp_targets(theirs.to_native(x), 2))
        ahead = np.arange(4)[:, None] + np.arange(first, first + 2)
        assert np.array_equal(valid[0], ahead < 4)
        assert np.array_equal(targets[valid], x[0, ahead[ahead < 4]])
    assert theirs.to_numpy(theirs.twohot_bins())[[0, 50, 100]] == pytest.approx([1 - np.e**8, 0, np.e**8 - 1], abs=1)
