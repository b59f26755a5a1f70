"""Resources and instructions of the Triton kernels, compiled ahead of time for an H200 (sm_90) without a GPU.

    python -m impl.tests.attention.ahead_of_time                              the record, as JSON
    python -m impl.tests.attention.ahead_of_time --only "128: decode"
    python -m impl.tests.attention.ahead_of_time --source variant.py          of another version of `kernels.py`

Each kernel is compiled as the operators launch it: same tiles, warps and stages, on tensors without storage. Run it
in a process of its own without TRITON_INTERPRET, under which nothing is compiled.
"""

import argparse
import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from dreamer4_impl.attention import Preparation, Visible
from dreamer4_impl.attention.folding import Options
from dreamer4_impl.attention.triton import operators
from dreamer4_impl.attention.triton.operators import Gradients, Launch, Tile

from .disassembly import disassemble, main_loops
from .wrong_kernels import launching

#: Of training and decoding; float32 is for tests.
DTYPE = torch.bfloat16
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
    """What one kernel needs, and what it executes for each tile of logits.

    Args:
        registers: of a thread.
        spills: bytes that a thread spills, stores and loads.
        shared: bytes of shared memory of a block.
        blocks: blocks that fit on a multiprocessor at once.
        logits: of a thread in one iteration of a main loop.
        instructions: of a warp in one iteration, for each main loop in the order of the code; none where nothing is
            multiplied by tensor cores.
        special: those among them for the special-function unit.
        outside: instructions of the kernel outside of its main loops.
    """

    registers: int
    spills: int
    shared: int
    blocks: int
    logits: int
    instructions: list[int]
    special: list[int]
    outside: int


def fitting(tile: Tile, registers: int, shared: int) -> int:
    """Blocks that fit on a multiprocessor of sm_90.

    It has 65,536 registers, which a warp takes in units of 256, and 228 KiB of shared memory, of which each block takes
    1 KiB in addition; 64 warps and 32 blocks.

    >>> fitting(Tile(128, 64, 8, 3), registers=181, shared=132096)
    1
    >>> fitting(Tile(64, 32, 4, 3), registers=168, shared=50000)
    3
    """
    warps_by_registers = 65536 // (-(-registers // 8) * 256)
    return min(warps_by_registers // tile.warps, 228 * 1024 // (shared + 1024), 64 // tile.warps, 32)


def launches(width: int) -> Iterator[tuple[str, Launch]]:
    """Launches of training and decoding: 256 frames of 264 tokens, 16 heads in 4 groups, window 192, cap 50."""

    def empty(*shape: int, dtype: torch.dtype = DTYPE) -> Tensor:
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
    space = Options("space", preparation(264), Visible(private=1), 50.0, width**-0.5)
    yield "frame", operators.forward_launch(frame, keys, keys, frame, lse, space)
    yield "decode", operators.forward_launch(frame, ring, ring, frame, lse, decode)
    sums = empty(1, width, dtype=torch.float32)
    yield "prepare keys", operators.prepare_launch(k, k, "space", preparation(264))
    yield "prepare keys backward", operators.prepare_backward_launch(k, k, k, sums, "space", preparation(264))
    yield "write keys", operators.write_launch(keys, keys, ring, ring, number, preparation(1))


def resources(launch: Launch) -> Resources:
    """Compile a launch, parse the log of the assembler and count instructions in the machine code."""
    log, tile = io.StringIO(), launch.tile
    with contextlib.redirect_stdout(log):
        compiled = launch.kernel.warmup(**launch.arguments, grid=(1,), **launch.options)
    (registers,) = (int(number) for number in re.findall(r"Used (\d+) registers", log.getvalue()))
    spilled = re.findall(r"(\d+) bytes spill", log.getvalue())
    shared = compiled.metadata.shared
    loops, outside = main_loops(disassemble(compiled.asm["cubin"]))
    return Resources(
        registers=registers,
        spills=sum(map(int, spilled)),
        shared=shared,
        blocks=fitting(tile, registers, shared),
        logits=tile.rows * tile.keys // (32 * tile.warps),
        instructions=[loop.instructions for loop in loops],
        special=[loop.special for loop in loops],
        outside=outside,
    )


def record(only: str = "") -> dict[str, dict[str, Any]]:
    """Resources by kernel, of the kernels whose names match."""
    driver.set_active(Hopper())
    triton.knobs.nvidia.dump_ptxas_log = triton.knobs.compilation.always_compile = True
    kernels = {}
    for width in WIDTHS:
        for kernel, launch in launches(width):
            name = f"{width}: {kernel}"
            if re.search(only, name):
                kernels[name] = resources(launch)._asdict()
    return kernels


def main() -> None:
    """Print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a regular expression for names of kernels")
    parser.add_argument("--source", type=Path, help="a file with other kernels of the same names")
    arguments = parser.parse_args()
    if operators.kernels.INTERPRETED.value:
        parser.error("TRITON_INTERPRET must not be set: interpreted kernels are not compiled")
    with contextlib.ExitStack() as stack:
        if arguments.source is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(launching(arguments.source.read_text(), folder))
        kernels = record(arguments.only)
    print(formatted({"triton": triton.__version__, "target": "sm_90", "kernels": kernels}))


def formatted(document: dict[str, Any]) -> str:
    """JSON with one line for each kernel."""
    kernels = [f"  {json.dumps(name)}: {json.dumps(used)}" for name, used in document["kernels"].items()]
    head = json.dumps({name: x for name, x in document.items() if name != "kernels"})
    return head[:-1] + ', "kernels": {\n' + ",\n".join(kernels) + "\n}}"


if __name__ == "__main__":
    main()
