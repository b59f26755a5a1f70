"""A training run that can be resumed and a model that loads incomplete checkpoints, in plain PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_conformance.zoo.base.loss_normalisation import Normaliser


class Run:
    """Linear regression on random data: Adam with warm-up, normalised loss, average of the matrix and the bias."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        shapes = (4, 3), (3,)
        drawn = (torch.randn(shape, generator=self.generator, dtype=torch.float64) for shape in shapes)
        self.parameters = [x.requires_grad_() for x in drawn]
        self.optimiser = torch.optim.Adam(self.parameters, lr=0.0)
        self.normaliser = Normaliser()
        self.average = [x.detach().clone() for x in self.parameters]
        self.step = 0

    def advance(self) -> None:
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = 0.01 * min(1.0, self.step / 8)
        x = torch.randn(5, 4, generator=self.generator, dtype=torch.float64)
        matrix, bias = self.parameters
        error = (x @ matrix + bias - x[:, :3] * self.step - 1).square().mean()
        scale = self.normaliser("mse", error.detach()) / error.detach()
        loss = scale * error + matrix.square().mean()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.average = [0.8 * x + 0.2 * y.detach() for x, y in zip(self.average, self.parameters, strict=True)]

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return copy.deepcopy(
            {
                "parameters": [x.detach() for x in self.parameters],
                "optimiser": self.optimiser.state_dict(),
                "random state": self.generator.get_state(),
                "running RMS": (self.normaliser.average, self.normaliser.weight),
                "average": self.average,
                "step": self.step,
            }
        )

    def load(self, state: dict[str, Any]) -> None:
        if "parameters" in state:
            for parameter, values in zip(self.parameters, state["parameters"], strict=True):
                parameter.data = values
        if "optimiser" in state:
            self.optimiser.load_state_dict(state["optimiser"])
        if "random state" in state:
            self.generator.set_state(state["random state"])
        if "running RMS" in state:
            self.normaliser.average, self.normaliser.weight = state["running RMS"]
        self.average, self.step = state.get("average", self.average), state.get("step", self.step)


class Model(nn.Module):
    """Three parameters, one of them the step embedding that older checkpoints lack."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, shape in {"tau_embedding": (4, 2), "step_embedding": (3, 2), "out": (2, 2)}.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))


class Checkpoint:
    """Saving, resuming and loading."""

    def resume(self, seed: int, steps: int, at: int | None) -> dict[str, Tensor]:
        """Final parameters and their averages."""
        run = Run(seed)
        for step in range(steps):
            if step == at:
                state, run = self.saved(run), Run(seed)
                run.load(state)
            run.advance()
        matrix, bias = (x.detach() for x in run.parameters)
        return {"matrix": matrix, "bias": bias, "average matrix": run.average[0], "average bias": run.average[1]}

    def saved(self, run: Run) -> dict[str, Any]:
        """Contents of a checkpoint."""
        return run.state()

    def load_checkpoint(self, removed: str | None, added: str | None) -> dict[str, Any]:
        """Loads the parameters of one model into another."""
        state, model = dict(Model(0).state_dict()), Model(1)
        if removed is not None:
            del state[removed]
        if added is not None:
            state[added] = torch.zeros(2)
        return self.loaded(model, state)

    def loaded(self, model: Model, state: dict[str, Tensor]) -> dict[str, Any]:
        """Loads the parameters that exist and reports missing and unexpected names."""
        mismatch = model.load_state_dict(state, strict=False)
        return {
            "missing": list(mismatch.missing_keys),
            "unexpected": list(mismatch.unexpected_keys),
            "parameters": model.state_dict(),
        }
