"""Readings: choices that the paper leaves open, their options, and the options that an adapter declares.

An adapter declares a reading only if it differs from the default, the first option. The clauses that depend on it are
then judged under the declared option. A free reading needs no declaration: every choice passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One open choice.

    Attributes:
        id: for example "A13".
        question: what is open, with the choices.
        options: names of the options, the default first; empty if there is nothing to choose.
        clauses: ids of the clauses that are judged under it. The first distinguishes all options; empty if no check can
            distinguish them, so that every choice passes.
        note: what to declare besides the option, or why there is nothing to declare.
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    note: str = ""

    @property
    def default(self) -> str:
        """Option that is assumed if an adapter declares none; empty without options."""
        return self.options[0] if self.options else ""

    @property
    def free(self) -> bool:
        """True if every choice passes, so that nothing needs to be declared."""
        return not self.clauses


DISTANCES = ("0..8", "0..7", "1..8")

READINGS: tuple[Reading, ...] = (
    Reading(
        "A1",
        "the grid of Eq. 4, printed as {0, 1/d, …, 1 − 1/d}, which is empty for d < 1: multiples of d",
        note="Nothing to declare: the sentence before the print says so.",
    ),
    Reading(
        "A2",
        "law of the step size: uniform over powers of two, or a declared share of rows or of timesteps at d_min",
        ("uniform", "split"),
        ("eq04.step-law",),
        'With "split" declare `d_min_share`; above d_min the law is uniform.',
    ),
    Reading("A3", "granularity of d: per timestep or per sequence", ("timestep", "sequence"), ("eq04.granularity",)),
    Reading(
        "A4",
        "timesteps at d_min, which have no d/2, in the teacher's calls of a sequence with several step sizes",
        note="Nothing to declare: they may carry any labels whose level is that of their input, within 1/K_max.",
    ),
    Reading("A7", "what w multiplies: both terms or the flow term only", ("both", "flow"), ("eq08.applied",)),
    Reading("A8", "‖·‖² over (S, D): mean or sum", ("mean", "sum"), ("eq07.absolute",)),
    Reading(
        "A9",
        "context corruption: 10 % noise, none, a declared level, 90 % noise",
        ("slight", "none", "level", "literal"),
        ("ctx.corruption",),
        'With "level" declare `context_level`, the signal level of context frames.',
    ),
    Reading(
        "A10",
        "the label of a level between two grid levels: rounded up, down, or to the nearest",
        note="Nothing to declare: a label within 1/K_max of the level passes.",
    ),
    Reading("A11", "the d label of context frames: d_min or the current d", ("d_min", "current"), ("ctx.corruption",)),
    Reading(
        "A12",
        "the label of a clean frame: the last grid level or its own level",
        ("last", "own"),
        note="Nothing to declare: both are within 1/K_max of the level.",
    ),
    Reading(
        "A13",
        "the value in Eq. 10's mixture: v_{t+1}, or v_t as printed",
        ("v_next", "v_same"),
        ("eq10.value", "eq10.limits", "eq11.advantage"),
    ),
    Reading(
        "A14",
        "last row of Eq. 10: R_H = v_H from H + 1 values, or R_{H−1} = r_{H−1} + γ c_{H−1} v_{H−1} from H values",
        ("v", "reward"),
        ("eq10.value", "eq10.limits", "eq11.advantage"),
        'With "reward" the suite passes as many values as rewards.',
    ),
    Reading("A15", "pairing of r and c with t: c_t or c_{t+1}", ("t", "next"), ("eq10.value", "eq10.terminal")),
    Reading(
        "A17",
        "distances of Eq. 9, for actions and for rewards: with L = 8, n = 0 … 8, 0 … 7 or 1 … 8",
        DISTANCES,
        ("eq09.offsets", "eq09.no-leak", "mtp.heads"),
        "If rewards have other distances than actions, declare those of rewards as A17.rewards.",
    ),
    Reading(
        "A17.rewards",
        "distances of Eq. 9 for rewards: those of A17, or others",
        ("same", *DISTANCES),
        ("eq09.offsets", "mtp.heads"),
    ),
    Reading("A19", "Eq. 9 over the distances: sum or mean", ("sum", "mean"), ("eq09.sum",)),
    Reading(
        "A23",
        "two-hot space: raw values over symexp-spaced bins, or symlog values",
        ("raw", "symlog"),
        ("twohot.mean", "eq10.loss"),
    ),
    Reading(
        "A24",
        "running RMS: decay, epsilon, first value, update before or after dividing, floor of the divisor below 0.01",
        note="Declare `rms_warmup`, the number of values per term after which the estimate is settled.",
    ),
    Reading(
        "A25",
        "time layer every four: replaces a space layer or is added to it",
        ("replaces", "adds"),
        ("net.factorised",),
    ),
    Reading(
        "A26",
        "numbers that the paper does not state: soft cap, K_max, λ, base of RoPE, heads, depth, registers",
        note="Declare K_max as `k_max` and the context as `context_frames`; the suite passes the others as arguments.",
    ),
    Reading(
        "A27",
        "averaging over (B, T): one mean over all timesteps, or a mean per term, then their sum",
        ("joint", "per_term"),
        ("eq07.absolute",),
    ),
    Reading(
        "A28",
        "context noise: drawn once per frame, per generated frame, or per evaluation",
        ("frame", "generated", "evaluation"),
        ("ctx.fixed", "ctx.cache"),
        'ctx.fixed samples one frame, for which "frame" and "generated" agree; ctx.cache distinguishes them.',
    ),
    Reading(
        "A29",
        "Eq. 9 past the end: mean over valid positions of each distance, over all positions, over the positions "
        "with all distances ahead of them, or over the valid pairs of position and distance",
        ("valid", "all", "complete", "pooled"),
        ("eq09.sum", "eq09.offsets"),
    ),
    Reading(
        "A30",
        "context length C: includes the current frame, or counts past frames only",
        ("inclusive", "exclusive"),
        ("attn.window",),
    ),
    Reading("A31", "QK-norm: RMS, L2 or LayerNorm", ("rms", "l2", "layernorm"), ("attn.qknorm",)),
    Reading("A32", "action in block t: a_{t−1} or a_t", ("previous", "current"), ("eq09.no-leak",)),
    Reading("A33", "MAE draw: Bernoulli or an exact count", ("bernoulli", "count"), ("tok.mae-law",)),
    Reading(
        "A34",
        "MSE of the tokenizer's loss: over all patches or over the dropped ones",
        ("all", "dropped"),
        note="Nothing to declare: the suite passes the value of the term to `tokenizer_loss`.",
    ),
    Reading("A35", "RoPE axes: time and space, or time only", ("both", "time"), ("attn.rope",)),
    Reading(
        "A36",
        "512×16 → 256×32: consecutive pairs of tokens side by side, or another regrouping",
        ("pairs", "other"),
        ("tok.shapes",),
    ),
    Reading(
        "A37",
        "separate images: reshaped to T = 1, or time attention masked",
        ("reshape", "mask"),
        note="Nothing to declare: images are independent under both.",
    ),
    Reading("A38", "the teacher: the network itself, or an averaged copy", ("self", "average"), ("eq07.same-network",)),
    Reading("A39", "position of the time layer: last of four or other", ("last", "other"), ("net.factorised",)),
)

BY_ID = {reading.id: reading for reading in READINGS}


def resolve(declared: Mapping[str, str]) -> dict[str, str]:
    """Complete declared readings by the defaults.

    Args:
        declared: reading id → option.

    Returns:
        The option of every reading that has options, in the order of `READINGS`.

    Raises:
        ValueError: if a reading or option does not exist; the message lists those that do.

    Example:
        >>> resolve({"A13": "v_same"})["A13"], resolve({})["A13"]
        ('v_same', 'v_next')
    """
    for name, option in declared.items():
        if name not in BY_ID:
            raise ValueError(f"readings: {name!r} is no reading; the readings are {', '.join(BY_ID)}")
        reading = BY_ID[name]
        if not reading.options:
            raise ValueError(f"readings: {name} = {option!r}, but {name} has no options; remove it. {reading.note}")
        if option not in reading.options:
            options = ", ".join(reading.options)
            raise ValueError(f"readings: {name} = {option!r} is no option; its options are {options}")
    return {reading.id: declared.get(reading.id, reading.default) for reading in READINGS if reading.options}
