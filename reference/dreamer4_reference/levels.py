"""Requirements on arguments that all equations share: signal levels τ, step sizes d, float64, shapes.

    0 ≤ τ ≤ 1,   d ∈ {1, 1/2, 1/4, …, 1/K_max},   K_max a power of two

Each function returns nothing when the requirement holds. Otherwise it raises an exception whose message names the
equation, the argument, the value received and the values allowed. `equation` is the prefix of that message.
"""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float64


def require_float64(*, equation: str, **arrays: object) -> None:
    """Require float64 NumPy arrays, because an implicit cast would lose precision without notice.

    Args:
        equation: prefix of the message, such as "Eq. (1)".
        arrays: the values to check, by the names that the message uses.

    Raises:
        TypeError: if a value is not a NumPy array or has another dtype.

    Example:
        >>> require_float64(equation="Eq. (1)", z0=np.zeros(3))
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{equation}: {name} is of type {type(array).__name__}, but must be a float64 array")
        if array.dtype != np.float64:
            raise TypeError(f"{equation}: {name} has dtype {array.dtype}, but must be float64")


def require_shape(name: str, array: np.ndarray, shape: tuple[int | None, ...], *, equation: str) -> None:
    """Require an exact shape, because NumPy would broadcast a wrong one without notice.

    Args:
        name: name of the array in the message.
        array: array of any dtype.
        shape: one entry per axis; None accepts any length.
        equation: prefix of the message, such as "Eq. (7)".

    Raises:
        ValueError: if the number of axes or a length differs.

    Example:
        >>> require_shape("tau", np.zeros((2, 3)), (2, None), equation="Eq. (7)")
    """
    if array.ndim != len(shape) or any(need not in (None, got) for got, need in zip(array.shape, shape, strict=True)):
        needed = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{equation}: {name} has shape {array.shape}, but must have shape ({needed})")


def require_same_shape(*, equation: str, **arrays: np.ndarray) -> None:
    """Require float64 arrays of one shape.

    Args:
        equation: prefix of the message, such as "Eq. (1)".
        arrays: at least one array, by the names that the message uses; the first one gives the shape.

    Raises:
        TypeError: if a value is not a float64 array.
        ValueError: if a shape differs from the first.

    Example:
        >>> require_same_shape(equation="Eq. (1)", z0=np.zeros(3), z1=np.ones(3))
    """
    require_float64(equation=equation, **arrays)
    first, expected = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.shape != expected.shape:
            raise ValueError(
                f"{equation}: {name} has shape {array.shape}, but must have that of {first}, {expected.shape}"
            )


def require_level(tau: Float64[np.ndarray, "*batch"], *, equation: str, below_one: bool = False) -> None:
    """Require signal levels in [0, 1], or in [0, 1) where the equation divides by 1 − τ. NaN is rejected.

    Args:
        tau: float64 signal levels, any shape; 0 is pure noise, 1 is clean data.
        equation: prefix of the message, such as "Eq. (1)".
        below_one: True excludes τ = 1.

    Raises:
        TypeError: if tau is not a float64 array.
        ValueError: if a level lies outside the interval.

    Example:
        >>> require_level(np.array([0.0, 0.5, 1.0]), equation="Eq. (1)")
    """
    require_float64(equation=equation, tau=tau)
    inside = (tau >= 0) & ((tau < 1) if below_one else (tau <= 1))
    if not inside.all():
        interval = "[0, 1), because 1 − τ divides" if below_one else "[0, 1]"
        raise ValueError(f"{equation}: tau contains {tau[~inside].flat[0]}, but signal levels lie in {interval}")


def require_power_of_two(name: str, count: int, *, equation: str) -> None:
    """Require an integer power of two; 1 = 2⁰ is accepted.

    Args:
        name: name of the number in the message.
        count: number of steps, an int or NumPy integer ≥ 1.
        equation: prefix of the message, such as "Eq. (4)".

    Raises:
        TypeError: if count is not an integer; bool is rejected.
        ValueError: if count is not a power of two.

    Example:
        >>> require_power_of_two("k_max", 64, equation="Eq. (4)")
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer):
        raise TypeError(f"{equation}: {name} is of type {type(count).__name__}, but must be an int")
    if count < 1 or count & (count - 1):
        raise ValueError(f"{equation}: {name} is {count}, but must be a power of two: 1, 2, 4, …")


def require_step(d: Float64[np.ndarray, "*batch"], *, k_max: int | None = None, name: str = "d", equation: str) -> None:
    """Require step sizes from the list 1, 1/2, 1/4, …, 1/K_max. NaN is rejected.

    Args:
        d: float64 step sizes, any shape.
        k_max: K_max, a power of two; None accepts every 2⁻ⁿ with n ≥ 0.
        name: name of the array in the message.
        equation: prefix of the message, such as "Eq. (4)".

    Raises:
        TypeError: if d is not a float64 array or k_max is not an integer.
        ValueError: if a step size is not in the list or k_max is not a power of two.

    Example:
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
    """Require the name of an existing reading or option.

    Args:
        name: name of the keyword in the message.
        got: the value received.
        options: all values allowed.
        equation: prefix of the message, such as "Eq. (7)".

    Raises:
        ValueError: if got is not among the options.

    Example:
        >>> require_option("norm", "mean", ("mean", "sum"), equation="Eq. (7)")
    """
    if got not in options:
        raise ValueError(f"{equation}: {name} is {got!r}, but must be one of {', '.join(map(repr, options))}")


def require_names(name: str, mapping: Mapping[str, object], needed: Collection[str], *, equation: str) -> None:
    """Require that a mapping contains all parameters that the function reads; further keys are ignored.

    Args:
        name: name of the mapping in the message.
        mapping: parameters by name.
        needed: names that must be present.
        equation: prefix of the message, such as "layers".

    Raises:
        ValueError: if a name is missing.

    Example:
        >>> require_names("layer", {"wq": 0, "wk": 0}, ["wq"], equation="layers")
    """
    if missing := [key for key in needed if key not in mapping]:
        raise ValueError(f"{equation}: {name} lacks {', '.join(missing)}")
