"""Sec. 3.2 and 3.3: the dynamics, an x-prediction network over interleaved tokens, with an agent token behind a firewall.

    frame = [S_z spatial | S_r registers | 1 label (τ, d) | S_a actions | agent]
    ẑ₁, h = f(z, τ, d, a, task)

Spatial tokens are a linear map of z; ẑ₁ is one of them after the transformer. All tokens of a frame see each other,
apart from the agent token, which sees everything and is seen by nothing: neither the task nor anything read from h
can influence ẑ₁. Over time each token sees its own place in the last C frames.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dreamer4_impl.arguments import (
    require_device,
    require_dtype,
    require_floating,
    require_integer,
    require_rank,
    require_shape,
)
from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.layers.actions import LABELLED, ActionEncoder, ActionValues
from dreamer4_impl.layers.initialisation import learned
from dreamer4_impl.layers.label_token import LabelToken
from dreamer4_impl.layers.masks import private_tokens
from dreamer4_impl.layers.rms_norm import RMSNorm
from dreamer4_impl.models.configuration import DynamicsConfig
from dreamer4_impl.models.transformer import Transformer


class AgentToken(nn.Module):
    """The input of the agent token: a learned embedding, plus that of the task where there is one.

    >>> AgentToken(tasks=3, width=8)(torch.tensor([0, 2]), batch=2, time=4).shape
    torch.Size([2, 4, 1, 8])
    """

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.embedding = learned(1, width)
        self.tasks = learned(tasks, width) if tasks else None

    def forward(self, task: Int[Tensor, "B ..."] | None, batch: int, time: int) -> Float[Tensor, "B T 1 W"]:
        """The token of every timestep; task (B,) or (B, T)."""
        token = self.embedding.expand(batch, time, 1, -1)
        if task is None:
            return token
        if self.tasks is None:
            raise ValueError("task must be None for a model without tasks; got a tensor")
        require_integer(task=task)
        require_device("task", task, like=self.embedding)
        if tuple(task.shape) not in ((batch,), (batch, time)):
            raise ValueError(f"task must have shape (B,) or (B, T) = {(batch, time)}; got {tuple(task.shape)}")
        return token + nn.functional.embedding(task.reshape(batch, -1, 1).long(), self.tasks)


class Dynamics(nn.Module):
    """The dynamics model, and with an agent token the world model that the agent's heads read.

    Args:
        config: what it consists of.

    z and ẑ₁ in the dtype of the parameters; τ and d in any floating dtype. Deterministic; differentiable without a
    cache; compiles without graph breaks; no host synchronisation; values of tensors are not checked.

    >>> from dreamer4_impl.models.presets import tiny
    >>> model, task = Dynamics(tiny().dynamics), torch.tensor([0, 2])
    >>> [x.shape for x in model(torch.zeros(2, 3, 5, 6), torch.zeros(2, 3), torch.ones(2, 3), task=task)]
    [torch.Size([2, 3, 5, 6]), torch.Size([2, 3, 24])]
    """

    def __init__(self, config: DynamicsConfig) -> None:
        """Start with random parameters."""
        super().__init__()
        self.config, width = config, config.transformer.width
        self.embed_spatial = nn.Linear(config.spatial_channels, width)
        self.registers = learned(config.registers, width)
        self.label = LabelToken(width, config.k_max)
        self.actions = ActionEncoder(config.actions, config.action_tokens, width)
        self.agent = AgentToken(config.tasks, width) if config.agent else None
        self.transformer = Transformer(config.transformer)
        self.norm = RMSNorm(width, config.transformer.norm_eps)
        self.read_spatial = nn.Linear(width, config.spatial_channels)
        self.private = private_tokens("dynamics", ["world"] * (config.tokens - config.agent) + ["agent"] * config.agent)

    def forward(
        self,
        z: Float[Tensor, "B T S_z D"],
        tau: Float[Tensor, "B T"],
        d: Float[Tensor, "B T"],
        actions: ActionValues = None,
        task: Int[Tensor, "B ..."] | None = None,
        labelled: Bool[Tensor, "B ..."] | None = None,
        *,
        cache: Cache | None = None,
        commit: bool = True,
    ) -> tuple[Float[Tensor, "B T S_z D"], Float[Tensor, "B T W"] | None]:
        """Predict the clean frames, and read the agent token.

        Args:
            z: noisy frames.
            tau, d: their labels.
            actions: None where there are none, or every component by name (`ActionEncoder`); block t holds the action
                that led to frame t (A32).
            task: which task the agent is told, in 0, …, tasks − 1; for a sequence or for each timestep.
            labelled: where there are actions; None is everywhere, unless it stands beside the components.
            cache: the frames of this call continue those that it holds (`empty_cache`).
            commit: whether they are added to it; not for the denoising passes of a frame.

        Returns ẑ₁, and the output of the agent token or None without one.
        """
        self._check(z, tau, d)
        if labelled is not None:
            actions = {**(actions or {}), LABELLED: labelled}
        tokens = self._tokens(z, tau, d, actions, task)
        tokens = self.norm(self.transformer(tokens, private=self.private, cache=cache, commit=commit))
        z1_hat = self.read_spatial(tokens[:, :, : self.config.spatial_tokens])
        return z1_hat, tokens[:, :, -1] if self.config.agent else None

    def network(self, z: Tensor, tau: Tensor, d: Tensor, actions: ActionValues) -> Float[Tensor, "B T S_z D"]:
        """ẑ₁ alone: what the loss of Eq. (7) and the sampler of Eq. (2) call.

        >>> from dreamer4_impl.models.presets import tiny
        >>> Dynamics(tiny().dynamics).network(torch.zeros(1, 2, 5, 6), torch.zeros(1, 2), torch.ones(1, 2), None).shape
        torch.Size([1, 2, 5, 6])
        """
        return self(z, tau, d, actions)[0]

    def empty_cache(self, batch: int) -> Cache:
        """An empty cache for B sequences, of the dtype and on the device of the parameters.

        >>> from dreamer4_impl.models.presets import tiny
        >>> int(Dynamics(tiny().dynamics).empty_cache(batch=2).frames)
        0
        """
        return self.transformer.empty_cache(batch, self.config.tokens)

    def _tokens(
        self, z: Tensor, tau: Tensor, d: Tensor, actions: ActionValues, task: Tensor | None
    ) -> Float[Tensor, "B T S W"]:
        batch, time = z.shape[:2]
        tokens = [
            self.embed_spatial(z),
            self.registers.expand(batch, time, -1, -1),
            self.label(tau, d)[:, :, None],
            self.actions(actions, batch, time),
        ]
        if self.agent is not None:
            tokens.append(self.agent(task, batch, time))
        elif task is not None:
            raise ValueError("task must be None for a model without an agent token; got a tensor")
        return torch.cat(tokens, dim=2)

    def _check(self, z: Tensor, tau: Tensor, d: Tensor) -> None:
        require_floating(z=z, tau=tau, d=d)
        require_rank("z", z, 4, "(B, T, S_z, D)")
        shape = (*z.shape[:2], self.config.spatial_tokens, self.config.spatial_channels)
        require_shape("z", z, shape, "(B, T, S_z, D)", like=self.registers)
        require_shape("tau", tau, z.shape[:2], "(B, T)", like=z)
        require_shape("d", d, z.shape[:2], "(B, T)", like=z)
        require_dtype("z", z, self.registers)
