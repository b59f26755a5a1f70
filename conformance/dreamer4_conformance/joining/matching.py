"""Functions of a user's package, paired with the operations of the adapter by their names and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dreamer4_conformance.joining.sources import Function, ModelCall, Parameter, Passed
from dreamer4_conformance.joining.vocabulary import (
    ALIASES,
    CONSTANTS,
    ENDED,
    INDEXED,
    OPTIONAL,
    PREFERRED,
    RANDOM,
    VOCABULARY,
    words,
)

ROLES = ("z", "tau", "d", "actions")
"""Arguments of the suite's network."""


@dataclass(frozen=True)
class Match:
    """A function that has the parameters of an operation.

    Attributes:
        function: the function.
        roles: parameter → what is passed: an argument of the operation, or one of "k_max", "device", "dtype", "random",
            "ended" (1 − c_t), "shape" ((B, T)).
        model: the call of the network in the function's body; None if it calls it as the suite does, or not at all.
    """

    function: Function
    roles: Mapping[str, str]
    model: ModelCall | None = None


@dataclass(frozen=True)
class Candidate:
    """A function whose name fits an operation and whose parameters do not.

    Attributes:
        function: the function.
        reason: why it is not called.
        roles: as of a `Match`, for the parameters that are recognised; None for a method.
    """

    function: Function
    reason: str
    roles: Mapping[str, str] | None = None


Matches = dict[str, Match]
Candidates = dict[str, list[Candidate]]


def match_operations(functions: Iterable[Function]) -> tuple[Matches, Candidates]:
    """Pair functions with operations.

    Args:
        functions: of the user's package.

    Returns:
        The best match of each operation that has one, and the candidates of the operations that have none.
    """
    matches: Matches = {}
    candidates: Candidates = {}
    pool = list(functions)
    for operation in VOCABULARY:
        fitting = sorted(_named(operation, pool), key=lambda pair: pair[0])
        outcomes = [_bind(operation, function) for _, function in fitting]
        complete = [outcome for outcome in outcomes if isinstance(outcome, Match)]
        if complete:
            matches[operation] = complete[0]
        else:
            candidates[operation] = [outcome for outcome in outcomes if isinstance(outcome, Candidate)]
    return matches, _unused(candidates, matches)


def _unused(candidates: Candidates, matches: Matches) -> Candidates:
    """Candidates without the functions that are another operation already."""
    used = {id(match.function) for match in matches.values()}
    free = {name: [c for c in members if id(c.function) not in used] for name, members in candidates.items()}
    return {name: members for name, members in free.items() if members}


def _named(operation: str, functions: Iterable[Function]) -> Iterator[tuple[tuple[int, bool], Function]]:
    """Functions whose name fits, with the number of words that do not belong to it; private ones last."""
    entry = VOCABULARY[operation]
    for function in functions:
        available = words(function.name)
        wanted = [name for name in map(words, entry.names) if set(name) <= set(available)]
        if wanted and entry.excluded.isdisjoint(available):
            surplus = len(available) - max(map(len, wanted))
            yield (surplus, function.name.rpartition(".")[2].startswith("_")), function


def _bind(operation: str, function: Function) -> Match | Candidate:
    """Find what each parameter of a function stands for."""
    if function.bound:
        return Candidate(function, "a method, which needs an instance")
    arguments = VOCABULARY[operation].arguments
    roles = _roles(operation, arguments, function.parameters)
    unused = [name for name in arguments if name not in _covered(roles) | OPTIONAL]
    unbound = [
        parameter.name for parameter in function.parameters if parameter.required and parameter.name not in roles
    ]
    if unbound:
        return Candidate(function, f"no argument stands for {_listed(unbound)}", roles)
    if unused:
        return Candidate(function, f"no parameter for {_listed(unused)}", roles)
    returned = list(map(role_of, function.returned)) if operation == "sample_tau_d" else []
    if returned and len(set(returned)) < 2:
        return Candidate(function, f"returns {_listed(function.returned)}", roles)
    return Match(function, roles, _model(function, roles))


def _covered(roles: Mapping[str, str]) -> set[str]:
    covered = set(roles.values())
    return covered | ({"batch", "time"} if "shape" in covered else set()) | ({"cont"} if "ended" in covered else set())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _roles(operation: str, arguments: Iterable[str], parameters: tuple[Parameter, ...]) -> dict[str, str]:
    """Parameter → argument: equal names first, then aliases in the order of the vocabulary, then the constants."""
    by_name = {_plain(parameter.name): parameter.name for parameter in parameters}
    roles = {by_name[_plain(argument)]: argument for argument in arguments if _plain(argument) in by_name}
    for argument in arguments:
        aliases = (*PREFERRED.get(operation, {}).get(argument, ()), *ALIASES.get(argument, ()))
        if argument not in roles.values():
            _assign(roles, by_name, argument, aliases)
    for role, aliases in _surroundings(arguments).items():
        _assign(roles, by_name, role, (role, *aliases))
    return roles


def _surroundings(arguments: Iterable[str]) -> dict[str, tuple[str, ...]]:
    roles: dict[str, tuple[str, ...]] = dict(CONSTANTS)
    if "seed" in arguments:
        roles["random"] = RANDOM
    if "batch" in arguments:
        roles["shape"] = ("size",)
    if "cont" in arguments:
        roles["ended"] = ENDED
    return roles


def _assign(roles: dict[str, str], by_name: Mapping[str, str], role: str, aliases: Iterable[str]) -> None:
    free = (by_name[_plain(alias)] for alias in aliases if _plain(alias) in by_name)
    parameter = next((name for name in free if name not in roles), None)
    if parameter is not None:
        roles[parameter] = role


def _plain(name: str) -> str:
    """A name without case, underscores and "index" at its end, by which names are compared."""
    plain = name.replace("_", "").lower()
    return next((plain.removesuffix(end) for end in INDEXED if plain.endswith(end) and plain != end), plain)


# The network


def _model(function: Function, roles: Mapping[str, str]) -> ModelCall | None:
    """The first call of the network whose arguments can all be recognised, unless the suite's network fits as it is."""
    networks = {parameter for parameter, role in roles.items() if role == "network"}
    for call in function.model_calls:
        if call.model in networks:
            passed = call_roles(call)
            return call if {"z", "tau", "d"} <= set(passed) and not _is_as_in_the_suite(call, passed) else None
    return None


def _is_as_in_the_suite(call: ModelCall, passed: list[str | None]) -> bool:
    by_position = [role for argument, role in zip(call.arguments, passed, strict=True) if argument.keyword is None]
    keywords = all(argument.keyword in (None, role) for argument, role in zip(call.arguments, passed, strict=True))
    return keywords and by_position == list(ROLES[: len(by_position)]) and call.results == 1


def call_roles(call: ModelCall) -> list[str | None]:
    """What the arguments of a call of the network are.

    Args:
        call: of the network.

    Returns:
        For each argument one of `ROLES`, or None if its names say nothing.
    """
    return [_role(passed) for passed in call.arguments]


def _role(passed: Passed) -> str | None:
    return (role_of(passed.keyword) if passed.keyword else None) or role_of(passed.variable)


def role_of(name: str) -> str | None:
    """What a variable is by its name, as an argument of the network.

    Args:
        name: of the variable.

    Returns:
        One of `ROLES`, or None if the name says nothing.

    Example:
        >>> [role_of(name) for name in ("z_tilde", "signal_idx", "half_d", "act", "mask")]
        ['z', 'tau', 'd', 'actions', None]
    """
    plain = _plain(name)
    for role in ("actions", "tau", "d"):
        if any(plain == _plain(alias) for alias in (role, *ALIASES[role])):
            return role
    if plain.startswith(("tau", "signal", "sigma", "level")):
        return "tau"
    if plain.startswith(("step", "dhalf", "halfd", "dlog", "logd", "dmin", "dboot", "dteacher")):
        return "d"
    if plain.startswith("act"):
        return "actions"
    return "z" if plain.startswith(("z", "x", "noisy", "latent", "corrupted")) else None
