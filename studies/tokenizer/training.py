"""Training of the tokenizer with `dreamer4-train`'s own loop, and its error on held-out frames while it trains."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamer4_impl.checkpoints.settings import TrainingSettings, read_document, settings_from
from dreamer4_impl.data.clips import as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.evaluation.baselines import principal_components
from dreamer4_impl.evaluation.held_out import load_clips
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.data import TrainingData, facts_of, task_names
from dreamer4_impl.training.distributed import Processes
from dreamer4_impl.training.loop import Trainer
from dreamer4_impl.training.phases import PHASES
from dreamer4_impl.training.randomness import seed_everything

LENGTH = 8
"""Frames of a held-out clip."""


@dataclass
class Budget:
    """When a run ends.

    Args:
        seconds: processor seconds of training, above 0.
        every: steps between two measurements, 1 or more.
        enough: PSNR in dB at which the run ends.
    """

    seconds: float
    every: int
    enough: float


@dataclass
class Curve:
    """Measurements of one run.

    Args:
        points: step, processor seconds of training so far, and PSNR in dB on held-out frames.
    """

    points: list[tuple[int, float, float]] = field(default_factory=list)


class _Ended(Exception):
    """The budget of the run is spent."""


class _Measured(Trainer):
    """Training loop that measures the tokenizer and stops when its budget is spent."""

    def measure(self, video: Tensor, budget: Budget) -> Curve:
        self.video, self.budget, self.curve, self.spent = video, budget, Curve(), 0.0
        with suppress(_Ended):
            self.run()
        return self.curve

    def _step(self, micro_batches: Any) -> None:
        began = time.process_time()
        super()._step(micro_batches)
        self.spent += time.process_time() - began
        if self.state.step % self.budget.every and self.state.step < self.settings.steps:
            return
        self.curve.points.append((self.state.step, round(self.spent, 1), round(psnr(self.state.model, self.video), 2)))
        print(*self.curve.points[-1], flush=True)
        if self.spent > self.budget.seconds or self.curve.points[-1][2] >= self.budget.enough:
            raise _Ended


def held_out_video(held_out: str, clips: int) -> Tensor:
    """Frames to measure on.

    Args:
        held_out: directory of recorded play, other episodes than those to train on.
        clips: number of clips, 1 or more, evenly spaced.

    Returns:
        Frames in [0, 1], (clips, 8, H, W, C).
    """
    return as_video(load_clips(Dataset.open(held_out), clips, LENGTH).video)


def train(preset: str, data: str, video: Tensor, overrides: Sequence[str], run: Path, budget: Budget) -> Curve:
    """Train a tokenizer until its budget is spent.

    Args:
        preset: preset or TOML document.
        data: directory of the recorded play to train on.
        video: frames to measure on, in [0, 1], (N, T, H, W, C), of other episodes than those of `data`.
        overrides: settings of the form "section.key=value".
        run: directory for the run, without checkpoints.
        budget: when to measure and to stop.

    Returns:
        The curve.
    """
    settings = _settings(preset, data, overrides)
    seed_everything(settings.seed)
    training, model = TrainingData(settings), Dreamer4(settings.model)
    phase = PHASES["tokenizer"](settings, torch.device("cpu"))
    phase.prepare(model, training.dataset)
    trainer = _Measured(settings, phase, training.sampler, run, model, Processes(torch.device("cpu")))
    return trainer.measure(video, budget)


@torch.no_grad()
def psnr(model: Dreamer4, video: Tensor) -> float:
    """Peak signal-to-noise ratio of reconstructions.

    Args:
        model: model with the tokenizer.
        video: frames in [0, 1], (N, T, H, W, C).

    Returns:
        −10 log₁₀ of the mean square error over all frames, in dB.
    """
    reconstructed = torch.cat([model.tokenizer.reconstruct(clips) for clips in torch.split(video, 16)])
    error = (reconstructed - video).square().mean()
    return float(-10 * error.mean().log10())


def linear_psnr(data: str, video: Tensor, values: int) -> float:
    """PSNR of PCA on the same held-out frames.

    Args:
        data: directory of the recorded play to fit to.
        video: frames to measure on, in [0, 1], (N, T, H, W, C).
        values: values per frame, those of the latents.

    Returns:
        PSNR in dB.
    """
    frames = load_clips(Dataset.open(data), 512, LENGTH).video.flatten(0, 1)
    truth = video.flatten(0, 1)
    error = (principal_components(frames, values).reconstruct(truth) - truth).square().mean()
    return float(-10 * error.log10())


def _settings(preset: str, data: str, overrides: Sequence[str]) -> TrainingSettings:
    tasks = task_names((data,))
    own = [f'data.paths=["{data}"]', "records.checkpoint_every=1000000", "records.tensorboard=false"]
    facts = facts_of((data,), tasks=tasks)
    settings = settings_from("tokenizer", read_document(preset), [*own, *overrides], facts=facts)
    return replace(settings, data=replace(settings.data, tasks=tasks))
