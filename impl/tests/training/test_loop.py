"""Training loop: bit-for-bit resume, frozen parameters, accumulation, signals, and errors."""

import signal
from dataclasses import replace

import pytest
import torch

from dreamer4_impl.checkpoints.checkpoint import CannotSaveError, read, steps
from dreamer4_impl.checkpoints.settings import Execution, Optimiser
from dreamer4_impl.compilation import TooManyFormsError
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.models.transformer import Layer, Transformer
from dreamer4_impl.training import loop
from dreamer4_impl.training.distributed import Processes
from dreamer4_impl.training.interruption import interruptible
from dreamer4_impl.training.loop import NotFiniteError
from dreamer4_impl.training.optimiser import learning_rate

from . import toy


def equal(one, other):
    """Bit-for-bit equality of nested containers."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(*pair) for pair in zip(one, other, strict=True))
    return one == other


def captured(trainer):
    found = trainer.state.capture(trainer.settings)
    return {"weights": found.weights, "average": found.average, **found.state}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted run of six steps with a checkpoint after each."""
    run = tmp_path_factory.mktemp("whole")
    trainer = toy.trainer(run, toy.settings(every=1, keep=9))
    assert trainer.run() == loop.Outcome(6, None, True)
    return run, captured(trainer)


@pytest.mark.parametrize("after", [1, 4])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(whole, tmp_path, after):
    run, end = whole
    begun = toy.trainer(tmp_path, toy.settings(every=1), checkpoint=read(steps(run)[after - 1]))
    begun.run()
    assert equal(captured(begun), end)
    assert toy.curve(tmp_path) == toy.curve(run)[after:]


class PhaseWithLayers(toy.ToyPhase):
    """The toy phase, which also trains the layers of the encoder."""

    def trained(self, model):
        layers = model.tokenizer.encoder.transformer.named_parameters()
        return [*super().trained(model), *((f"tokenizer.encoder.transformer.{name}", p) for name, p in layers)]


def test_muon_trains_the_matrices_of_layers_and_resumes_bit_for_bit(tmp_path):
    settings = replace(toy.settings(steps=2, every=1), optimiser=Optimiser(layers="muon"))
    trainer = toy.trainer(tmp_path / "whole", settings, PhaseWithLayers)
    trainer.run()
    names = {id(p): name for name, p in trainer.state.model.named_parameters()}
    muon, *rest = ({names[id(p)] for p in group["params"]} for group in trainer.state.optimiser.param_groups)
    trained = dict(trainer.phase.trained(trainer.state.model))
    assert muon == {name for name, p in trained.items() if ".layers." in name and p.ndim == 2} != set()
    assert muon.union(*rest) == trained.keys()
    assert not muon.intersection(*rest)
    begun = toy.trainer(tmp_path, settings, PhaseWithLayers, checkpoint=read(steps(tmp_path / "whole")[0]))
    begun.run()
    assert equal(captured(begun), captured(trainer))


def test_a_checkpoint_contains_the_complete_state(whole):
    found = read(steps(whole[0])[-1])
    assert set(found.state) == {"optimiser", "normalise", "companions", "scaler", "random"}
    assert found.state["normalise"]["weight"].all()
    assert set(found.state["random"]) == {"python", "numpy", "torch", "cuda"}
    assert found.average
    assert "prior" in found.state["companions"]
    assert equal(found.state["optimiser"], whole[1]["optimiser"])


def test_resuming_restores_the_companions_of_the_start(whole):
    prior, trained = whole[1]["companions"]["prior"], whole[1]["weights"]
    assert all(torch.equal(v, read(steps(whole[0])[0]).state["companions"]["prior"][n]) for n, v in prior.items())
    assert not torch.equal(prior["head.read.bias"], trained["agent.value.head.read.bias"])


def test_only_trained_parameters_change(whole, tmp_path):
    trainer = toy.trainer(tmp_path, toy.settings(steps=1))
    start = {name: value.clone() for name, value in trainer.state.model.state_dict().items()}
    trained = {name for name, _ in trainer.phase.trained(trainer.state.model)}
    trainer.run()
    moved = {name for name, value in trainer.state.model.state_dict().items() if not torch.equal(value, start[name])}
    assert moved
    assert moved <= trained
    assert {name for name, p in trainer.state.model.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize("phase", [toy.ToyPhase, toy.OneTermPhase])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("earlier", [None, 0.25])
def test_gradient_is_that_of_the_loss_of_all_samples(tmp_path, phase, accumulation, earlier):
    """Terms are divided by the root mean square of their values in earlier steps, in the first step by themselves."""
    trainer = toy.trainer(tmp_path, toy.settings(accumulation=accumulation), phase)
    for name in phase.term_names if earlier else ():
        trainer.state.normalise.update(name, torch.tensor(earlier))
    trainer.gradients(0, trainer._load(0))
    model, parameters = trainer.state.model, [p for p in trainer.state.model.parameters() if p.requires_grad]
    plan = trainer.phase.plan(0)
    batch = trainer.source.batch(0, range(4), plan.length, plan.relevant)
    inputs, _ = trainer.phase.inputs(model, batch, 0, range(4))
    means = {name: total / count for name, (total, count) in trainer.phase.means(model, inputs).items()}
    terms = trainer.phase.terms(means)
    loss = trainer.phase.combine({name: term / (earlier or term.detach()) for name, term in terms.items()})
    for parameter, expected in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        if expected is not None:
            torch.testing.assert_close(parameter.grad, expected, atol=1e-4, rtol=1e-4)


def test_a_micro_batch_is_computed_once_and_in_the_first_step_twice(tmp_path):
    steps_of_calls = []

    class Counting(toy.ToyPhase):
        def means(self, model, inputs):
            steps_of_calls.append(inputs[0])
            return super().means(model, inputs)

    toy.trainer(tmp_path, toy.settings(steps=3, accumulation=2), Counting).run()
    assert steps_of_calls == [0] * 4 + [1] * 2 + [2] * 2


@pytest.mark.parametrize("phase", [toy.ToyPhase, toy.OneTermPhase])
def test_accumulation_does_not_change_losses_or_gradients(tmp_path, phase):
    chosen = toy.settings(steps=4, size=5)
    curves = []
    for accumulation in (1, 3):
        batches = replace(chosen.batches, accumulation=accumulation)
        toy.trainer(tmp_path / str(accumulation), replace(chosen, batches=batches), phase).run()
        curves.append(toy.curve(tmp_path / str(accumulation)))
    for one, three in zip(*curves, strict=True):
        assert three["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert three["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)


def test_every_layer_is_compiled_with_the_configured_backend(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(loop, "compile_module", lambda module, backend: calls.append((type(module), backend)))
    toy.trainer(tmp_path, toy.settings(compile="inductor"))
    layers = sum(len(t.layers) for t in Dreamer4(tiny()).modules() if isinstance(t, Transformer))
    assert calls == [(Layer, "inductor")] * layers


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_a_compiled_run_stops_where_layers_need_more_forms_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("dreamer4_impl.compilation.FORMS", 1)
    torch.compiler.reset()
    trainer = toy.trainer(tmp_path, toy.settings(steps=1, compile="eager"))
    with torch._dynamo.config.patch(recompile_limit=1), pytest.raises(TooManyFormsError, match="Layer needs more"):
        trainer.run()
    torch.compiler.reset()


def compiled(**others):
    return pytest.param({"compile": "aot_eager", **others}, marks=pytest.mark.nightly)


@pytest.mark.parametrize("option", [{"recompute": True}, compiled(), compiled(recompute=True)], ids=str)
def test_recomputing_and_compiling_do_not_change_losses(whole, tmp_path, option):
    toy.trainer(tmp_path, toy.settings(steps=2, **option)).run()
    for found, expected in zip(toy.curve(tmp_path), toy.curve(whole[0])[:2], strict=False):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)


def test_recomputed_layers_run_again_for_the_gradient(tiny_on):
    tokenizer = tiny_on(dtype=torch.float32).tokenizer()
    layers, calls = tokenizer.encoder.transformer.layers, []
    for layer in layers:
        layer.register_forward_pre_hook(lambda *_: calls.append(1))
    gradients = []
    for recompute in (False, True):
        tokenizer.zero_grad()
        tokenizer.encoder.transformer.recompute = recompute
        tokenizer.encode(tiny_on(dtype=torch.float32).video(1, 2)).square().sum().backward()
        gradients.append({name: p.grad for name, p in tokenizer.encoder.named_parameters() if p.grad is not None})
    assert len(calls) == 3 * len(layers)
    assert equal(*gradients)


def test_autocast_uses_the_device_and_float16_scales_the_loss(tmp_path):
    half = toy.trainer(tmp_path, toy.settings(steps=1, autocast="bfloat16"))
    with half.gradients.autocast():
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    half.run()
    assert not half.state.scaler.is_enabled()
    scaled = toy.trainer(tmp_path, toy.settings(autocast="float16"))
    assert type(scaled.state.scaler) is torch.amp.GradScaler
    assert scaled.state.scaler.is_enabled()


def test_running_average_follows_the_weights(whole):
    run, _ = whole
    name = "agent.value.head.read.bias"
    before, after = (read(path) for path in steps(run)[2:4])
    expected = 0.9 * before.average[name] + 0.1 * after.weights[name]
    torch.testing.assert_close(after.average[name], expected)


def test_learning_rate_rises_then_falls(whole):
    rates = [line["learning_rate"] for line in toy.curve(whole[0])]
    assert rates[:3] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert rates[-1] == pytest.approx(0.001)
    assert learning_rate(Optimiser(warmup=0), 5, 10) == Optimiser().learning_rate


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_after_the_step_with_a_checkpoint(whole, tmp_path, number):
    class Interrupting(toy.ToyPhase):
        def inputs(self, model, batch, step, indices):
            if step == 2:
                signal.raise_signal(number)
                if number == signal.SIGHUP:  # a closed terminal sends it more than once
                    signal.raise_signal(number)
            return super().inputs(model, batch, step, indices)

    before = signal.getsignal(number)
    outcome = toy.trainer(tmp_path, toy.settings(every=100), Interrupting).run()
    assert outcome == loop.Outcome(3, signal.Signals(number).name, saved=True)
    assert signal.getsignal(number) == before
    toy.resumed(tmp_path, toy.settings(every=100)).run()
    assert toy.curve(tmp_path) == toy.curve(whole[0])


def test_sighup_is_ignored_under_nohup(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_nan_loss_stops_before_the_weights_change(tmp_path):
    trainer = toy.trainer(tmp_path, toy.settings(every=2), poison=3)
    with pytest.raises(
        NotFiniteError, match=r"stopped in step 4: the loss term 'code' is nan; the last checkpoint is step-00000002"
    ):
        trainer.run()
    assert all(p.isfinite().all() for p in trainer.state.model.parameters())
    assert [line["step"] for line in toy.curve(tmp_path)] == [1, 2, 3]


def test_a_nan_gradient_stops_the_run(tmp_path):
    class Rooted(toy.ToyPhase):
        def means(self, model, inputs):
            means = super().means(model, inputs)
            root = model.agent.value.head.read.bias.square().sum().sqrt() * 0  # its gradient at 0 is 0/0
            return means | {"code": means["code"]._replace(total=means["code"].total + root)}

    with pytest.raises(NotFiniteError, match=r"step 1: the gradient's norm is nan; there is no checkpoint yet"):
        toy.trainer(tmp_path, toy.settings(), Rooted).run()


def test_a_term_without_samples_does_not_change_its_estimate(tmp_path):
    class Nobody(toy.ToyPhase):
        def plan(self, step):
            return replace(super().plan(step), relevant=(False,) * 4)

    trainer = toy.trainer(tmp_path, toy.settings(steps=2, average=None), Nobody)
    start = trainer.state.model.agent.value.head.read.bias.clone()
    trainer.run()
    assert trainer.state.normalise.weight.tolist() == pytest.approx([1 - 0.99**2, 0])
    assert torch.equal(trainer.state.model.agent.value.head.read.bias, start)
    assert toy.curve(tmp_path)[0]["means"]["value"] is None


def test_a_full_disk_does_not_end_training(tmp_path, monkeypatch, capsys):
    def full(run, checkpoint, keep):
        if checkpoint.step == 2:
            raise CannotSaveError("the checkpoint of step 2 could not be written: No space left on device")
        return saved(run, checkpoint, keep)

    saved = loop.save
    monkeypatch.setattr(loop, "save", full)
    assert toy.trainer(tmp_path, toy.settings(steps=4)).run() == loop.Outcome(4, None, saved=True)
    assert "No space left on device; training continues" in capsys.readouterr().err
    assert "No space left on device" in (tmp_path / "log.txt").read_text()
    assert [path.name for path in steps(tmp_path)] == ["step-00000004"]


def test_a_failed_last_checkpoint_is_reported(tmp_path, monkeypatch):
    def full(*_):
        raise CannotSaveError("No space left on device")

    monkeypatch.setattr(loop, "save", full)
    assert toy.trainer(tmp_path, toy.settings(steps=1)).run() == loop.Outcome(1, None, saved=False)


def test_a_batch_needs_a_sample_for_every_micro_batch(tmp_path):
    with pytest.raises(
        ValueError, match=r"batches\.size must be at least 8, one sample for each of 2 processes × 4 micro"
    ):
        toy.trainer(tmp_path, toy.settings(size=7, accumulation=4), member=Processes(toy.CPU, 0, 2))


def test_resuming_a_finished_run_does_nothing(whole, tmp_path):
    trainer = toy.trainer(tmp_path, toy.settings(), checkpoint=read(steps(whole[0])[-1]))
    assert trainer.run() == loop.Outcome(6, None, saved=True)


def test_muon_and_fsdp_are_refused():
    with pytest.raises(ValueError, match=r"optimiser.layers 'muon' needs whole matrices.* got 'fsdp'"):
        replace(toy.settings(distributed="fsdp"), optimiser=Optimiser(layers="muon"))


def test_float16_and_fsdp_are_refused():
    with pytest.raises(ValueError, match="scales the loss, which goes with distributed 'ddp'"):
        Execution(autocast="float16", distributed="fsdp")
