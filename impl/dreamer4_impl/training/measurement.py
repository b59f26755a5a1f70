"""Values of a training step, which the host reads when it needs them and not earlier."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dreamer4_impl.training.gradients import StepValues
from dreamer4_impl.transfer import to_host


class Measurement:
    """Values of a step over all processes, on their way to the host in one copy.

    Args:
        step: number of completed steps with this one, 1 or more.
        began: time of its start, in seconds of `time.monotonic`.
        settings: values of its record that are not measured, by name.
        values: values of the step, on the device.
        norm: norm of the gradient, scalar on the device.

    >>> values = StepValues({"mse": torch.tensor(2.0)}, {"mse": torch.tensor(3.0)}, torch.tensor(1.0))
    >>> measurement = Measurement(1, 0.0, {}, values, norm=torch.tensor(0.5))
    >>> measurement.loss, measurement.norm, measurement.terms, measurement.means
    (1.0, 0.5, {'mse': 3.0}, {'mse': 2.0})
    """

    def __init__(self, step: int, began: float, settings: Mapping[str, Any], values: StepValues, norm: Tensor) -> None:
        self.step, self.began, self.settings = step, began, settings
        self._terms, self._means = list(values.terms), list(values.means)
        scalars = [values.loss, norm, *values.terms.values(), *values.means.values()]
        self._wait = to_host(torch.stack([scalar.detach().double() for scalar in scalars]))

    @cached_property
    def _numbers(self) -> list[float]:
        return self._wait()

    @property
    def loss(self) -> float:
        """Loss of the normalised terms.

        Returns:
            The loss; NaN or infinite where it is so.
        """
        return self._numbers[0]

    @property
    def norm(self) -> float:
        """Norm of the gradient before it is clipped.

        Returns:
            The norm; NaN or infinite where it is so.
        """
        return self._numbers[1]

    @property
    def terms(self) -> dict[str, float]:
        """Loss terms before normalisation.

        Returns:
            Terms by name; 0 where there is nothing to count.
        """
        return dict(zip(self._terms, self._numbers[2:], strict=False))

    @property
    def means(self) -> dict[str, float]:
        """Means of the phase.

        Returns:
            Means by name; NaN where there is nothing to count.
        """
        return dict(zip(self._means, self._numbers[2 + len(self._terms) :], strict=True))
