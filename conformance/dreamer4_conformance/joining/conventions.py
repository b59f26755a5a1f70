"""Conventions of a user's code that no name decides for certain: options, answers on a terminal, or defaults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dreamer4_conformance.joining.matching import Match, Matches, role_of
from dreamer4_conformance.joining.sources import Sources
from dreamer4_conformance.joining.vocabulary import INDEXED

FRAMEWORKS = ("torch", "jax", "numpy")
LEVELS = ("signal", "noise")
UNITS = ("float", "integer")
STEPS = ("size", "count", "log2", "multiple")

QUESTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "framework": ("Which framework does your code use?", FRAMEWORKS),
    "level": ("Is tau = 1 clean data (signal) or pure noise (noise) in your code?", LEVELS),
    "unit": ("Are levels in [0, 1] (float) or in 0 … k_max (integer)?", UNITS),
    "steps": ("What is a step of size d: d (size), 1/d (count), log2(1/d) (log2), d k_max (multiple)?", STEPS),
    "k_max": ("How many steps of the finest size, K_max, are there from noise to data?", ()),
}


@dataclass(frozen=True)
class Conventions:
    """Conventions of the adapted code.

    Attributes:
        framework: "torch", "jax" or "numpy".
        level: "signal" if level 1 is clean data, "noise" if it is pure noise.
        unit: "float" for levels in [0, 1], "integer" for levels in 0 … k_max.
        steps: how a step size d is passed: "size" d, "count" 1/d, "log2" log2(1/d), "multiple" d k_max.
        k_max: K_max, a power of two.
    """

    framework: str = "torch"
    level: str = "signal"
    unit: str = "float"
    steps: str = "size"
    k_max: int = 64


def suggested(sources: Sources, matches: Matches) -> Conventions:
    """Conventions that imports, constants and names of parameters suggest.

    Args:
        sources: of the package.
        matches: its functions by operation.

    Returns:
        The suggestion, with the defaults of `Conventions` where nothing suggests anything.
    """
    names = [name.lower() for match in matches.values() for name in _variables(match)]
    levels = [name for name in names if role_of(name) == "tau"]
    sizes = [name for name in names if role_of(name) == "d"]
    k_max = sources.constants.get("k_max", 64)
    return Conventions(
        next((framework for framework in FRAMEWORKS if framework in sources.imports), "torch"),
        "noise" if any(name.startswith(("sigma", "noise")) for name in levels) else "signal",
        "integer" if _indexed(levels) else "float",
        "log2" if _indexed(sizes) else "size",
        k_max if is_power_of_two(k_max) else 64,
    )


def _variables(match: Match) -> Iterator[str]:
    """Names of levels and steps in a function: parameters, returned variables, and arguments of the model."""
    yield from (parameter for parameter, role in match.roles.items() if role in ("tau", "d"))
    yield from match.function.returned
    yield from (passed.keyword or passed.variable for call in match.function.model_calls for passed in call.arguments)


def _indexed(names: Iterable[str]) -> bool:
    return any(name.endswith(INDEXED) for name in names)


def is_power_of_two(number: int) -> bool:
    """True for 1, 2, 4, 8, …

    Example:
        >>> [is_power_of_two(number) for number in (0, 8, 12)]
        [False, True, False]
    """
    return number > 0 and number & (number - 1) == 0


def ask(question: str, options: tuple[str, ...], default: str) -> str:
    """Ask one question until the answer is valid; an empty answer takes the default.

    Args:
        question: the text.
        options: valid answers; none for a power of two.
        default: the answer that an empty line stands for.

    Returns:
        The answer.

    Raises:
        ValueError: if the input ends.
    """
    choices = f" ({', '.join(options)})" if options else ""
    while True:
        try:
            answer = input(f"{question}{choices} [{default}]: ").strip().lower() or default
        except EOFError:
            raise ValueError("the input ended at a question; answer by options, as `init --help` lists them") from None
        if answer in options or (not options and answer.isdecimal() and is_power_of_two(int(answer))):
            return answer
        print(f"{answer!r} is no answer; it needs {' or '.join(options) or 'a power of two'}")
