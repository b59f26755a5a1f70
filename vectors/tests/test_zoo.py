"""Vectors against the zoos: textbook and equivalents pass, and the mistakes that outputs can show are rejected."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.adapters.bundled import Bundled
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.readings import DISTANCES
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided
from dreamer4_conformance.zoo.base import Textbook
from dreamer4_conformance.zoo.equivalents import EQUIVALENTS
from dreamer4_conformance.zoo.mistakes import MISTAKES, Mistake
from vectors.encoding import decode
from vectors.judge import STEPS, judge, load
from vectors.subjects.minecraft_actions import VPT
from vectors.subjects.sec34_rope import BASE

VECTORS = list(load())
OPERATIONS = {vector["operation"] for vector in VECTORS}
TEXTBOOK = {"rope_base": BASE, "rope_layout": "half", **VPT}
"""Settings of the zoo's textbook."""


def verdicts(adapter: Adapter, settings: Any, operations: Any = OPERATIONS) -> Iterator[tuple[Any, str | None]]:
    """Each vector that applies, with the deviation of the adapter or None."""
    subject = Subject(adapter)
    for vector in VECTORS:
        if vector["operation"] in operations:
            try:
                judge(subject, vector, settings)
            except Deviation as deviation:
                yield vector, deviation.message
            except (NotProvided, Inconclusive):
                continue
            else:
                yield vector, None


def wrong(adapter: Adapter, settings: Any, operations: Any = OPERATIONS) -> Iterator[str]:
    for vector, message in verdicts(adapter, settings, operations):
        if message is not None:
            yield f"{vector['id']}: {message}"


# Right implementations

VARIANTS: list[dict[str, str]] = [
    {},
    {"A13": "v_same", "A8": "sum", "A23": "symlog", "A31": "l2", "A17": "0..7", "A19": "mean"},
    {"A14": "reward", "A7": "flow", "A31": "layernorm", "A17": "1..8", "A29": "all"},
    {"A15": "next", "A27": "per_term", "A29": "complete"},
    {"A29": "pooled"},
]
"""Readings of textbooks which together take every vector."""
SLOW = {"loss_normalizer", "sample_tau_d"}
"""Operations whose vectors take a second or more, because they are called thousands of times."""


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_textbook_passes(variant: int) -> None:
    textbook = Textbook("noise" if variant % 2 else "signal", **VARIANTS[variant])
    operations = OPERATIONS - (SLOW if variant else {"loss_normalizer"})
    assert list(wrong(textbook, TEXTBOOK, operations)) == []


@pytest.mark.nightly
def test_every_vector_of_an_operation_is_taken_by_a_textbook() -> None:
    judged = set()
    averages: list[dict[str, str]] = [{}, {"A19": "mean"}, {"A29": "all"}, {"A29": "complete"}, {"A29": "pooled"}]
    losses = [({"A17": option, **average}, 64, {"mtp_loss_of"}) for option in DISTANCES for average in averages]
    rest = [(readings, k_max, OPERATIONS) for readings in VARIANTS for k_max in (1, 2, 8, 64)]
    for readings, k_max, operations in [*losses, *rest]:
        textbook = Textbook(**readings)
        textbook.k_max = k_max
        for vector, message in verdicts(textbook, TEXTBOOK, operations):
            assert message is None, f"{vector['id']}: {message}"
            judged.add(vector["id"])
    assert {vector["id"] for vector in VECTORS if not is_of_other_code(vector)} == judged


def is_of_other_code(vector: Any) -> bool:
    """True for vectors of steps, of few bins and of the other layout, which the textbook does not have."""
    few_bins = decode(vector["inputs"]).get("bins", np.zeros(255)).size == 7
    return vector["operation"] in STEPS or few_bins or vector["settings"].get("rope_layout") == "interleaved"


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param(OPERATIONS - {*SLOW, "sample_frame", "dynamics_loss_at"}, id="quick"),
        pytest.param(OPERATIONS, id="all", marks=pytest.mark.nightly),
    ],
)
def test_our_implementation_passes(operations: set[str]) -> None:
    assert list(wrong(Bundled(), TEXTBOOK, operations)) == []


COMPILED = "loss-compiled"
#: Every eighth equivalent by default; all of them, with the slow operations, in the nightly run.
BY_DEFAULT = [name for name in list(EQUIVALENTS)[::8] if name != COMPILED]


def false_alarms(name: str, operations: Any) -> list[str]:
    """Wrong vectors of an equivalent, without settings: its rotation and its mouse are its own."""
    return [
        f"{vector['id']}: {message}"
        for vector, message in verdicts(EQUIVALENTS[name].adapter_factory(), {}, operations)
        if message is not None and not (name in WITHOUT_ACTIONS and "actions" in vector["flags"])
    ]


WITHOUT_ACTIONS = {
    "loss-binary-actions",
    "loss-chunks",
    "loss-detached-binary-actions",
    "loss-detached-unconditional",
    "loss-row-by-row",
    "loss-split-permuted",
    "loss-split-three-calls",
    "loss-split-unconditional",
    "loss-split-unreduced",
    "sampler-unconditional",
}
"""Equivalents that may leave out vectors flagged "actions": they have none, or convert them."""


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_equivalent_passes(name: str) -> None:
    assert false_alarms(name, OPERATIONS - SLOW) == []


@pytest.mark.nightly
@pytest.mark.parametrize("name", EQUIVALENTS)
def test_equivalent_passes_all_operations(name: str) -> None:
    assert false_alarms(name, OPERATIONS) == []


# Mistakes

DRAWN = (
    *("eq02.deterministic", "eq02.start-law", "ctx.*"),
    *("eq04.*-law", "eq04.granularity", "eq04.generator", "eq06.iid-levels"),
)
"""Clauses about random draws: the noise of start and context, laws and independence of τ and d, seeds."""
NOT_SHOWN = {
    "small-batch-one-step": "the law of d in small batches",
    "teacher-averaged": "the teacher is a copy of the network, with the same outputs",
    "mixed-label-zero": "labels of d_min timesteps in teacher calls, which the loss does not depend on",
    "regroup-loses-tokens": "a declared regrouping of the implementation's own, for which there are no outputs",
}
"""Mistakes that no vector rejects though their clause is not about draws, with what they are about."""


def may_be_hidden(mistake: Mistake) -> bool:
    return mistake.id in NOT_SHOWN or any(fnmatchcase(mistake.clause, pattern) for pattern in DRAWN)


def judged_mistakes() -> list[Mistake]:
    """The mistakes of operations that have vectors."""
    return [mistake for mistake in MISTAKES.values() if OPERATIONS & set(mistake.operations)]


def is_shown(mistake: Mistake) -> bool:
    return next(wrong(mistake.adapter(mistake.levels[0]), TEXTBOOK, mistake.operations), None) is not None


QUICK = [mistake for mistake in judged_mistakes() if not {*SLOW, "sample_frame"} & set(mistake.operations)][::6]


@pytest.mark.parametrize("mistake", QUICK, ids=lambda mistake: mistake.id)
def test_mistake_is_rejected(mistake: Mistake) -> None:
    assert is_shown(mistake) or may_be_hidden(mistake)


@pytest.mark.nightly
def test_vectors_reject_every_mistake_that_outputs_can_show() -> None:
    hidden = [mistake for mistake in judged_mistakes() if not is_shown(mistake)]
    assert [mistake.id for mistake in hidden if not may_be_hidden(mistake)] == []
    assert {mistake.id for mistake in hidden} >= set(NOT_SHOWN)
