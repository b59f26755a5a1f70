"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

import argparse

from dreamer4_conformance.verdicts import TIME_LIMIT


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that select clauses.

    Args:
        parser: of the command.
    """
    parser.add_argument(
        "--eq", metavar="7,8", type=equations, action="extend", help="only the clauses of these equations"
    )
    parser.add_argument(
        "--clause", metavar="ID,…", type=names, action="extend", help="only these clauses; 'eq07.*' works too"
    )


def add_conditions(parser: argparse.ArgumentParser, seed_default: str) -> None:
    """Add the options that decide on which inputs, and for how long, operations run.

    Args:
        parser: of the command.
        seed_default: default of the seed, for the help.
    """
    parser.add_argument("--seed", type=seed, help=f"seed of everything random (default: {seed_default})")
    parser.add_argument(
        "--profile",
        choices=("dev", "ci", "nightly"),
        default="ci",
        help="ci: the same inputs in every run (default); dev: inputs from the seed; nightly: ten times as many",
    )
    parser.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=seconds,
        default=TIME_LIMIT,
        help=f"end a call of an operation that takes longer (default: {TIME_LIMIT:g}); its clauses are inconclusive",
    )


def equations(text: str) -> list[int]:
    """Parse a list of equation numbers.

    Example:
        >>> equations("7,8")
        [7, 8]
    """
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of equation numbers such as 7,8") from None


def names(text: str) -> list[str]:
    """Parse a list of clause ids or patterns.

    Example:
        >>> names("eq08.value, eq07.*")
        ['eq08.value', 'eq07.*']
    """
    return [name.strip() for name in text.split(",")]


def seed(text: str) -> int:
    """Parse a seed that all random generators accept.

    Example:
        >>> seed("7")
        7
    """
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2147483647")
    return int(text)


def seconds(text: str) -> float:
    """Parse a positive number of seconds.

    Example:
        >>> seconds("2.5")
        2.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return value


def positive(text: str) -> int:
    """Parse a positive whole number.

    Example:
        >>> positive("2")
        2
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)
