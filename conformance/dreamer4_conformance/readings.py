"""Readings: choices that the paper leaves open, their options, and the options that an adapter declares.

An adapter declares a reading only if it differs from the default, the first option. The clauses that depend on it are
then judged under the declared option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One open choice.

    Attributes:
        id: for example "A13".
        question: what is open.
        options: names of the options, the default first.
        clause: id of the clause whose checks distinguish the options; None if no check can.
    """

    id: str
    question: str
    options: tuple[str, ...]
    clause: str | None = None

    @property
    def default(self) -> str:
        """Option that is assumed if an adapter declares none."""
        return self.options[0]


READINGS: tuple[Reading, ...] = (
    Reading(
        "A2",
        "law of the step size: uniform over powers of two, or a declared share of rows at d_min",
        ("uniform", "split"),
        "eq04.step-law",
    ),
    Reading("A3", "granularity of d: per timestep or per sequence", ("timestep", "sequence"), "eq04.granularity"),
    Reading("A7", "what w multiplies: both terms or the flow term only", ("both", "flow"), "eq08.applied"),
    Reading("A8", "‖·‖² over (S, D): mean or sum", ("mean", "sum"), "eq07.absolute"),
    Reading(
        "A9",
        "context corruption: 10 % noise, none, a declared level, 90 % noise",
        ("slight", "none", "level", "literal"),
        "ctx.corruption",
    ),
    Reading("A11", "the d label of context frames: d_min or the current d", ("d_min", "current"), "ctx.corruption"),
    Reading("A12", "the label of a clean frame: the last grid level or its own level", ("last", "own")),
    Reading("A13", "the value in Eq. 10's mixture: v_{t+1}, or v_t as printed", ("v_next", "v_same"), "eq10.value"),
    Reading("A14", "last row of Eq. 10: R_T = v_T, or r_T + γ c_T v_T; the same under H + 1 values", ("v", "reward")),
    Reading("A15", "pairing of r and c with t: c_t or c_{t+1}", ("t", "next"), "eq10.value"),
    Reading("A17", "distances of Eq. 9", ("0..8", "0..7", "1..8"), "eq09.offsets"),
    Reading("A19", "Eq. 9 over the distances: sum or mean", ("sum", "mean"), "eq09.sum"),
    Reading(
        "A23", "two-hot space: raw values over symexp-spaced bins, or symlog values", ("raw", "symlog"), "twohot.mean"
    ),
    Reading(
        "A25", "time layer every four: replaces a space layer or is added to it", ("replaces", "adds"), "net.factorised"
    ),
    Reading(
        "A27",
        "averaging over (B, T): one mean over all timesteps, or a mean per term, then their sum",
        ("joint", "per_term"),
        "eq07.absolute",
    ),
    Reading(
        "A28",
        "context noise: drawn once per frame, per generated frame, or per evaluation",
        ("frame", "generated", "evaluation"),
        "ctx.fixed",
    ),
    Reading(
        "A29",
        "Eq. 9 past the end: mean over valid positions of each distance, or over all positions",
        ("valid", "all"),
        "eq09.sum",
    ),
    Reading(
        "A30",
        "context length C: includes the current frame, or counts past frames only",
        ("inclusive", "exclusive"),
        "attn.window",
    ),
    Reading("A31", "QK-norm: RMS, L2 or LayerNorm", ("rms", "l2", "layernorm"), "attn.qknorm"),
    Reading("A32", "action in block t: a_{t−1} or a_t", ("previous", "current"), "eq09.no-leak"),
    Reading("A33", "MAE draw: Bernoulli or an exact count", ("bernoulli", "count"), "tok.mae-law"),
    Reading("A34", "MSE over all patches or the dropped ones", ("all", "dropped")),
    Reading("A35", "RoPE axes: time and space, or time only", ("both", "time"), "attn.rope"),
    Reading(
        "A36",
        "512×16 → 256×32: consecutive pairs of tokens side by side, or another regrouping",
        ("pairs", "other"),
        "tok.shapes",
    ),
    Reading("A37", "separate images: reshaped to T = 1, or time attention masked", ("reshape", "mask")),
    Reading("A38", "the teacher: the network itself, or an averaged copy", ("self", "average"), "eq07.same-network"),
    Reading("A39", "position of the time layer: last of four or other", ("last", "other"), "net.factorised"),
)

BY_ID = {reading.id: reading for reading in READINGS}


def resolve(declared: Mapping[str, str]) -> dict[str, str]:
    """Complete declared readings by the defaults.

    Args:
        declared: reading id → option.

    Returns:
        The option of every reading, in the order of `READINGS`.

    Raises:
        ValueError: if a reading or option does not exist; the message lists those that do.

    Example:
        >>> resolve({"A13": "v_same"})["A13"], resolve({})["A13"]
        ('v_same', 'v_next')
    """
    for name, option in declared.items():
        if name not in BY_ID:
            raise ValueError(f"readings: {name!r} is no reading; the readings are {', '.join(BY_ID)}")
        if option not in BY_ID[name].options:
            options = ", ".join(BY_ID[name].options)
            raise ValueError(f"readings: {name} = {option!r} is no option; its options are {options}")
    return {reading.id: declared.get(reading.id, reading.default) for reading in READINGS}
