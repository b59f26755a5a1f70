"""What the adapter of klee972/dreamer4-nnx passes to their code and reads from it equals their source."""

from typing import Any

import numpy as np
import pytest

from dreamer4_conformance.adapters.klee972 import Klee972
from dreamer4_reference.eq10_lambda_return import lambda_returns

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def theirs() -> Klee972:
    try:
        return Klee972()
    except (FileNotFoundError, ModuleNotFoundError) as absent:
        pytest.skip(f"{Klee972.name}: {absent}")


def test_defaults_are_those_of_their_scripts(theirs: Klee972) -> None:
    expected = {"num_steps": 4, "gamma": 0.997, "mtp_length": 2, "mae_max": 0.9, "lpips_weight": 0.2}
    assert theirs.constants() == pytest.approx(expected | {"mouse_classes": 121})
    assert theirs.code.dynamics.Args.dyna_k_max == theirs.k_max
    assert theirs.code.dynamics.Args.batch_size_self == theirs.d_min_share * theirs.code.dynamics.Args.batch_size


def test_every_frame_but_the_first_is_generated_under_its_own_action(theirs: Klee972) -> None:
    calls: list[tuple[np.ndarray, ...]] = []

    def network(z: Any, *inputs: Any) -> Any:
        calls.append(tuple(map(theirs.to_numpy, inputs)))
        return z

    context, actions = np.ones((1, 2, 1, 1)), np.arange(1.0, 7).reshape(1, 3, 2)
    theirs.sample_frame(network, theirs.to_native(context), 4, 0, theirs.to_native(actions))
    assert [tau[0].tolist() for tau, _, _ in calls] == [[57 / 64, 57 / 64, x] for x in (0, 0.25, 0.5, 0.75)]
    for _, d, received in calls:
        assert (d == 1 / 4).all()
        assert np.array_equal(received[:, 1:], actions[:, 1:])
        assert not received[:, 0].any()


def test_returns_are_the_recursion_without_continuation(theirs: Klee972) -> None:
    rng = np.random.default_rng(0)
    reward, value, cont = rng.standard_normal((2, 3)), rng.standard_normal((2, 4)), np.zeros((2, 3))
    got = theirs.lambda_returns(*map(theirs.to_native, (reward, value, cont)), 0.75, 0.5)
    expected = lambda_returns(reward, value, np.ones_like(cont), 0.75, 0.5)
    np.testing.assert_allclose(theirs.to_numpy(got), expected, rtol=1e-5, atol=1e-6)


def test_targets_start_at_the_present(theirs: Klee972) -> None:
    for x in (np.arange(4)[None], np.arange(4.0)[None]):
        targets, valid = map(np.asarray, theirs.mtp_targets(theirs.to_native(x), 2))
        ahead = np.arange(4)[:, None] + np.arange(2)
        assert np.array_equal(valid[0], ahead < 4)
        assert np.array_equal(targets[valid], x[0, ahead[ahead < 4]])


def test_share_of_dropped_patches_differs_between_images(theirs: Klee972) -> None:
    dropped = np.asarray(theirs.patch_dropout(0, 4, 4, 400)).mean(-1)
    assert dropped.max() < 0.96
    assert dropped.std() > 0.1
