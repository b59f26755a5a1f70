"""Vectors against the zoos: textbook and equivalents pass, and the mistakes that outputs can show are rejected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.adapters.bundled import Bundled
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.verdicts import Deviation, Inconclusive, NotProvided
from dreamer4_conformance.zoo.base import Textbook
from dreamer4_conformance.zoo.equivalents import EQUIVALENTS
from dreamer4_conformance.zoo.mistakes import MISTAKES, Mistake
from vectors.encoding import decode
from vectors.judge import FOLDER, STEPS, judge, load
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
    for readings in VARIANTS:
        for k_max in (1, 2, 8, 64):
            textbook = Textbook(**readings)
            textbook.k_max = k_max
            for vector, message in verdicts(textbook, TEXTBOOK):
                assert message is None, f"{vector['id']}: {message}"
                judged.add(vector["id"])
    for layout in ("half", "interleaved"):
        judged |= {v["id"] for v in VECTORS if v["settings"].get("rope_layout") == layout}
    left = [vector for vector in VECTORS if vector["id"] not in judged and vector["operation"] not in STEPS]
    # An adapter has bins of its own: the example in JavaScript takes those of other implementations.
    assert [vector["id"] for vector in left if len(decode(vector["inputs"]).get("bins", ())) != 7] == []


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

NOT_SHOWN = {
    "the law, independence or seed of random draws": {
        *("sampler-unseeded", "start-uniform", "start-shared", "start-shared-by-halves", "start-seed-plus-row"),
        *("start-clipped", "start-from-last-frame", "start-fixed", "start-zero"),
        *("levels-low", "steps-inverse", "small-batch-one-step", "steps-by-position", "steps-shared-by-frames"),
        *("levels-by-position", "levels-random-walk", "levels-periodic", "levels-shared-by-rows"),
        *("levels-per-sequence", "global-rng", "steps-frozen"),
    },
    "the context of a sampler, which is corrupted with noise drawn inside": {
        *("context-literal", "context-label-mismatch", "context-label-current", "context-added-noise"),
        *("context-noise-shared", "context-noise-shared-by-sequences", "context-corrupted-twice"),
        *("context-noise-is-the-start", "context-step-label-changes", "context-clean-first", "context-ignored"),
        *("context-dropped", "context-dropped-at-batch-one"),
    },
    "the teacher is a copy of the network, with the same outputs": {"teacher-averaged"},
    "labels of d_min timesteps in teacher calls, which the loss does not depend on": {"mixed-label-zero"},
    "a declared regrouping of the implementation's own, for which there are no outputs": {"regroup-loses-tokens"},
}
"""Mistakes of operations with vectors that no vector rejects, by what they are about."""


def judged_mistakes() -> list[Mistake]:
    """The mistakes of operations that have vectors."""
    return [mistake for mistake in MISTAKES.values() if OPERATIONS & set(mistake.operations)]


def is_shown(mistake: Mistake) -> bool:
    return next(wrong(mistake.adapter(mistake.levels[0]), TEXTBOOK, mistake.operations), None) is not None


QUICK = [mistake for mistake in judged_mistakes() if not {*SLOW, "sample_frame"} & set(mistake.operations)][::6]


@pytest.mark.parametrize("mistake", QUICK, ids=lambda mistake: mistake.id)
def test_mistake_is_rejected(mistake: Mistake) -> None:
    assert is_shown(mistake) is (mistake.id not in set().union(*NOT_SHOWN.values()))


@pytest.mark.nightly
def test_vectors_reject_every_mistake_that_outputs_can_show() -> None:
    hidden = {mistake.id for mistake in judged_mistakes() if not is_shown(mistake)}
    assert hidden == set().union(*NOT_SHOWN.values())


def test_readme_counts_the_mistakes() -> None:
    total = len(judged_mistakes())
    shown = total - sum(map(len, NOT_SHOWN.values()))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{shown} of {total} are rejected" in " ".join(readme.split())
