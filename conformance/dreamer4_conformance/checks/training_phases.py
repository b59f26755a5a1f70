"""Checks of what each phase of training trains: which parts a gradient reaches, and which sequences and noise a loss depends on.

Parts are told by name, and a gradient is there or not: exact. Losses are those of batches whose sequences are replaced one kind at a time, while
what the step draws stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.instruments.training import DATA, RELEVANT, agent_losses, components_with_gradient
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_reference.algorithm1_training import FROZEN, TRAINED, Phase

SEEDS = 4
"""Steps in which an effect is looked for that has to be there."""
TERMS = ("dynamics", "policy", "reward")
"""Of agent finetuning, under the keys of `agent_losses`."""
SAME = 4.0
"""Roundings, in eps of the loss, by which it may change with sequences that are not its own and count as 0."""


def _fail_unless_gradient(
    subject: Subject, trial: Trial, phase: Phase, parts: Sequence[str], terms: Sequence[str] | None = None
) -> None:
    """Every part gets one, in one step or another. A part that is left out is not judged."""
    seen: dict[str, bool] = {}
    for seed in range(SEEDS):
        found, call = components_with_gradient(subject, phase, seed, terms)
        seen = {part: there or seen.get(part, False) for part, there in found.items()}
        if all(seen.get(part, True) for part in parts):
            break
    of = f"the term {terms[0]!r} of {phase!r} training" if terms else f"{phase!r} training"
    for part in parts:
        trial.fail_unless(
            seen.get(part, True), f"no gradient of {of} reaches the part {part!r}, which it trains", call=call
        )
    _judged(trial, phase, parts, seen)


def _fail_unless_no_gradient(subject: Subject, trial: Trial, phase: Phase, parts: Sequence[str]) -> None:
    """None of the parts gets one. A part that is left out is not judged."""
    for seed in range(SEEDS):
        found, call = components_with_gradient(subject, phase, seed)
        for part in (part for part in parts if part in found):
            trial.fail_unless(not found[part], f"a gradient of {phase!r} training reaches the part {part!r}", call=call)
    _judged(trial, phase, parts, found)


def _judged(trial: Trial, phase: Phase, parts: Sequence[str], found: Mapping[str, bool]) -> None:
    missing = [part for part in parts if part not in found]
    if missing:
        trial.inconclusive(f"training_gradients({phase!r}, …) leaves out {', '.join(map(repr, missing))}")


@check("train.frozen-tokenizer", needs=("training_gradients",))
def check_dynamics_training_sends_no_gradient_to_the_tokenizer(subject: Subject, trial: Trial) -> None:
    """Exact."""
    _fail_unless_no_gradient(subject, trial, "dynamics", FROZEN["dynamics"])
    found, _ = components_with_gradient(subject, "dynamics", 0)
    if not any(found.values()):
        trial.inconclusive("dynamics training sends a gradient nowhere: whether the tokenizer is frozen cannot be seen")


@check("train.freeze", needs=("training_gradients",))
def check_imagination_sends_no_gradient_beyond_the_two_heads(subject: Subject, trial: Trial) -> None:
    """Exact, for every part that is named, whatever its name."""
    found, _ = components_with_gradient(subject, "imagine", 0)
    others = [part for part in found if part not in TRAINED["imagine"]]
    _fail_unless_no_gradient(subject, trial, "imagine", list(dict.fromkeys([*FROZEN["imagine"], *others])))


@check("train.freeze", needs=("training_gradients",))
def check_imagination_trains_policy_and_value(subject: Subject, trial: Trial) -> None:
    """In one of a few steps, each gets a gradient."""
    _fail_unless_gradient(subject, trial, "imagine", TRAINED["imagine"])


@check("train.agent-finetune", needs=("training_gradients",))
def check_finetuning_trains_transformer_and_heads(subject: Subject, trial: Trial) -> None:
    """All terms together."""
    _fail_unless_gradient(subject, trial, "agent", TRAINED["agent"])


@check("train.agent-finetune", needs=("training_gradients",))
def check_every_term_of_finetuning_trains_the_transformer(subject: Subject, trial: Trial) -> None:
    """Eq. (7) is there, and each sum of Eq. (9) reaches the transformer through its head."""
    for term in TERMS:
        heads = [term] if term in TRAINED["agent"] else []
        _fail_unless_gradient(subject, trial, "agent", ["transformer", *heads], [term])


def _term(trial: Trial, found: Mapping[str, float], name: str) -> float:
    if name not in found:
        trial.inconclusive(f"agent_losses leaves {name!r} out")
    return found[name]


@check("train.agent-finetune", needs=("agent_losses",))
def check_heads_read_noisy_inputs(subject: Subject, trial: Trial) -> None:
    """On the same sequences the terms of Eq. (9) change with the noise: exact, in one of a few steps."""
    found, call = zip(*(agent_losses(subject, seed, DATA) for seed in range(SEEDS)), strict=True)
    if len({_term(trial, each, "dynamics") for each in found}) == 1:
        trial.inconclusive(
            "agent_losses: 'dynamics' is the same at every seed, which the step's noise seems not to follow"
        )
    for name in ("policy", "reward"):
        values = [_term(trial, each, name) for each in found if name in found[0] or name == "policy"]
        sentence = f"the term {name!r} is the same whatever noise is drawn: the heads read clean inputs"
        trial.fail_unless(not values or len(set(values)) > 1, sentence, call=call[0], got=values)


@check("train.data-mixture", needs=("agent_losses",))
def check_cloning_learns_from_relevant_sequences_alone(subject: Subject, trial: Trial) -> None:
    """The uniform sequences are replaced, then the relevant ones; the noise stays the same."""
    _learns_from(subject, trial, "policy", own=True)


@check("train.data-mixture", needs=("agent_losses",))
def check_dynamics_learn_from_uniform_sequences_alone(subject: Subject, trial: Trial) -> None:
    """The relevant sequences are replaced, then the uniform ones; the noise stays the same."""
    _learns_from(subject, trial, "dynamics", own=False)


def _learns_from(subject: Subject, trial: Trial, name: str, *, own: bool) -> None:
    """A term changes with the sequences that are relevant or not, as `own` says, and with no others."""
    kinds = {True: "relevant", False: "uniform"}
    for seed in range(SEEDS):
        before, _ = agent_losses(subject, seed, DATA)
        others, call = agent_losses(subject, seed, replaced(not own, seed))
        got, kept = _term(trial, others, name), _term(trial, before, name)
        what = f"the term {name!r}, after the {kinds[not own]} sequences were replaced,"
        trial.compare(what, got, kept, terms=abs(kept), k=SAME, eps=max(subject.eps, EPS["float32"]), call=call)
        mine, call = agent_losses(subject, seed, replaced(own, seed))
        if _term(trial, mine, name) != kept:
            return
    trial.fail_unless(False, f"the term {name!r} does not change with the {kinds[own]} sequences", call=call)


def replaced(kind: bool, seed: int) -> list[int]:
    """`DATA` with other sequences of this kind."""
    return [
        number + 100 * (seed + 1) if relevant is kind else number
        for number, relevant in zip(DATA, RELEVANT, strict=True)
    ]


@signature("training_gradients")
def signature_parts_with_a_gradient(subject: Subject) -> np.ndarray:
    """By phase, and by term of agent finetuning: whether each part gets one; −1 where it is left out."""
    parts = ("tokenizer", "transformer", "policy", "reward", "value", "prior")

    def probe(phase: Phase, terms: Sequence[str] | None = None) -> list[float]:
        found, _ = components_with_gradient(subject, phase, 0, terms)
        return [float(found.get(part, -1)) for part in parts]

    calls: list[tuple[Phase, Sequence[str] | None]] = [("dynamics", None), ("agent", None), ("imagine", None)]
    calls += [("agent", [term]) for term in TERMS]
    return np.concatenate([attempt(lambda each=each: probe(*each), len(parts)) for each in calls])  # type: ignore[misc]


@signature("agent_losses")
def signature_what_terms_depend_on(subject: Subject) -> np.ndarray:
    """Whether terms change with the noise, with uniform and with relevant sequences; −1 where one is left out.

    For which sequences the reward is learned is open.
    """

    def changes(seed: int, data: Sequence[int], names: Sequence[str]) -> list[float]:
        (one, _), (other, _) = agent_losses(subject, 0, DATA), agent_losses(subject, seed, data)
        tolerance = SAME * max(subject.eps, EPS["float32"])
        return [
            float(abs(one[name] - other[name]) > tolerance * abs(one[name])) if name in one else -1.0 for name in names
        ]

    calls = [(1, DATA, TERMS), *((0, replaced(kind, 0), TERMS[:2]) for kind in (False, True))]
    return np.concatenate([attempt(lambda each=each: changes(*each), len(each[2])) for each in calls])  # type: ignore[misc]
