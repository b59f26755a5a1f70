"""Figures of the site: how each is drawn, its text alternative and its caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from docs.generator.figures import masks, plots

ENCODER = [
    ("latent", "latent 0"),
    ("latent", "latent 1"),
    ("image", "patch 0"),
    ("image", "patch 1"),
    ("image", "patch 2"),
]
DYNAMICS = [
    ("latent", "spatial 0"),
    ("latent", "spatial 1"),
    ("register", "register"),
    ("label", "(τ, d)"),
    ("action", "action"),
    ("agent", "agent"),
]


@dataclass(frozen=True)
class Figure:
    """A figure of the site.

    Attributes:
        draw: returns the SVG.
        alternative: what the figure shows, for readers who do not see it.
        caption: sentence below the figure.
    """

    draw: Callable[[], str]
    alternative: str
    caption: str


FIGURES: dict[str, Figure] = {
    "corruption": Figure(
        plots.corruption,
        "A sine wave at signal levels 0, 0.25, 0.5, 0.75 and 1: pure noise at the left, the clean wave at the right.",
        "`corrupt` at five signal levels: τ = 0 is pure noise, τ = 1 is clean data.",
    ),
    "sampling": Figure(
        plots.sampling,
        "Paths of nine samples from noise to data with two values, −1 and 1. With one step all paths end at 0, "
        "the mean of the two. With four steps some end between the two values. With 64 steps all but the one in the "
        "middle end at −1 or 1.",
        "Euler steps with the best prediction for data of two values (diamonds). One step ends at their mean. The path "
        "that starts at exactly 0 has no reason to prefer either value.",
    ),
    "half-steps": Figure(
        plots.half_steps,
        "Over the signal level: two half steps from z̃ over z′, first down, then up; the target, a dashed line, "
        "ends where the second half step ends; one full step along the first velocity ends lower.",
        "`bootstrap_target` on the same data, d = 1/2 from τ = 1/4: the student's single step is to end where two "
        "half steps end.",
    ),
    "grid": Figure(
        plots.grid,
        "Four rows of points. Step size 1 has the level 0; 1/2 has 0 and 0.5; 1/4 has four levels from 0 to 0.75; 1/8 "
        "has eight from 0 to 0.875. The level 1 is crossed out in every row.",
        "Signal levels that occur with each step size for K_max = 8. Each row is equally likely, and so is each point "
        "of a row. τ = 1 (crosses) never occurs.",
    ),
    "ramp": Figure(
        plots.ramp,
        "The weight rises linearly from 0.1 at pure noise to 1 at clean data. The common mistake falls from 1 to 0.1.",
        "The ramp, and the most frequent mistake: the same formula applied to the noise level.",
    ),
    "loss-normalisation": Figure(
        plots.loss_normalisation,
        "Left, on a logarithmic scale: MSE is about thirty times smaller than LPIPS, and both fall. Right: after "
        "division both are near 1.",
        "Two terms of invented size through `RunningRMS`: afterwards the weight 0.2 means the same for any data.",
    ),
    "multi-token": Figure(
        plots.multi_token,
        "A table of positions 0 to 11 and distances 0 to 8. Each entry is position plus distance; entries past the end "
        "of the sequence are marked as left out.",
        "`multi_token_targets` for a sequence of 12: the timestep that each head predicts. Past the end (dots) there "
        "is no target.",
    ),
    "twohot": Figure(
        plots.twohot,
        "Three bar charts over nine bins. 0.6 has mass on two neighbouring bins, 4.0 on two others, −7.0 on two.",
        "`twohot_encode` on nine bins: at most two neighbouring bins, whose mean is the value.",
    ),
    "lambda-weights": Figure(
        plots.lambda_weights,
        "Left: weights of rewards in the first return. λ = 0 weighs only the first reward, λ = 1 all nearly equally, "
        "0.5 and 0.95 decay in between. Right: weights of values. λ = 0 weighs only the next value, λ = 1 the last.",
        "Weights of rewards and values in R₀, γ = 0.997, H = 12. v₀ has weight 0 for every λ: the value of the own "
        "state is not part of its return.",
    ),
    "policy-sets": Figure(
        plots.policy_sets,
        "Left: advantages of twelve states between −3 and 2.5, three of them negative. Right: every negative state has "
        "the factor 0.17, every other the factor −0.06, whatever the size of its advantage.",
        "`log_prob_weight` at α = ½. Only the sign matters; each set is averaged by its own size, so the three states "
        "of D⁻ count as much together as the nine of D⁺. A = 0 (state 5) belongs to D⁺.",
    ),
    "drop-count": Figure(
        plots.drop_count,
        "Both distributions are flat up to about 54 of 60 patches; the one with Bernoulli draws falls smoothly at the "
        "end, the other drops.",
        "Number of dropped patches under the two options of reading A33.",
    ),
    "soft-cap": Figure(
        plots.soft_cap,
        "The capped logit follows the identity near 0 and levels off at ±50.",
        "c tanh(x/c) with c = 50.",
    ),
    "mouse-bins": Figure(
        plots.mouse_bins,
        "A staircase of eleven steps, narrow around 0 degrees and wide towards ±10.",
        "Bin of a mouse movement along one axis: narrow near 0, clipped at ±10 degrees.",
    ),
    "mask-encoder": Figure(
        partial(masks.frames_mask, "encoder", ENCODER, 1),
        "Rows are queries, columns keys. Two latents attend to all five tokens. Three patches attend to patches only.",
        "Encoder, one frame: latents (rows 1 and 2) see every token; patches see patches only, never latents.",
    ),
    "mask-decoder": Figure(
        partial(masks.frames_mask, "decoder", ENCODER, 1),
        "Two latents attend to latents only. Three patches attend to all five tokens.",
        "Decoder, one frame: latents see latents only; patches see themselves and the latents. The only way from the "
        "encoder's patches to the decoder's patches is through the latents.",
    ),
    "mask-modalities": Figure(
        partial(masks.frames_mask, "encoder", [*ENCODER[:3], ("text", "text 0"), ("text", "text 1")], 1),
        "Latents attend to everything. The image patch attends to itself only, and the two text tokens to text only.",
        "Encoder with a second modality: each modality sees only itself.",
    ),
    "mask-dynamics": Figure(
        partial(masks.frames_mask, "dynamics", DYNAMICS, 1),
        "Spatial, register, label and action tokens attend to all tokens but the agent token. The agent token attends "
        "to all tokens.",
        "Dynamics, one frame: all tokens see each other, except that nothing but the agent sees the agent token.",
    ),
    "mask-dynamics-2": Figure(
        partial(masks.frames_mask, "dynamics", DYNAMICS, 2),
        "The same for two frames: tokens of frame 1 also attend to frame 0, but not to its agent token; only agent "
        "tokens attend to agent tokens. Tokens of frame 0 attend to nothing of frame 1.",
        "Dynamics, two frames, what may influence what through all layers: time and modality. An agent token sees "
        "earlier agent tokens; the world model sees none.",
    ),
    "mask-decoder-2": Figure(
        partial(masks.frames_mask, "decoder", ENCODER, 2),
        "The decoder's rule for two frames: tokens of frame 1 also attend to what they may see of frame 0; frame 0 "
        "attends to nothing of frame 1.",
        "Decoder, two frames: causal in time, so that frames can be decoded one by one.",
    ),
    "mask-window": Figure(
        partial(masks.window_mask, 8, 4),
        "A band along the diagonal: each of eight frames attends to itself and at most three frames before it.",
        "One time layer with C = 4: a frame sees itself and C − 1 frames before it (reading A30).",
    ),
    "tutorial-flow": Figure(
        partial(plots.tutorial_paths, "flow matching"),
        "Paths of 17 samples. With one step all end near one half. With four steps they end between and around the two "
        "values. With 64 steps nearly all end at −1 or 1.",
        "Flow matching: paths from noise to samples. Diamonds are the two values of the data.",
    ),
    "tutorial-shortcut": Figure(
        partial(plots.tutorial_paths, "shortcut forcing"),
        "Paths of 17 samples. With one step most already end at −1 or 1, as they do with 4 and 64 steps.",
        "Shortcut forcing: the same starts.",
    ),
    "tutorial-distances": Figure(
        plots.tutorial_distances,
        "Energy distance against the number of steps, both on logarithmic scales. Flow matching starts far away at one "
        "step and falls with every doubling. Shortcut forcing is low at every number of steps.",
        "Energy distance of samples to the data.",
    ),
}
"""Name → figure."""

FIGURES_OF: dict[str, tuple[str, ...]] = {
    "eq01_corruption": ("corruption",),
    "eq02_sampling": ("sampling",),
    "eq03_shortcut_target": ("half-steps",),
    "eq04_grid": ("grid",),
    "loss_normalisation": ("loss-normalisation",),
    "eq06_07_shortcut_forcing": ("half-steps",),
    "eq08_ramp_weight": ("ramp",),
    "eq09_multi_token": ("multi-token",),
    "twohot": ("twohot",),
    "eq10_lambda_return": ("lambda-weights",),
    "eq11_pmpo": ("policy-sets",),
    "sec31_masks": ("mask-encoder", "mask-decoder", "mask-dynamics"),
    "sec31_patch_dropout": ("drop-count",),
    "sec32_dynamics": ("mask-dynamics-2",),
    "sec34_attention": ("soft-cap", "mask-window"),
    "minecraft_actions": ("mouse-bins",),
}
"""Reference module → its figures."""
