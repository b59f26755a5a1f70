"""The kernel that shows whether Triton's interpreter works; in a module of its own, because Triton is imported late."""

from typing import Any

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def count(counter: Any, times: Any) -> None:
    """Add `times` ones to a bfloat16 counter."""
    total = tl.load(counter)
    for _ in range(0, times):
        total += tl.full((), 1, tl.bfloat16)
    tl.store(counter, total)
