"""Training step of an implementation: the gradient of its loss, and the update."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Training:
    """A model and its loss, for a step in two parts that are timed separately.

    Args:
        model: with parameters to train.
        loss: draws levels and noise and computes Eq. (7) on fixed data.
    """

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor]) -> None:
        self.model, self._loss = model, loss
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def gradient(self) -> float:
        """Compute the loss and its gradient.

        Returns:
            The loss.
        """
        loss = self._loss()
        torch.autograd.backward(loss)
        return float(loss.detach())

    def update(self) -> None:
        """Change the parameters by AdamW and drop the gradient."""
        self._optimizer.step()
        self._optimizer.zero_grad()

    def trained_parameters(self) -> int:
        """Count the parameters that have a gradient."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.grad is not None)
