"""Figures of the site: how each is drawn, its text alternative and its caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from docs.generator.figures import architecture, masks, plots, tutorials
from docs.generator.results import sequences

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
        partial(tutorials.tutorial_paths, "flow matching"),
        "Paths of 17 samples. With one step all end near one half. With four steps they end between and around the two "
        "values. With 64 steps nearly all end at −1 or 1.",
        "Flow matching: paths from noise to samples. Diamonds are the two values of the data.",
    ),
    "tutorial-shortcut": Figure(
        partial(tutorials.tutorial_paths, "shortcut forcing"),
        "Paths of 17 samples. With one step most already end at −1 or 1, as they do with 4 and 64 steps.",
        "Shortcut forcing: the same starts.",
    ),
    "tutorial-distances": Figure(
        tutorials.tutorial_distances,
        "Energy distance against the number of steps, both on logarithmic scales. Flow matching starts far away at one "
        "step and falls with every doubling. Shortcut forcing is low at every number of steps.",
        "Energy distance of samples to the data.",
    ),
    "bug-found": Figure(
        tutorials.bug_found,
        "Left: the loss falls from 0.22 and levels off at 0.15. Middle: with one step 17 samples end between "
        "and around the two values. Right: with 64 steps they end beyond the two values, at about −1.4 and 1.2.",
        "The wrong implementation: its loss, and paths from noise to samples. Diamonds are the two values of the data.",
    ),
    "bug-versions": Figure(
        tutorials.bug_versions,
        "Energy distance against the number of steps, both on logarithmic scales. As found it is 0.2 to 0.3; after the "
        "first repair 0.5 to 1; after both about 0.01 at every number of steps.",
        "Energy distance of samples to the data: the first repair alone makes it worse, both make it small.",
    ),
    "room": Figure(
        tutorials.room,
        "A square of four by four cells in five frames. The agent, a triangle, moves right, turns down and moves down "
        "twice onto the goal, a hatched square, which then is in another cell.",
        "Four steps of an episode, each frame after the action above it. The last one is rewarded, and the goal moves.",
    ),
    "rooms-cells": Figure(
        tutorials.rooms_cells,
        "Share of clips whose agent is in the right cell, 1, 4 and 8 frames ahead, for each measured model and for a "
        "copy of the last observed frame; the table next to it has the numbers.",
        "Agent in the right cell of a rollout, with 95 % intervals.",
    ),
    "loss-shares": Figure(
        architecture.loss_shares,
        "Without normalisation the share of the perceptual term rises from 0.02 to nearly 1 as LPIPS grows from a "
        "tenth to a thousand times MSE. With normalised terms it is one sixth, whatever their sizes.",
        "What `0.2` means: without normalisation it depends on the data, with it the term is a sixth of the loss.",
    ),
    "regrouping": Figure(
        architecture.regrouping,
        "Left: eight tokens of two channels, numbered 0 to 15 row by row. Right: four tokens of four channels; the "
        "first holds 0 to 3, which were tokens 0 and 1.",
        "`regroup` of eight tokens: consecutive pairs side by side (A36). Even tokens are plain, odd ones hatched.",
    ),
    "layers": Figure(
        architecture.layers,
        "Three rows of eight layers. Default: layers 3 and 7 mix time, the others space. A25 adds: layers 3 and 7 mix "
        "space, then time. A39 other: layers 0 and 4 mix time.",
        "`layer_kinds` of eight layers, under the default and two other readings.",
    ),
    "norms": Figure(
        architecture.norms,
        "A query (3, 4, 0, 5) and ten times the query have the same bars in each panel. RMS: up to 1.4; L2: up to 0.7; "
        "LayerNorm subtracts the mean, so the third channel is negative.",
        "`qk_norm` under the options of reading A31: the length of a query has no effect.",
    ),
    "rotation": Figure(
        architecture.rotation,
        "The logit oscillates over the distance from 0 to 32. The curves of a query at position 32 and of one at 160 "
        "coincide.",
        "Logits of one query and one key after `rope`: only their distance matters.",
    ),
    "gate": Figure(
        architecture.gate,
        "SiLU is slightly negative below 0 and approaches x above. SwiGLU with unit weights is x times SiLU: small "
        "below 0 and nearly quadratic above.",
        "The gate, and SwiGLU of a single channel with all weights 1.",
    ),
    "phases": Figure(
        architecture.phases,
        "Left: the dynamics phase trains the transformer with a frozen tokenizer; the agent phase trains transformer, "
        "policy and reward; the imagine phase trains policy and value with frozen transformer, reward and prior. "
        "Right: batches of 64 frames with every sixth of 256, and the last five all of 256.",
        "`TRAINED`, `FROZEN`, and `batch_lengths(24, long_every=6, long_only=5)`; the context of 192 frames is "
        "between the two lengths.",
    ),
    "frames": Figure(
        architecture.frames,
        "Bars of frames: 8 predicted ahead, 64 in a short batch, 192 of context, 256 in a long batch.",
        "The paper's numbers of frames: only long batches are longer than the context.",
    ),
    "requirements": Figure(
        architecture.requirements,
        "Of the step sizes, 1, 1/2, 1/4 and 1/8 are accepted; 1.5, 3/4, 1/3 and 1/16 are rejected. Of the levels, "
        "those from 0 to 0.9 are accepted; −0.25, 1 and 1.25 are rejected.",
        "What the reference accepts (dots) and what it rejects with a message (crosses).",
    ),
}
"""Name → figure."""

if sequences():
    FIGURES["rooms-returns"] = Figure(
        tutorials.rooms_returns,
        "Returns of random play, of the cloned policy and of the policy after imagination, with 95 % intervals, for "
        "every seed; the table next to it has the numbers.",
        "Goals an episode in the game, 48 steps each.",
    )

FIGURES_OF: dict[str, tuple[str, ...]] = {
    "eq01_corruption": ("corruption",),
    "eq02_sampling": ("sampling",),
    "eq03_shortcut_target": ("half-steps",),
    "eq04_grid": ("grid",),
    "eq05_tokenizer_loss": ("loss-shares",),
    "loss_normalisation": ("loss-normalisation",),
    "eq06_07_shortcut_forcing": ("half-steps",),
    "eq08_ramp_weight": ("ramp",),
    "eq09_multi_token": ("multi-token",),
    "twohot": ("twohot",),
    "eq10_lambda_return": ("lambda-weights",),
    "eq11_pmpo": ("policy-sets",),
    "sec31_masks": ("mask-encoder", "mask-decoder", "mask-dynamics"),
    "sec31_patch_dropout": ("drop-count",),
    "sec31_tokenizer": ("regrouping",),
    "sec32_dynamics": ("mask-dynamics-2",),
    "sec34_attention": ("soft-cap", "mask-window"),
    "sec34_layers": ("layers",),
    "sec34_norms": ("norms",),
    "sec34_rope": ("rotation",),
    "sec34_swiglu": ("gate",),
    "algorithm1_training": ("phases",),
    "minecraft_actions": ("mouse-bins",),
    "constants": ("frames",),
    "levels": ("requirements",),
}
"""Reference module → its figures."""
