"""Names: a subject has the file stem of the reference in every folder, and prefixes of functions say their role."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import dreamer4_conformance.adapter
import dreamer4_conformance.checks  # importing the package registers its checks
from dreamer4_conformance.adapter import OPERATIONS, Adapter
from dreamer4_conformance.judging.check import CHECKS
from dreamer4_conformance.judging.diagnosis import SIGNATURES

FOLDERS = (
    "dreamer4_conformance.checks",
    "dreamer4_conformance.zoo.base",
    "dreamer4_conformance.zoo.mistakes",
    "dreamer4_conformance.zoo.equivalents",
    "dreamer4_impl.equations",
)

WITHOUT_REFERENCE = {
    "agent_token": "who sees the agent token: rules of Sec. 3.2 on the whole model, with no formula",
    "cache": "generation frame by frame equals generation at once: a property of implementations",
    "checkpoints": "saved and resumed runs: a property of implementations",
    "conditioning": "inputs of the whole model that must or must not matter: Sec. 3.2, with no formula",
    "context": "corruption and labels of context frames: choices that the paper leaves open (A9, A11)",
    "eq04_signatures": "laws of τ and d as vectors, by which a failure is named",
    "eq06_levels": "independence of the levels that are drawn, where eq04_grid judges their law",
    "eq06_noise": "statistics of the noise that a loss draws; the reference is given its noise",
    "eq11_signatures": "behaviour of the policy losses as vectors, by which a failure is named",
    "frame_tokens": "tokens of one frame, counted and permuted in the whole model",
    "imagination": "states, values and actions of imagined trajectories: a property of implementations",
    "network_types": "the interface of a network that losses and samplers call",
    "shortcut_calls": "the calls of the network that a loss makes, where eq06_07_shortcut_forcing judges its value",
    "shortcut_gradients": "gradients of the loss of Eq. (7)",
    "shortcut_shapes": "batches and sequences of any length in the loss of Eq. (7)",
    "shortcut_signatures": "behaviour of the loss of Eq. (7) as vectors, by which a failure is named",
    "sequence_length": "frames that follow or that the context has left behind: properties of whole models",
    "sessions": "equal calls and cached sessions: properties of implementations",
    "time_layers": "causality, window and positions of a layer as a black box, where sec34_layers mixes and normalises",
    "tokenizer_shapes": "patches and regrouping as shapes, where sec31_tokenizer judges the models",
    "training_phases": "what each phase trains, where algorithm1_training judges the plan of its batches",
}


def stems(package: str) -> set[str]:
    folder = Path(next(iter(import_module(package).__path__)))
    return {path.stem for path in folder.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("package", FOLDERS)
def test_a_stem_is_that_of_the_reference_or_has_a_reason(package: str) -> None:
    assert stems(package) - stems("dreamer4_reference") - set(WITHOUT_REFERENCE) == set()


def test_no_reason_is_left_over() -> None:
    assert set().union(*map(stems, FOLDERS)) - stems("dreamer4_reference") == set(WITHOUT_REFERENCE)


def test_registered_checks_and_signatures_have_their_prefix() -> None:
    signatures = [name for registered in SIGNATURES.values() for name in registered]
    assert [check.name for check in CHECKS.values() if not check.name.startswith("check_")] == []
    assert [name for name in signatures if not name.rpartition(".")[2].startswith("signature_")] == []


def test_index_of_the_checks_lists_the_clauses_of_every_file() -> None:
    table = Path(next(iter(dreamer4_conformance.checks.__path__)), "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(\w+\.py\) \| (.*) \|$", table, re.MULTILINE)
    judged: dict[str, set[str]] = {}
    for registered in CHECKS.values():
        judged.setdefault(registered.function.__module__.rpartition(".")[2], set()).add(registered.clause)
    assert {stem: set(re.findall(r"`([^`]+)`", clauses)) for stem, clauses in rows} == judged


def operations_by_module() -> dict[str, list[str]]:
    defined: dict[str, list[str]] = {}
    for name in OPERATIONS:
        defined.setdefault(getattr(Adapter, name).__module__.rpartition(".")[2], []).append(name)
    return defined


def test_index_of_the_adapter_leads_to_every_operation() -> None:
    index = re.findall(r"^- `(\w+)`[^:]*: ((?:\w+,?\s+)+)", dreamer4_conformance.adapter.__doc__ or "", re.MULTILINE)
    listed = {stem: names.replace(",", " ").split() for stem, names in index}
    assert listed == operations_by_module()


def test_smoke_calls_have_the_modules_of_the_adapter() -> None:
    package = "dreamer4_conformance.instruments.smoke_calls"
    called = {stem: set(import_module(f"{package}.{stem}").CALLS) for stem in stems(package) - {"case"}}
    operations = operations_by_module()
    assert called.keys() == operations.keys()
    assert [stem for stem, names in operations.items() if not called[stem] <= set(names)] == []
