"""Figures of the architecture, the training phases and the constants, computed by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from docs.generator.figures.style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, panels, to_svg
from dreamer4_reference import constants
from dreamer4_reference.algorithm1_training import FROZEN, TRAINED, batch_lengths
from dreamer4_reference.eq05_tokenizer_loss import tokenizer_loss
from dreamer4_reference.levels import require_level, require_step
from dreamer4_reference.sec31_tokenizer import regroup
from dreamer4_reference.sec34_layers import layer_kinds
from dreamer4_reference.sec34_norms import qk_norm
from dreamer4_reference.sec34_rope import rope
from dreamer4_reference.sec34_swiglu import silu, swiglu


def loss_shares() -> str:
    """Share of the perceptual term in the loss, with and without normalised terms."""
    ratio = np.logspace(-1, 3, 81)
    raw = [1 - tokenizer_loss(1.0, 0.0) / tokenizer_loss(1.0, float(lpips)) for lpips in ratio]
    share = 1 - tokenizer_loss(1.0, 0.0) / tokenizer_loss(1.0, 1.0)
    with panels(1, 5.6, 2.6) as (figure, (axis,)):
        axis.plot(ratio, raw, color=ORANGE, linestyle="--", label="terms as they are")
        axis.axhline(share, color=BLUE, label="both divided by their running RMS")
        axis.set(xscale="log", xlabel="LPIPS ÷ MSE", ylabel="share of 0.2 LPIPS in the loss", ylim=(0, 1.05))
        axis.legend(fontsize=9)
        return to_svg(figure, "loss-shares")


def regrouping() -> str:
    """Eight tokens of two channels, and the four tokens of four channels that the dynamics takes."""
    z = np.arange(16.0).reshape(1, 1, 8, 2)
    with panels(2, 5.2, 3.0) as (figure, axes):
        for axis, tokens in zip(axes, (z[0, 0], regroup(z)[0, 0]), strict=True):
            for (row, column), value in np.ndenumerate(tokens):
                odd = int(value) // 2 % 2 == 1
                _box(axis, column, row, f"{value:.0f}", ORANGE if odd else BLUE, "///" if odd else "")
            axis.set(title=f"{len(tokens)} tokens of {tokens.shape[1]} channels", ylabel="token", xlabel="channel")
            axis.set(xticks=range(tokens.shape[1]), yticks=range(len(tokens)), xlim=(-0.6, 3.6), ylim=(7.6, -0.6))
            axis.grid(visible=False)
        return to_svg(figure, "regrouping")


def _box(axis: Any, x: float, y: float, text: str, colour: str, hatch: str = "") -> None:
    axis.bar(x, 0.86, 0.86, bottom=y - 0.43, color="none", edgecolor=colour, hatch=hatch, linewidth=1.5, alpha=0.7)
    axis.text(x, y, text, ha="center", va="center", color=INK, fontsize=9, fontweight="bold")


def layers() -> str:
    """What each of eight layers mixes under the readings A25 and A39."""
    options: dict[str, dict[str, Any]] = {
        "default": {},
        "A25 = adds": {"time_layer": "adds"},
        "A39 = other": {"position": "other"},
    }
    styles = {"space": ("space", BLUE, ""), "time": ("time", ORANGE, "///"), "both": ("space,\ntime", PURPLE, "///")}
    with panels(1, 7.2, 2.2) as (figure, (axis,)):
        for row, keywords in enumerate(options.values()):
            for layer, kind in enumerate(layer_kinds(8, **keywords)):
                _box(axis, layer, row, *styles[kind])
        axis.set(yticks=range(3), yticklabels=options, xticks=range(8), xlabel="layer", ylim=(2.6, -0.6))
        axis.grid(visible=False)
        return to_svg(figure, "layers")


def norms() -> str:
    """A query and ten times the query under the three norms of reading A31."""
    query = np.array([3.0, 4.0, 0.0, 5.0]).reshape(1, 1, 1, 4)
    channel = np.arange(4)
    with panels(3, 7.4, 2.3, sharey=True) as (figure, axes):
        for axis, norm in zip(axes, ("rms", "l2", "layernorm"), strict=True):
            for shift, scale, colour, hatch in ((-0.2, 1, BLUE, ""), (0.2, 10, ORANGE, "///")):
                normalised = qk_norm(query * scale, query, norm=norm)[0].ravel()  # type: ignore[arg-type]
                axis.bar(channel + shift, normalised, 0.4, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.5,
                         label="q" if scale == 1 else "10 q")  # fmt: skip
            axis.axhline(0, color=INK, linewidth=0.8)
            axis.set(title=f"A31 = {norm}", xlabel="channel", xticks=channel)
        axes[0].legend(fontsize=9, loc="lower left")
        return to_svg(figure, "norms")


def rotation() -> str:
    """Logits of rotated queries and keys over their distance, for two positions of the query."""
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 1, 1, 32))
    distance = np.arange(33)
    with panels(1, 5.8, 2.6) as (figure, (axis,)):
        for position, colour, line, marker in ((32, BLUE, "-", "o"), (160, ORANGE, "--", "s")):
            query = rope(q, np.array([position])).ravel()
            keys = rope(np.repeat(k, 33, 1), position - distance)[0, :, 0]
            axis.plot(distance, keys @ query, color=colour, linestyle=line, marker=marker, markersize=4,
                      markevery=(0 if position == 32 else 1, 2), label=f"query at {position}")  # fmt: skip
        axis.set(xlabel="distance from the key to the query", ylabel="logit")
        axis.legend(fontsize=9)
        return to_svg(figure, "rotation")


def gate() -> str:
    """SiLU, and SwiGLU with all weights 1."""
    x, unit = np.linspace(-4, 3, 141), np.ones((1, 1))
    with panels(1, 5.2, 2.4) as (figure, (axis,)):
        axis.plot(x, silu(x), color=BLUE, label="silu(x)")
        axis.plot(x, swiglu(x[:, None], unit, unit, unit), color=ORANGE, linestyle="--", label="SwiGLU(x), weights 1")
        axis.plot(x, np.maximum(x, 0), color=FAINT, linestyle=":", label="max(x, 0)")
        axis.set(xlabel="x", ylim=(-0.6, 4))
        axis.legend(fontsize=9)
        return to_svg(figure, "gate")


def phases() -> str:
    """Modules that each phase trains or freezes, and the lengths of a run's batches."""
    modules = ("tokenizer", "transformer", "policy", "reward", "value", "prior")
    with panels(2, 8.0, 2.5, width_ratios=(3, 2)) as (figure, (table, lengths)):
        for row, (phase, trained) in enumerate(TRAINED.items()):
            for column, module in enumerate(modules):
                if module in trained:
                    _box(table, column, row, "trained", BLUE)
                elif module in FROZEN[phase]:
                    _box(table, column, row, "frozen", ORANGE, "///")
        table.set(xticks=range(6), yticks=range(3), yticklabels=TRAINED, xlim=(-0.6, 5.6), ylim=(2.6, -0.6))
        table.set_xticklabels(modules, fontsize=9, rotation=20)
        table.grid(visible=False)
        frames = batch_lengths(24, long_every=6, long_only=5)
        lengths.bar(range(24), frames, color=[GREEN if length == constants.T2 else BLUE for length in frames])
        lengths.set(xlabel="batch", title="frames of a batch", yticks=(constants.T1, constants.C, constants.T2))
        return to_svg(figure, "phases")


def frames() -> str:
    """The paper's numbers of frames on one axis."""
    rows = {
        "L, frames predicted ahead": constants.L,
        "T₁, short batch": constants.T1,
        "C, context": constants.C,
        "T₂, long batch": constants.T2,
    }
    with panels(1, 5.4, 2.0) as (figure, (axis,)):
        axis.barh(range(len(rows)), rows.values(), color=BLUE, height=0.55)
        for row, count in enumerate(rows.values()):
            axis.text(count + 4, row, str(count), va="center", color=INK)
        axis.set(yticks=range(len(rows)), yticklabels=rows, xlabel="frames", xlim=(0, 285), ylim=(3.6, -0.6))
        axis.grid(visible=False, axis="y")
        return to_svg(figure, "frames")


def requirements() -> str:
    """Step sizes and levels that the requirements accept, for K_max = 8."""
    steps = {"1.5": 1.5, "1": 1.0, "3/4": 0.75, "1/2": 0.5, "1/3": 1 / 3, "1/4": 0.25, "1/8": 0.125, "1/16": 0.0625}
    levels = {f"{tau:g}": tau for tau in (-0.25, 0.0, 0.1, 0.5, 0.9, 1.0, 1.25)}
    with panels(2, 7.2, 1.7) as (figure, (sizes, taus)):
        _accepted(sizes, steps, lambda d: require_step(d, k_max=8, equation=""))
        _accepted(taus, levels, lambda tau: require_level(tau, equation="", below_one=True))
        sizes.set(title="step size d, K_max = 8")
        taus.set(title="level τ where 1 − τ divides")
        return to_svg(figure, "requirements")


def _accepted(axis: Any, values: dict[str, float], require: Any) -> None:
    for column, value in enumerate(values.values()):
        try:
            require(np.array([value]))
        except ValueError:
            axis.scatter([column], [0], marker="x", color=ORANGE, s=50)
        else:
            axis.scatter([column], [0], marker="o", color=BLUE, s=50)
    axis.set(xticks=range(len(values)), yticks=[], ylim=(-1, 1))
    axis.set_xticklabels(values)
    axis.grid(visible=False)
