"""Episodes shorter than a clip: padding has no influence, and the result is that of the sequences without it."""

from dataclasses import replace

import pytest
import torch

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import Batches, TrainingSettings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.generation import imagination
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training.command import main
from dreamer4_impl.training.distributed import Processes, TrainedModel
from dreamer4_impl.training.gradients import Gradients
from dreamer4_impl.training.phases.agent import AgentPhase
from dreamer4_impl.training.phases.dynamics import DynamicsPhase
from dreamer4_impl.training.phases.imagine import ImaginePhase
from dreamer4_impl.training.phases.tokenizer import TokenizerPhase
from dreamer4_impl.training.sample_groups import add_means

from .test_command import DOCUMENT, record

MODEL = replace(tiny(), agent=replace(tiny().agent, continues=True))
LENGTH, FRAMES = 5, torch.tensor([5, 2, 1, 4])
VALID = torch.arange(LENGTH) < FRAMES[:, None]
BOUND = 2e-5
"""Largest relative difference to sequences without padding: rounding of float32."""


PHASES = {
    "tokenizer": lambda settings: TokenizerPhase(settings, lambda x, y: (x - y).abs().mean()),
    "dynamics": DynamicsPhase,
    "agent": AgentPhase,
    "imagine": ImaginePhase,
}
TRAINED_ON_FRAMES = ["tokenizer", "dynamics", "agent"]


@pytest.fixture
def model(tiny_on):
    return tiny_on(dtype=torch.float32).random(lambda: Dreamer4(MODEL))


def started(name, model):
    options = ImagineOptions(horizon=3, context=LENGTH, steps=2)
    phase = PHASES[name](TrainingSettings(name, MODEL, batches=Batches(size=4, image_share=0.5), imagine=options))
    phase.companions(model)
    return phase


def padded_batch(padding):
    """Four clips of FRAMES frames; what follows them is drawn from the seed `padding`."""
    own, after = (torch.Generator().manual_seed(seed) for seed in (0, padding))

    def draw(high, *shape):
        values, rest = (torch.randint(high, (4, LENGTH, *shape), generator=generator) for generator in (own, after))
        return torch.where(VALID.reshape(4, LENGTH, *(1,) * len(shape)), values, rest)

    ends = draw(2).bool()

    def action():
        return {"keys": draw(2, 4), "mouse": draw(5)}

    return Batch(
        video=draw(256, 6, 8, 3).to(torch.uint8),
        latents=None,
        actions=action() | {"labelled": draw(2).bool()},
        taken=action(),
        taken_labelled=draw(2).bool(),
        rewards=draw(3).float(),
        continues=ends | (torch.arange(LENGTH) != FRAMES[:, None] - 1),
        task=torch.tensor([0, 1, 2, 0]),
        relevant=torch.tensor([False, True, True, False]),
        valid=VALID,
    )


def trained(phase, model, batch):
    """Everything that a step leaves behind: loss, terms, means, running RMS and gradients."""
    for _, parameter in phase.trained(model):
        parameter.grad = None
    normalise = RunningRMS(phase.term_names)
    values = Gradients(phase, TrainedModel(model), normalise, Processes(torch.device("cpu")))(1, [(batch, range(4))])
    gradients = {name: parameter.grad for name, parameter in phase.trained(model) if parameter.grad is not None}
    return dict(values.means) | values.terms | gradients | {"loss": values.loss, "rms": normalise.mean_square.clone()}


@pytest.mark.parametrize("name", PHASES)
def test_contents_of_padding_change_no_loss_gradient_or_rms_bit_for_bit(name, model):
    phase = started(name, model)
    first, second = (trained(phase, model, padded_batch(padding)) for padding in (1, 2))
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key].nan_to_num(7.0), second[key].nan_to_num(7.0))] == []
    unmasked = [trained(phase, model, replace(padded_batch(padding), valid=None))["rms"] for padding in (1, 2)]
    assert not torch.equal(*unmasked)


def alone(value, row, frames):
    """Inputs of a phase, cut to the first frames of one sequence."""
    if isinstance(value, torch.Tensor):
        return value[row : row + 1, :frames] if value.ndim > 1 else value[row : row + 1]
    if isinstance(value, dict):
        return {name: alone(x, row, frames) for name, x in value.items()}
    if isinstance(value, tuple):
        return type(value)(*(alone(x, row, frames) for x in value)) if hasattr(value, "_fields") else (value[row],)
    return value


@pytest.mark.parametrize("name", TRAINED_ON_FRAMES)
def test_padded_clips_give_the_result_of_their_frames_alone(name, model):
    phase = started(name, model)
    inputs, counts = phase.inputs(model, padded_batch(1), 1, range(4))
    weights = [getattr(group, "sequences", group).weight for group in inputs]
    assert sum(int(weight.sum()) for weight in weights) == FRAMES.sum()
    whole = phase.means(model, inputs)
    parts = [
        phase.means(model, [alone(group, row, int(own.sum()))])
        for group, weight in zip(inputs, weights, strict=True)
        for row, own in enumerate(weight)
        if own.any()
    ]
    summed = add_means(parts)
    assert {key: n.item() for key, n in counts.items()} == {key: whole[key].count.item() for key in counts}
    for key, mean in whole.items():
        assert mean.count == summed[key].count
        torch.testing.assert_close(mean.total, summed[key].total, rtol=BOUND, atol=1e-6)
    for gradient, expected in zip(*(gradients(phase, model, means) for means in (whole, summed)), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=BOUND * float(expected.norm()) + 1e-7)


def gradients(phase, model, means):
    averages = {key: mean.total / mean.count.clamp(min=1) for key, mean in means.items()}
    parameters = [parameter for _, parameter in phase.trained(model)]
    found = torch.autograd.grad(phase.combine(phase.terms(averages)), parameters, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def test_rollouts_from_padded_contexts_equal_those_from_their_frames_alone(model, monkeypatch):
    draw, keys = imagination.normal_draws, [("imagine", 0, row) for row in range(4)]

    def same_past(seed, keys, purpose, shape):
        """The noise of frame t does not depend on the number of frames."""
        length = LENGTH if purpose == "past" else shape[0]
        return draw(seed, keys, purpose, (length, *shape[1:]))[:, : shape[0]]

    monkeypatch.setattr(imagination, "normal_draws", same_past)
    torch.manual_seed(0)
    z, batch = torch.randn(4, LENGTH, 5, 6).tanh(), padded_batch(1)
    options = ImagineOptions(horizon=3, context=LENGTH, steps=2)

    def imagined(rows, frames, lengths):
        cut = {name: x[rows, :frames] for name, x in batch.actions.items()}
        own = keys[rows], lengths
        return imagination.imagine(model, model.agent.policy, z[rows, :frames], cut, batch.task[rows], options, 0, *own)

    padded = imagined(slice(None), LENGTH, FRAMES)
    for row, frames in enumerate(FRAMES.tolist()):
        single = imagined(slice(row, row + 1), frames, None)
        for name, actions in single.actions.items():
            assert torch.equal(padded.actions[name][row], actions[0])
        torch.testing.assert_close(padded.z[row], single.z[0], rtol=BOUND, atol=BOUND)
        torch.testing.assert_close(padded.h[row], single.h[0], rtol=BOUND, atol=BOUND)


def test_a_rollout_does_not_begin_after_the_end_of_an_episode(model):
    batch, phase = padded_batch(1), started("imagine", model)
    ended = torch.ones_like(batch.continues)
    ended[1, 1] = False
    inputs, counts = phase.inputs(model, replace(batch, continues=ended), 1, range(4))
    assert counts["value"] == counts["kl"] == inputs.weight.sum()
    assert inputs.weight[:, 0].tolist() == [1, 0, 1, 1]
    means = phase.means(model, inputs)
    assert {name: mean.count.item() for name, mean in means.items() if name in counts} == {
        name: count.item() for name, count in counts.items()
    }


@pytest.mark.parametrize("name", PHASES)
def test_padding_brings_no_further_shapes_to_the_networks(name, model, monkeypatch):
    """A compiled layer has a form for each shape, so that short episodes compile nothing."""
    phase, shapes = started(name, model), []
    for part in (model.tokenizer.encoder, model.tokenizer.decoder, model.dynamics):
        part.register_forward_hook(lambda module, inputs, output: shapes.append((type(module), inputs[0].shape)))
    calls = []
    for valid in (None, VALID, VALID.roll(1, 0), torch.arange(LENGTH).expand(4, -1) < 1):
        shapes.clear()
        trained(phase, model, replace(padded_batch(1), valid=valid))
        calls.append(list(shapes))
    assert calls[1] == calls[2] == calls[3]
    assert name == "imagine" or calls[0] == calls[1]


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_short_episodes_compile_nothing(tmp_path):
    """The same steps on long episodes, and on episodes of every length up to that of the longest clip."""
    counts = {}
    for name, lengths in (("long", [25] * 8), ("short", [25, 25, 2, 3, 4, 5, 6, 7])):
        record(tmp_path / name, lengths=lengths)
        (tmp_path / "mine.toml").write_text(DOCUMENT)
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        typed = ["tokenizer", str(tmp_path / "mine.toml"), "--data", str(tmp_path / name), "--set", "steps=10"]
        assert main([*typed, "--run", str(tmp_path / f"run-{name}"), "--set", "execution.compile=eager"]) == 0
        counts[name] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.compiler.reset()
    assert counts["short"] == counts["long"] > 0
