"""What every equation demands of its arguments: signal levels τ, step sizes d, float64, shapes.

    0 ≤ τ ≤ 1,   d ∈ {1, 1/2, 1/4, …, 1/K_max},   K_max a power of two

Each check raises a sentence that names the equation, the argument, what it got and what it needs.
"""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float64


def require_float64(*, equation: str, **arrays: object) -> None:
    """Refuse everything but float64 arrays, so that no precision is lost silently.

    >>> require_float64(equation="Eq. (1)", z0=np.zeros(3))
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{equation}: {name} is of type {type(array).__name__}, but must be a float64 array")
        if array.dtype != np.float64:
            raise TypeError(f"{equation}: {name} has dtype {array.dtype}, but must be float64")


def require_shape(name: str, array: np.ndarray, shape: tuple[int | None, ...], *, equation: str) -> None:
    """Refuse an array whose shape differs; None leaves an axis free. Nothing ever broadcasts by luck.

    >>> require_shape("tau", np.zeros((2, 3)), (2, None), equation="Eq. (7)")
    """
    if array.ndim != len(shape) or any(need not in (None, got) for got, need in zip(array.shape, shape, strict=True)):
        needed = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{equation}: {name} has shape {array.shape}, but must have shape ({needed})")


def require_same_shape(*, equation: str, **arrays: np.ndarray) -> None:
    """Refuse float64 arrays that differ in shape.

    >>> require_same_shape(equation="Eq. (1)", z0=np.zeros(3), z1=np.ones(3))
    """
    require_float64(equation=equation, **arrays)
    (first, one), *others = arrays.items()
    for name, other in others:
        if other.shape != one.shape:
            raise ValueError(f"{equation}: {name} has shape {other.shape}, but must have that of {first}, {one.shape}")


def require_level(tau: Float64[np.ndarray, "*batch"], *, equation: str, below_one: bool = False) -> None:
    """Refuse signal levels outside [0, 1], or [0, 1) where the equation divides by 1 − τ.

    >>> require_level(np.array([0.0, 0.5, 1.0]), equation="Eq. (1)")
    """
    require_float64(equation=equation, tau=tau)
    inside = (tau >= 0) & ((tau < 1) if below_one else (tau <= 1))
    if not inside.all():
        interval = "[0, 1), because 1 − τ divides" if below_one else "[0, 1]"
        raise ValueError(f"{equation}: tau contains {tau[~inside].flat[0]}, but signal levels lie in {interval}")


def require_power_of_two(name: str, count: int, *, equation: str) -> None:
    """Refuse a number of steps that is not a power of two; 1 is one.

    >>> require_power_of_two("k_max", 64, equation="Eq. (4)")
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer):
        raise TypeError(f"{equation}: {name} is of type {type(count).__name__}, but must be an int")
    if count < 1 or count & (count - 1):
        raise ValueError(f"{equation}: {name} is {count}, but must be a power of two: 1, 2, 4, …")


def require_step(d: Float64[np.ndarray, "*batch"], *, k_max: int | None = None, name: str = "d", equation: str) -> None:
    """Refuse step sizes that are not one of 1, 1/2, 1/4, …, 1/K_max; without k_max the ladder has no end.

    >>> require_step(np.array([1.0, 0.25]), k_max=4, equation="Eq. (4)")
    """
    require_float64(equation=equation, **{name: d})
    mantissa = np.frexp(d)[0]
    on_ladder = (mantissa == 0.5) & (d <= 1)
    if k_max is not None:
        require_power_of_two("k_max", k_max, equation=equation)
        on_ladder &= d * k_max >= 1
    if not on_ladder.all():
        end = "…" if k_max is None else f"… down to 1/{k_max}"
        raise ValueError(f"{equation}: {name} contains {d[~on_ladder].flat[0]}, but step sizes are 1, 1/2, {end}")


def require_option(name: str, got: str, options: tuple[str, ...], *, equation: str) -> None:
    """Refuse the name of a reading that does not exist.

    >>> require_option("norm", "mean", ("mean", "sum"), equation="Eq. (7)")
    """
    if got not in options:
        raise ValueError(f"{equation}: {name} is {got!r}, but must be one of {', '.join(map(repr, options))}")


def require_names(name: str, mapping: Mapping[str, object], needed: Collection[str], *, equation: str) -> None:
    """Refuse a mapping that lacks a parameter.

    >>> require_names("layer", {"wq": 0, "wk": 0}, ["wq"], equation="layers")
    """
    if missing := [key for key in needed if key not in mapping]:
        raise ValueError(f"{equation}: {name} lacks {', '.join(missing)}")
