"""Ceilings of this card, measured in the same run: bandwidth of a large copy, rate of a large matrix product."""

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.rows import Row
from benchmarks.gpu.timing import median_ms


def ceilings_row(smoke: bool) -> Row:
    """Row of the ceilings, the first one of every stage with timings."""
    return Row("ceilings", "matrix product and copy", lambda: _measure(smoke))


def _measure(smoke: bool) -> dict[str, Any]:
    device, size, elements = ("cpu", 64, 2**16) if smoke else ("cuda", 8192, 2**31)
    tflops, tbps = _product(device, size), _copy(device, elements)
    return {
        "ceilings": {"matmul_tflops": tflops, "copy_tbps": tbps, "matmul_size": size},
        "detail": f"{tflops:.0f} TFLOP/s, {tbps:.2f} TB/s",
    }


def _product(device: str, size: int) -> float:
    """TFLOP/s in bfloat16, on random numbers: with zeros a card draws less power and runs faster."""
    pairs = [torch.randn(2, size, size, device=device, dtype=torch.bfloat16) for _ in range(2)]
    return 2e-9 * size**3 / median_ms([partial(torch.mm, *pair) for pair in pairs], device)


def _copy(device: str, elements: int) -> float:
    """TB/s of a copy, bytes read and bytes written both counted."""
    target, source = torch.randn(2, elements, device=device, dtype=torch.bfloat16)
    calls = [partial(target.copy_, source), partial(source.copy_, target)]
    return 2 * 2e-9 * elements / median_ms(calls, device)
