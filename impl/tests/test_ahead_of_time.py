"""The Triton kernels compile for sm_90 and fit on it; `ahead_of_time` says what they take."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="needs Triton")

COMMAND = Path(__file__).with_name("ahead_of_time.py")
RECORD = Path(__file__).parents[2] / "benchmarks" / "results" / "sm_90-resources.json"
#: Bytes of shared memory that one block of an H200 may have.
SHARED_MEMORY = 232448
#: What training and decoding launch, in the widest heads.
FEW = "bfloat16, 128: (queries.* time, capped|decode)"


def compiled(folder, only=""):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(folder), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, COMMAND, "--only", only]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def require_fits(kernels):
    """In bfloat16 nothing spills but what the record owns up to; float32 is for tests."""
    recorded = json.loads(RECORD.read_text())["kernels"]
    for name, used in kernels.items():
        assert used["shared"] <= SHARED_MEMORY, f"{name} takes more shared memory than a block may have"
        allowed = recorded.get(name, {}).get("spills", 0)
        assert used["spills"] <= allowed or name.startswith("float32"), f"{name} spills {used['spills']} bytes"


def test_the_kernels_of_training_and_decoding_fit_on_the_card(tmp_path):
    kernels = compiled(tmp_path, FEW)["kernels"]
    assert len(kernels) == 2
    require_fits(kernels)


def test_what_is_recorded_fits():
    require_fits(json.loads(RECORD.read_text())["kernels"])


@pytest.mark.nightly
def test_every_kernel_fits_and_is_as_recorded(tmp_path):
    found, recorded = compiled(tmp_path), json.loads(RECORD.read_text())
    require_fits(found["kernels"])
    assert found["kernels"].keys() == recorded["kernels"].keys()
    if found["triton"] == recorded["triton"]:
        assert found == recorded, f"renew it: TRITON_DEFAULT_FP_FUSION=1 python {COMMAND} > {RECORD}"
