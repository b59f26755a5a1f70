"""The checks of layers in cases that decide little: nothing mixed, no window, few layers, half precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.checks import sec34_layers, time_layers
from dreamer4_conformance.instruments.subject import Subject
from dreamer4_conformance.judging.check import CHECKS, Check, Trial
from dreamer4_conformance.verdicts import Deviation, Inconclusive
from dreamer4_conformance.zoo.base import TextbookModel
from dreamer4_conformance.zoo.equivalents.sec34_layers import LayersOf, Modules

MODULES = (sec34_layers.__name__, time_layers.__name__)
OF_LAYERS = {check.name: check for check in CHECKS.values() if check.function.__module__ in MODULES}
OF_EXAMPLES = [check for check in OF_LAYERS.values() if "example" in check.needs]
KINDS = OF_LAYERS["check_a_quarter_of_the_layers_mixes_time"]
WINDOW = OF_LAYERS["check_time_layers_attend_to_the_frames_of_the_window_only"]


def sentence(check: Check, adapter: Adapter) -> str:
    with pytest.raises(Deviation) as caught:
        check.function(Subject(adapter), Trial())
    return caught.value.message


@pytest.mark.parametrize("adapter", [LayersOf, Modules])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("check", OF_EXAMPLES, ids=lambda check: check.name)
def test_correct_layers_pass_in_every_dtype(check: Check, dtype: str, adapter: type[Adapter]) -> None:
    trial = Trial()
    check.function(examine(adapter, dtype=dtype), trial)
    assert trial.cases


class Untrained(LayersOf):
    """Output projections are zero, as at the start of training."""

    class model(TextbookModel):  # noqa: N801
        def output(self, x: Tensor, name: str, zeroed: bool) -> Tensor:
            return torch.zeros_like(super().output(x, name, zeroed))


DECIDED = {"check_a_block_that_adds_nothing_is_the_identity", "check_time_layers_mix_no_positions"}


@pytest.mark.parametrize("check", [x for x in OF_EXAMPLES if x.name not in DECIDED], ids=lambda check: check.name)
def test_layers_that_return_their_input_are_undecided(check: Check) -> None:
    with pytest.raises(Inconclusive):
        check.function(Subject(Untrained()), Trial())


class UndeclaredWindow(TextbookModel):
    """A window of 4 frames that is not declared."""

    context_frames = None

    def window(self) -> int | None:
        return 4


def test_window_that_is_not_declared_is_rejected() -> None:
    assert "does not change with x[0]" in sentence(WINDOW, UndeclaredWindow())


def test_frame_outside_the_window_is_named_with_its_distance() -> None:
    adapter = TextbookModel()
    adapter.key_mask = lambda length, causal, window: TextbookModel.key_mask(adapter, length, causal, None)  # type: ignore[method-assign]
    assert sentence(WINDOW, adapter).endswith("3 frames back; the window is 3 frames, the current one included")


@pytest.mark.parametrize("kinds", [["time"], ["space", "time"], ["space"] * 3, ["space", "space", "space", "time"] * 2])
def test_kinds_of_few_layers_are_accepted(kinds: list[str]) -> None:
    adapter = LayersOf()
    adapter.layer_kinds = lambda: kinds  # type: ignore[method-assign]
    KINDS.function(Subject(adapter), Trial())


@pytest.mark.parametrize(
    "kinds", [["time", "time"], ["space"] * 4, ["space", "space", "time", "space"], ["both"], ["space", "time"] * 4]
)
def test_kinds_out_of_order_are_rejected(kinds: list[str]) -> None:
    adapter = LayersOf()
    adapter.layer_kinds = lambda: kinds  # type: ignore[method-assign]
    assert sentence(KINDS, adapter)
