"""What is measured: one way of doing one thing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmarks.timing import Run, ceilings


@dataclass(frozen=True)
class Floor:
    """The least that a case takes: its multiply-adds counted as two operations, its operands and results moved once."""

    flops: float
    bytes: float

    def seconds(self, minima: Mapping[str, float]) -> float:
        """On this machine, by the minima that `ceilings` takes."""
        flops, moved = ceilings(minima)
        return max(self.flops / flops, self.bytes / moved)


@dataclass(frozen=True)
class Workload:
    """A case and who does it.

    Args:
        case: what is done, for instance "space forward".
        contender: who does it, for instance a backend.
        build: draws the inputs and returns what is measured.
        error: relative distance from the same in float64, of everything that is returned.
        bound: of that error.
        floor: None where no ceiling says anything.
    """

    case: str
    contender: str
    build: Callable[[], Run]
    error: Callable[[], float]
    bound: float = 1e-5
    floor: Floor | None = None

    @property
    def name(self) -> str:
        """How it is recorded, chosen and reported."""
        return f"{self.case} / {self.contender}"

    def require_correct(self) -> None:
        """Raise AssertionError where the result is wrong: what is wrong is not timed."""
        error = self.error()
        assert error <= self.bound, f"{self.name} must be within {self.bound:g} of float64; got {error:.2g}"


def distance(got: list[Tensor], expected: list[Tensor]) -> float:
    """Largest relative L2 distance of any tensor."""
    pairs = ((left.detach(), right.detach()) for left, right in zip(got, expected, strict=True))
    return max(float((left.double() - right).norm() / right.norm()) for left, right in pairs)
