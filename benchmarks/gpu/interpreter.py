"""Triton's interpreter, in which a smoke run computes kernels: whether it works with what is installed."""

import os
from functools import cache
from importlib.metadata import version


@cache
def interpreter_error() -> str | None:
    """Why kernels cannot be interpreted on this machine; None where they can, or where they are compiled.

    A kernel with nothing but a loop over an argument and a bfloat16 constant is tried: where that fails, the cause is none
    of this project's kernels. Triton 3.6 fails from NumPy 2.4 on, and has no bfloat16 constants.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        return None
    import dreamer4_impl.attention.triton.operators  # noqa: F401 - it repairs the interpreter
    import torch

    from benchmarks.gpu.trial_kernel import count

    counted = torch.zeros(1, dtype=torch.bfloat16)
    try:
        count[(1,)](counted, 2)
    except Exception as error:
        installed = ", ".join(f"{name} {version(name)}" for name in ("triton", "numpy"))
        cause = error.__cause__ or error
        return f"Triton's interpreter does not run with {installed}: {cause}"
    return None
