"""A loss that is sealed inside a jitted training step is evaluated outside `jit`, with its gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from dreamer4_conformance.adapter import JaxAdapter
from dreamer4_conformance.instruments.expected_loss import expect
from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import Subject

jax = pytest.importorskip("jax")
jnp = jax.numpy
value_and_grad = jax.value_and_grad  # as `from jax import value_and_grad` binds it in a user's module

from dreamer4_conformance.jax import closure_value, randomised_parameters  # noqa: E402 - needs JAX


@partial(jax.jit, static_argnames=("model", "k_max"), donate_argnums=0)
def train_step(params: Any, z1: Any, z0: Any, tau: Any, d: Any, actions: Any, *, model: Any, k_max: int) -> Any:
    """Flow loss at d_min, written as users write it: the loss is defined inside, with auxiliary outputs."""

    def loss_fn(params: Any) -> Any:
        @jax.checkpoint
        def predict(z: Any) -> Any:
            return model(params, z, tau, d, actions)

        wide = tau[..., None, None]
        error = jnp.mean((predict((1 - wide) * z0 + wide * z1) - z1) ** 2, axis=(2, 3))
        return jnp.mean((0.9 * tau + 0.1) * error), {"error": error}

    (loss, metrics), gradient = value_and_grad(loss_fn, has_aux=True)(params)
    return params - gradient, loss, metrics


class Sealed(JaxAdapter):
    """The loss of `train_step` at d_min."""

    def dynamics_loss_at(self, network: Any, z1: Any, z0: Any, tau: Any, d: Any, actions: Any) -> Any:
        def model(params: Any, *args: Any) -> Any:
            return network(*args)

        return closure_value(train_step, 0.0, z1, z0, tau, d, actions, model=model, k_max=self.k_max)


def test_sealed_loss_has_the_value_and_the_gradient_of_the_paper() -> None:
    subject = Subject(Sealed())
    d = np.full((2, 3), subject.d_min)
    draw = draw_inputs(subject, 1, (2, 3, 1, 2), np.array([[0.0, 0.5, 0.25], [0.75, 0.5, 0.0]]), d)
    evaluation = subject.evaluate("dynamics_loss_at", AFFINE, draw)
    expected = expect(subject, evaluation)
    assert expected.observed_gradient is not None
    np.testing.assert_allclose(evaluation.mean, expected.loss, rtol=1e-5)
    np.testing.assert_allclose(expected.observed_gradient, expected.gradient(expected.error), rtol=1e-4, atol=1e-7)


def two_losses(x: float) -> Any:
    return jax.grad(lambda y: 3 * y)(x) + jax.grad(lambda y: 5 * y)(x)


def test_index_selects_the_loss_of_a_step_with_several() -> None:
    assert [float(closure_value(two_losses, 2.0, index=index)) for index in (0, 1)] == [6.0, 10.0]


def test_step_without_such_a_gradient_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="step: two_losses ended before it took gradient number 2"):
        closure_value(two_losses, 2.0, index=2)


def test_transformations_are_restored() -> None:
    closure_value(two_losses, 2.0)
    assert value_and_grad is jax.value_and_grad
    assert float(jax.grad(lambda y: y * y)(3.0)) == 6.0


def test_random_parameters_keep_the_tree_and_reach_zeros() -> None:
    zeros = {"head": {"kernel": jnp.zeros((64, 16)), "bias": jnp.zeros(64)}, "scale": jnp.ones(64)}
    zeros["table"] = {"embedding": jnp.zeros((5, 64), "bfloat16")}
    values, again = (randomised_parameters(zeros, seed=1) for _ in range(2))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and a.shape == b.shape, zeros, values))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all() & (a != 0).all()), values, again))
    sizes = {name: float(jnp.std(values["head"][name])) for name in ("kernel", "bias")}
    assert sizes == pytest.approx({"kernel": 1 / 8, "bias": 1 / 2}, rel=0.3)
    assert float(values["scale"].mean()) == pytest.approx(1, abs=0.2)
    assert float(jnp.std(values["table"]["embedding"].astype("float32"))) == pytest.approx(1, rel=0.2)


def test_a_step_may_have_an_argument_called_step() -> None:
    def train_step(params: Any, *, step: int) -> Any:
        return jax.grad(lambda x: step * x)(params)

    assert float(closure_value(train_step, 3.0, step=2)) == 6
