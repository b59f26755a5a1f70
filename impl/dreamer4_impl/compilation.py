"""torch.compile with an enforced number of forms: beyond its own limit torch runs uncompiled, with only a log line.

A form is one compiled version of a function: of certain shapes, dtypes, options and gradient mode. All modules of a
class share one count, because torch counts by code object.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import torch
from torch import nn

#: Forms of one function, in place of torch's 8: lengths, heads and widths of a few models.
FORMS: Final = 64


class TooManyFormsError(RuntimeError):
    """A function was called in more forms than it may be compiled in."""


def compiled(function: Callable[..., Any], *, forms: int | None = None, **options: Any) -> Callable[..., Any]:
    """Compile a function as one graph, at its first call; within a larger compiled graph it is a part of that.

    Args:
        function: to be compiled.
        forms: how many are compiled at most; None is `FORMS`.
        options: of `torch.compile`; `fullgraph` is set.

    Returns:
        A function that raises TooManyFormsError instead of a form beyond that number, or beyond
        `torch._dynamo.config.recompile_limit` where that is higher.

    Example:
        >>> compiled(torch.sin, backend="eager")(torch.zeros(2)).tolist()
        [0.0, 0.0]
    """
    # Made at the first call, because torch.compile takes seconds to import.
    programs: list[Callable[..., Any]] = []

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if not programs:
            programs.append(torch.compile(function, fullgraph=True, **options))
        return _call_limited(function, programs[0], FORMS if forms is None else forms, args, kwargs)

    return call


def require_compiler(name: str) -> None:
    """Raise unless torch.compile has a backend.

    Args:
        name: name of the backend, such as "inductor".

    Raises:
        ValueError: if there is no such backend.

    Example:
        >>> require_compiler("inductor")
    """
    backends = torch._dynamo.list_backends(exclude_tags=())
    if name not in backends:
        raise ValueError(f"the backend of torch.compile must be one of {', '.join(backends)}; got {name!r}")


def compile_module(module: nn.Module, *, forms: int | None = None, **options: Any) -> None:
    """Compile a module's call in place, as `module.compile` does, with the limit of `compiled`.

    Args:
        module: module to compile; its parameters, hooks and attributes stay as they are. Its calls raise
            TooManyFormsError beyond the limit.
        forms: how many are compiled at most, of all modules of its class; None is `FORMS`.
        options: of `torch.compile`; `fullgraph` is set.
    """
    # `nn.Module.compile` sets the same attribute. The limit must hold around each call: that is when torch compiles,
    # and in torch 2.13 a setting belongs to its thread, while autograd recomputes a layer in a thread of its own.
    module._compiled_call_impl = compiled(module._call_impl, forms=forms, **options)


def _call_limited(function: Callable[..., Any], program: Callable[..., Any], forms: int, args: Any, kwargs: Any) -> Any:
    config = torch._dynamo.config
    limits = {name: max(forms, getattr(config, name)) for name in ("recompile_limit", "accumulated_recompile_limit")}
    with config.patch(**limits):
        try:
            return program(*args, **kwargs)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            raise TooManyFormsError(
                f"{_name(function)} needs more compiled forms than {limits['recompile_limit']}: use fewer distinct "
                "shapes (lengths, batch sizes), forget earlier forms with torch.compiler.reset(), or raise "
                "torch._dynamo.config.recompile_limit; TORCH_LOGS=recompiles prints what each form differs in"
            ) from error


def _name(function: Callable[..., Any]) -> str:
    owner = getattr(function, "__self__", None)
    return getattr(function, "__qualname__", repr(function)) if owner is None else type(owner).__name__
