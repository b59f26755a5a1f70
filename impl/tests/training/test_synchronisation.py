"""A training step on a device without numbers: the host reads none, and waits for no copy to the device."""

from contextlib import contextmanager
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamer4_impl.checkpoints.checkpoint import steps
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import Batches, Execution, Records, TrainingSettings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training import measurement
from dreamer4_impl.training.distributed import Processes
from dreamer4_impl.training.loop import NotFiniteError, Outcome, Trainer
from dreamer4_impl.training.phase import PartialMean
from dreamer4_impl.training.phases import PHASES

from . import toy

#: Stands for the GPU: PyTorch refuses to read a value of a tensor on it, or a shape that depends on values.
DEVICE = torch.device("meta")


def on(kind, values):
    return [x for x in tree_leaves(values) if isinstance(x, Tensor) and x.device.type == kind]


class NoBlockingCopies(TorchDispatchMode):
    """Raises where an operator copies from the host and the host waits."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options, name = options or {}, function.overloadpacket.__name__
        if name == "_to_copy" and on("cpu", arguments) and is_device(options):
            assert options.get("non_blocking"), "a copy to the device blocks"
        if name == "copy_" and on("meta", arguments[:1]) and on("cpu", arguments[1:]):
            assert arguments[2:], "a copy to the device blocks"
        if name.startswith("index") and on("meta", arguments):
            assert not on("cpu", arguments), "indices are copied to the device"
        return function(*arguments, **options)


class NoPythonData(TorchFunctionMode):
    """Raises where a tensor on the device is made of Python data, which is copied from the host."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        made = function in (torch.tensor, torch.as_tensor, torch.asarray) and is_device(options)
        indexed = function in (Tensor.__getitem__, Tensor.__setitem__) and on("meta", arguments[:1])
        index = arguments[1] if indexed else ()
        lists = [part for part in (index if isinstance(index, tuple) else (index,)) if isinstance(part, list)]
        assert not made, "a tensor is made of Python data"
        assert not lists, "indices are a list"
        assert function is not Tensor.new_tensor or not on("meta", arguments[:1]), "a tensor is made of Python data"
        return function(*arguments, **options)


def is_device(options):
    return torch.device(options.get("device") or "cpu") == DEVICE


@contextmanager
def no_waiting():
    with NoPythonData(), NoBlockingCopies():
        yield


class Source:
    """Clips with everything that a phase may read."""

    def batch(self, step, indices, length, relevant):
        shape = (len(indices), length)
        actions, taken = (
            {"keys": torch.zeros(*shape, 4, dtype=torch.int64), "mouse": torch.zeros(shape, dtype=torch.int64)}
            for _ in range(2)
        )
        known = torch.ones(shape, dtype=torch.bool)
        return Batch(
            video=torch.zeros(*shape, 6, 8, 3, dtype=torch.uint8),
            latents=None,
            actions=actions | {"labelled": known},
            taken=taken,
            taken_labelled=known,
            rewards=torch.zeros(shape),
            continues=known,
            task=torch.zeros(shape[0], dtype=torch.int64),
            relevant=torch.tensor(relevant),
            valid=known if step % 2 else None,
        )


def trainer(run, phase):
    settings = TrainingSettings(
        phase,
        tiny(),
        steps=9,
        batches=Batches(size=2),
        imagine=ImagineOptions(horizon=1, context=2, steps=1),
        execution=Execution(device="cpu"),
        records=Records(tensorboard=False),
    )
    own = PHASES[phase](settings, DEVICE)
    return Trainer(settings, own, Source(), run, Dreamer4(settings.model), Processes(DEVICE))


WAITS = {
    "value": lambda x: x.sum().item(),
    "condition": lambda x: bool((x > 0).any()),
    "list": lambda x: x.tolist(),
    "copy to the host": lambda x: x.to("cpu", non_blocking=True),
    "number": lambda x: torch.tensor(1.0, device=x.device),
    "new number": lambda x: x.new_tensor(1.0),
    "copy from the host": lambda x: torch.ones(2).to(x.device),
    "copy into a tensor": lambda x: x.copy_(torch.ones(2)),
    "indices in a list": lambda x: x[[0, 1]],
    "indices in a list, to write": lambda x: x.__setitem__([0, 1], 1.0),
    "indices on the host": lambda x: x[torch.tensor([0, 1])],
    "mask": lambda x: x[x > 0],
    "positions": lambda x: x.nonzero(),
}


@pytest.mark.parametrize("operation", WAITS.values(), ids=WAITS)
def test_what_makes_the_host_wait_is_noticed(operation):
    x = torch.ones(2, device=DEVICE)
    with no_waiting(), pytest.raises((AssertionError, NotImplementedError, RuntimeError)):
        operation(x)


def test_what_the_device_does_alone_is_not_noticed():
    x = torch.ones(2, device=DEVICE)
    with no_waiting():
        y = torch.ones(2).to(DEVICE, non_blocking=True) * torch.tensor(2.0)
        x[:1] = x[torch.arange(1, device=DEVICE)] + torch.where(x > 0, y, 0)[:1]
        x.copy_(torch.ones(2), non_blocking=True)


def test_a_mean_without_weights_is_counted_on_the_device():
    with no_waiting():
        assert PartialMean.from_values(torch.ones(2, device=DEVICE)).count.device == DEVICE


@pytest.mark.parametrize("phase", PHASES)
def test_the_host_reads_the_values_of_a_step_after_it_has_given_the_device_the_next_one(tmp_path, phase, monkeypatch):
    begun, events = trainer(tmp_path, phase), []

    def to_host(numbers):
        return lambda: events.append("read") or [1.0] * len(numbers)

    monkeypatch.setattr(measurement, "to_host", to_host)
    begun.metrics, begun.display = Mock(), Mock()
    begun.state.optimiser.register_step_post_hook(lambda *_: events.append("update"))
    begun.gradients._estimated = True  # as after the first step, in which the host asks for it
    for step in range(2):  # a sample of the second is an image
        micro_batches = begun._load(step)
        with no_waiting():
            begun._step(micro_batches)
    assert events == ["update", "update", "read"]
    begun._record()
    assert [call.args[0]["step"] for call in begun.metrics.write.call_args_list] == [1, 2]


@pytest.mark.parametrize("poison", [2, 3])
def test_a_nan_that_is_read_late_stops_before_a_checkpoint_has_it(tmp_path, poison):
    """In step 3, whose values would be read in step 4, and in step 4, which a checkpoint would follow."""
    begun = toy.trainer(tmp_path, toy.settings(every=2), poison=poison)
    begun.delay = 1
    with pytest.raises(NotFiniteError, match=f"stopped in step {poison + 1}: .* last checkpoint is step-00000002"):
        begun.run()
    assert [line["step"] for line in toy.curve(tmp_path)] == list(range(1, poison + 1))
    assert [path.name for path in steps(tmp_path)] == ["step-00000002"]


def test_reading_late_does_not_change_a_run(tmp_path):
    for delay in (0, 1):
        begun = toy.trainer(tmp_path / str(delay), toy.settings())
        begun.delay = delay
        assert begun.run() == Outcome(6, None, saved=True)
    assert toy.curve(tmp_path / "0") == toy.curve(tmp_path / "1")
    assert len(toy.curve(tmp_path / "1")) == 6
