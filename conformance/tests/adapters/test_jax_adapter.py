"""An implementation in JAX is held to the same clauses, gradients included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamer4_conformance.adapter import JaxAdapter
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.clauses import BY_ID, select
from dreamer4_conformance.instruments.expected_loss import expect
from dreamer4_conformance.instruments.inputs import draw_inputs
from dreamer4_conformance.instruments.recorder import AFFINE
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.runner import checks_of, judge
from dreamer4_conformance.verdicts import Status

jax = pytest.importorskip("jax")
jnp = jax.numpy


class InJax(JaxAdapter):
    """Eq. (1), (4), (6)-(8), (10) and (11) with jax.random, vmap-free and outside jit where the network is called."""

    name = "jax"

    def corrupt(self, z0: Any, z1: Any, tau: Any) -> Any:
        return jax.jit(lambda z0, z1, tau: z0 + tau * (z1 - z0))(z0, z1, tau[..., None, None])

    def ramp_weight(self, tau: Any) -> Any:
        return 0.9 * tau + 0.1

    def sample_tau_d(self, seed: int, batch: int, time: int) -> tuple[Any, Any]:
        first, second = jax.random.split(jax.random.key(seed))
        steps = 2 ** jax.random.randint(first, (batch, time), 0, self.k_max.bit_length())
        return jax.random.randint(second, (batch, time), 0, steps) / steps, 1 / steps

    def dynamics_loss(self, network: Any, z1: Any, actions: Any, seed: int) -> Any:
        tau, d = (x.astype(z1.dtype) for x in self.sample_tau_d(seed, *z1.shape[:2]))
        noise = jax.random.normal(jax.random.key(seed + 1), z1.shape, z1.dtype)
        return self.dynamics_loss_at(network, z1, noise, tau, d, actions)

    def dynamics_loss_at(self, network: Any, z1: Any, z0: Any, tau: Any, d: Any, actions: Any) -> Any:
        wide = (..., None, None)
        above = d > 1 / self.k_max
        half = jnp.where(above, d / 2, 0)
        teacher_d = jnp.where(above, d / 2, d)
        z = self.corrupt(z0, z1, tau)
        b_prime = (network(z, tau, teacher_d, actions) - z) / (1 - tau)[wide]
        middle = self.stop(z + b_prime * half[wide])
        b_double_prime = (network(middle, tau + half, teacher_d, actions) - middle) / (1 - tau - half)[wide]
        target = z + (1 - tau)[wide] * (b_prime + b_double_prime) / 2
        goal = self.stop(jnp.where(above[wide], target, z1))
        error = jnp.mean((network(z, tau, d, actions) - goal) ** 2, axis=(2, 3))
        return jnp.mean(self.ramp_weight(tau) * error)

    def stop(self, x: Any) -> Any:
        return jax.lax.stop_gradient(x)

    def lambda_returns(self, reward: Any, value: Any, cont: Any, gamma: float, lam: float) -> Any:
        def step(following: Any, row: Any) -> Any:
            r, c, v = row
            result = r + gamma * c * ((1 - lam) * v + lam * following)
            return result, result

        rows = (reward.T, cont.T, value[:, 1:].T)
        return jax.lax.scan(step, value[:, -1], rows, reverse=True)[1].T

    def policy_loss(
        self, logits: Any, prior_logits: Any, action: Any, advantage: Any, alpha: float, beta: float
    ) -> Any:
        log_pi = jax.nn.log_softmax(logits)
        log_prior = jax.lax.stop_gradient(jax.nn.log_softmax(prior_logits))
        chosen = jnp.take_along_axis(log_pi, action[:, None], axis=1)[:, 0]
        good = advantage >= 0

        def mean_over(members: Any) -> Any:
            return jnp.where(members, chosen, 0).sum() / jnp.maximum(members.sum(), 1)

        divergence = (jnp.exp(log_pi) * (log_pi - log_prior)).sum(-1).mean()
        return (1 - alpha) * mean_over(~good) - alpha * mean_over(good) + beta * divergence


class Leaking(InJax):
    """Gradient flows into the teacher."""

    def stop(self, x: Any) -> Any:
        return x


# JAX compiles every operation for every shape, so that one check of the loss takes many seconds: the nightly run judges
# all clauses.
FEW = ("eq01.interpolate", "eq08.value")


@pytest.mark.parametrize("name", FEW)
def test_jax_implementation_conforms(name: str) -> None:
    result = judge(Subject(InJax()), BY_ID[name])
    assert result.status is Status.PASS, result.message


def test_gradients_reach_the_student_alone_in_jax() -> None:
    for adapter, leaks in ((InJax(), False), (Leaking(), True)):
        subject = Subject(adapter)
        draw = draw_inputs(subject, 1, (1, 2, 1, 2), np.array([[0.5, 0.0]]), np.array([[0.5, 0.25]]))
        evaluation = subject.evaluate("dynamics_loss_at", AFFINE, draw)
        match = evaluation.students[0]
        assert match.first is not None
        assert match.second is not None
        assert match.first.carries_gradient is leaks
        expected = expect(subject, evaluation)
        assert expected.observed_gradient is not None
        if not leaks:
            np.testing.assert_allclose(expected.observed_gradient, expected.gradient(expected.error), rtol=1e-5)


@pytest.mark.nightly
def test_few_shapes_of_the_loss_are_compiled() -> None:
    shapes = set()

    class Spying(InJax):
        def dynamics_loss(self, network: Any, z1: Any, actions: Any, seed: int) -> Any:
            shapes.add(z1.shape)
            return super().dynamics_loss(network, z1, actions, seed)

        dynamics_loss_at = JaxAdapter.dynamics_loss_at

    subject = examine(Spying())
    results = [judge(subject, clause) for clause in select(equations=[4, 7, 8]) if checks_of(clause)]
    assert {result.status for result in results} <= {Status.PASS, Status.NOT_PROVIDED}
    assert len(shapes) <= 5


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_jax_implementation_conforms_to_every_clause(dtype: str) -> None:
    adapter = InJax()
    adapter.dtype = dtype
    subject = examine(adapter)
    results = [judge(subject, clause) for clause in select(equations=[1, 4, 6, 7, 8, 10, 11]) if checks_of(clause)]
    assert [f"{result.id}: {result.message}" for result in results if result.status is Status.FAIL] == []
