"""Python code of one operation: the call of the user's function, with levels and steps in its units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dreamer4_conformance.joining.conventions import Conventions
from dreamer4_conformance.joining.matching import Candidate, Match, call_roles, role_of
from dreamer4_conformance.joining.sources import Function, ModelCall

RETURN_PAIRS = ("sample_tau_d", "mtp_targets", "qk_norm")
"""Operations that return a pair."""
ARRAY_MODULES = {"torch": "torch", "jax": "jnp", "numpy": "np"}
GENERATORS = {
    "torch": "torch.Generator(self.device).manual_seed(seed)",
    "jax": "jax.random.key(seed)",
    "numpy": "np.random.default_rng(seed)",
}


def operation_call(operation: str, reference: str, match: Match, conventions: Conventions) -> Iterator[str]:
    """Yield the lines that call the user's function and return its result.

    Args:
        operation: name of the operation.
        reference: how the function is called in the adapter, such as `losses.ramp`.
        match: the function, and what its parameters stand for.
        conventions: of its code.

    Returns:
        Lines of the method's body.
    """
    call = f"{reference}({', '.join(_arguments(match.function, match.roles, match.model, conventions))})"
    if operation != "sample_tau_d":
        yield f"return {call}{_first(operation, match.function)}"
        return
    order = ", ".join(("d", "tau") if _is_swapped(match) else ("tau", "d"))
    tau, d = level_from_code("tau", conventions), step_from_code("d", conventions)
    if (order, tau, d) == ("tau, d", "tau", "d"):
        yield f"return {call}"
    else:
        yield f"{order} = {call}"
        yield f"return {tau}, {d}"


def candidate_call(operation: str, candidate: Candidate, conventions: Conventions) -> str:
    """The call of a candidate as far as its parameters are recognised, with `...` for the others.

    Args:
        operation: name of the operation.
        candidate: the function.
        conventions: of its code.

    Returns:
        A return statement.
    """
    if candidate.roles is None:
        return "return ..."
    function = candidate.function
    arguments = ", ".join(_arguments(function, candidate.roles, None, conventions))
    return f"return {function.module}.{function.name}({arguments}){_first(operation, function)}"


def _first(operation: str, function: Function) -> str:
    """An index that selects the result of a function that returns more, such as a loss and its terms."""
    return "[0]" if function.returned and operation not in RETURN_PAIRS else ""


def _is_swapped(match: Match) -> bool:
    """True if the function returns step sizes first."""
    return bool(match.function.returned) and role_of(match.function.returned[0]) == "d"


def _arguments(
    function: Function, roles: Mapping[str, str], model: ModelCall | None, conventions: Conventions
) -> Iterator[str]:
    by_keyword = False
    for parameter in function.parameters:
        if parameter.name not in roles and not parameter.required:
            by_keyword = True
            continue
        value = _value(roles[parameter.name], model, conventions) if parameter.name in roles else "..."
        by_keyword |= parameter.keyword_only
        yield f"{parameter.name}={value}" if by_keyword else value


def _value(role: str, model: ModelCall | None, conventions: Conventions) -> str:
    special = {
        "tau": level_to_code("tau", conventions),
        "d": step_to_code("d", conventions),
        "network": "network" if model is None else "model",
        "k_max": "self.k_max",
        "device": "self.device",
        "dtype": f"getattr({ARRAY_MODULES[conventions.framework]}, self.dtype)",
        "random": GENERATORS[conventions.framework],
        "shape": "(batch, time)",
        "ended": "1 - cont",
    }
    return special.get(role, role)


def network_wrapper(match: Match, conventions: Conventions) -> Iterator[str]:
    """Yield the lines of a function that calls the suite's network as the user's code calls its model.

    Args:
        match: the function; without a call of its model there is nothing to yield.
        conventions: of its code.

    Returns:
        Lines of the method's body, in front of those of `operation_call`.
    """
    if match.model is None:
        return
    names, roles = _parameter_names(match.model), call_roles(match.model)
    by_role = {role: name for role, name in zip(roles, names, strict=True) if role}
    required = max(map(roles.index, ("z", "tau", "d")))
    parameters = [name + "=None" * (index > required) for index, name in enumerate(names)]
    yield f"def model({', '.join(parameters)}):  # as {match.function.name} calls it"
    tau, d = level_from_code(by_role["tau"], conventions), step_from_code(by_role["d"], conventions)
    actions = f", {by_role['actions']}" if "actions" in by_role else ""
    output = f"network({by_role['z']}, {tau}, {d}{actions})"
    yield f"    return {output}" + ", None" * (match.model.results - 1)
    yield ""


def _parameter_names(call: ModelCall) -> list[str]:
    roles = call_roles(call)
    return [
        argument.keyword or role or f"argument_{index}"
        for index, (argument, role) in enumerate(zip(call.arguments, roles, strict=True))
    ]


# Units


def level_to_code(name: str, conventions: Conventions) -> str:
    """An expression for a level in the unit of the user's code."""
    return name if conventions.unit == "float" else _integer(f"{name} * self.k_max", conventions)


def level_from_code(name: str, conventions: Conventions) -> str:
    """An expression for a level in [0, 1]."""
    return name if conventions.unit == "float" else f"{name} / self.k_max"


def step_to_code(name: str, conventions: Conventions) -> str:
    """An expression for a step size in the representation of the user's code."""
    array = ARRAY_MODULES[conventions.framework]
    forms = {"count": f"1 / {name}", "log2": f"-{array}.log2({name})", "multiple": f"{name} * self.k_max"}
    return name if conventions.steps == "size" else _integer(forms[conventions.steps], conventions)


def step_from_code(name: str, conventions: Conventions) -> str:
    """An expression for a step size in (0, 1]."""
    forms = {"size": name, "count": f"1 / {name}", "log2": f"0.5 ** {name}", "multiple": f"{name} / self.k_max"}
    return forms[conventions.steps]


def _integer(expression: str, conventions: Conventions) -> str:
    if conventions.framework == "torch":
        return f"torch.round({expression}).long()"
    return f"{ARRAY_MODULES[conventions.framework]}.round({expression}).astype(int)"
