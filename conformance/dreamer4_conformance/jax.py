"""Helpers for adapters of JAX code: losses sealed inside a jitted training step, and random parameters.

The suite's network reads the values of its arguments, so that a loss has to run outside `jit`. Many training steps
define their loss inside the jitted function, where no adapter can call it:

    @jax.jit
    def train_step(state, batch, key):
        def loss_fn(params):
            return shortcut_loss(lambda *args: model.apply(params, *args), batch, key), {}

        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), metrics

`closure_value` runs such a step as plain Python up to its gradient and returns the loss that it would differentiate:

    class Mine(JaxAdapter):
        def dynamics_loss(self, network, z1, actions, seed):
            state = TrainState(apply_fn=lambda params, *args: network(*args), params={})
            return closure_value(train_step, state, {"z": z1, "actions": actions}, jax.random.key(seed))

`randomised_parameters` fills the parameters of a model, so that layers initialised to zero have an influence.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

__all__ = ["closure_value", "randomised_parameters"]

Function = Callable[..., Any]


class _LossReachedError(BaseException):
    """Ends the training step with the value of its loss. No `except Exception` of the step catches it."""

    def __init__(self, value: Any) -> None:
        super().__init__("the step has reached its loss")
        self.value = value


def closure_value(step: Function, /, *args: Any, index: int = 0, **kwargs: Any) -> Any:
    """Run a training step up to a gradient, without `jit`, and return the value that it would differentiate.

    `jax.jit` and other wrappers of `step` are removed where they keep `__wrapped__`, `jit` inside is disabled,
    `jax.checkpoint` and `jax.remat` return their function unchanged, and `jax.grad` and `jax.value_and_grad` call it
    once, without a gradient, also where a module has imported them by name. The value can be differentiated from
    outside, by `JaxAdapter.output_gradients` for example. A function that was wrapped by `jax.checkpoint` when its
    module was imported stays wrapped: the network cannot be called inside it.

    Args:
        step: the training step, jitted or not.
        args: its positional arguments, with the suite's network in place of the model.
        index: which of the gradients that the step takes, from 0 in the order of the calls; earlier ones are computed.
        kwargs: its keyword arguments, which may be called `step` too.

    Returns:
        The value of the loss, without auxiliary outputs: a scalar jax array.

    Raises:
        ValueError: if the step ends before it takes that gradient.

    Example:
        >>> import jax.numpy as jnp
        >>> @jax.jit
        ... def train_step(params, batch):
        ...     grads = jax.grad(lambda params: jnp.mean((params * batch) ** 2))(params)
        ...     return params - 0.1 * grads
        >>> float(closure_value(train_step, 3.0, jnp.ones(4)))
        9.0
    """
    before = iter(range(index))

    def until_loss(function: Function, has_aux: bool, differentiate: Function) -> Function:
        def evaluate(*inputs: Any, **options: Any) -> Any:
            if next(before, None) is not None:
                return differentiate(*inputs, **options)
            value = function(*inputs, **options)
            raise _LossReachedError(value[0] if has_aux else value)

        return evaluate

    with jax.disable_jit(), _replaced(until_loss):
        try:
            inspect.unwrap(step)(*args, **kwargs)
        except _LossReachedError as reached:
            return reached.value
    raise ValueError(
        f"step: {getattr(step, '__name__', repr(step))} ended before it took gradient number {index} by jax.grad or "
        "jax.value_and_grad; it needs to take that many, or `index` a smaller number"
    )


@contextmanager
def _replaced(until_loss: Callable[[Function, bool, Function], Function]) -> Iterator[None]:
    """Replace the transformations in `jax` and in all modules that have imported them by name, except JAX's own."""

    def differentiating(original: Function) -> Function:
        def transform(fun: Function, argnums: Any = 0, has_aux: bool = False, **options: Any) -> Function:
            return until_loss(fun, has_aux, original(fun, argnums, has_aux=has_aux, **options))

        return transform

    def unchanged(fun: Function | None = None, **_: Any) -> Function:
        return (lambda function: function) if fun is None else fun

    replacements = {id(original): differentiating(original) for original in (jax.grad, jax.value_and_grad)}
    replacements |= {id(original): unchanged for original in (jax.checkpoint, jax.remat)}
    with ExitStack() as stack:
        for module in [jax, *_users_modules()]:
            for name, value in list(vars(module).items()):
                if id(value) in replacements:
                    stack.callback(setattr, module, name, value)
                    setattr(module, name, replacements[id(value)])
        yield


def _users_modules() -> Iterator[Any]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in {"jax", "jaxlib", "dreamer4_conformance"} and hasattr(module, "__dict__"):
            yield module


def randomised_parameters(parameters: Any, seed: int = 0) -> Any:
    """Replace every parameter by random values of order one, like `dreamer4_conformance.randomised` for torch.

    Vectors of ones become 1 + normal values / 4, other vectors and scalars normal values / 2. Arrays of two or more
    axes become normal values if the last name on their path contains "embed", and else normal values divided by
    √(size / last axis), which is √fan-in for a matrix that multiplies from the right.

    Args:
        parameters: a tree of floating-point arrays, of Flax or any other library.
        seed: of the values, in [0, 2³¹).

    Returns:
        The same tree with new arrays of the same shapes and dtypes.

    Example:
        >>> import jax.numpy as jnp
        >>> head = randomised_parameters({"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)})
        >>> head["kernel"].shape, bool((head["kernel"] != 0).all())
        ((4, 3), True)
    """
    rng = np.random.default_rng(seed)

    def random(path: tuple[Any, ...], parameter: Any) -> Any:
        values = rng.standard_normal(parameter.shape)
        if parameter.ndim < 2:
            values = 1 + values / 4 if bool((parameter == 1).all()) else values / 2
        elif not path or "embed" not in str(path[-1]):
            values = values / (parameter.size / parameter.shape[-1]) ** 0.5
        return jax.numpy.asarray(values, parameter.dtype)

    return jax.tree_util.tree_map_with_path(random, parameters)
