"""Checks of the training phases: which components get gradients, and on which sequences and noise the losses depend.

Components are identified by name, and whether their gradient is zero is exact. Losses are compared between batches that
differ in their relevant or uniform sequences, at the same seed, so that the random draws of the step stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from dreamer4_conformance.instruments.subject import EPS, Subject
from dreamer4_conformance.instruments.training import (
    DATA,
    RELEVANT,
    agent_losses,
    component_gradients,
    components_with_gradient,
)
from dreamer4_conformance.judging.check import Trial, check
from dreamer4_conformance.judging.diagnosis import attempt, signature
from dreamer4_reference.algorithm1_training import FROZEN, TRAINED, Phase

SEEDS = 4
"""Number of training steps in which a required effect may occur."""
TERMS = ("dynamics", "policy", "reward")
"""Loss terms of agent finetuning, keys of `Adapter.agent_losses`."""
SAME = 4.0
"""Roundings by which a term may change with sequences on which it does not depend."""


def _fail_unless_gradient(
    subject: Subject, trial: Trial, phase: Phase, components: Sequence[str], terms: Sequence[str] | None = None
) -> None:
    """Deviation unless each component has a gradient in some step. Inconclusive if the adapter omits a component."""
    reached: dict[str, bool] = {}
    for seed in range(SEEDS):
        gradients, call = components_with_gradient(subject, phase, seed, terms)
        reached = {name: nonzero or reached.get(name, False) for name, nonzero in gradients.items()}
        if all(reached.get(name, True) for name in components):
            break
    source = f"the term {terms[0]!r} of {phase!r} training" if terms else f"{phase!r} training"
    for name in components:
        sentence = f"no gradient of {source} reaches {name!r}, which it trains"
        trial.fail_unless(reached.get(name, True), sentence, call=call)
    _undecided_unless_present(trial, phase, components, reached)


def _fail_unless_no_gradient(subject: Subject, trial: Trial, phase: Phase, components: Sequence[str]) -> None:
    """Deviation if a component has a gradient in some step. Inconclusive if the adapter omits a component."""
    for seed in range(SEEDS):
        gradients, call = components_with_gradient(subject, phase, seed)
        for name in (name for name in components if name in gradients):
            sentence = f"a gradient of {phase!r} training reaches {name!r}, which must stay frozen"
            trial.fail_unless(not gradients[name], sentence, call=call)
    _undecided_unless_present(trial, phase, components, gradients)


def _fail_unless_most_parameters(subject: Subject, trial: Trial, phase: Phase) -> None:
    """Deviation if the loss does not depend on most arrays of a component that the phase trains, in all steps.

    A gradient of zero counts: layers may start at zero. Some arrays may have none, an averaged copy for example.
    """
    reached: dict[tuple[str, int], np.ndarray] = {}
    for seed in range(SEEDS):
        gradients, call = component_gradients(subject, phase, seed)
        for name in (name for name in TRAINED[phase] if isinstance(gradients.get(name), list | tuple)):
            present = np.array([x is not None for x in gradients[name]], bool)
            reached[name, len(present)] = present | reached.get((name, len(present)), present)
    for (name, count), present in reached.items():
        without = int((~present).sum())
        sentence = f"{phase!r} training has no gradient for {without} of {count} arrays of {name!r}, which it trains"
        trial.fail_unless(2 * without <= count, sentence, call=call)


def _undecided_unless_present(
    trial: Trial, phase: Phase, components: Sequence[str], gradients: Mapping[str, bool]
) -> None:
    missing = [name for name in components if name not in gradients]
    if missing:
        trial.inconclusive(f"training_gradients({phase!r}, …) omits {', '.join(map(repr, missing))}")


@check("train.frozen-tokenizer", needs=("training_gradients",))
def check_dynamics_training_sends_no_gradient_to_the_tokenizer(subject: Subject, trial: Trial) -> None:
    """The gradient of dynamics training with respect to the tokenizer is exactly zero."""
    _fail_unless_no_gradient(subject, trial, "dynamics", FROZEN["dynamics"])
    gradients, _ = components_with_gradient(subject, "dynamics", 0)
    if not any(gradients.values()):
        trial.inconclusive("all gradients of dynamics training are zero, so a frozen tokenizer cannot be distinguished")


@check("train.freeze", needs=("training_gradients",))
def check_imagination_trains_only_policy_and_value(subject: Subject, trial: Trial) -> None:
    """The gradients of all components but policy and value are exactly zero, whatever names the adapter returns."""
    gradients, _ = components_with_gradient(subject, "imagine", 0)
    untrained = [name for name in gradients if name not in TRAINED["imagine"]]
    _fail_unless_no_gradient(subject, trial, "imagine", list(dict.fromkeys([*FROZEN["imagine"], *untrained])))


@check("train.freeze", needs=("training_gradients",))
def check_imagination_trains_policy_and_value(subject: Subject, trial: Trial) -> None:
    """Policy and value each have a gradient that is not zero in at least one of `SEEDS` steps, in most arrays one."""
    _fail_unless_gradient(subject, trial, "imagine", TRAINED["imagine"])
    _fail_unless_most_parameters(subject, trial, "imagine")


@check("train.agent-finetune", needs=("training_gradients",))
def check_finetuning_trains_transformer_and_heads(subject: Subject, trial: Trial) -> None:
    """The sum of all terms has gradients in the transformer and in both heads, in at least one of `SEEDS` steps.

    It depends on most of their arrays.
    """
    _fail_unless_gradient(subject, trial, "agent", TRAINED["agent"])
    _fail_unless_most_parameters(subject, trial, "agent")


@check("train.agent-finetune", needs=("training_gradients",))
def check_every_term_of_finetuning_trains_the_transformer(subject: Subject, trial: Trial) -> None:
    """Eq. (7) has a gradient in the transformer, and each sum of Eq. (9) in its head and in the transformer."""
    for term in TERMS:
        heads = [term] if term in TRAINED["agent"] else []
        _fail_unless_gradient(subject, trial, "agent", ["transformer", *heads], [term])


def _term(trial: Trial, terms: Mapping[str, float], name: str) -> float:
    if name not in terms:
        trial.inconclusive(f"agent_losses omits {name!r}")
    return terms[name]


@check("train.agent-finetune", needs=("agent_losses",))
def check_heads_read_noisy_inputs(subject: Subject, trial: Trial) -> None:
    """On the same sequences the terms of Eq. (9) change with the noise. Exact, over `SEEDS` seeds."""
    terms, calls = zip(*(agent_losses(subject, seed, DATA) for seed in range(SEEDS)), strict=True)
    if len({_term(trial, by_name, "dynamics") for by_name in terms}) == 1:
        trial.inconclusive("agent_losses: 'dynamics' is the same at every seed, so its noise seems to be fixed")
    for name in ("policy", "reward"):
        values = [_term(trial, by_name, name) for by_name in terms if name in terms[0] or name == "policy"]
        sentence = f"the term {name!r} does not change with the noise: its head reads clean inputs"
        trial.fail_unless(not values or len(set(values)) > 1, sentence, call=calls[0], got=values)


@check("train.data-mixture", needs=("agent_losses",))
def check_cloning_learns_only_from_relevant_sequences(subject: Subject, trial: Trial) -> None:
    """The policy term changes with each relevant sequence and, up to rounding, not with the uniform ones.

    The seed, and with it the noise, stays the same.
    """
    _fail_unless_learned_from(subject, trial, "policy", relevant=True)


@check("train.data-mixture", needs=("agent_losses",))
def check_dynamics_learn_only_from_uniform_sequences(subject: Subject, trial: Trial) -> None:
    """The dynamics term changes with each uniform sequence and, up to rounding, not with the relevant ones.

    The seed, and with it the noise, stays the same.
    """
    _fail_unless_learned_from(subject, trial, "dynamics", relevant=False)


def _fail_unless_learned_from(subject: Subject, trial: Trial, name: str, *, relevant: bool) -> None:
    """Deviation unless a term depends on each relevant (or else each uniform) sequence, and only on these."""
    kinds = {True: "relevant", False: "uniform"}
    without_effect = {index for index, flag in enumerate(RELEVANT) if flag is relevant}
    for seed in range(SEEDS):
        before, _ = agent_losses(subject, seed, DATA)
        unrelated, call = agent_losses(subject, seed, replace_sequences(not relevant, seed))
        got, expected = _term(trial, unrelated, name), _term(trial, before, name)
        quantity = f"the term {name!r}, after the {kinds[not relevant]} sequences were replaced,"
        eps = max(subject.eps, EPS["float32"])
        trial.compare(quantity, got, expected, terms=abs(expected), k=SAME, eps=eps, call=call, required_by="adapter")
        for index in sorted(without_effect):
            related, call = agent_losses(subject, seed, replace_sequence(index, seed))
            if _term(trial, related, name) != expected:
                without_effect.remove(index)
        if not without_effect:
            return
    sentence = f"the term {name!r} does not change with {kinds[relevant]} sequence {min(without_effect)} of the batch"
    trial.fail_unless(False, sentence, call=call)


def replace_sequences(relevant: bool, seed: int) -> list[int]:
    """`DATA` with other contents of the relevant, or else of the uniform, sequences."""
    return [x + 100 * (seed + 1) if flag is relevant else x for x, flag in zip(DATA, RELEVANT, strict=True)]


def replace_sequence(index: int, seed: int) -> list[int]:
    """`DATA` with other contents of one sequence."""
    return [x + 100 * (seed + 1) if i == index else x for i, x in enumerate(DATA)]


@signature("training_gradients")
def signature_components_with_a_gradient(subject: Subject) -> np.ndarray:
    """Whether each component has a gradient, by phase and by term of agent finetuning; −1 if it is omitted.

    For agent finetuning also the share of the transformer's arrays that have none.
    """
    components = ("tokenizer", "transformer", "policy", "reward", "value", "prior")

    def probe(phase: Phase, terms: Sequence[str] | None) -> list[float]:
        gradients, _ = components_with_gradient(subject, phase, 0, terms)
        return [float(gradients.get(name, -1)) for name in components]

    calls: list[tuple[Phase, Sequence[str] | None]] = [("dynamics", None), ("agent", None), ("imagine", None)]
    calls += [("agent", [term]) for term in TERMS]

    def share_without() -> float:
        arrays = component_gradients(subject, "agent", 0)[0]["transformer"]
        return float(np.mean([x is None for x in arrays]) > 0.5) if isinstance(arrays, list | tuple) else 0.0

    vectors = [attempt(partial(probe, *arguments), len(components)) for arguments in calls]
    return np.concatenate([*vectors, attempt(share_without, 1)])


@signature("agent_losses")
def signature_dependence_of_terms(subject: Subject) -> np.ndarray:
    """Whether terms change with the noise and with each sequence; −1 if one is omitted.

    The reward term is only compared between noises: from which sequences it learns is open.
    """

    def changes(seed: int, data: Sequence[int], names: Sequence[str]) -> list[float]:
        (base, _), (new, _) = agent_losses(subject, 0, DATA), agent_losses(subject, seed, data)
        tolerance = SAME * max(subject.eps, EPS["float32"])
        return [float(abs(base[n] - new[n]) > tolerance * abs(base[n])) if n in base else -1.0 for n in names]

    calls = [(1, DATA, TERMS), *((0, replace_sequence(index, 0), TERMS[:2]) for index in range(len(DATA)))]
    return np.concatenate([attempt(partial(changes, *arguments), len(arguments[2])) for arguments in calls])
