"""Figures of the equations, computed by the reference."""

from __future__ import annotations

import numpy as np

from docs.generator.figures.mixture import best_prediction
from docs.generator.figures.style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, panels, to_svg
from dreamer4_reference.eq01_corruption import corrupt
from dreamer4_reference.eq02_sampling import euler_step
from dreamer4_reference.eq04_grid import signal_levels, step_sizes
from dreamer4_reference.eq06_07_shortcut_forcing import bootstrap_target
from dreamer4_reference.eq08_ramp_weight import ramp_weight
from dreamer4_reference.eq09_multi_token import multi_token_targets
from dreamer4_reference.eq10_lambda_return import lambda_returns
from dreamer4_reference.eq11_pmpo import log_prob_weight
from dreamer4_reference.loss_normalisation import RunningRMS
from dreamer4_reference.twohot import symexp_bins, twohot_encode


def corruption() -> str:
    """One signal at five levels."""
    x = np.linspace(0, 4 * np.pi, 120)
    z1, z0 = np.sin(x)[None, None, :, None], np.random.default_rng(3).normal(size=(1, 1, 120, 1))
    with panels(5, 8.0, 1.9, sharey=True) as (figure, axes):
        for axis, tau in zip(axes, (0.0, 0.25, 0.5, 0.75, 1.0), strict=True):
            axis.plot(x, corrupt(z0, z1, np.full((1, 1), tau)).ravel(), color=BLUE, linewidth=1.2)
            axis.set(title=f"τ = {tau:g}", xticks=[], ylim=(-3, 3))
        return to_svg(figure, "corruption")


def sampling() -> str:
    """Paths of samples of two-valued data with K = 1, 4 and 64 steps of the best prediction."""
    start = np.linspace(-2, 2, 9)
    with panels(3, 7.6, 2.7, sharey=True) as (figure, axes):
        for axis, num_steps in zip(axes, (1, 4, 64), strict=True):
            x = start[:, None, None, None].copy()
            path, d = [x.ravel()], np.full((9, 1), 1 / num_steps)
            for step in range(num_steps):
                x = euler_step(x, best_prediction(x, step * d, d), step * d, d)
                path.append(x.ravel())
            marker = "o" if num_steps <= 4 else None
            axis.plot(np.linspace(0, 1, num_steps + 1), path, color=BLUE, linewidth=1.2, marker=marker, markersize=3)
            axis.scatter(
                [1, 1], [-1, 1], marker="D", s=45, facecolors="none", edgecolors=ORANGE, zorder=3, linewidths=2
            )
            axis.set(title=f"K = {num_steps}", xlabel="signal level τ")
        axes[0].set_ylabel("state x")
        return to_svg(figure, "sampling")


def half_steps() -> str:
    """The target of a full step: two half steps of the same network."""
    z, tau, d = np.full((1, 1, 1, 1), 0.35), np.array([[0.25]]), np.array([[0.5]])
    first, middle, second = bootstrap_target(lambda z, tau, d, actions: best_prediction(z, tau, d), z, tau, d)
    target = z + (first + second) / 2 * 0.5
    levels = [0.25, 0.5, 0.75]
    points = [z.item(), middle.item(), middle.item() + second.item() * 0.25]
    with panels(1, 6.0, 3.0) as (figure, (axis,)):
        _field(axis)
        axis.plot(levels, points, color=BLUE, marker="o", label="two half steps of the teacher: b′, then b″")
        axis.plot([0.25, 0.75], [z.item(), target.item()], color=ORANGE, linestyle="--", marker="s", zorder=3,
                  label="target of the student's full step: (b′ + b″)/2")  # fmt: skip
        straight = z.item() + first.item() * 0.5
        axis.plot([0.25, 0.75], [z.item(), straight], color=PURPLE, linestyle=":", marker="^",
                  label="one Euler step along b′ alone")  # fmt: skip
        for level, value, text in zip(levels, points, ("z̃", "z′", ""), strict=True):
            axis.annotate(text, (level, value), textcoords="offset points", xytext=(-4, -14))
        axis.set(xlabel="signal level τ", ylabel="state", xlim=(0.15, 0.85), ylim=(-0.1, 1.35))
        axis.legend(loc="upper left", fontsize=9)
        return to_svg(figure, "half-steps")


def _field(axis: object) -> None:
    """Faint arrows of the velocity of the best prediction."""
    tau, state = np.meshgrid(np.linspace(0.2, 0.8, 7), np.linspace(0, 1.2, 7))
    x, level = state.reshape(1, -1, 1, 1), tau.reshape(1, -1)
    velocity = ((best_prediction(x, level, level) - x) / (1 - level)[..., None, None]).reshape(tau.shape)
    axis.quiver(tau, state, np.ones_like(velocity), velocity, color=FAINT, alpha=0.6, angles="xy", width=0.003)  # type: ignore[attr-defined]


def grid() -> str:
    """Signal levels of every step size for K_max = 8."""
    steps = step_sizes(8)
    with panels(1, 6.4, 2.4) as (figure, (axis,)):
        for row, d in enumerate(steps):
            levels = [float(tau) for tau in signal_levels(d)]
            axis.hlines(row, 0, 1, color=FAINT, linewidth=1)
            axis.scatter(levels, [row] * len(levels), color=BLUE, s=36, zorder=3)
            axis.scatter([1], [row], marker="x", color=ORANGE, s=36, zorder=3)
        axis.set(
            yticks=range(len(steps)), yticklabels=[f"d = {d}" for d in steps], xlabel="signal level τ", ylim=(3.6, -0.6)
        )
        axis.grid(visible=False, axis="y")
        return to_svg(figure, "grid")


def ramp() -> str:
    """The ramp, and what an inverted one weighs."""
    tau = np.linspace(0, 1, 65)
    with panels(1, 5.2, 2.6) as (figure, (axis,)):
        axis.plot(tau, ramp_weight(tau), color=BLUE, label="w(τ) = 0.9 τ + 0.1")
        axis.plot(tau, ramp_weight(1 - tau), color=ORANGE, linestyle="--", label="mistake: applied to the noise level")
        axis.set(xlabel="signal level τ (0 noise, 1 clean)", ylabel="weight w", ylim=(0, 1.25))
        axis.legend(loc="upper center", ncols=2, fontsize=9)
        return to_svg(figure, "ramp")


def loss_normalisation() -> str:
    """Two terms of different size, before and after their division by a running RMS."""
    rng, step = np.random.default_rng(0), np.arange(300)
    terms = {
        "MSE": 0.02 * np.exp(-step / 80) * rng.uniform(0.7, 1.3, 300) + 0.002,
        "LPIPS": 0.6 * np.exp(-step / 200) * rng.uniform(0.9, 1.1, 300) + 0.1,
    }
    normalise, styles = RunningRMS(), {"MSE": (BLUE, "-"), "LPIPS": (ORANGE, "--")}
    with panels(2, 7.2, 2.4) as (figure, (raw, divided)):
        for name, values in terms.items():
            colour, line = styles[name]
            raw.plot(step, values, color=colour, linestyle=line, label=name, linewidth=1.2)
            divided.plot(
                step, [normalise(name, value) for value in values], color=colour, linestyle=line, linewidth=1.2
            )
        raw.set(yscale="log", title="terms of the loss", xlabel="step")
        divided.set(title="divided by their running RMS", xlabel="step", ylim=(0, 1.6))
        raw.legend()
        return to_svg(figure, "loss-normalisation")


def multi_token() -> str:
    """Which timestep every head predicts from every position."""
    length, distances = 12, tuple(range(9))
    targets, valid = multi_token_targets(np.arange(length)[None], distances)
    with panels(1, 6.4, 2.9) as (figure, (axis,)):
        for t, n in np.ndindex(length, len(distances)):
            inside = bool(valid[0, t, n])
            axis.text(t, n, str(targets[0, t, n]) if inside else "·", ha="center", va="center", fontsize=9,
                      color=INK if inside else FAINT)  # fmt: skip
        axis.plot(np.arange(length + 1) - 0.5, np.clip(length - np.arange(length + 1) - 0.5, -0.5, 8.5), color=ORANGE,
                  drawstyle="steps-post", linewidth=1.4)  # fmt: skip
        axis.set(xlabel="position t of the agent token hₜ", ylabel="distance n", xticks=range(length), yticks=distances,
                 xlim=(-0.6, length - 0.4), ylim=(-0.6, 8.6))  # fmt: skip
        axis.grid(visible=False)
        return to_svg(figure, "multi-token")


def twohot() -> str:
    """Two-hot encoding of three values on a few bins."""
    bins = symexp_bins(9, -3.0, 3.0)
    values = np.array([0.6, 4.0, -7.0])
    p = twohot_encode(values, bins)
    with panels(3, 7.6, 2.2, sharey=True) as (figure, axes):
        for axis, value, row in zip(axes, values, p, strict=True):
            axis.bar(range(len(bins)), row, color=BLUE)
            axis.set(title=f"x = {value:g}", xticks=range(len(bins)), ylim=(0, 1))
            axis.set_xticklabels([f"{edge:.1f}" for edge in bins], rotation=60, fontsize=8)
        axes[0].set_ylabel("probability")
        return to_svg(figure, "twohot")


def lambda_weights() -> str:
    """Weight of every reward and value in R₀, read off from the linear recursion."""
    horizon, gamma = 12, 0.997
    with panels(2, 7.6, 2.7, sharey=True) as (figure, (rewards, values)):
        for lam, colour, marker in ((0.0, ORANGE, "s"), (0.5, GREEN, "^"), (0.95, BLUE, "o"), (1.0, PURPLE, "x")):
            unit, cont = np.eye(horizon), np.ones((horizon, horizon))
            per_reward = lambda_returns(unit, np.zeros((horizon, horizon + 1)), cont, gamma, lam)[:, 0]
            cont = np.ones((horizon + 1, horizon))
            per_value = lambda_returns(np.zeros((horizon + 1, horizon)), np.eye(horizon + 1), cont, gamma, lam)[:, 0]
            rewards.plot(per_reward, color=colour, marker=marker, markersize=4, linewidth=1, label=f"λ = {lam:g}")
            values.plot(per_value, color=colour, marker=marker, markersize=4, linewidth=1)
        rewards.set(title="weight of rₜ in R₀", xlabel="t")
        values.set(title="weight of vₜ in R₀", xlabel="t")
        rewards.legend(fontsize=9)
        return to_svg(figure, "lambda-weights")


def policy_sets() -> str:
    """Factors of ln π for twelve states, three of them in D⁻."""
    advantage = np.array([2.5, 0.1, 0.4, -0.2, 1.1, 0.0, -3.0, 0.6, 0.2, -0.5, 1.9, 0.3])
    factor = log_prob_weight(advantage)
    position = np.arange(len(advantage))
    with panels(2, 7.6, 2.6) as (figure, (advantages, weights)):
        for axis, height in ((advantages, advantage), (weights, factor)):
            for member, colour, hatch, name in ((advantage >= 0, BLUE, "", "D⁺"), (advantage < 0, ORANGE, "///", "D⁻")):
                axis.bar(
                    position[member],
                    height[member],
                    color=colour,
                    hatch=hatch,
                    edgecolor=INK,
                    linewidth=0.5,
                    label=name,
                )
            axis.axhline(0, color=INK, linewidth=0.8)
            axis.set(xlabel="state", xticks=position)
        advantages.set_title("advantage A = R − v")
        weights.set_title("factor of ln π(a|s) in the loss")
        weights.legend(fontsize=9)
        return to_svg(figure, "policy-sets")


def drop_count() -> str:
    """Distribution of the number of dropped patches in an image of 60."""
    from dreamer4_reference.sec31_patch_dropout import drop_count_law

    with panels(1, 5.6, 2.4) as (figure, (axis,)):
        axis.plot(drop_count_law(60), color=BLUE, label="bernoulli (A33, default)")
        axis.plot(drop_count_law(60, draw="count"), color=ORANGE, linestyle="--", label="count")
        axis.set(xlabel="dropped patches of 60", ylabel="probability", ylim=(0, None))
        axis.legend(fontsize=9)
        return to_svg(figure, "drop-count")


def soft_cap() -> str:
    """The soft cap for c = 50."""
    from dreamer4_reference.sec34_attention import soft_cap as cap

    x = np.linspace(-150, 150, 121)
    with panels(1, 5.2, 2.4) as (figure, (axis,)):
        axis.plot(x, cap(x, 50.0), color=BLUE, label="50 tanh(x/50)")
        axis.plot(x, x, color=ORANGE, linestyle="--", label="without cap")
        axis.set(xlabel="logit", ylabel="capped logit", ylim=(-70, 70))
        axis.legend(fontsize=9)
        return to_svg(figure, "soft-cap")


def mouse_bins() -> str:
    """Class of one axis of the mouse against its movement."""
    from dreamer4_reference.minecraft_actions import mouse_class

    degrees = np.linspace(-12, 12, 481)
    classes = mouse_class(np.stack([degrees, np.zeros_like(degrees)], -1)) // 11
    with panels(1, 5.2, 2.4) as (figure, (axis,)):
        axis.plot(degrees, classes, color=BLUE, drawstyle="steps-mid")
        axis.set(xlabel="movement along one axis, degrees", ylabel="bin", yticks=range(0, 11, 2))
        return to_svg(figure, "mouse-bins")
