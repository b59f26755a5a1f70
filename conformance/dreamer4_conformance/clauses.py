"""Clauses of the specification: one requirement of the paper each, the unit of checks and reports.

The code of a clause is two steps away: the checks registered for it (`dreamer4-conformance explain CLAUSE` prints them)
and the reference module that they compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["must", "reading", "quality"]
SITE = "https://dreamer4-conformance.github.io/dreamer4-conformance"
"""Where the documentation is published."""


@dataclass(frozen=True)
class Clause:
    """One requirement of the paper.

    Attributes:
        id: for example "eq08.value".
        equation: number under which `--eq` selects it; None for architecture and training.
        kind: "must" for an equation or plain statement; "reading" if the paper leaves a choice, which the adapter
            declares; "quality" if it is not in the paper, reported separately from conformance.
        source: section and page of the paper.
        requirement: the requirement as a sentence.
        module: reference module that the checks compare with; None if there is none.
    """

    id: str
    equation: int | None
    kind: Kind
    source: str
    requirement: str
    module: str | None = None

    @property
    def where(self) -> str:
        """Location in the paper, for example `Eq. (8), Sec. 3.2, p. 6`."""
        return f"Eq. ({self.equation}), {self.source}" if self.equation is not None else self.source

    @property
    def address(self) -> str:
        """Permanent address of the clause in the documentation: equation, checks, and the mistakes that it rejects."""
        return f"{SITE}/spec/{self.module or 'clauses'}.html#{self.id.replace('.', '-')}"


_Marked = tuple[Kind, str]


def _must(requirement: str) -> _Marked:
    return "must", requirement


def _reading(requirement: str) -> _Marked:
    return "reading", requirement


def _quality(requirement: str) -> _Marked:
    return "quality", requirement


_SECTIONS: dict[tuple[int | None, str, str | None], dict[str, str | _Marked]] = {
    (1, "Sec. 2, p. 3", "eq01_corruption"): {
        "eq01.interpolate": "Corrupted data is (1 − τ) z0 + τ z1, element by element.",
        "eq01.endpoints": "Corruption gives z0 at τ = 0 and z1 at τ = 1, within rounding.",
        "eq01.swap": "Exchanging z0 and z1 and replacing τ by 1 − τ changes nothing.",
    },
    (2, "Sec. 2, p. 3; Sec. 3.2, p. 6", "eq02_sampling"): {
        "eq02.calls": (
            "A frame takes exactly K denoising evaluations, labelled τ = 0, 1/K, …, 1 − 1/K in order, with d = 1/K."
        ),
        "eq02.step": "Every input equals the previous one after one Euler step; no noise enters after the start.",
        "eq02.endpoint": "A perfect predictor is reproduced after K steps, for every K in {1, 2, 4, …, K_max}.",
        "eq02.deterministic": "The same start noise gives the same sample.",
        "eq02.start-law": "Sampling starts from standard normal noise.",
        "eq02.actions": "Every evaluation receives the same actions.",
        "ctx.corruption": _reading(
            "Past frames in the network's input are slightly corrupted, and labelled with their level within 1/K_max."
        ),
        "ctx.fixed": _reading("The corrupted context is the same in the K evaluations of a frame."),
        "ctx.used": "The sample depends on the context.",
        "ctx.cache": "Given identical context noise, generating with a cache equals generating without.",
    },
    (4, "Sec. 2, p. 3", "eq04_grid"): {
        "eq04.step-support": (
            "Each of the log2(K_max) + 1 step sizes occurs and no other does; d = 1 and d = 1/K_max are included."
        ),
        "eq04.step-law": _reading("Each step size is equally likely: sampled uniformly as a power of two."),
        "eq04.grid": "τ/d is a whole number for every pair drawn.",
        "eq04.grid-range": "τ = 0 occurs and τ = 1 never does, so τ + d ≤ 1.",
        "eq04.grid-law": "Given d, every one of the 1/d grid points is equally likely.",
        "eq04.granularity": _reading("τ is drawn per timestep, and so is d."),
        "eq04.generator": _quality(
            "Draws are reproducible from their seed; a generator that is passed in is used, not the global state."
        ),
    },
    (5, "Sec. 3.1, p. 5", "eq05_tokenizer_loss"): {
        "eq05.combination": "The tokenizer's loss is L_MSE + 0.2 L_LPIPS, on normalised terms.",
    },
    (5, "Sec. 3.1, p. 5; Sec. 3.4", "loss_normalisation"): {
        "rms.normalise": _reading("Every loss term is divided by a running estimate of its own root mean square."),
        "rms.scale-free": "Multiplying a term by a constant changes the normalised term only temporarily.",
        "rms.not-self": "The divisor is not the current value alone: a spike raises the output clearly.",
        "rms.separate": "Terms do not share a divisor.",
        "rms.poison": _quality("One NaN or infinite value does not poison the estimate for ever."),
    },
    (6, "Sec. 3.2, p. 6", "eq06_07_shortcut_forcing"): {
        "eq06.per-timestep": "Each timestep uses its own τ: changing τ of frame t changes frame t alone.",
        "eq06.noise-law": (
            "The noise that the training loss adds is independent standard normal, fresh for every element."
        ),
        "eq06.noise-independent": "The noise is independent of the data, of τ and of d.",
        "eq06.iid-levels": "Given d, the levels are independent across timesteps and rows.",
        "eq06.x-prediction": "The network's output is read as the clean data z1.",
    },
    (7, "Sec. 3.2, p. 6", "eq06_07_shortcut_forcing"): {
        "eq07.student-label": "The student is called with the drawn τ and d.",
        "eq07.teacher-labels": "The teacher is called at (τ, d/2) and (τ + d/2, d/2), never clamped, never at d.",
        "eq07.teacher-state": "The second teacher call receives z̃ + b' d/2 and nothing else.",
        "eq07.consistent-labels": "With a perfect predictor every input of the network lies at its own label.",
        "eq07.flow-value": "At d = d_min the loss, before w, is the plain x-space error ‖ẑ1 − z1‖².",
        "eq07.bootstrap-value": "Above d_min the loss is the velocity-space error to (b' + b'')/2 times (1 − τ)².",
        "eq07.flow-only-at-dmin": "Above d_min the data z1 enters through z̃ alone: no flow term is added.",
        "eq07.stop-gradient": "No gradient flows through either teacher call.",
        "eq07.gradient": "The gradient with respect to the student's output equals the reference.",
        "eq07.same-network": _reading("b' and b'' use the network itself."),
        "eq07.actions": "The same actions condition all three calls.",
        "eq07.perfect": "A perfect predictor has zero loss at every (τ, d).",
        "eq07.finite": "The loss is finite on the whole grid, τ = 1 − d included.",
        "eq07.absolute": _reading(
            "The absolute value matches under the declared norm and averaging: no hidden factor or clamp."
        ),
        "eq07.every-row": "Each row and timestep of the data is used once: none is dropped or repeated.",
        "eq07.batch-shapes": "B ≠ T, B = T, T = 1 and B = 1 all agree with the reference: no accidental broadcasting.",
        "eq07.mixed-steps": _reading("Where d differs within a sequence, inputs and labels stay consistent."),
        "eq07.nan-visible": _quality("A NaN in the input is not hidden by the loss."),
    },
    (8, "Sec. 3.2, p. 6", "eq08_ramp_weight"): {
        "eq08.value": "The weight is w = 0.9 τ + 0.1 in signal terms: 0.1 at pure noise, 1 at clean data.",
        "eq08.elementwise": "Each timestep is weighted by its own τ; nothing couples the batch.",
        "eq08.applied": _reading(
            "The weight multiplies each timestep's loss before any averaging, flow and bootstrap alike."
        ),
    },
    (9, "Sec. 3.3, p. 7", "eq09_multi_token"): {
        "eq09.offsets": _reading("The head at distance n predicts a_{t+n} and r_{t+n} from h_t."),
        "eq09.sum": _reading("Distances run over the declared range and are added up."),
        "eq09.past-end": "The values at positions past the end never matter.",
        "eq09.no-leak": _reading(
            "The agent token that predicts a label does not depend on it: h_t is unchanged by it."
        ),
        "mtp.heads": "There is one output layer per distance.",
    },
    (9, "Sec. 3.3, p. 7", "twohot"): {
        "twohot.encode": "An encoding has at most two adjacent bins, non-negative, summing to 1, at every value.",
        "twohot.round-trip": "Decoding an encoded value inside the range returns it.",
        "twohot.mean": _reading("Decoding a mixture returns the mean of the values."),
        "twohot.centre": _quality("Uniform logits over symmetric bins decode to 0."),
    },
    (10, "Sec. 3.3, p. 7", "eq10_lambda_return"): {
        "eq10.value": _reading(
            "R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1}) with R_H = v_H, for every horizon H ≥ 1."
        ),
        "eq10.limits": "λ = 1 is the discounted sum with a bootstrap at the end; λ = 0 is the one-step target.",
        "eq10.terminal": "c_t = 0 cuts everything after t and nothing before.",
        "eq10.linear": "Returns are linear in (r, v): nothing is clipped or normalised.",
        "eq10.loss": "The value loss is −ln p(R_t | s_t): two-hot cross-entropy against the detached return.",
    },
    (11, "Sec. 3.3, p. 8", "eq11_pmpo"): {
        "eq11.advantage": "A_t = R_t − v_t with the state's own value, neither centred nor scaled.",
        "eq11.value": "The loss is the three terms of PMPO, for α ≠ 0.5 as well, sets pooled over batch and time.",
        "eq11.gradient": "The gradient with respect to the policy's logits equals the reference.",
        "eq11.sign-only": "Only the sign of A matters: any positive rescaling changes nothing.",
        "eq11.per-set-mean": "Each set is averaged by its own size: at β = 0, duplicating one set changes nothing.",
        "eq11.zero-advantage": "A = 0 belongs to D⁺.",
        "eq11.kl-direction": "The prior term is KL[π_θ ‖ π_prior], exact over the actions.",
        "eq11.factored": "With several action components ln π and KL are sums over them.",
        "eq11.prior-frozen": "No gradient reaches the prior.",
        "eq11.empty-set": _quality("An empty set contributes 0, not NaN."),
        "rl.prior-start": (
            "The prior is a frozen copy of the behaviour-cloned policy head: KL = 0 before the first update."
        ),
    },
    (None, "Sec. 3 and App. A", "constants"): {
        "const.values": "Defaults: K = 4, γ = 0.997, α = 0.5, β = 0.3, L = 8, MAE p ≤ 0.9, LPIPS 0.2, 30 % images.",
    },
    (None, "Sec. 3.4", "sec34_attention"): {
        "attn.value": "Attention equals a float64 oracle, forward and all gradients, in every declared backend.",
        "attn.softcap": "Logits are c·tanh(logit/c), applied before masking, in every backend.",
        "attn.gqa": "Grouped queries equal full attention with each key/value head repeated for its group in order.",
        "attn.causal": "No output depends on a later frame; each depends on every earlier one inside the context.",
        "attn.window": _reading(
            "Within one time layer frame t attends to frames t − C + 1 … t; C ≥ T equals no window."
        ),
    },
    (None, "Sec. 3.4", "sec34_norms"): {
        "attn.qknorm": _reading("Queries and keys are normalised per head: rescaling q or k changes nothing."),
        "net.rmsnorm": "RMSNorm equals its formula.",
    },
    (None, "Sec. 3.4", "sec34_rope"): {
        "attn.rope": _reading(
            "Scores depend on positions only through their difference along an axis; the rotation keeps norms."
        ),
    },
    (None, "Sec. 3.4", "sec34_swiglu"): {
        "net.swiglu": "SwiGLU equals its formula.",
    },
    (None, "Sec. 3.4", "sec34_layers"): {
        "net.prenorm": "Normalisation comes before each sublayer.",
        "net.factorised": _reading(
            "Space layers never mix time, time layers never mix space, a quarter of the layers mixes time."
        ),
        "net.residual": "A block whose attention and MLP output zero is the identity, for every token and layer.",
        "net.incremental": "One frame at a time with a cache equals the whole sequence at once.",
        "net.prefix": "The output of a frame does not depend on how many frames follow.",
        "net.repeatable": _quality("Two equal calls agree; where they do not, no other clause is blamed."),
        "net.sessions": _quality("Two cached sessions in turn do not disturb each other, and a new one starts fresh."),
    },
    (None, "Sec. 3.2, p. 6; Sec. 3.3, p. 7", "sec32_dynamics"): {
        "net.space-full": "In the dynamics all tokens of a frame attend to each other, except agent tokens.",
        "dyn.tokens": (
            "S_z spatial, S_r register, S_a action tokens, one (τ, d) token of two discrete embeddings side by side, "
            "or a linear map of them; training reaches every level that is used at inference."
        ),
        "dyn.action-sum": (
            "Each action component is encoded into S_a tokens; they are summed, always with a learned embedding."
        ),
        "dyn.conditioning": "The output depends on the τ label, the d label and every action component.",
        "dyn.unlabelled": "Without actions only the learned embedding is used: the action values are irrelevant.",
        "dyn.agent-firewall": (
            "Agent tokens attend to everything in their frame and before; nothing attends to agent tokens."
        ),
        "dyn.registers": "Register tokens are part of every frame and never part of the output.",
    },
    (None, "Sec. 3.1, p. 5", "sec31_masks"): {
        "tok.encoder-mask": "In the encoder latents attend to every modality; each modality attends only to itself.",
        "tok.decoder-mask": (
            "In the decoder each modality attends to itself and the latents; latents attend only to latents."
        ),
    },
    (None, "Sec. 3.1, p. 5", "sec31_tokenizer"): {
        "tok.causal": "Encoder and decoder are causal in time; decoding frame by frame equals decoding the sequence.",
        "tok.bottleneck": "Linear to fewer channels, then tanh; the reconstruction is a function of z alone.",
        "tok.shapes": _reading(
            "Minecraft: 360×640 padded to 384×640, 960 tokens, 512×16 → 256×32; others 256×256 → 256 tokens."
        ),
    },
    (None, "Sec. 3.1, p. 5", "sec31_patch_dropout"): {
        "tok.mae-law": _reading("Patches are dropped with p ~ U(0, 0.9), drawn per image, independent over time."),
        "tok.mae-embedding": "A dropped patch is replaced by a learned embedding; nothing is dropped at inference.",
    },
    (None, "Sec. 4", "minecraft_actions"): {
        "data.actions": "Minecraft: 23 binaries and one categorical of 121 = 11×11 μ-law classes.",
    },
    (None, "Algorithm 1, Sec. 3, 3.3, 3.4, 4, App. A", "algorithm1_training"): {
        "train.batch-lengths": "Many short batches and occasional long ones, then long ones only; T2 > C.",
        "train.images": _reading("30 % of the videos of a batch are treated as separate images."),
        "train.frozen-tokenizer": "Dynamics training sends no gradient to the tokenizer.",
        "train.agent-finetune": "Agent finetuning adds Eq. 9 to Eq. 7, on noisy inputs, and trains the transformer.",
        "train.data-mixture": (
            "50 % uniform and 50 % relevant sequences; cloning only on the relevant, dynamics only on the uniform."
        ),
        "train.freeze": "Imagination training updates the policy and value heads alone.",
    },
    (None, "not in the paper", None): {
        "ckpt.tolerant": _quality(
            "A checkpoint from before a parameter existed loads, and reports which keys were missing."
        ),
        "ckpt.complete": _quality("A resumed run continues as if it had not stopped."),
    },
}
"""(equation, source, reference module) → clause id → requirement."""

CLAUSES = tuple(
    Clause(name, equation, kind, source, requirement, module)
    for (equation, source, module), rows in _SECTIONS.items()
    for name, (kind, requirement) in ((n, _must(row) if isinstance(row, str) else row) for n, row in rows.items())
)

BY_ID = {clause.id: clause for clause in CLAUSES}


def select(patterns: list[str] | None = None, equations: list[int] | None = None) -> list[Clause]:
    """Clauses that match any of the glob patterns and any of the equations.

    Args:
        patterns: glob patterns of clause ids; None for all.
        equations: equation numbers; None for all.

    Returns:
        The selected clauses, in the order of `CLAUSES`.

    Raises:
        ValueError: if a pattern or an equation selects nothing.

    Example:
        >>> [clause.id for clause in select(["eq08.*"], [8])]
        ['eq08.value', 'eq08.elementwise', 'eq08.applied']
    """
    for pattern in patterns or []:
        if not any(fnmatchcase(name, pattern) for name in BY_ID):
            raise ValueError(
                f"clause pattern {pattern!r} matches no clause; `dreamer4-conformance list` prints them all"
            )
    numbers = sorted({clause.equation for clause in CLAUSES if clause.equation is not None})
    for equation in equations or []:
        if equation not in numbers:
            raise ValueError(f"equation {equation} has no clause; equations with clauses are {numbers}")
    return [
        clause
        for clause in CLAUSES
        if (patterns is None or any(fnmatchcase(clause.id, pattern) for pattern in patterns))
        and (equations is None or clause.equation in equations)
    ]
