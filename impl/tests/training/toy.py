"""A cheap phase with every feature of a phase, and a script that trains it in separate processes.

Two terms: codes of the tokenizer that should equal noise drawn for every sample, and values on the relevant samples
only, which should also stay close to those of a companion. The script runs in processes that are killed or train
together.
"""

import copy
import json
import os
import random
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamer4_impl.checkpoints import checkpoint as checkpoint_module
from dreamer4_impl.checkpoints.checkpoint import latest_good, read
from dreamer4_impl.checkpoints.settings import Batches, Execution, Optimiser, Records, TrainingSettings
from dreamer4_impl.checkpoints.shards import in_all_processes
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.generation.draws import keyed_generator
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training.distributed import Processes, processes
from dreamer4_impl.training.loop import Trainer
from dreamer4_impl.training.metrics import read_metrics
from dreamer4_impl.training.phase import PartialMean, Phase
from dreamer4_impl.training.step_plan import StepPlan

CPU = torch.device("cpu")


class ToyPhase(Phase):
    name, term_names = "toy", ("code", "value")

    def __init__(self, settings, poison=None):
        super().__init__(settings)
        self.poison = poison

    def trained(self, model):
        names = ("tokenizer.encoder.bottleneck", "tokenizer.encoder.norm", "agent.value")
        return [(name, p) for name, p in model.named_parameters() if name.startswith(names)]

    def companions(self, model):
        self.prior = copy.deepcopy(model.agent.value).requires_grad_(False)
        return {"prior": self.prior}

    def plan(self, step):
        size = self.settings.batches.size
        # The relevant samples vary by step, so that in some steps a process has none.
        relevant = tuple((sample + step) % 3 == 0 for sample in range(size))
        return StepPlan(2 if step % 4 else 3, (False,) * size, relevant)

    def inputs(self, model, batch, step, indices):
        frames = batch.video.float() / 255
        shape = (frames.shape[1], model.config.tokenizer.spatial_tokens, model.config.tokenizer.spatial_channels)
        noise = torch.stack([torch.rand(shape, generator=self._generator(step, i)) for i in indices])
        weight = batch.relevant[:, None].expand_as(batch.rewards)
        counts = {"code": torch.tensor(float(noise.numel())), "value": weight.sum()}
        return (step, frames, noise, batch.rewards, weight), {name: counts[name] for name in self.term_names}

    def means(self, model, inputs):
        step, frames, noise, rewards, weight = inputs
        code = model.tokenizer.encode(frames)
        h = code.detach().flatten(2)[..., :24]
        value, prior = (head.predict(h) for head in (model.agent.value, self.prior))
        if step == self.poison:
            code = code * torch.nan
        off = (value - rewards).square() + 0.1 * (value - prior).square()
        return {
            "code": PartialMean.from_values((code - noise).square()),
            "value": PartialMean.from_values(off, weight),
            "size": PartialMean.from_values(code.detach().abs()),
        }

    def terms(self, means):
        return {name: means[name] for name in self.term_names}

    def combine(self, terms):
        return terms["code"] + 0.5 * terms["value"]

    def _generator(self, step, index):
        return keyed_generator(self.settings.seed, self.name, step, index)


class OneTermPhase(ToyPhase):
    term_names = ("code",)

    def combine(self, terms):
        return 3 * terms["code"]


class SignalledPhase(ToyPhase):
    """Sends SIGTERM to one of two processes in its fourth step."""

    def __init__(self, settings, rank):
        super().__init__(settings)
        self.rank = rank

    def inputs(self, model, batch, step, indices):
        if (self.rank, step) == (1, 3):
            signal.raise_signal(signal.SIGTERM)
        return super().inputs(model, batch, step, indices)


class ToySource:
    def batch(self, step, indices, length, relevant):
        def draw(index):
            return torch.randint(256, (length, 6, 8, 3), generator=keyed_generator(1, step, index), dtype=torch.uint8)

        video, rows = torch.stack([draw(index) for index in indices]), (len(indices), length)
        return Batch(
            video=video,
            latents=None,
            actions={},
            taken={},
            taken_labelled=None,
            rewards=video.float().mean(dim=(2, 3, 4)) / 255,
            continues=torch.ones(rows, dtype=torch.bool),
            task=torch.zeros(rows[0], dtype=torch.int64),
            relevant=torch.tensor(relevant),
        )


def settings(steps=6, size=4, accumulation=1, every=2, keep=2, average=0.9, rate=0.01, tensorboard=False, **execution):
    return TrainingSettings(
        phase="dynamics",
        model=tiny(),
        steps=steps,
        batches=Batches(size=size, accumulation=accumulation),
        optimiser=Optimiser(learning_rate=rate, warmup=3, decay="cosine", average=average),
        execution=Execution(device="cpu", **execution),
        records=Records(checkpoint_every=every, keep=keep, tensorboard=tensorboard),
    )


def trainer(run, chosen, phase=ToyPhase, member=None, checkpoint=None, **options):
    torch.manual_seed(chosen.seed)
    member = member or Processes(CPU)
    return Trainer(chosen, phase(chosen, **options), ToySource(), run, Dreamer4(chosen.model), member, checkpoint)


def resumed(run, chosen, phase=ToyPhase, member=None, **options):
    path = latest_good(run)
    return trainer(run, chosen, phase, member, checkpoint=path and read(path), **options)


def curve(run):
    """Records of a run without the duration of the steps."""
    return [{name: v for name, v in line.items() if name != "seconds"} for line in read_metrics(run / "metrics.jsonl")]


# The script


def in_several_processes(directory):
    """The same run in one process, in two with each engine, and with the number of processes changed halfway."""
    # Adam turns a gradient that is only rounding error, which differs by processor, into a full step: the rate is low.
    chosen = settings(steps=20, size=6, every=10, rate=1e-3)
    sharded = replace(chosen, execution=replace(chosen.execution, distributed="fsdp"))
    trainer(directory / "one", chosen).run()
    assert together(2, chosen, lambda member: _of_two(directory, chosen, sharded, member)) == [0, 0]
    trainer(directory / "fsdp-then-one", chosen, checkpoint=_half(directory / "fsdp")).run()
    assert together(3, chosen, lambda member: _of_three(directory, sharded, member)) == [0, 0, 0]
    killed_in_a_save(directory, sharded)


def together(world, chosen, work):
    """Call a function of the member in the processes of a group; their exit statuses, negative for signals."""
    port = str(random.randint(20000, 60000))

    def _join(rank):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in own.items()})
        with processes(chosen.execution) as member:
            work(member)

    children = [fork(lambda rank=rank: _join(rank)) for rank in range(world)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _of_two(directory, chosen, sharded, member):
    trainer(directory / "ddp", chosen, member=member).run()
    fsdp = trainer(directory / "fsdp", sharded, member=member)
    fsdp._save = lambda save=fsdp._save: _without_gathering(save)
    fsdp.run()
    stopped = trainer(directory / "stopped", chosen, SignalledPhase, member, rank=member.rank).run()
    assert (stopped.step, stopped.saved) == (4, True)
    trainer(directory / "one-then-fsdp", sharded, member=member, checkpoint=_half(directory / "one")).run()
    for rank in range(2):
        with pytest.raises(OSError, match="in one process"):
            in_all_processes(lambda rank=rank: _fail(member.rank == rank))
    assert in_all_processes(lambda: member.rank) == [0, 1]
    if member.first:  # only the first process makes directories
        (directory / "blocked").mkdir()
        (directory / "blocked" / "checkpoints").touch()
    assert not trainer(directory / "blocked", replace(sharded, steps=1), member=member).run().saved
    if member.rank == 1:  # a full disk in one process
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    assert not trainer(directory / "full", replace(sharded, steps=1), member=member).run().saved


def _fail(here):
    if here:
        raise OSError("in one process")


class NoGathering(TorchDispatchMode):
    """Raises where processes exchange numbers of a tensor; a flag, and descriptions as bytes, are allowed."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if "c10d" in function.namespace:
            exchanged = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
            assert exchanged
            assert all(tensor.numel() == 1 or tensor.dtype == torch.uint8 for tensor in exchanged), str(function)
        return function(*arguments, **(options or {}))


def _without_gathering(save):
    with NoGathering():
        return save()


def _of_three(directory, sharded, member):
    trainer(directory / "fsdp-then-three", sharded, member=member, checkpoint=_half(directory / "fsdp")).run()


#: Rank that is killed in its second save, and function of `checkpoint` at whose start: it then writes its shards, and
#: the first process the header, or the names of a complete checkpoint.
KILLS = {"shards": (1, "write_shards"), "header": (0, "write_header"), "complete": (0, "sync")}


def killed_in_a_save(directory, sharded):
    """Sharded runs of two processes, one of which is killed while they save; both then resume."""
    for name, (rank, function) in KILLS.items():
        run = directory / f"killed-{name}"
        statuses = together(2, sharded, lambda member: _killed(run, sharded, member, rank, function))  # noqa: B023
        assert statuses[rank] == -signal.SIGKILL
        assert statuses[1 - rank] > 0
        (run / "resumed-from").write_text(latest_good(run).name)
        assert together(2, sharded, lambda member: resumed(run, sharded, member=member).run()) == [0, 0]  # noqa: B023


def _killed(run, sharded, member, rank, function):
    original, calls = getattr(checkpoint_module, function), []

    def _call(*arguments):
        calls.append(arguments)
        if len(calls) == 2 and member.rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(checkpoint_module, function, _call)
    trainer(run, sharded, member=member).run()


def _half(run):
    return read(run / "checkpoints" / "step-00000010")


def killed(directory, steps, kills):
    """An uninterrupted run, and one that is killed at random times and resumed each time."""
    chosen, run = settings(steps=steps, every=max(3, steps // 100)), directory / "killed"
    trainer(directory / "whole", chosen).run()
    moments = random.Random(0)
    for step in sorted(moments.sample(range(1, steps), kills)):
        child = fork(lambda: resumed(run, chosen).run())
        while _steps_of(run) < step and not os.waitpid(child, os.WNOHANG)[0]:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    resumed(run, chosen).run()


def _steps_of(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def fork(work):
    """Run a function in a child process; torch is already imported, and this is the only thread."""
    if child := os.fork():
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    import command_runs

    torch.set_num_threads(1)
    directory, *numbers = sys.argv[1:]
    if directory == "pairs":
        command_runs.in_pairs(Path(numbers[0]), int(numbers[1]), fork)
        sys.exit()
    killed(Path(directory), *map(json.loads, numbers))
    command_runs.in_pairs(Path(directory), 2, fork)
    command_runs.without_terminal(Path(directory), fork)
    in_several_processes(Path(directory))
