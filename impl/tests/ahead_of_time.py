"""What the Triton kernels take of an H200, compiled ahead of time for sm_90 by a machine that needs no GPU.

    python impl/tests/ahead_of_time.py                    the record, as JSON
    python impl/tests/ahead_of_time.py --only "128: decode"

Each kernel is compiled as its launcher would launch it: same tiles, warps and stages, on tensors without storage. It takes a
process of its own, without TRITON_INTERPRET, under which there is nothing to compile.
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

from dreamer4_impl.attention.triton import operators as triton_attention
from dreamer4_impl.attention.triton.operators import Gradients, Launch, Rules, Turn

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
WIDTHS = (64, 128)


class Hopper:
    """Stands in for the driver, which only a GPU has."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Resources(NamedTuple):
    """Of one kernel: registers of a thread, bytes that it spills (stores and loads), shared memory of a block in bytes."""

    registers: int
    spills: int
    shared: int


def launches(dtype: torch.dtype, width: int) -> Iterator[tuple[str, Launch]]:
    """All kernels as training and decoding launch them: 256 frames of 264 places, 16 heads in 4 groups, window 192, cap 50."""

    def empty(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def turn(length: int) -> Turn:
        angles = empty(length, width // 2, dtype=torch.float32)
        return Turn(empty(width), angles, angles, 1e-6)

    q, k = empty(1, 256, 264, 16, width), empty(1, 256, 264, 4, width)
    lse = empty(1, 264, 4, 256, 4, dtype=torch.float32)
    for axis, length, causal, window, private in (("space", 264, False, None, 1), ("time", 256, True, 192, 0)):
        for cap, softcap in (("capped", 50.0), ("uncapped", None)):
            rules = Rules(causal, window, private, None, None, softcap, width**-0.5)
            name = f"{axis}, {cap}"
            forward = triton_attention.forward_launch(q, k, k, q, lse, axis, rules, turn(length))
            yield f"forward, {name}", forward
            gradients = Gradients.empty(q, k, axis, turn(length))
            backward = triton_attention.backward_launches(q, k, k, q, lse, q, axis, rules, turn(length), gradients)
            yield from zip((f"queries backward, {name}", f"keys backward, {name}"), backward, strict=True)
    frame, ring, one = empty(1, 1, 264, 16, width), empty(1, 192, 264, 4, width), empty(1, 1, 264, 4, width)
    number = empty(dtype=torch.int64)
    decode = Rules(False, None, 0, None, number, 50.0, width**-0.5)
    yield "decode", triton_attention.forward_launch(frame, ring, ring, frame, lse, "time", decode, turn(1))
    sums = empty(1, width, dtype=torch.float32)
    yield "prepare keys", triton_attention.prepare_launch(k, k, "space", turn(264))
    yield "prepare keys backward", triton_attention.prepare_backward_launch(k, k, k, sums, "space", turn(264))
    yield "write keys", triton_attention.write_launch(one, one, ring, ring, number, turn(1))


def resources(launch: Launch) -> Resources:
    """Compile it, and read what the assembler says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        tile = launch.tile
        compiled = launch.kernel.warmup(**launch.arguments, grid=(1,), num_warps=tile.warps, num_stages=tile.stages)
    (registers,) = re.findall(r"Used (\d+) registers", said.getvalue())
    spilled = re.findall(r"(\d+) bytes spill", said.getvalue())
    return Resources(int(registers), sum(map(int, spilled)), compiled.metadata.shared)


def record(only: str = "") -> dict[str, dict[str, Any]]:
    """Kernel → resources, of the kernels whose names match."""
    driver.set_active(Hopper())
    triton.knobs.nvidia.dump_ptxas_log = triton.knobs.compilation.always_compile = True
    found = {}
    for (dtype_name, dtype), width in product(DTYPES.items(), WIDTHS):
        for kernel, launch in launches(dtype, width):
            name = f"{dtype_name}, {width}: {kernel}"
            if re.search(only, name):
                found[name] = resources(launch)._asdict()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a regular expression for names of kernels")
    if triton_attention.kernels.INTERPRETED.value:
        parser.error("TRITON_INTERPRET must not be set: what is interpreted is not compiled")
    kernels = record(parser.parse_args().only)
    json.dump({"triton": triton.__version__, "target": "sm_90", "kernels": kernels}, sys.stdout, indent=1)
    print()
