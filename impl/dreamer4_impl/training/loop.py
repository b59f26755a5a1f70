"""The loop that trains: clips in, gradients, an optimiser's step, measurements and checkpoints out.

One and the same for all phases, devices and numbers of processes. With the same settings it comes to the same numbers: bit
by bit on one CPU, interrupted or not.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from dreamer4_impl.checkpoints.checkpoint import CannotSaveError, Checkpoint, load_weights, save, steps
from dreamer4_impl.checkpoints.settings import Execution, Settings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.transformer import Layer, Transformer
from dreamer4_impl.training.distributed import Losses, Processes, distribute
from dreamer4_impl.training.gradients import Gradients, Part, Values
from dreamer4_impl.training.interruption import interruptible
from dreamer4_impl.training.log import Log
from dreamer4_impl.training.metrics import Metrics
from dreamer4_impl.training.optimiser import RunningAverage, adamw, clip, learning_rate
from dreamer4_impl.training.phase import Phase
from dreamer4_impl.training.progress import Display
from dreamer4_impl.training.state import TrainingState


class NotFiniteError(ArithmeticError):
    """A loss or a gradient that is no number; the message is a sentence."""


class Source(Protocol):
    """Where clips come from; a `ClipSampler` is one."""

    def batch(self, step: int, indices: Sequence[int], length: int, relevant: Sequence[bool]) -> Batch:
        """Clips of some samples of a step, on the CPU; a pure function of its arguments."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        step: steps done.
        stopped: the signal that asked it to stop before its last step, or None.
        saved: whether the last state is in a checkpoint.
    """

    step: int
    stopped: str | None
    saved: bool


class Trainer:
    """A run of one phase, from the start or from a checkpoint.

    Args:
        settings: of the run.
        phase: what is trained, and by what loss.
        source: of clips.
        run: the directory of checkpoints and measurements.
        model: with the weights to start from. It is moved to the device, frozen where the phase says so, and changed.
        processes: that train together.
        checkpoint: to continue from; None is a new run.
        log: of the run; None is one in its directory.
    """

    def __init__(
        self,
        settings: Settings,
        phase: Phase,
        source: Source,
        run: Path,
        model: Dreamer4,
        processes: Processes,
        checkpoint: Checkpoint | None = None,
        log: Log | None = None,
    ) -> None:
        _check(settings, processes)
        self.log = log or Log(run, quiet=not processes.first)
        self.settings, self.phase, self.source, self.run_directory = settings, phase, source, run
        self.processes = processes
        self._prepare(model, checkpoint)
        self.engine = distribute(Losses(model, phase), processes, settings.execution)
        self.state = self._state(model)
        if checkpoint is not None:
            self.state.restore(checkpoint)
        autocast = _autocast(settings.execution, processes.device)
        self.gradients = Gradients(phase, self.engine, self.state.normalise, processes, autocast, self.state.scaler)

    def _prepare(self, model: Dreamer4, checkpoint: Checkpoint | None) -> None:
        """All that comes before sharding: weights, companions, device, what is frozen."""
        if checkpoint is not None:
            load_weights(model, checkpoint.weights)
        self.companions = self.phase.companions(model)
        for module in (model, *self.companions.values()):
            module.to(self.processes.device)
        model.requires_grad_(False)
        for _, parameter in self.phase.trained(model):
            parameter.requires_grad_(True)
        model.train()
        _configure(model, self.settings.execution)

    def _state(self, model: Dreamer4) -> TrainingState:
        settings, device = self.settings, self.processes.device
        trained = dict(self.phase.trained(model))
        average = settings.optimiser.average
        return TrainingState(
            model=model,
            optimiser=adamw(trained.values(), settings.optimiser, device),
            normalise=RunningRMS(self.phase.term_names).to(device),
            companions=self.companions,
            scaler=torch.amp.GradScaler(device.type, enabled=settings.execution.autocast == "float16"),
            average=None if average is None else RunningAverage(trained, average),
        )

    def run(self) -> Outcome:
        """Train to the last step, or until somebody asks to stop."""
        state, steps_in_all = self.state, self.settings.steps
        with ExitStack() as stack:
            asked = stack.enter_context(interruptible())
            shown = Display(self.settings.phase, self.state.step, self.settings.steps, self.log)
            self.shown = stack.enter_context(shown)
            self.metrics = stack.enter_context(self._metrics())
            stopped, saved = False, state.step >= steps_in_all
            for parts in stack.enter_context(_ahead(self._load, state.step, steps_in_all)):
                self._step(parts)
                stopped = self.processes.any(bool(asked))
                due = state.step % self.settings.records.checkpoint_every == 0
                saved = (stopped or due or state.step == steps_in_all) and self._save()
                if stopped:
                    break
        return Outcome(state.step, (asked.name or "another process") if stopped else None, saved)

    def _step(self, parts: Sequence[Part]) -> None:
        began, state, settings = time.monotonic(), self.state, self.settings
        rate = learning_rate(settings.optimiser, state.step, settings.steps)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        state.optimiser.zero_grad()
        device = self.processes.device
        values = self.gradients(state.step, [(batch.to(device, non_blocking=True), part) for batch, part in parts])
        norm = self._clip()
        measured = self._measured(values, norm)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.average:
            state.average.update()
        state.step += 1
        length = self.phase.plan(state.step - 1).length
        self._record({"length": length, "learning_rate": rate, **measured, "seconds": time.monotonic() - began})

    def _clip(self) -> torch.Tensor:
        """The gradient's norm. What no sample used has a gradient of zero, however many processes there are."""
        trained = [parameter for group in self.state.optimiser.param_groups for parameter in group["params"]]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.state.scaler.unscale_(self.state.optimiser)
        return clip(trained, self.settings.optimiser.clip_norm)

    def _measured(self, values: Values, norm: torch.Tensor) -> dict[str, Any]:
        """The step's values on the host, in one transfer; before the optimiser takes a gradient that is no number."""
        everything = [values.loss, norm, *values.terms.values(), *values.means.values()]
        numbers = torch.stack([value.detach().double() for value in everything]).tolist()
        loss, gradient_norm, *others = numbers
        terms = dict(zip(values.terms, others, strict=False))
        means = dict(zip(values.means, others[len(terms) :], strict=True))
        named = {f"the loss term {name!r}": value for name, value in terms.items()} | {"the loss": loss}
        if not self.state.scaler.is_enabled():
            named["the gradient's norm"] = gradient_norm
        self._require_finite(named)
        return {"loss": loss, "gradient_norm": gradient_norm, "means": means}

    def _require_finite(self, named: dict[str, float]) -> None:
        for what, value in named.items():
            if not abs(value) < float("inf"):
                kept = steps(self.run_directory)
                back = f"the checkpoint {kept[-1].name} is kept" if kept else "there is no checkpoint yet"
                raise NotFiniteError(
                    f"stopped in step {self.state.step + 1}: {what} is {value}; {back}. Resume from it with another "
                    "setting, such as --set optimiser.learning_rate=…, lower than before"
                )

    def _record(self, measured: dict[str, Any]) -> None:
        if self.processes.first:
            self.metrics.write({"step": self.state.step, **measured})
            self.shown.update(self.state.step, measured["loss"], measured["means"])

    def _save(self) -> bool:
        """Whether it could be written; if not, the run goes on, and the earlier checkpoints are as they were."""
        checkpoint = self.state.capture(self.settings)
        failed = False
        if self.processes.first:
            try:
                self.metrics.sync()
                save(self.run_directory, checkpoint, self.settings.records.keep)
            except CannotSaveError as error:
                failed = True
                self.log.say(f"{error}; training goes on, and the earlier checkpoints are as they were")
        return not self.processes.any(failed)

    def _load(self, step: int) -> list[Part]:
        """This process's micro-batches of a step."""
        plan, batches = self.phase.plan(step), self.settings.batches
        own = self.processes.samples(plan.samples)
        shares = [own[number :: batches.accumulation] for number in range(batches.accumulation)]
        found: list[Part] = []
        for share in shares:
            batch = self.source.batch(step, share, plan.length, [plan.relevant[index] for index in share])
            found.append((batch.pin_memory() if self.processes.device.type == "cuda" else batch, share))
        return found

    def _metrics(self) -> AbstractContextManager[Any]:
        if not self.processes.first:
            return nullcontext()
        return Metrics(self.run_directory, self.state.step, tensorboard=self.settings.records.tensorboard)


@contextmanager
def _ahead(load: Any, start: int, end: int) -> Iterator[Iterator[list[Part]]]:
    """What `load` gives for every step, the next one loaded in a thread while this one is computed."""

    def parts() -> Iterator[list[Part]]:
        following: Future[list[Part]] | None = None
        for step in range(start, end):
            current = following.result() if following else load(step)
            following = pool.submit(load, step + 1) if step + 1 < end else None
            yield current

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield parts()


def _configure(model: Dreamer4, execution: Execution) -> None:
    for module in model.modules():
        if isinstance(module, Transformer):
            module.recompute = execution.recompute
        if isinstance(module, Layer) and execution.compile is not None:
            module.compile(backend=execution.compile)


def _autocast(execution: Execution, device: torch.device) -> Any:
    if execution.autocast is None:
        return nullcontext
    dtype = torch.bfloat16 if execution.autocast == "bfloat16" else torch.float16
    return lambda: torch.autocast(device.type, dtype)


def _check(settings: Settings, processes: Processes) -> None:
    batches = settings.batches
    shares = processes.world * batches.accumulation
    if batches.size < shares:
        raise ValueError(
            f"batches.size must be at least {shares}, a sample for each of {processes.world} processes × "
            f"{batches.accumulation} micro-batches; got {batches.size}"
        )
