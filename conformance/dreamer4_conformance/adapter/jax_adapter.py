"""The adapter of implementations in JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dreamer4_conformance.adapter.interface import Adapter
from dreamer4_conformance.adapter.operation import Array


class JaxAdapter(Adapter):
    """Interface of an implementation in JAX.

    Losses and samplers are called outside `jit`, because the suite's network reads the values of its arguments;
    `dreamer4_conformance.jax.closure_value` calls a loss that is defined inside a jitted step. For float64 the caller
    enables `jax_enable_x64`. Operations convert `seed` to a key themselves.

    JAX compiles each of its operations again for each shape, outside `jit` as well, and this takes most of the time
    of a run. Checks therefore use few shapes, and operations that take a seed are compiled without optimisations.
    """

    dtypes: Sequence[str] = ("float32", "bfloat16")
    few_shapes = True

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Compile with few optimisations while an operation that takes a seed runs.

        Args:
            seed: of the operation, in [0, 2³¹), which converts it to a key itself.

        Returns:
            A context manager.
        """
        with _few_optimisations():
            yield

    def to_native(self, x: np.ndarray) -> Array:
        """Convert a NumPy array to a jax array.

        Args:
            x: floats, integers or booleans, of any shape.

        Returns:
            jax array, floats in `dtype`.
        """
        import jax.numpy as jnp

        return jnp.asarray(x, dtype=self.dtype if x.dtype.kind == "f" else None)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Convert a jax array or number to NumPy.

        Args:
            x: a jax array, a tracer of `jax.grad`, or a number.

        Returns:
            Floats, bfloat16 included, as float64; integers and booleans in their dtype.

        Raises:
            TypeError: if x is traced by `jit`, or not numeric.
        """
        import jax

        while isinstance(x, jax.core.Tracer):
            if not hasattr(x, "primal"):
                raise TypeError("a value inside jit, which the network cannot read; call the operation outside jit")
            x = x.primal
        if isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.numpy.floating):
            return np.asarray(x.astype("float32") if x.dtype.itemsize < 4 else x).astype(np.float64)
        return super().to_numpy(x)

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """Evaluate the suite's analytic network in float64 NumPy, which needs no compilation, differentiable in z.

        Args:
            z: input, float (N, T, S, D).
            gain: slope of the network in z, float64, broadcasts to z.
            offset: constant of the network, float64, broadcasts to z.
            past: slope of the network in the sum of earlier frames, float64, broadcasts to z.

        Returns:
            jax array (N, T, S, D), rounded once to the dtype of z.
        """
        import jax
        import jax.numpy as jnp

        @jax.custom_jvp
        def _network(z: Array) -> Array:
            return jnp.asarray(Adapter.affine(self, self.to_numpy(z), gain, offset, past), z.dtype)

        @_network.defjvp
        def _differentiated(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
            (tangent,) = tangents
            change = jnp.asarray(gain, tangent.dtype) * tangent
            if past.any():
                change = change + jnp.asarray(past, tangent.dtype) * tangent[:, :-1].sum(1)[:, None]
            return _network(*primals), change

        return _network(z)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray | None] | None]:
        """Differentiate a loss in one pass: an identity behind each output keeps the gradient that arrives there.

        Args:
            loss: function of `probe`, as in `Adapter.output_gradients`.

        Returns:
            The value, and one float64 gradient per output, None for an output that the value does not depend on.
        """
        import jax
        import jax.numpy as jnp

        gradients: list[np.ndarray | None] = []

        def _averaged(origin: Array) -> tuple[Array, Array]:
            def _probe(output: Array) -> Array:
                index = len(gradients)
                gradients.append(None)

                @jax.custom_vjp
                def _identity(output: Array, origin: Array) -> Array:
                    return output

                def _keep(_: None, gradient: Array) -> tuple[Array, Array]:
                    gradients[index] = self.to_numpy(gradient)
                    return gradient, jnp.zeros_like(origin)

                _identity.defvjp(lambda output, origin: (output, None), _keep)
                return _identity(output, origin)  # the origin makes every output part of what is differentiated

            value = loss(_probe)
            return jnp.mean(value), value

        with _few_optimisations():
            (_, value), _ = jax.value_and_grad(_averaged, has_aux=True)(0.0)
        return value, gradients

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """Differentiate the mean of `function(*inputs)` with respect to each input, by jax.grad.

        Args:
            function: takes the inputs, returns a jax array.
            inputs: floating-point jax arrays.

        Returns:
            One float64 gradient for each input, zeros if the function does not depend on it.
        """
        import jax
        import jax.numpy as jnp

        differentiate = jax.grad(lambda *xs: jnp.mean(function(*xs)), argnums=tuple(range(len(inputs))))
        return [self.to_numpy(gradient) for gradient in differentiate(*inputs)]


@contextmanager
def _few_optimisations() -> Iterator[None]:
    """Compile in two thirds of the time; the arithmetic is the same."""
    import jax

    update: Callable[[str, bool], None] = jax.config.update
    before = jax.config.values["jax_disable_most_optimizations"]
    update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        update("jax_disable_most_optimizations", before)
