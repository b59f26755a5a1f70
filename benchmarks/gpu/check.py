"""Is it right on this card: the conformance suite, the kernel tests, compute-sanitizer, and repeats that must be equal."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.gpu.rows import Row
from benchmarks.gpu.small_shapes import calls, equal_repeats

FLEX = "dreamer4_conformance.adapters.bundled:BundledFlex"
TRITON = "dreamer4_conformance.adapters.bundled:BundledTriton"
#: Kernel tests, natively on the card.
TESTS = {
    "marked gpu": ["impl/tests", "-m", "gpu and not nightly"],
    "the Triton kernels": ["impl/tests/attention/test_triton.py"],
    "the rules of numerics": ["impl/tests/attention/test_kernel_numerics.py"],
    "wrong kernels are rejected": ["impl/tests/attention/test_wrong_kernels.py"],
    "FlexAttention": ["impl/tests/attention/test_attention.py", "-m", "flex"],
}
#: pytest takes these plugins alone, and no warning for an error: others may be installed here than where the tests were written.
PLUGINS = ("dreamer4_conformance_plugin", "xdist.plugin", "_hypothesis_pytestplugin")
TOOLS = ("memcheck", "racecheck")
#: compute-sanitizer's exit status where it found something.
FOUND = 9
#: Its last line where it found nothing; a mere warning would not change the exit status.
CLEAN = r".*ERROR SUMMARY: 0 errors.*|.*RACECHECK SUMMARY: 0 hazards.*"


DTYPES = ("float32", "bfloat16", "float64")


def rows(smoke: bool) -> list[Row]:
    """The longest first, so that none is left when the others are done; in a smoke run one of each kind."""
    sanitized = [_sanitized(tool, smoke) for tool in TOOLS]
    tested = [_tested(name, arguments, smoke) for name, arguments in TESTS.items()]
    conforming = [_conforming(f"all clauses, {dtype}", ["--dtype", dtype], smoke) for dtype in DTYPES]
    conforming.append(_conforming("all clauses, by the Triton kernels", [TRITON], smoke))
    conforming.append(_conforming("attention by FlexAttention", [FLEX, "--clause", "attn.*"], smoke))
    if smoke:
        sanitized, tested, conforming = sanitized[:1], tested[-1:], conforming[:1]
    return [*sanitized, *tested, *conforming, *_repeated(smoke)]


def _repeated(smoke: bool) -> list[Row]:
    repeats, device = (1, "cpu") if smoke else (1000, "cuda")
    known = {"detail": f"{repeats} repeats equal the first, bit for bit"}
    named = list(calls(smoke).items())[: 1 if smoke else None]
    return [Row("repeats", name, partial(equal_repeats, call, repeats, device), known) for name, call in named]


def _conforming(name: str, arguments: Sequence[str], smoke: bool) -> Row:
    arguments = ["--clause", "const.*"] if smoke else arguments
    command = [sys.executable, "-m", "dreamer4_conformance", "run", *arguments, "--device", _device(smoke)]
    return Row("conformance suite", name, partial(_run, command, r"\d+ of \d+ provided clauses pass\."), budget=240)


def _tested(name: str, arguments: Sequence[str], smoke: bool) -> Row:
    plugins = [word for plugin in PLUGINS for word in ("-p", plugin)]
    how, proof = (["--collect-only"], r".*\d+ tests collected.*") if smoke else (["-n", "4"], r".*\d+ passed.*")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
        *plugins,
        *how,
        *arguments,
    ]
    return Row("tests", name, partial(_run, command, proof), budget=240)


def _sanitized(tool: str, smoke: bool) -> Row:
    shapes = [sys.executable, "-m", "benchmarks.gpu.small_shapes", _device(smoke)]
    return Row("compute-sanitizer", tool, partial(_sanitize, tool, shapes, smoke), budget=300)


def _sanitize(tool: str, shapes: Sequence[str], smoke: bool) -> dict[str, Any]:
    if smoke:
        return _run(shapes, r"\d+ calls")
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        raise FileNotFoundError("compute-sanitizer is neither on the path nor in /usr/local/cuda/bin")
    options = ["--tool", tool, "--error-exitcode", str(FOUND), "--target-processes", "application-only"]
    # From torch's own cache an access beyond a tensor would still lie inside an allocation.
    return _run([sanitizer, *options, *shapes], CLEAN, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def _run(command: Sequence[str], proof: str, **variables: str) -> dict[str, Any]:
    """The line that says what was found; whatever ends otherwise than well, or without that line, raises."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    print(done.stdout, flush=True)
    lines = [line for line in done.stdout.splitlines() if re.fullmatch(proof, line.strip())]
    if done.returncode or not lines:
        raise RuntimeError(f"exit status {done.returncode}; the end of what it printed:\n{done.stdout[-3000:]}")
    return {"detail": lines[-1].strip(" =")}


def _device(smoke: bool) -> str:
    return "cpu" if smoke else "cuda"
