"""Arithmetic of a training step on many GPUs, held to real tensors and to counted parameters."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.counting import _peak_bytes, _profile
from benchmarks.many_gpus import GPUS, LOSSES, PAGE, Costs, Operations, _model, counted, page, saved
from dreamer4_impl.checkpoints.settings import Optimiser
from dreamer4_impl.models.dreamer4 import Dreamer4, count_parameters
from dreamer4_impl.models.presets import paper, small, tiny
from dreamer4_impl.models.transformer import Transformer
from dreamer4_impl.training.optimiser import create

FRAMES = 4


def rows(phase):
    """Cells of the committed table of a phase by the name of their row."""
    (part,) = (part for part in PAGE.read_text().split("\n\n") if part.startswith(f"| {phase}"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
    return {name: numbers for name, *numbers in cells}


@pytest.mark.parametrize("phase", LOSSES)
def test_the_page_has_the_counted_parameters_of_the_paper_s_model(phase):
    """Float32 weights and gradients, and two moments, of every parameter; sharded over the GPUs."""
    with torch.device("meta"):
        model = Dreamer4(paper())
    weights, trained = 4 * count_parameters(model) / 1e9, 4 * count_parameters(getattr(model, phase)) / 1e9
    assert rows(phase)["weights, GB"] == [f"{weights / gpus:.1f}" for gpus in GPUS]
    assert rows(phase)["gradients, GB"] == [f"{trained / gpus:.1f}" for gpus in GPUS]
    assert rows(phase)["moments of AdamW, GB"] == [f"{2 * trained / gpus:.1f}" for gpus in GPUS]
    assert rows(phase)["all weights, gathered for the step, GB"] == ["–", f"{weights:.1f}", f"{weights:.1f}"]


def test_the_memory_of_one_gpu_is_that_of_the_state_of_a_real_run():
    model = Dreamer4(tiny()).requires_grad_(False)
    model.dynamics.requires_grad_(True)
    optimiser = create(model, Optimiser(), torch.device("cpu"))
    for parameter in model.dynamics.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    moments = [own[name] for own in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    costs = Costs(count_parameters(model), count_parameters(model.dynamics), 0, 0, 0).memory(1)
    assert costs["weights"] == sum(parameter.nbytes for parameter in model.parameters())
    assert costs["gradients"] == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert costs["moments of AdamW"] == sum(moment.nbytes for moment in moments)


@pytest.mark.parametrize("phase", LOSSES)
@pytest.mark.parametrize("recompute", [False, True])
def test_fake_tensors_count_what_real_ones_do(phase, recompute):
    real = _model(tiny(), recompute)
    with FakeTensorMode():
        fake = _model(tiny(), recompute)
        found = saved(fake, phase, FRAMES), counted(fake, phase, FRAMES)
    assert found == (saved(real, phase, FRAMES), counted(real, phase, FRAMES))
    assert found[0][1] > 0


def test_operations_are_those_of_torch_s_counter():
    config = tiny().dynamics.transformer
    model, x = Transformer(config), torch.zeros(2, 3, 5, config.width, requires_grad=True)
    with Operations() as own, FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    assert own.total == counter.get_total_flops() > 0


@pytest.mark.parametrize(("phase", "passes"), {"tokenizer": 3, "dynamics": 5}.items())
def test_a_step_costs_two_teacher_passes_if_any_and_three_of_the_student_or_four(phase, passes):
    """A pass less for what no gradient needs: of the input, and of the last product of every layer."""
    with Operations() as forward, torch.no_grad():
        LOSSES[phase](Dreamer4(tiny()), FRAMES)
    one_pass = forward.total / (passes - 2)
    stored, recomputed = (counted(_model(tiny(), recompute), phase, FRAMES) for recompute in (False, True))
    assert (passes - 0.1) * one_pass < stored <= passes * one_pass
    assert (passes + 0.7) * one_pass < recomputed < (passes + 1) * one_pass


@pytest.mark.parametrize(
    ("phase", "recompute"),
    [
        ("tokenizer", False),
        ("dynamics", True),
        pytest.param("tokenizer", True, marks=pytest.mark.nightly),
        pytest.param("dynamics", False, marks=pytest.mark.nightly),
    ],
)
def test_the_peak_of_a_real_step_lies_between_its_largest_part_and_the_sum(phase, recompute):
    """Beyond weights and moments, which are there before: copies and activations, then gradients."""
    model, gradients = _model(small(), recompute), 4 * count_parameters(getattr(Dreamer4(small()), phase))
    copies, _ = saved(_model(small(), False), phase, FRAMES)
    _, activations = saved(model, phase, FRAMES)

    def step():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = LOSSES[phase](model, FRAMES)
        loss.backward()

    step()
    model.zero_grad()
    peak = _peak_bytes(_profile(step).experimental_event_tree())
    assert max(copies + activations, gradients) <= peak <= copies + activations + gradients


@pytest.mark.nightly
def test_the_committed_page_is_that_of_the_code():
    assert PAGE.read_text() == page()
