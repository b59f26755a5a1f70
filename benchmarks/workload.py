"""Workload: one case computed by one contender."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmarks.timing import Run, ceilings


@dataclass(frozen=True)
class Floor:
    """Least operations and bytes of a case: a multiply-add is two operations; operands and results are moved once."""

    flops: float
    bytes: float

    def seconds(self, minima: Mapping[str, float]) -> float:
        """Least possible time on this machine, from the minima that `ceilings` takes."""
        flops, moved = ceilings(minima)
        return max(self.flops / flops, self.bytes / moved)


@dataclass(frozen=True)
class Workload:
    """A case and its contender.

    Args:
        case: computation, for instance "space forward".
        contender: implementation of the case, for instance a backend.
        build: draws the inputs and returns the measured call.
        error: relative distance of all results from a float64 computation.
        bound: largest accepted error.
        floor: least operations and bytes; None if the case has no meaningful ceiling.
    """

    case: str
    contender: str
    build: Callable[[], Run]
    error: Callable[[], float]
    bound: float = 1e-5
    floor: Floor | None = None

    @property
    def name(self) -> str:
        """Identifier in records, on the command line and in reports."""
        return f"{self.case} / {self.contender}"

    def require_correct(self) -> None:
        """Check the result before timing.

        Raises:
            AssertionError: if the error is above the bound.
        """
        error = self.error()
        assert error <= self.bound, f"{self.name} must be within {self.bound:g} of float64; got {error:.2g}"


def distance(got: list[Tensor], expected: list[Tensor]) -> float:
    """Largest relative L2 distance between corresponding tensors."""
    pairs = ((left.detach(), right.detach()) for left, right in zip(got, expected, strict=True))
    return max(float((left.double() - right).norm() / right.norm()) for left, right in pairs)
