"""Correctness on this card: conformance suite, kernel tests, compute-sanitizer, and bitwise equal repeats."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.gpu.rows import Row, Unavailable, unavailable
from benchmarks.gpu.small_shapes import calls, equal_repeats

FLEX = "dreamer4_conformance.adapters.bundled:BundledFlex"
TRITON = "dreamer4_conformance.adapters.bundled:BundledTriton"
KERNELS = ["impl/tests/attention/test_triton.py", "impl/tests/attention/test_kernel_numerics.py"]
WRONG_KERNELS = "impl/tests/attention/test_wrong_kernels.py"
#: Folders with tests that run on a GPU; the others need packages that a machine with a GPU may lack.
ALL_TESTS = [f"impl/tests/{folder}" for folder in ("attention", "equations", "generation", "layers", "models")]
#: Tests marked `gpu`, each in exactly one row: name → arguments of pytest, budget in seconds.
#: A Triton kernel for sm_90 compiles in 1–3 s of one core (measured by ahead-of-time compilation, Triton 3.9); Inductor
#: takes about 10 s per shape of FlexAttention (estimated). Eight processes compile in parallel and start in 10–15 s
#: (estimated). Numbers of November 2026:
#:   the Triton kernels: 116 tests, 56 of them with at most 6 kernels: 56 × 6 × 1.2 s / 8 = 50 s
#:   wrong kernels: 86 tests, each with 1–6 kernels that no other test uses: 86 × 4 × 1.2 s / 8 = 52 s
#:   models and engine: 234 tests, 6 with models compiled by Inductor (30 s each), 40 with kernels, mostly cached: 60 s
#:   FlexAttention: 83 tests with one or two shapes each: 83 × 15 s / 8 = 156 s
TESTS = {
    "the Triton kernels": ([*KERNELS, "-m", "gpu and not flex and not nightly"], 90),
    "wrong kernels are rejected": ([WRONG_KERNELS, "-m", "gpu and not flex and not nightly"], 90),
    "models and engine": (
        [
            *ALL_TESTS,
            *(f"--ignore={path}" for path in (*KERNELS, WRONG_KERNELS)),
            "-m",
            "gpu and not flex and not nightly",
        ],
        120,
    ),
    "FlexAttention": ([*ALL_TESTS, "-m", "gpu and flex and not nightly"], 240),
}
#: Number of pytest processes per row.
PROCESSES = 8
#: The only pytest plugins loaded. Warnings are no errors, because installed versions may differ from those in CI.
PLUGINS = ("dreamer4_conformance_plugin", "xdist.plugin", "_hypothesis_pytestplugin")
PYTEST = ("-q", "-W", "default", "-p", "no:cacheprovider", *(word for plugin in PLUGINS for word in ("-p", plugin)))
TOOLS = ("memcheck", "racecheck")
#: compute-sanitizer's exit status where it reports an error.
ERROR_STATUS = 9
#: Last line of compute-sanitizer without findings; warnings alone do not change the exit status.
CLEAN = r".*ERROR SUMMARY: 0 errors.*|.*RACECHECK SUMMARY: 0 hazards.*"


DTYPES = ("float32", "bfloat16", "float64")


def rows(smoke: bool) -> list[Row]:
    """Rows of the stage: kernels first, then the longest ones, so that no long row is left to run alone at the end."""
    tested = [_tested(name, *how, smoke) for name, how in TESTS.items()]
    conforming = [_conforming(f"all clauses, {dtype}", ["--dtype", dtype], smoke) for dtype in DTYPES]
    conforming.append(_conforming("all clauses, by the Triton kernels", [TRITON], smoke))
    conforming.append(_conforming("attention by FlexAttention", [FLEX, "--clause", "attn.*"], smoke))
    return [*tested, *conforming, *_repeated(smoke), *(_sanitized(tool, smoke) for tool in TOOLS)]


def _repeated(smoke: bool) -> list[Row]:
    repeats = 1 if smoke else 1000
    facts = {"detail": f"{repeats} repeats equal the first, bit for bit"}
    return [
        Row("repeats", name, partial(equal_repeats, call, repeats, _device(smoke)), facts)
        for name, call in calls(smoke).items()
    ]


def _conforming(name: str, arguments: Sequence[str], smoke: bool) -> Row:
    command = [sys.executable, "-m", "dreamer4_conformance", "run", *arguments, "--device", _device(smoke)]
    if smoke and TRITON in arguments:
        reason = "needs a GPU: the first calls of this adapter alone take minutes under Triton's interpreter"
        return Row("conformance suite", name, partial(unavailable, reason), budget=120)
    if smoke:
        command += ["--clause", "const.*"]  # a fast group of clauses
    return Row("conformance suite", name, partial(_run, command, r"\d+ of \d+ provided clauses pass\."), budget=120)


def _tested(name: str, arguments: Sequence[str], budget: float, smoke: bool) -> Row:
    command = [sys.executable, "-m", "pytest", *PYTEST, "-n", str(PROCESSES), *arguments]
    reason = "needs a GPU; that these tests can be collected is tested with this package"
    measure = partial(unavailable, reason) if smoke else partial(_run, command, r".*\d+ passed.*")
    return Row("tests", name, measure, budget=budget)


def _sanitized(tool: str, smoke: bool) -> Row:
    shapes = [sys.executable, "-m", "benchmarks.gpu.small_shapes", _device(smoke)]
    return Row("compute-sanitizer", tool, partial(_sanitize, tool, shapes, smoke), budget=180)


def _sanitize(tool: str, shapes: Sequence[str], smoke: bool) -> dict[str, Any]:
    if smoke and tool != TOOLS[0]:
        raise Unavailable(f"needs {tool}; its calls are those of {TOOLS[0]}")
    if smoke:
        return _run(shapes, r"\d+ calls")
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        raise Unavailable("compute-sanitizer is neither on the path nor in /usr/local/cuda/bin")
    options = ["--tool", tool, "--error-exitcode", str(ERROR_STATUS), "--target-processes", "application-only"]
    # With torch's caching allocator, an access beyond a tensor could lie inside the same allocation and go unreported.
    return _run([sanitizer, *options, *shapes], CLEAN, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def _run(command: Sequence[str], proof: str, **variables: str) -> dict[str, Any]:
    """Run a command and return its summary line; raises RuntimeError on a nonzero exit status or without that line."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables}
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)  # the log shows the progress of a row that timed out
            lines.append(line)
    proofs = [line for line in lines if re.fullmatch(proof, line.strip())]
    if process.returncode or not proofs:
        end = "".join(lines)[-3000:]
        raise RuntimeError(f"exit status {process.returncode}; end of the output:\n{end}")
    return {"detail": proofs[-1].strip(" =\n")}


def _device(smoke: bool) -> str:
    return "cpu" if smoke else "cuda"
