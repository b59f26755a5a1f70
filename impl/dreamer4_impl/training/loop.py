"""Training loop: clips, gradients, optimiser step, measurements and checkpoints.

It is the same for all phases, devices and numbers of processes. The same settings give the same numbers: bit for bit on
one CPU, interrupted or not.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from dreamer4_impl.checkpoints.checkpoint import Checkpoint, load_weights, save, save_sharded, steps
from dreamer4_impl.checkpoints.settings import Execution, TrainingSettings
from dreamer4_impl.compilation import compile_module
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.transformer import Layer, Transformer
from dreamer4_impl.training.distributed import Processes, TrainedModel, distribute
from dreamer4_impl.training.gradients import Gradients, MicroBatch
from dreamer4_impl.training.interruption import interruptible
from dreamer4_impl.training.log import Log
from dreamer4_impl.training.measurement import Measurement
from dreamer4_impl.training.metrics import Metrics
from dreamer4_impl.training.optimiser import RunningAverage, clip, create, learning_rate
from dreamer4_impl.training.phase import AnyPhase
from dreamer4_impl.training.pictures import Video
from dreamer4_impl.training.progress import Display
from dreamer4_impl.training.randomness import preserved_random_state
from dreamer4_impl.training.state import TrainingState


class NotFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite; the message names it and what to do."""


class ClipSource(Protocol):
    """Source of clips, such as a `ClipSampler`."""

    def batch(self, step: int, indices: Sequence[int], length: int, relevant: Sequence[bool]) -> Batch:
        """Load some samples of a step; a pure function of the arguments.

        Args:
            step: from 0.
            indices: indices of the samples in the global batch.
            length: T, frames of a clip, 1 or more.
            relevant: for each of these samples, True if it is drawn from the relevant episodes.

        Returns:
            Clips on the CPU in the order of `indices`.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """State of a run at its end.

    Args:
        step: number of completed steps, 0 or more.
        stopped: name of the signal that stopped the run before its last step; None if it completed.
        saved: True if the last state is in a checkpoint.
    """

    step: int
    stopped: str | None
    saved: bool


class Trainer:
    """Run of one phase, from the start or from a checkpoint.

    Args:
        settings: settings of the run.
        phase: phase to train.
        source: source of clips.
        run: directory of checkpoints and measurements.
        model: model with the weights to start from. It is moved to the device, partly frozen, and trained in place.
        processes: processes that train together.
        checkpoint: checkpoint to continue from; None starts a new run.
        log: log of the run; None creates one in its directory.
        media: makes videos of the model, by name, every records.media_every steps; None makes none.

    Raises:
        ValueError: if the batch has fewer samples than there are micro-batches in all processes.
        CheckpointError: if the checkpoint does not fit the model.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        phase: AnyPhase,
        source: ClipSource,
        run: Path,
        model: Dreamer4,
        processes: Processes,
        checkpoint: Checkpoint | None = None,
        log: Log | None = None,
        media: Callable[[Dreamer4], Mapping[str, Video]] | None = None,
    ) -> None:
        _require_samples(settings, processes)
        self.log = log or Log(run, quiet=not processes.first)
        self.settings, self.phase, self.source, self.run_directory = settings, phase, source, run
        self.processes, self.media = processes, media
        self._prepare(model, checkpoint)
        self.engine = distribute(TrainedModel(model), processes, settings.execution)
        self.state = self._state(model)
        if checkpoint is not None:
            self.state.restore(checkpoint)
        autocast = _autocast(settings.execution, processes.device)
        self.gradients = Gradients(phase, self.engine, self.state.normalise, processes, autocast, self.state.scaler)
        # Steps by which recording lags: a GPU gets its next step before the host waits for the values of the last one.
        self.delay = int(processes.device.type != "cpu")
        self.pending: deque[Measurement] = deque()
        self.last_record = 0.0

    def _prepare(self, model: Dreamer4, checkpoint: Checkpoint | None) -> None:
        """Everything before sharding: weights, companions, device, frozen parameters."""
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
            optimiser=create(model, settings.optimiser, device),
            normalise=RunningRMS(self.phase.term_names).to(device),
            companions=self.companions,
            scaler=torch.amp.GradScaler(device.type, enabled=settings.execution.autocast == "float16"),
            average=None if average is None else RunningAverage(trained, average),
        )

    def run(self) -> Outcome:
        """Train to the last step, or until SIGINT, SIGTERM or SIGHUP.

        Returns:
            State of the run at its end.

        Raises:
            NotFiniteError: if a loss or a gradient is NaN or infinite. On a CPU the weights of the failing step are not
                updated; on a GPU they may be, and those of the next step, and no checkpoint has them.
        """
        state, last = self.state, self.settings.steps
        with ExitStack() as stack:
            interruption = stack.enter_context(interruptible())
            self.display = stack.enter_context(Display(self.settings.phase, state.step, last, self.log))
            self.metrics = stack.enter_context(self._metrics())
            stopped, saved = False, state.step >= last
            for micro_batches in stack.enter_context(_prefetched(self._load, state.step, last)):
                self._step(micro_batches)
                self._show()
                stopped = self.processes.any(bool(interruption))
                scheduled = state.step % self.settings.records.checkpoint_every == 0
                saved = (stopped or scheduled or state.step == last) and self._save()
                if stopped:
                    break
        return Outcome(state.step, (interruption.name or "another process") if stopped else None, saved)

    def _step(self, micro_batches: Sequence[MicroBatch]) -> None:
        began, state, settings = time.monotonic(), self.state, self.settings
        rate = learning_rate(settings.optimiser, state.step, settings.steps)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        state.optimiser.zero_grad()
        device = self.processes.device
        on_device = [(batch.to(device, non_blocking=True), indices) for batch, indices in micro_batches]
        values = self.gradients(state.step, on_device)
        norm = self._clip()
        length = self.phase.plan(state.step).length
        measurement = Measurement(state.step + 1, began, {"length": length, "learning_rate": rate}, values, norm)
        if not self.delay:
            self._require_finite(measurement)  # before the optimiser uses the gradient
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.average:
            state.average.update()
        state.step += 1
        self.pending.append(measurement)
        self._record(self.delay)

    def _clip(self) -> torch.Tensor:
        """Norm of the gradient; parameters that no sample used get a gradient of zero for any number of processes."""
        trained = [parameter for group in self.state.optimiser.param_groups for parameter in group["params"]]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.state.scaler.unscale_(self.state.optimiser)
        return clip(trained, self.settings.optimiser.clip_norm)

    def _record(self, delay: int = 0) -> None:
        """Check and record the steps up to now, without the last `delay` ones, for which the host would wait."""
        while len(self.pending) > delay:
            measurement = self.pending.popleft()
            self._require_finite(measurement)
            now = time.monotonic()
            seconds, self.last_record = now - max(measurement.began, self.last_record), now
            if self.processes.first:
                values = {"loss": measurement.loss, "gradient_norm": measurement.norm, "means": measurement.means}
                self.metrics.write({"step": measurement.step, **measurement.settings, **values, "seconds": seconds})
                self.display.update(measurement.step, measurement.loss, measurement.means)

    def _require_finite(self, measurement: Measurement) -> None:
        named = {f"the loss term {name!r}": value for name, value in measurement.terms.items()}
        named["the loss"] = measurement.loss
        if not self.state.scaler.is_enabled():
            named["the gradient's norm"] = measurement.norm
        for name, value in named.items():
            if not abs(value) < float("inf"):
                existing = steps(self.run_directory)
                last = f"the last checkpoint is {existing[-1].name}" if existing else "there is no checkpoint yet"
                raise NotFiniteError(
                    f"stopped in step {measurement.step}: {name} is {value}; {last}. Resume with another setting, "
                    "such as a lower --set optimiser.learning_rate=…"
                )

    def _show(self) -> None:
        """Show videos if it is time; a failure, such as too little memory, ends the videos and not the run."""
        every = self.settings.records.media_every
        if self.media is None or not every or self.state.step % every:
            return
        self._record()
        try:
            with preserved_random_state(), self.gradients.autocast():
                videos = self.media(self.state.model)
            self.metrics.show(self.state.step, videos)
        except Exception as error:
            self.media = None
            self.log.write(f"no more videos are made: {type(error).__name__}: {error}")

    def _save(self) -> bool:
        """Save a checkpoint; False if it could not be written, which does not end the run."""
        self._record()  # before the state is saved: its weights must be finite, and the last step is saved
        checkpoint, keep = self.state.capture(self.settings), self.settings.records.keep
        if not self._succeeds(self.metrics.sync if self.processes.first else None):
            return False
        if checkpoint.sharded:
            return self._succeeds(lambda: save_sharded(self.run_directory, checkpoint, keep))
        return self._succeeds((lambda: save(self.run_directory, checkpoint, keep)) if self.processes.first else None)

    def _succeeds(self, write: Callable[[], Any] | None) -> bool:
        """True if nothing failed to be written in any process; None writes nothing in this one."""
        failed = False
        try:
            if write is not None:
                write()
        except OSError as error:  # of the metrics, or a CannotSaveError
            failed = True
            self.log.write(f"{error}; training continues, and earlier checkpoints are unchanged")
        return not self.processes.any(failed)

    def _load(self, step: int) -> list[MicroBatch]:
        """Micro-batches of this process in a step, on the CPU."""
        plan, batches = self.phase.plan(step), self.settings.batches
        own = self.processes.samples(plan.samples)
        shares = [own[number :: batches.accumulation] for number in range(batches.accumulation)]
        micro_batches: list[MicroBatch] = []
        for share in shares:
            batch = self.source.batch(step, share, plan.length, [plan.relevant[index] for index in share])
            micro_batches.append((batch.pin_memory() if self.processes.device.type == "cuda" else batch, share))
        return micro_batches

    def _metrics(self) -> AbstractContextManager[Any]:
        if not self.processes.first:
            return nullcontext()
        records = self.settings.records
        return Metrics(
            self.run_directory,
            self.state.step,
            tensorboard=records.tensorboard,
            tracker=records.tracker,
            project=records.project,
            report=self.log.write,
        )


@contextmanager
def _prefetched(load: Callable[[int], list[MicroBatch]], start: int, end: int) -> Iterator[Iterator[list[MicroBatch]]]:
    """Results of `load` for every step; the next one is loaded in a thread while the current one is used."""

    def _results() -> Iterator[list[MicroBatch]]:
        future: Future[list[MicroBatch]] | None = None
        for step in range(start, end):
            current = future.result() if future else load(step)
            future = pool.submit(load, step + 1) if step + 1 < end else None
            yield current

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield _results()


def _configure(model: Dreamer4, execution: Execution) -> None:
    for module in model.modules():
        if isinstance(module, Transformer):
            module.recompute = execution.recompute
        if isinstance(module, Layer) and execution.compile is not None:
            compile_module(module, backend=execution.compile)


def _autocast(execution: Execution, device: torch.device) -> Any:
    if execution.autocast is None:
        return nullcontext
    dtype = torch.bfloat16 if execution.autocast == "bfloat16" else torch.float16
    return lambda: torch.autocast(device.type, dtype)


def _require_samples(settings: TrainingSettings, processes: Processes) -> None:
    batches = settings.batches
    shares = processes.world * batches.accumulation
    if batches.size < shares:
        raise ValueError(
            f"batches.size must be at least {shares}, one sample for each of {processes.world} processes × "
            f"{batches.accumulation} micro-batches; got {batches.size}"
        )
