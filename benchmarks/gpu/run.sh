#!/usr/bin/env bash
# Measures on a machine with one GPU, one stage a command, each in under nine minutes:
#
#   benchmarks/gpu/run.sh check   [DIRECTORY]   is it right: the suite, the kernel tests, compute-sanitizer, repeats
#   benchmarks/gpu/run.sh kernels [DIRECTORY]   ceilings, then attention beside eager, SDPA and Flex
#   benchmarks/gpu/run.sh decode  [DIRECTORY]   frames a second at the paper's size, and a training step
#   benchmarks/gpu/run.sh plan                  the page of results before there are any
#
# DIRECTORY, $OUT or benchmarks/results gets <gpu>-<day>.json and .md, complete after every row, and <stage>.log. Stages
# that ran into different directories: python benchmarks/gpu/report.py A.json B.json --merge all.json
# Further options, after DIRECTORY: --only PATTERN, --seconds N, --smoke; `run.sh check --help` explains them.
# Nothing need be installed but torch, Triton, NumPy, jaxtyping, Hypothesis, rich and pytest with xdist; no network.
set -euo pipefail

stage="${1:-}"
directory="${OUT:-$(dirname "${BASH_SOURCE[0]}")/../results}"
shift || true
if [[ $# -gt 0 && "$1" != --* ]]; then
    directory="$1"
    shift
fi
directory="$(realpath -m "$directory")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export PYTHONPATH="reference:impl:conformance:.${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
# What is compiled serves the next stage on the same machine.
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-${TMPDIR:-/tmp}/dreamer4-inductor}"
export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-${TMPDIR:-/tmp}/dreamer4-triton}"

case "$stage" in
    check | kernels | decode)
        mkdir -p "$directory"
        "${PYTHON:-python3}" -m benchmarks.gpu "$stage" "$directory" "$@" 2>&1 | tee "$directory/$stage.log"
        ;;
    *)
        exec "${PYTHON:-python3}" -m benchmarks.gpu "$stage" "$@"
        ;;
esac
