"""Registers, spills and shared memory of the Triton kernels, compiled ahead of time for an H200 (sm_90) without a GPU.

    python impl/tests/attention/ahead_of_time.py                    the record, as JSON
    python impl/tests/attention/ahead_of_time.py --only "128: decode"

Each kernel is compiled as the operators launch it: same tiles, warps and stages, on tensors without storage. Run it
in a process of its own without TRITON_INTERPRET, under which nothing is compiled.
"""

import argparse
import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from dreamer4_impl.attention import Preparation, Visible
from dreamer4_impl.attention.folding import Options
from dreamer4_impl.attention.triton import operators
from dreamer4_impl.attention.triton.operators import Gradients, Launch

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
WIDTHS = (64, 128)


class Hopper:
    """Replacement of the driver, which needs a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Resources(NamedTuple):
    """Registers of a thread, bytes that it spills (stores and loads), bytes of shared memory of a block."""

    registers: int
    spills: int
    shared: int


def launches(dtype: torch.dtype, width: int) -> Iterator[tuple[str, Launch]]:
    """Launches of training and decoding: 256 frames of 264 tokens, 16 heads in 4 groups, window 192, cap 50."""

    def empty(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def preparation(length: int) -> Preparation:
        angles = empty(length, width // 2, dtype=torch.float32)
        return Preparation(empty(width), 1e-6, (angles, angles))

    q, k = empty(1, 256, 264, 16, width), empty(1, 256, 264, 4, width)
    lse = empty(1, 264, 4, 256, 4, dtype=torch.float32)
    for axis, length, causal, window, private in (("space", 264, False, None, 1), ("time", 256, True, 192, 0)):
        for cap, softcap in (("capped", 50.0), ("uncapped", None)):
            visible = Visible(causal, window, private)
            options = Options(axis, preparation(length), visible, softcap, width**-0.5)
            name = f"{axis}, {cap}"
            yield f"forward, {name}", operators.forward_launch(q, k, k, q, lse, options)
            gradients = Gradients.empty(q, k, options)
            backward = operators.backward_launches(q, k, k, q, lse, q, options, gradients)
            yield from zip((f"queries backward, {name}", f"keys backward, {name}"), backward, strict=True)
    frame, ring, keys = empty(1, 1, 264, 16, width), empty(1, 192, 264, 4, width), empty(1, 1, 264, 4, width)
    number = empty(dtype=torch.int64)
    decode = Options("time", preparation(1), Visible(filled=number), 50.0, width**-0.5)
    yield "decode", operators.forward_launch(frame, ring, ring, frame, lse, decode)
    sums = empty(1, width, dtype=torch.float32)
    yield "prepare keys", operators.prepare_launch(k, k, "space", preparation(264))
    yield "prepare keys backward", operators.prepare_backward_launch(k, k, k, sums, "space", preparation(264))
    yield "write keys", operators.write_launch(keys, keys, ring, ring, number, preparation(1))


def resources(launch: Launch) -> Resources:
    """Compile a launch and parse the log of the assembler."""
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        tile = launch.tile
        compiled = launch.kernel.warmup(**launch.arguments, grid=(1,), num_warps=tile.warps, num_stages=tile.stages)
    (registers,) = re.findall(r"Used (\d+) registers", log.getvalue())
    spilled = re.findall(r"(\d+) bytes spill", log.getvalue())
    return Resources(int(registers), sum(map(int, spilled)), compiled.metadata.shared)


def record(only: str = "") -> dict[str, dict[str, Any]]:
    """Resources by kernel, of the kernels whose names match."""
    driver.set_active(Hopper())
    triton.knobs.nvidia.dump_ptxas_log = triton.knobs.compilation.always_compile = True
    kernels = {}
    for (dtype_name, dtype), width in product(DTYPES.items(), WIDTHS):
        for kernel, launch in launches(dtype, width):
            name = f"{dtype_name}, {width}: {kernel}"
            if re.search(only, name):
                kernels[name] = resources(launch)._asdict()
    return kernels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a regular expression for names of kernels")
    if operators.kernels.INTERPRETED.value:
        parser.error("TRITON_INTERPRET must not be set: interpreted kernels are not compiled")
    kernels = record(parser.parse_args().only)
    json.dump({"triton": triton.__version__, "target": "sm_90", "kernels": kernels}, sys.stdout, indent=1)
    print()
