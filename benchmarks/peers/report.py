"""Page of a comparison, generated from its results."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from benchmarks.peers.measure import FRAME_BEFORE, FRAME_NOW, LUCIDRAINS, NICKLAS_HANSEN
from benchmarks.peers.shape import Shape
from benchmarks.timing import ratio

PASSES: Final = {
    "ours, commit merged": "cache, K passes, one of them over two frames",
    "ours": "cache, K + 1 passes",
    NICKLAS_HANSEN: "no cache, K passes over the past and the frame",
    LUCIDRAINS: "cache, K + 1 passes",
}
DIFFERENCES: Final = f"""\
All have the same width, depth, heads, inner width of SwiGLU, tokens of a frame, rows and frames, continuous actions,
one agent token and one time layer in {{shape.time_every}}. A training step evaluates the student on {{shape.batch}}
rows and the teacher twice on {{shape.rows_above_d_min}} of them. Parameters are those with a gradient. Operations are
those of matrix products, counted by `torch.utils.flop_counter`; "per operation" is the ratio of the gradients divided
by that of the operations.

- **ours**: QK-norm, RoPE over space and time and a soft cap of 50 are on; as many key/value heads as query heads. A
  time layer replaces a space layer. The split of d is the declared one (A2), with three quarters of the rows at d_min;
  with the uniform law of Eq. (4), our default, the teacher has practically every row. "backend chunked" compiles the
  attention; nothing else is compiled.
- **{NICKLAS_HANSEN}**: no QK-norm, RoPE or soft cap, so that attention is PyTorch's fused kernel; biases. A time layer
  mixes space as well, hence more parameters and operations. The teacher's calls record a graph. There is no cache.
- **{LUCIDRAINS}**: keys are normalised, queries are not; RoPE over time, soft cap. In addition gated values, value
  residuals, attention pools over the layers and a last attention of the agent token. Its loss is at d_min or above it
  for all rows of a call, so that a step is two calls, with three quarters and one quarter of the rows. Its sampler with
  a cache embeds the whole past in every pass.
"""


def page(results: dict[str, Any]) -> str:
    """Markdown page of the results of `measure.measure`."""
    shape = Shape(**results["shape"])
    versions = ", ".join(f"{name} {text}" for name, text in results["versions"].items())
    sections = [
        "# Next to other implementations",
        "Generated from results.json; `python -m benchmarks.peers --checkout DIR` writes both.",
        "One process and one thread on a CPU. In every round all rows of a table are measured one after the other, in "
        f"processor time. Ratios are those of medians to {NICKLAS_HANSEN}, with 95 % bootstrap intervals over the "
        "rounds.",
        f"Machine: {results['machine']}. Versions: {versions}.",
        f"Width {shape.width}, {shape.depth} layers, {shape.heads} heads, {shape.tokens} tokens of a frame, "
        f"{shape.spatial_tokens} of them spatial.",
        _training(results["training"], shape),
        _frames(results["frame"], shape),
        *([] if results["base"] is None else [_base(results["base"])]),
        "## Differences",
        DIFFERENCES.format(shape=shape).rstrip(),
        *(f"{name} was not measured: {reason}." for name, reason in results["skipped"].items()),
    ]
    return "\n\n".join(sections) + "\n"


def _training(rows: dict[str, dict[str, Any]], shape: Shape) -> str:
    reference = rows[NICKLAS_HANSEN]
    header = ["", "parameters", "GFLOP", "gradient, ms", "ratio", "with AdamW, ms", "ratio", "per operation"]
    cells = []
    for name, row in rows.items():
        gradient, step = ratio(row["gradient"], reference["gradient"]), ratio(_step(row), _step(reference))
        size = [f"{row['parameters'] / 1e6:.2f} M", f"{row['flops'] / 1e9:.1f}"]
        times = [_milliseconds(row["gradient"]), str(gradient), _milliseconds(_step(row)), str(step)]
        cells.append([name, *size, *times, f"{gradient.value * reference['flops'] / row['flops']:.3f}"])
    return (
        f"## Training step, {shape.batch} rows of {shape.time} frames\n\nGradient: forward pass, loss of Eq. (7) and "
        f"backward pass. {len(reference['gradient'])} rounds.\n\n{_table(header, cells)}"
    )


def _frames(rows: dict[str, dict[str, Any]], shape: Shape) -> str:
    reference = rows[NICKLAS_HANSEN]["times"]
    cells = []
    for name, row in rows.items():
        times = [_milliseconds(row["times"]), str(ratio(row["times"], reference))]
        cells.append([name, PASSES[name], f"{row['flops'] / 1e9:.2f}", *times])
    return (
        f"## One generated frame, K = {shape.num_steps}, after {shape.past} frames\n\n{len(reference)} rounds.\n\n"
        + _table(["", "passes", "GFLOP", "ms", "ratio"], cells)
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def _base(base: dict[str, Any]) -> str:
    compared = ratio(base["this"], base["base"])
    return (
        "## One cached frame, now and before\n\nOf the `small` preset, in one process per commit, in turn, "
        f"{len(base['this'])} rounds: “{FRAME_NOW}” of this commit takes {compared} times as long as "
        f"“{FRAME_BEFORE}” of {base['revision']}."
    )


def _step(row: dict[str, Any]) -> list[float]:
    """Times of the gradient and the update together."""
    return [sum(parts) for parts in zip(row["gradient"], row["update"], strict=True)]


def _milliseconds(times: Sequence[float]) -> str:
    return f"{1e3 * float(np.median(times)):.3g}"
