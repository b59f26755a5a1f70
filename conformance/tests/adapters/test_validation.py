"""Unusable adapters are rejected with what was received and what is needed; unusable operations fail their clauses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamer4_conformance.adapter import Adapter, TorchAdapter, provides
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.cli import main
from dreamer4_conformance.instruments.smoke_calls import SMOKE_CALLS, smoke_failure
from dreamer4_conformance.verdicts import AdapterError, NotProvided
from dreamer4_conformance.zoo.base import Textbook, TextbookEquations

OPERATIONS = [name for name in SMOKE_CALLS if provides(Textbook(), name)]


@pytest.fixture(autouse=True)
def fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked under pytest-xdist too, whose thread is idle: a new interpreter takes seconds."""
    monkeypatch.setattr("dreamer4_conformance.isolation.worker.is_forkable", lambda device: True)


def rejection(adapter: Any, **overrides: str) -> str:
    with pytest.raises(AdapterError) as caught:
        examine(adapter, **overrides)
    return str(caught.value)


def complaint(adapter: Adapter, operation: str) -> str:
    failure = smoke_failure(examine(adapter), operation)
    assert failure is not None
    return failure.message


def textbook(operation: str, behaviour: Callable[..., Any]) -> Textbook:
    adapter = Textbook()
    setattr(adapter, operation, behaviour)
    return adapter


def raising(*_args: object, **_keywords: object) -> None:
    raise RuntimeError("the flux is out")


@pytest.mark.parametrize("level", ["signal", "noise"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_textbook_is_accepted(level: str, dtype: str) -> None:
    assert examine(Textbook(level=level), dtype=dtype).adapter.dtype == dtype


def test_adapter_without_operations_is_accepted() -> None:
    assert examine(Adapter).adapter.name == "unnamed"


# Operations


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_that_raises_is_named_with_its_message(operation: str) -> None:
    sentence = complaint(textbook(operation, raising), operation)
    assert operation in sentence
    assert "RuntimeError: the flux is out" in sentence


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_that_returns_no_array_is_named(operation: str) -> None:
    sentence = complaint(textbook(operation, lambda *_, **__: "nothing"), operation)
    assert operation in sentence
    assert "str" in sentence


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_that_returns_a_wrong_shape_is_named(operation: str) -> None:
    sentence = complaint(textbook(operation, lambda *_, **__: torch.zeros(2, 1, 7, 5, 3)), operation)
    assert operation in sentence
    assert "needs" in sentence


NOT_FINITE = sorted(
    set(OPERATIONS)
    - {"dynamics_loss", "loss_normalizer", "sample_tau_d", "mtp_targets", "prior_start", "constants", "layer_kinds"}
    - {
        "dynamics_init",
        "decode_init",
        "modality_mask",
        "mouse_class",
        "space_mask",
        "patch_dropout",
        "patch_grid",
        "training_plan",
    }
)


def spoiled(returned: Any) -> Any:
    """The result with NaN in place of every float."""
    if isinstance(returned, dict):
        return {name: spoiled(value) for name, value in returned.items()}
    if isinstance(returned, tuple | list):
        return type(returned)(map(spoiled, returned))
    return returned * torch.nan if isinstance(returned, torch.Tensor) and returned.is_floating_point() else returned


@pytest.mark.parametrize("operation", NOT_FINITE)
def test_operation_that_returns_nan_on_ordinary_input_is_named(operation: str) -> None:
    correct = getattr(Textbook(), operation)
    sentence = complaint(textbook(operation, lambda *args, **keywords: spoiled(correct(*args, **keywords))), operation)
    assert operation in sentence
    assert "NaN or infinite values" in sentence


def test_step_indices_are_rejected_as_step_sizes() -> None:
    wrong = textbook("sample_tau_d", lambda _, batch, time: (torch.zeros(batch, time), torch.ones(batch, time) * 3))
    sentence = complaint(wrong, "sample_tau_d")
    assert "d from 3 to 3; it needs step sizes in (0, 1]" in sentence


def test_integer_weights_are_rejected() -> None:
    assert "ramp_weight returned int64 values; it needs floating-point ones" in complaint(
        textbook("ramp_weight", lambda tau: (tau * 0).long()), "ramp_weight"
    )


def test_loss_that_never_calls_the_network_is_rejected() -> None:
    assert "dynamics_loss_at never called the network" in complaint(
        textbook("dynamics_loss_at", lambda network, z1, **_: z1.mean()), "dynamics_loss_at"
    )


def test_operation_may_raise_not_provided() -> None:
    def absent(*_args: object) -> None:
        raise NotProvided("only in the full version")

    assert smoke_failure(examine(textbook("ramp_weight", absent)), "ramp_weight") is None


def test_loss_that_fails_for_some_shapes_is_accepted_by_the_validation() -> None:
    adapter = TextbookEquations()
    correct = adapter.dynamics_loss_at

    def square_only(network: Any, z1: Any, *args: Any, **options: Any) -> Any:
        assert z1.shape[0] == z1.shape[1]
        return correct(network, z1, *args, **options)

    adapter.dynamics_loss_at = square_only  # type: ignore[method-assign]
    assert smoke_failure(examine(adapter), "dynamics_loss_at") is None


# Declarations

DECLARATIONS: list[tuple[str, Any, str]] = [
    ("name", 3, "name is 3; it needs a string"),
    ("level", "sigma", "level is 'sigma'; it needs 'signal'"),
    ("k_max", 48, "k_max is 48; it needs a whole number that is a power of two"),
    ("k_max", 0, "k_max is 0;"),
    ("k_max", 64.0, "k_max is 64.0;"),
    ("k_max", True, "k_max is True;"),
    ("dtype", "float16", "dtype is 'float16'; it needs one of float64, float32, bfloat16"),
    ("dtypes", ("float64",), "dtype is 'float32'; this adapter runs in float64 (`dtypes`)"),
    ("device", "gpu0", "device is 'gpu0', on which PyTorch cannot make a tensor"),
    ("device", None, "device is None; it needs a string"),
    ("readings", {"A99": "x"}, "readings: 'A99' is no reading"),
    ("readings", {"A13": "v"}, "readings: A13 = 'v' is no option; its options are v_next, v_same"),
    ("readings", ["A13"], "readings is of type list; it needs a dict"),
    ("readings", {"A2": "split"}, "A2 = 'split' needs d_min_share"),
    ("expected_failures", {"eq08.applid": "x"}, "'eq08.applid' is no clause; did you mean eq08.applied"),
    ("expected_failures", {"eq08.applied": None}, "the reason for eq08.applied is of type NoneType; it needs a string"),
    ("expected_failures", ["eq08.applied"], "expected_failures is of type list; it needs a dict"),
    ("not_testable", {"corrupts": "inline"}, "'corrupts' is no operation; did you mean corrupt"),
    ("not_testable", {"affine": "inline"}, "not_testable: 'affine' is no operation"),
    ("not_testable", {"corrupt": 3}, "the reason for corrupt is of type int; it needs a string"),
    ("not_testable", ["corrupt"], "not_testable is of type list; it needs a dict"),
    ("min_batch", 0, "min_batch is 0; it needs a whole number of at least 1"),
    ("min_time", 0, "min_time is 0; it needs a whole number of at least 1"),
    ("rms_warmup", -1, "rms_warmup is -1;"),
    ("context_frames", 0, "context_frames is 0; it needs a whole number of at least 1, or None"),
    ("d_min_share", 1.0, "d_min_share is 1.0; it needs a number between 0 and 1"),
    ("context_level", 1.5, "context_level is 1.5; it needs a signal level in [0, 1]"),
    ("context_level", float("nan"), "context_level is nan;"),
]


@pytest.mark.parametrize(("attribute", "value", "sentence"), DECLARATIONS)
def test_declaration_outside_its_range_is_named(attribute: str, value: Any, sentence: str) -> None:
    assert sentence in rejection(type("Declared", (TorchAdapter,), {attribute: value}))


def test_provided_operation_cannot_be_declared_not_testable() -> None:
    methods = {"corrupt": lambda self, z0, z1, tau: z1, "not_testable": {"corrupt": "inline"}}
    assert "not_testable: corrupt is provided" in rejection(type("Both", (TorchAdapter,), methods))


def test_all_problems_are_reported_together() -> None:
    sentence = rejection(type("Twice", (Adapter,), {"k_max": 3, "readings": {"A99": "x"}}))
    assert "k_max is 3" in sentence
    assert "A99" in sentence


def test_lossy_array_conversion_is_rejected() -> None:
    assert "it needs x itself" in rejection(type("Lossy", (Adapter,), {"to_numpy": lambda self, x: np.zeros(2)}))


@pytest.mark.parametrize("adapter", [3, None, int, "dreamer4"])
def test_other_objects_are_rejected(adapter: object) -> None:
    assert "it needs an instance or a subclass of Adapter, TorchAdapter or JaxAdapter" in rejection(adapter)


def test_dtype_of_a_class_is_set_before_its_constructor_runs() -> None:
    class Model(TorchAdapter):
        def __init__(self) -> None:
            self.weights = self.dtype

    assert vars(examine(Model, dtype="float64").adapter)["weights"] == "float64"


def test_numpy_adapter_on_cuda_is_rejected() -> None:
    assert "device is 'cuda'; NumPy arrays live on 'cpu'" in rejection(Adapter(), device="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_is_reported_in_one_line() -> None:
    sentence = rejection(TorchAdapter(), device="cuda")
    assert "PyTorch finds no GPU here" in sentence
    assert "\n" not in sentence


# Through the command

HEAD = "from dreamer4_conformance import Adapter\nclass Mine(Adapter):\n"
FILES = {
    "no colon": ("mine.py", "", "it needs the form module:attr or file.py:attr"),
    "no file": ("absent.py:Mine", None, "there is no file"),
    "no module": ("dreamer4_absent:Mine", None, "there is no module 'dreamer4_absent'"),
    "no attribute": ("mine.py:Mina", "class Mine: pass", "has no attribute 'Mina'; did you mean Mine?"),
    "a missing dependency": (
        "mine.py:Mine",
        "import dreamer4_absent.part",
        "imports the module 'dreamer4_absent', which is",
    ),
    "an import that raises": ("mine.py:Mine", "1 / 0", "raised ZeroDivisionError: division by zero"),
    "an import that exits": ("mine.py:Mine", "raise SystemExit('no')", "raised SystemExit: no"),
    "a syntax error": ("mine.py:Mine", "class", "raised SyntaxError"),
    "another class": (
        "mine.py:Mine",
        "class Mine: pass",
        "is the class Mine; it needs an instance or a subclass of Adapter",
    ),
    "a number": ("mine.py:Mine", "Mine = 3", "is of type int; it needs an instance"),
    "a function that raises": ("mine.py:make", "def make(): 1 / 0", "make() raised ZeroDivisionError"),
    "a function of nothing": ("mine.py:make", "def make(): pass", "returned of type NoneType; it needs to return"),
    "a constructor that raises": (
        "mine.py:Mine",
        HEAD + "    def __init__(self): 1 / 0",
        "Mine() raised ZeroDivisionError",
    ),
    "an unknown reading": (
        "mine.py:Mine",
        HEAD + "    readings = {'A99': 'x'}",
        "'A99' is no reading",
    ),
    "an unknown clause": (
        "mine.py:Mine",
        HEAD + "    expected_failures = {'eq99.x': 'because'}",
        "'eq99.x' is no clause",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_command_prints_the_message_and_exits_with_status_2(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, source, sentence = FILES[kind]
    monkeypatch.chdir(tmp_path)
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    assert main(["run", target]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.startswith("dreamer4-conformance: ")
    assert "Traceback" not in printed.err
    assert printed.out == ""
