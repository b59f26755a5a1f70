"""Code in NumPy or JAX is judged where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # imports of torch raise, as where it is not installed
from dreamer4_conformance.cli import main
sys.exit(main(sys.argv[1:]))
"""
IN_NUMPY = """
from dreamer4_conformance import Adapter

class Mine(Adapter):
    def ramp_weight(self, tau):
        return 0.9 * tau + 0.1

class Inverted(Adapter):
    def ramp_weight(self, tau):
        return 1 - 0.9 * tau
"""


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "mine.py").write_text(IN_NUMPY)
    command = [sys.executable, "-c", WITHOUT_TORCH, "run", *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_numpy_code_is_judged_without_torch(tmp_path: Path) -> None:
    finished = run(tmp_path, "mine.py:Mine", "--clause", "eq08.value")
    assert finished.returncode == 0, finished.stderr


def test_deviation_is_reported_without_torch(tmp_path: Path) -> None:
    finished = run(tmp_path, "mine.py:Inverted", "--clause", "eq08.value")
    assert finished.returncode == 1, finished.stderr
    assert "eq08.value" in finished.stdout


def test_bundled_implementation_without_torch_is_an_error_that_names_the_extra(tmp_path: Path) -> None:
    finished = run(tmp_path, "--clause", "eq08.value")
    assert finished.returncode == 2
    assert "pip install 'dreamer4-conformance[torch]'" in finished.stderr


def test_judging_a_file_that_names_jax_alone_imports_no_torch(tmp_path: Path) -> None:
    code = IN_NUMPY.replace("return 0.9", "import sys; assert 'tor' 'ch' not in sys.modules; return 0.9")
    (tmp_path / "mine.py").write_text(f"# in jax{code}")
    command = [sys.executable, "-m", "dreamer4_conformance", "run", "mine.py:Mine", "--clause", "eq08.value"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout
