"""The Triton kernels compile for sm_90, fit on it and execute the recorded instructions, by `ahead_of_time`."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton")

from dreamer4_impl.attention.triton import kernels as source

from .disassembly import Loop, main_loops
from .wrong_kernels import Mutation, mutated

ROOT = Path(__file__).parents[3]
COMMAND = "impl.tests.attention.ahead_of_time"
RECORD = ROOT / "benchmarks" / "results" / "sm_90-resources.json"
#: Bytes of shared memory that one block of an H200 may have.
SHARED_MEMORY = 232448
#: A kernel of training and one of decoding, with the widest heads.
SELECTED = "128: (forward, space, capped|frame)"
#: Slower kernels with the same results: what is lost, and how it is written.
LOSSES = {
    "a division instead of a reciprocal": Mutation("", "inverse = _reciprocal(a * b)", "inverse = 1 / (a * b)"),
    "a masked loop for clear tiles": Mutation("", "if mask is None:", "if False:", count=3),
    "a third special function for every logit": Mutation(
        "", "_pair_reciprocals(denominator) if CLEAR else _reciprocal(denominator)", "_reciprocal(denominator)"
    ),
}


def compiled(folder, only="", *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(folder), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, "-m", COMMAND, "--only", only, *arguments]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def recorded():
    return json.loads(RECORD.read_text())


def require_fits(kernels):
    """No kernel spills more than is recorded."""
    for name, used in kernels.items():
        assert used["shared"] <= SHARED_MEMORY, f"{name} uses more shared memory than a block may have"
        allowed = recorded()["kernels"].get(name, {}).get("spills", 0)
        assert used["spills"] <= allowed, f"{name} spills {used['spills']} bytes"


def require_recorded(observed):
    """Equal to the record to the last instruction, where it was made with this version of Triton."""
    require_fits(observed["kernels"])
    if observed["triton"] == recorded()["triton"]:
        expected = {name: recorded()["kernels"].get(name) for name in observed["kernels"]}
        renew = f"TRITON_DEFAULT_FP_FUSION=1 python -m {COMMAND} > {RECORD.relative_to(ROOT)}"
        assert observed["kernels"] == expected, f"if this is no loss, renew the record: {renew}"


def test_kernels_of_training_and_decoding_execute_the_recorded_instructions(tmp_path):
    observed = compiled(tmp_path, SELECTED)
    assert len(observed["kernels"]) == 2
    require_recorded(observed)
    for used in observed["kernels"].values():
        used["special"][-1] += 1
    if observed["triton"] == recorded()["triton"]:
        with pytest.raises(AssertionError, match="renew the record"):
            require_recorded(observed)


def test_recorded_kernels_fit_on_the_card():
    require_fits(recorded()["kernels"])


def test_loop_includes_its_branches_and_no_code_around_it():
    lines = [
        "MUFU.RCP R0, R0", ".L_x_0:", "S2R R1, SR_TID.X", ".L_x_1:", "@P0 BRA `(.L_x_2)", "MUFU.EX2 R2, R2",
        "BRA `(.L_x_3)", ".L_x_2:", "FADD R2, R2, R2", ".L_x_3:", "HGMMA.64x64x16.F32 R4, R8", "BRA !P1, `(.L_x_1)",
        "BRA `(.L_x_4)", ".L_x_4:", "MUFU.LG2 R3, R3", "@!P2 BRA `(.L_x_0)", "EXIT", ".L_x_5:", "BRA `(.L_x_5)",
    ]  # fmt: skip
    text = "\n".join(line if line.endswith(":") else f"  /*{index:04x}*/  {line} ;" for index, line in enumerate(lines))
    assert main_loops(text) == ([Loop(instructions=6, special=1)], 7)
    assert main_loops(text.replace("HGMMA", "FFMA")) == ([], 13)


@pytest.mark.nightly
@pytest.mark.parametrize("loss", LOSSES)
def test_a_slower_kernel_is_rejected(loss, tmp_path):
    (tmp_path / "slower.py").write_text(mutated(LOSSES[loss], inspect.getsource(source)))
    observed = compiled(tmp_path, SELECTED, "--source", str(tmp_path / "slower.py"))
    if observed["triton"] == recorded()["triton"]:
        with pytest.raises(AssertionError, match="renew the record"):
            require_recorded(observed)


@pytest.mark.nightly
def test_every_kernel_equals_the_record(tmp_path):
    observed = compiled(tmp_path)
    assert observed["kernels"].keys() == recorded()["kernels"].keys()
    require_recorded(observed)
