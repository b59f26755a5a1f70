"""The Triton kernels compile for sm_90 and fit on it, by the figures of `ahead_of_time`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="needs Triton")

COMMAND = Path(__file__).with_name("ahead_of_time.py")
RECORD = Path(__file__).parents[3] / "benchmarks" / "results" / "sm_90-resources.json"
#: Bytes of shared memory that one block of an H200 may have.
SHARED_MEMORY = 232448
#: Kernels of training and decoding with the widest heads.
SELECTED = "bfloat16, 128: (queries.* time, capped|decode)"


def compiled(folder, only=""):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(folder), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, COMMAND, "--only", only]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def require_fits(kernels):
    """In bfloat16 no kernel spills more than is recorded; float32 is for tests."""
    recorded = json.loads(RECORD.read_text())["kernels"]
    for name, used in kernels.items():
        assert used["shared"] <= SHARED_MEMORY, f"{name} uses more shared memory than a block may have"
        allowed = recorded.get(name, {}).get("spills", 0)
        assert used["spills"] <= allowed or name.startswith("float32"), f"{name} spills {used['spills']} bytes"


def test_kernels_of_training_and_decoding_fit_on_the_card(tmp_path):
    kernels = compiled(tmp_path, SELECTED)["kernels"]
    assert len(kernels) == 2
    require_fits(kernels)


def test_recorded_kernels_fit_on_the_card():
    require_fits(json.loads(RECORD.read_text())["kernels"])


@pytest.mark.nightly
def test_every_kernel_fits_and_equals_the_record(tmp_path):
    observed, recorded = compiled(tmp_path), json.loads(RECORD.read_text())
    require_fits(observed["kernels"])
    assert observed["kernels"].keys() == recorded["kernels"].keys()
    if observed["triton"] == recorded["triton"]:
        assert observed == recorded, f"renew it: TRITON_DEFAULT_FP_FUSION=1 python {COMMAND} > {RECORD}"
