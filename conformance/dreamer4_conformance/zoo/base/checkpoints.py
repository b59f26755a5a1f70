"""A training run that can be resumed and a model that loads incomplete checkpoints, in plain PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dreamer4_conformance.zoo.base.loss_normalisation import Normaliser


class Run:
    """Linear regression on random data: Adam with warm-up, normalised loss, average of the parameters."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.parameter = torch.randn(4, 3, generator=self.generator, dtype=torch.float64).requires_grad_()
        self.optimiser = torch.optim.Adam([self.parameter], lr=0.0)
        self.normaliser = Normaliser()
        self.average = self.parameter.detach().clone()
        self.step = 0

    def advance(self) -> None:
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = 0.01 * min(1.0, self.step / 8)
        x = torch.randn(5, 4, generator=self.generator, dtype=torch.float64)
        error = (x @ self.parameter - x[:, :3] * self.step).square().mean()
        scale = self.normaliser("mse", error.detach()) / error.detach()
        loss = scale * error + self.parameter.square().mean()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.average = 0.8 * self.average + 0.2 * self.parameter.detach()

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return copy.deepcopy(
            {
                "parameters": self.parameter.detach(),
                "optimiser": self.optimiser.state_dict(),
                "random state": self.generator.get_state(),
                "running RMS": (self.normaliser.average, self.normaliser.weight),
                "average": self.average,
                "step": self.step,
            }
        )

    def load(self, state: dict[str, Any]) -> None:
        if "parameters" in state:
            self.parameter.data = state["parameters"]
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
        """Final parameters and their average."""
        run = Run(seed)
        for step in range(steps):
            if step == at:
                state, run = self.saved(run), Run(seed)
                run.load(state)
            run.advance()
        return {"parameters": run.parameter.detach(), "average": run.average}

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
