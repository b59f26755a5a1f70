"""The adapter of implementations in PyTorch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dreamer4_conformance.adapter.interface import Adapter
from dreamer4_conformance.adapter.operation import Array


class TorchAdapter(Adapter):
    """Interface of an implementation in PyTorch.

    Before each operation that takes a seed, the global random states are seeded with it; afterwards they are restored.
    """

    dtypes: Sequence[str] = ("float64", "float32", "bfloat16")

    def to_native(self, x: np.ndarray) -> Array:
        """Copy a NumPy array to a tensor, so that in-place operations do not change the suite's arrays.

        Args:
            x: floats, integers or booleans, of any shape.

        Returns:
            Tensor on `device`, floats in `dtype`.
        """
        import torch

        tensor = torch.from_numpy(np.array(x, order="C")).to(self.device)
        return tensor.to(getattr(torch, self.dtype)) if tensor.is_floating_point() else tensor

    def to_numpy(self, x: Array) -> np.ndarray:
        """Convert a tensor or number to NumPy.

        Args:
            x: a tensor on any device, or a number.

        Returns:
            Floats as float64, detached; integers and booleans in their dtype.

        Raises:
            TypeError: if x is not numeric.
        """
        import torch

        if not isinstance(x, torch.Tensor):
            return super().to_numpy(x)
        x = x.detach().cpu()
        return super().to_numpy((x.double() if x.is_floating_point() else x).numpy())

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed the global random states of torch (CPU and `device`), NumPy and Python, and restore them afterwards.

        Args:
            seed: of the operation, in [0, 2³¹).

        Returns:
            A context manager.
        """
        import torch

        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - user code's global state
        devices = [self.device] if self.device != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            # torch.manual_seed also records a stack trace for devices that do not exist: milliseconds per operation.
            (torch.manual_seed if devices else torch.default_generator.manual_seed)(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            try:
                yield
            finally:
                np.random.set_state(numpy_state)  # noqa: NPY002
                random.setstate(python_state)

    def affine(self, z: Array, gain: np.ndarray, offset: np.ndarray, past: np.ndarray) -> Array:
        """Evaluate the suite's analytic network in float64 on the device of z.

        Args:
            z: input, float (N, T, S, D).
            gain: slope of the network in z, float64, broadcasts to z.
            offset: constant of the network, float64, broadcasts to z.
            past: slope of the network in the sum of earlier frames, float64, broadcasts to z.

        Returns:
            Tensor (N, T, S, D), rounded once to the dtype of z.
        """
        import torch

        a, b, c = (torch.tensor(x, dtype=torch.float64, device=z.device) for x in (gain, offset, past))
        wide = z.double()
        return (a * wide + b + c * wide[:, :-1].sum(1)[:, None]).to(z.dtype)

    def output_gradients(
        self, loss: Callable[[Callable[[Array], Array]], Array]
    ) -> tuple[Array, list[np.ndarray | None] | None]:
        """Differentiate a loss with respect to one zero leaf that is added to each output of the network.

        Args:
            loss: function of `probe`, as in `Adapter.output_gradients`.

        Returns:
            The value, and one float64 gradient per output, None for an output that the value does not depend on; None
            instead of the list for a number or a detached tensor.
        """
        import torch

        leaves: list[Array] = []

        def _probe(output: Array) -> Array:
            with torch.inference_mode(False):
                leaves.append(torch.zeros(output.shape, dtype=output.dtype, device=output.device, requires_grad=True))
            return output + leaves[-1]

        value = loss(_probe)
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            return value, None
        gradients = torch.autograd.grad(value.mean(), leaves, allow_unused=True)
        return value, [None if gradient is None else self.to_numpy(gradient) for gradient in gradients]

    def gradients(self, function: Callable[..., Array], *inputs: Array) -> list[np.ndarray]:
        """Differentiate the mean of `function(*inputs)` with respect to each input, by torch.autograd.

        Args:
            function: takes the inputs, returns a tensor.
            inputs: floating-point tensors.

        Returns:
            One float64 gradient for each input, zeros if the function does not depend on it.
        """
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        return self._mean_gradients(function(*leaves), leaves)

    def _mean_gradients(self, value: Array, leaves: list[Array]) -> list[np.ndarray]:
        import torch

        if not value.requires_grad:
            return [np.zeros(tuple(leaf.shape)) for leaf in leaves]
        gradients = torch.autograd.grad(value.mean(), leaves, allow_unused=True, materialize_grads=True)
        return [self.to_numpy(gradient) for gradient in gradients]
