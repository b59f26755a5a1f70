"""Products of one input with several matrices, as one product with the matrices next to each other.

    x W₁, x W₂, …  =  columns of x [W₁ W₂ …]

For passes that run often with the same parameters, such as those of `FrameEngine`: fewer and larger products. The
joined matrix is a copy, so parameters, gradients and checkpoints stay as they are.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SharedInput(nn.Module, ABC):
    """Layer that multiplies one input by several matrices.

    Attributes:
        joined: the matrices next to each other, while a pass uses them; else None.
    """

    joined: Float[Tensor, "D F"] | None = None

    @abstractmethod
    def matrices(self) -> Sequence[Float[Tensor, "D _"]]:
        """List the matrices.

        Returns:
            Parameters with D rows each, in a fixed order.
        """

    def products(self, x: Float[Tensor, "*shape D"]) -> Sequence[Float[Tensor, "*shape _"]]:
        """Multiply by every matrix. Both ways agree up to the rounding of a product.

        Args:
            x: vectors of D channels, in the dtype of the parameters unless autocast is on, (…, D).

        Returns:
            x @ matrix for each matrix; views of one tensor where they are joined.
        """
        if self.joined is None:
            return [x @ matrix for matrix in self.matrices()]
        return torch.split_with_sizes(x @ self.joined, [matrix.shape[1] for matrix in self.matrices()], dim=-1)


class JoinedMatrices:
    """Joined matrices of every `SharedInput` in a model, for passes without gradient.

    Args:
        model: its parameters may change in place, or be replaced by others of the same shape, dtype and device. Layers
            whose parameters are distributed over processes stay as they are.

    Example:
        >>> from dreamer4_impl.layers.swiglu import SwiGLU
        >>> model, x = SwiGLU(2, 3), torch.ones(1, 2)
        >>> matrices = JoinedMatrices(model)
        >>> with torch.no_grad(), matrices.used():
        ...     joined = model(x)
        >>> torch.allclose(joined, model(x)), model.joined is None
        (True, True)
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, SharedInput) and _is_local(layer)]
        self._layers = [(layer, torch.cat(list(layer.matrices()), dim=1)) for layer in layers]
        self._states = [_state(layer) for layer in layers]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy what has changed since, in place: needed before a CUDA graph of a pass is replayed.

        A change through `Tensor.data` is not noticed, because torch does not count it.
        """
        for index, (layer, joined) in enumerate(self._layers):
            state = _state(layer)
            if state is None or state != self._states[index]:
                torch.cat(list(layer.matrices()), dim=1, out=joined)
                self._states[index] = state

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the model use the joined matrices, up to date, in the block.

        Returns:
            Context of the passes; at its end the model uses its own matrices again.
        """
        self.refresh()
        try:
            for layer, joined in self._layers:
                layer.joined = joined
            yield
        finally:
            for layer, _ in self._layers:
                layer.joined = None


def _is_local(layer: SharedInput) -> bool:
    return all(type(matrix) is nn.Parameter for matrix in layer.matrices())


def _state(layer: SharedInput) -> tuple[tuple[int, int], ...] | None:
    """Storage and version of each matrix; None for tensors of inference mode, whose changes torch does not count."""
    matrices = layer.matrices()
    if any(matrix.is_inference() for matrix in matrices):
        return None
    return tuple((matrix.data_ptr(), matrix._version) for matrix in matrices)
