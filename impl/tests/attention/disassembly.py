"""Instructions in the main loops of a compiled kernel, counted in the disassembly of its machine code.

A loop is what a jump back encloses: the blocks from which the jump is reached without passing the instruction to which
it leads. The main loops are the innermost ones that hold a matrix product of the tensor cores.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import triton

LABEL = re.compile(r"^(\.L_\w+):")
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")
TARGET = re.compile(r"`\((\.L_\w+)\)")
#: Instructions after which the next one is reached by a jump only, unless they have a predicate.
ENDS = ("BRA", "EXIT", "RET", "BRX", "JMP")
PRODUCTS = ("HGMMA", "HMMA")
SPECIAL = "MUFU"


class Instruction(NamedTuple):
    """One instruction: name with modifiers, label to which it jumps, whether it is executed under a condition."""

    name: str
    target: str | None
    conditional: bool


class Loop(NamedTuple):
    """Instructions of one iteration, all of them and those of the special-function unit."""

    instructions: int
    special: int


def disassemble(binary: bytes) -> str:
    """Disassemble a cubin with the disassembler that Triton brings.

    Args:
        binary: machine code of one kernel, `compiled.asm["cubin"]`.

    Returns:
        Its instructions and labels, one a line.

    Raises:
        subprocess.CalledProcessError: if the disassembler refuses the binary.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        command = [triton.knobs.nvidia.nvdisasm.path, "-c", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main_loops(text: str) -> tuple[list[Loop], int]:
    """Count the instructions of the innermost loops that hold a product.

    Args:
        text: result of `disassemble`.

    Returns:
        The loops in the order of their first instructions, none if there is no product in a loop; and the number of
        instructions outside of them.

    Example:
        >>> lines = ["MOV", "HGMMA", "MUFU.EX2", "@!P0 BRA `(.L_x_0)", "EXIT"]
        >>> code = [f"/*{16 * index:04x}*/ {line} ;" for index, line in enumerate(lines)]
        >>> main_loops(chr(10).join([code[0], ".L_x_0:", *code[1:]]))
        ([Loop(instructions=3, special=1)], 2)
    """
    instructions, labels = _parsed(text)
    holding = [loop for loop in _loops(instructions, labels) if any(_is_product(instructions[i]) for i in loop)]
    innermost = [loop for loop in holding if not any(inner < loop for inner in holding)]
    counts = [
        Loop(len(loop), sum(instructions[i].name.startswith(SPECIAL) for i in loop))
        for loop in sorted(innermost, key=min)
    ]
    return counts, len(instructions) - sum(loop.instructions for loop in counts)


def _parsed(text: str) -> tuple[list[Instruction], dict[str, int]]:
    """Instructions, and the index of the instruction at each label."""
    instructions: list[Instruction] = []
    labels = {}
    for line in text.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif match := INSTRUCTION.match(line):
            target = TARGET.search(match[2]) if match[1].startswith("BRA") else None
            # A branch may have a second predicate among its operands.
            conditional = "@" in line or "P" in match[2].split("`")[0]
            instructions.append(Instruction(match[1], target and target[1], conditional))
    return instructions, labels


def _loops(instructions: list[Instruction], labels: dict[str, int]) -> Iterator[frozenset[int]]:
    """Indices of the instructions of each loop; jumps back to one instruction form one loop."""
    before = _predecessors(instructions, labels)
    for first in sorted(set(labels.values())):
        loop, pending = {first}, [index for index in before.get(first, []) if index >= first]
        while pending:
            index = pending.pop()
            if index not in loop:
                loop.add(index)
                pending.extend(before.get(index, []))
        if len(loop) > 1 and min(loop) == first:
            yield frozenset(loop)


def _predecessors(instructions: list[Instruction], labels: dict[str, int]) -> dict[int, list[int]]:
    before: dict[int, list[int]] = {}
    for index, (name, target, conditional) in enumerate(instructions):
        if target is not None:
            before.setdefault(labels[target], []).append(index)
        if conditional or name.split(".")[0] not in ENDS:
            before.setdefault(index + 1, []).append(index)
    return before


def _is_product(instruction: Instruction) -> bool:
    return instruction.name.startswith(PRODUCTS)
