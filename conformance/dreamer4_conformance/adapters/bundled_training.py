"""Adapter of the training of `dreamer4_impl`: phases, loop and checkpoints on the smallest preset.

The code under test is that of `dreamer4-train`: a `Trainer` computes losses and gradients, saves and resumes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_conformance.adapters.bundled_model import BundledModel, randomised
from dreamer4_conformance.verdicts import NotProvided
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import Batches, Execution, Optimiser, Records, TrainingSettings
from dreamer4_impl.data.clips import Batch
from dreamer4_impl.generation.draws import keyed_generator
from dreamer4_impl.layers.actions import LABELLED, Categorical
from dreamer4_impl.models.configuration import ModelConfig
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.phases import PHASES
from dreamer4_impl.training.sample_groups import SampleGroup


def clips(config: ModelConfig, data: Sequence[int], relevant: Sequence[bool], length: int) -> Batch:
    """Batch of one random sequence per seed, like a `ClipSampler`'s; the first frame has no action."""
    rows = [_rows(config, number, length) for number in data]
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    names = [component.name for component in config.dynamics.actions]
    labelled = torch.ones(len(data), length, dtype=torch.bool)
    return Batch(
        video=stacked["video"],
        latents=None,
        actions={name: stacked[name][:, :-1] for name in names} | {LABELLED: labelled & (torch.arange(length) > 0)},
        taken={name: stacked[name][:, 1:] for name in names},
        taken_labelled=labelled,
        rewards=stacked["rewards"],
        continues=labelled,
        task=stacked["task"],
        relevant=torch.tensor(relevant),
    )


def _rows(config: ModelConfig, number: int, length: int) -> dict[str, Tensor]:
    generator, frame = keyed_generator(0, "clip", number), config.tokenizer
    pixels = (length, frame.height, frame.width, frame.channels)
    actions = {
        x.name: torch.randint(
            x.size if isinstance(x, Categorical) else 2, x.shape(1, length + 1)[1:], generator=generator
        )
        for x in config.dynamics.actions
    }
    return actions | {
        "video": torch.randint(256, pixels, generator=generator, dtype=torch.uint8),
        "rewards": torch.randn(length, generator=generator),
        "task": torch.randint(config.dynamics.tasks, (), generator=generator),
    }


class Clips:
    """`Source` of a run: each sample of each step is a different clip."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def batch(self, step: int, indices: Sequence[int], length: int, relevant: Sequence[bool]) -> Batch:
        """Clips of some samples of a step."""
        return clips(self.config, [1000 * step + index for index in indices], relevant, length)


class SomeTerms:
    """A phase whose loss consists of some of its terms."""

    def __init__(self, phase: Any, terms: Sequence[str]) -> None:
        self._phase, self._terms = phase, terms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._phase, name)

    def combine(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The phase's loss with all other terms set to 0."""
        loss: Tensor = self._phase.combine(
            {name: x if name in self._terms else torch.zeros_like(x) for name, x in terms.items()}
        )
        return loss


class BundledTraining(BundledModel):
    """Every phase of Algorithm 1 but the tokenizer's."""

    @cached_property
    def trained_config(self) -> ModelConfig:
        """The adapter's model with half of its layers, one of them over time: training takes half as long."""
        dynamics = self.config.dynamics
        transformer = replace(dynamics.transformer, depth=dynamics.transformer.time_every)
        return replace(self.config, dynamics=replace(dynamics, transformer=transformer))

    def settings(
        self, phase: Any, seed: int, steps: int = 8, size: int = 4, interval: int | None = None
    ) -> TrainingSettings:
        """Settings of a small run whose checkpoint needs every component, saved at the end and at each interval."""
        return TrainingSettings(
            phase,
            self.trained_config,
            steps=steps,
            seed=seed,
            batches=Batches(size=size),
            optimiser=Optimiser(learning_rate=0.001, warmup=4, average=0.8),
            execution=Execution(device=self.device),
            records=Records(checkpoint_every=interval or steps, keep=steps, tensorboard=False),
            imagine=ImagineOptions(horizon=4, context=3, steps=2),
        )

    @contextmanager
    def trainer(
        self, settings: TrainingSettings, terms: Sequence[str] | None = None, checkpoint: Path | None = None
    ) -> Iterator[Any]:
        """Trainer with random parameters or from a checkpoint, in a temporary directory."""
        modules = training()
        device = torch.device(settings.execution.device)
        phase = PHASES[settings.phase](settings, device)
        model = Dreamer4(settings.model) if checkpoint else randomised(Dreamer4(settings.model))
        with tempfile.TemporaryDirectory() as run:
            yield modules.loop.Trainer(
                settings,
                phase if terms is None else SomeTerms(phase, terms),
                Clips(settings.model),
                Path(run),
                model,
                modules.distributed.Processes(device),
                modules.checkpoint.read(checkpoint) if checkpoint else None,
                modules.log.Log(None, quiet=True),
            )

    def training_plan(self, seed: int, steps: int) -> list[dict[str, Any]]:
        """Lengths and images of the phase "dynamics", mixture of the phase "agent", with the default shares."""
        phases = [
            PHASES[name](self.settings(name, seed, steps, size=Batches().size), torch.device("cpu"))
            for name in ("dynamics", "agent")
        ]
        planned = ([phase.plan(step) for phase in phases] for step in range(steps))
        return [
            {"length": world.length, "image": torch.tensor(world.image), "relevant": torch.tensor(agent.relevant)}
            for world, agent in planned
        ]

    def image_dynamics(self, z: Tensor, tau: Tensor, d: Tensor) -> Tensor:
        """Dynamics of the part of a batch whose frames are images."""
        images = SampleGroup(tuple(range(len(z))), images=True)
        return self.world(images.take(z), images.take(tau), images.take(d), None, None)[0].reshape(z.shape)

    def training_gradients(
        self, phase: str, seed: int, terms: Sequence[str] | None = None
    ) -> dict[str, list[Tensor | None]]:
        """Gradients that the training loop accumulates in the parameters."""
        with self.trainer(self.settings(phase, seed), terms) as trainer:
            plan = trainer.phase.plan(0)
            batch = trainer.source.batch(0, range(plan.samples), plan.length, plan.relevant)
            trainer.gradients(0, [(batch.to(self.device), range(plan.samples))])
            return {name: [p.grad for p in module.parameters()] for name, module in _parts(trainer).items()}

    def agent_losses(self, seed: int, data: Sequence[int], relevant: Sequence[bool]) -> dict[str, Tensor]:
        """Loss terms before normalisation."""
        with self.trainer(self.settings("agent", seed, size=len(data))) as trainer:
            batch = clips(self.config, data, relevant, self.config.short_length)
            return dict(trainer.gradients(0, [(batch.to(self.device), range(len(data)))]).terms)

    def imagined_trajectory(self, seed: int) -> dict[str, Any]:
        """Rollouts of the phase "imagine"; the values are those that its returns and advantages contain."""
        settings, device = self.settings("imagine", seed, size=32), torch.device(self.device)
        phase: Any = PHASES["imagine"](settings, device)
        model: Any = randomised(Dreamer4(settings.model)).to(device)
        phase.companions(model)
        plan = phase.plan(0)
        batch = Clips(settings.model).batch(0, range(plan.samples), plan.length, plan.relevant).to(device)
        inputs, _ = phase.inputs(model, batch, 0, range(plan.samples))
        policy = model.agent.policy.act(inputs.imagined.h[:, :-1])
        bootstrap = (inputs.returns[:, -1:] - inputs.rewards[:, -1:]) / settings.imagine.gamma
        return {
            "value": torch.cat([inputs.returns - inputs.advantage, bootstrap], 1),
            "action": policy.factor_actions(inputs.imagined.actions),
            "logits": policy.factors(),
        }

    def resume(self, seed: int, steps: int, at: int | None) -> dict[str, Tensor]:
        """Agent finetuning in one run, or resumed from a checkpoint."""
        settings = self.settings("agent", seed, steps, interval=at)
        with self.trainer(settings) as trainer:
            trainer.run()
            if not at or at == steps:
                return _ends_with(trainer)
            path = training().checkpoint.steps(trainer.run_directory)[0]
            with self.trainer(settings, checkpoint=path) as rest:
                rest.run()
                return _ends_with(rest)

    def load_checkpoint(self, removed: str | None, added: str | None) -> dict[str, Any]:
        """Loads with the function that evaluation and play use."""
        checkpoint, settings = training().checkpoint, self.settings("agent", 0)
        weights = dict(randomised(Dreamer4(settings.model)).state_dict())
        if removed is not None:
            del weights[removed]
        if added is not None:
            weights[added] = torch.zeros(2)
        with tempfile.TemporaryDirectory() as run:
            path = checkpoint.save(Path(run), checkpoint.Checkpoint(settings, 0, weights), keep=1)
            model, report = checkpoint.load_model(path)
        parameters = dict(model.named_parameters())
        return {"missing": report.missing, "unexpected": report.unexpected, "parameters": parameters}


def training() -> Any:
    """Modules of the training loop. Raises NotProvided, with the extra to install, if a package is missing."""
    try:
        from dreamer4_impl.checkpoints import checkpoint
        from dreamer4_impl.training import distributed, log, loop
    except ModuleNotFoundError as error:
        raise NotProvided(f"training needs {error.name}: pip install 'dreamer4-conformance[train]'") from error
    return SimpleNamespace(checkpoint=checkpoint, distributed=distributed, log=log, loop=loop)


def _parts(trainer: Any) -> dict[str, nn.Module]:
    model, agent = trainer.state.model, trainer.state.model.agent
    heads = {"policy": agent.policy, "reward": agent.reward, "value": agent.value}
    return {"tokenizer": model.tokenizer, "transformer": model.dynamics, **heads, **trainer.companions}


def _ends_with(trainer: Any) -> dict[str, Tensor]:
    """Trained parameters and their running average, each as one array."""
    trained = dict(trainer.phase.trained(trainer.state.model))
    average = trainer.state.average.full()
    return {
        "parameters": torch.cat([parameter.detach().flatten() for parameter in trained.values()]),
        "average": torch.cat([average[name].flatten() for name in trained]),
    }
