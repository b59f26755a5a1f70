#!/usr/bin/env bash
# Measures on a machine with one GPU:
#
#   benchmarks/gpu/run.sh card    [DIRECTORY]   all of the following, the most valuable rows first, in under nine minutes
#   benchmarks/gpu/run.sh check   [DIRECTORY]   correctness: the suite, the kernel tests, compute-sanitizer, repeats
#   benchmarks/gpu/run.sh kernels [DIRECTORY]   ceilings, then attention compared with eager, SDPA and Flex
#   benchmarks/gpu/run.sh decode  [DIRECTORY]   frames per second at the paper's size, and a training step
#   benchmarks/gpu/run.sh plan                  the page of results without figures
#
# Results go to DIRECTORY, by default $OUT or benchmarks/results: <gpu>-<day>.json, complete after every row, and
# <command>.log. Runs into the same directory are merged row by row. Markdown page: python benchmarks/gpu/report.py <gpu>-<day>.json
# Further options, after DIRECTORY: --seconds N, --smoke, --only PATTERN for a stage; `run.sh card --help` explains them.
# Requirements: torch, Triton, NumPy, jaxtyping, Hypothesis, rich and pytest with xdist; no network.
set -euo pipefail

command="${1:-}"
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
# Compiled kernels are cached for the next run on the same machine.
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-${TMPDIR:-/tmp}/dreamer4-inductor}"
export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-${TMPDIR:-/tmp}/dreamer4-triton}"

case "$command" in
    card | check | kernels | decode) exec "${PYTHON:-python3}" -m benchmarks.gpu "$command" "$directory" "$@" ;;
    *) exec "${PYTHON:-python3}" -m benchmarks.gpu "$command" "$@" ;;
esac
