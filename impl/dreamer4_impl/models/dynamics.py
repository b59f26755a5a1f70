"""Sec. 3.2 and 3.3: the dynamics, an x-prediction network over interleaved tokens, with an isolated agent token.

    frame = [S_z spatial | S_r registers | 1 label (τ, d) | S_a actions | agent]
    ẑ₁, h = f(z, τ, d, a, task)

Spatial tokens are a linear map of z; ẑ₁ is a linear map of them after the transformer. All tokens of a frame attend to
each other, except that no token attends to the agent token, which attends to all: neither the task nor the heads on h
influence ẑ₁. Over time each token attends to the tokens of the same index in the last C frames.
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
    """Input of the agent token: a learned embedding, plus that of the task if there is one.

    Args:
        tasks: number of tasks, 0 or more.
        width: W, channels of a token, 1 or more.

    Example:
        >>> AgentToken(tasks=3, width=8)(torch.tensor([0, 2]), batch=2, time=4).shape
        torch.Size([2, 4, 1, 8])
    """

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.embedding = learned(1, width)
        self.tasks = learned(tasks, width) if tasks else None

    def forward(self, task: Int[Tensor, "B ..."] | None, batch: int, time: int) -> Float[Tensor, "B T 1 W"]:
        """Make the token of every timestep.

        Args:
            task: tasks in [0, tasks), any integer dtype, (B,) or (B, T); None adds no task embedding.
            batch: B, sequences, 1 or more.
            time: T, timesteps, 1 or more.

        Returns:
            Tokens in the dtype of the parameters, (B, T, 1, W).

        Raises:
            TypeError: if task is not an integer tensor.
            ValueError: if the model has no tasks, or shape or device of task do not match.
        """
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
    """Dynamics model with random parameters; with an agent token, also the input of the agent's heads.

    z and ẑ₁ have the dtype of the parameters, τ and d any floating dtype. Deterministic; differentiable without a
    cache; compiles without graph breaks; no host synchronisation; values of tensors are not checked.

    Args:
        config: sizes, action components and transformer.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> model, task = Dynamics(tiny().dynamics), torch.tensor([0, 2])
        >>> [x.shape for x in model(torch.zeros(2, 3, 5, 6), torch.zeros(2, 3), torch.ones(2, 3), task=task)]
        [torch.Size([2, 3, 5, 6]), torch.Size([2, 3, 24])]
    """

    def __init__(self, config: DynamicsConfig) -> None:
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
        ahead: bool = False,
    ) -> tuple[Float[Tensor, "B T S_z D"], Float[Tensor, "B T W"] | None]:
        """Predict the clean frames, and read the agent token.

        Args:
            z: noisy frames in the dtype of the parameters unless autocast is on, (B, T, S_z, D).
            tau: signal levels in {0, 1/k_max, …, 1 − 1/k_max}, floating, (B, T).
            d: step sizes in {1, 1/2, …, 1/k_max}, floating, (B, T).
            actions: None for no actions, or every component by name (`ActionEncoder`), (B, T, …) each; block t holds
                the action that led to frame t (A32).
            task: task of each sequence or timestep in [0, tasks), integer, (B,) or (B, T); None adds no task embedding.
            labelled: mask of timesteps with actions, bool, (B,) or (B, T); None is all of them, or the entry `labelled`
                of actions.
            cache: past of the frames of this call, from `empty_cache`; None is no past.
            commit: add the frames to the cache; False for the denoising passes of a frame.
            ahead: with a cache and commit, add all frames but the last, which is denoised after them.

        Returns:
            ẑ₁ in the dtype of the parameters, (B, T, S_z, D), and the outputs h of the agent token, (B, T, W), or None
            without one.

        Raises:
            NotImplementedError: if the attention backend does not cover device, dtype or gradient.
            TypeError: if a tensor has a wrong dtype, or an action component a wrong type.
            ValueError: if shapes, devices or names do not match, or task is used without an agent token or tasks.
        """
        self._require_inputs(z, tau, d)
        if labelled is not None:
            actions = {**(actions or {}), LABELLED: labelled}
        tokens = self._tokens(z, tau, d, actions, task)
        tokens = self.norm(self.transformer(tokens, private=self.private, cache=cache, commit=commit, ahead=ahead))
        z1_hat = self.read_spatial(tokens[:, :, : self.config.spatial_tokens])
        return z1_hat, tokens[:, :, -1] if self.config.agent else None

    def network(self, z: Tensor, tau: Tensor, d: Tensor, actions: ActionValues) -> Float[Tensor, "B T S_z D"]:
        """Predict only the clean frames, as the loss of Eq. (7) and the sampler of Eq. (2) need.

        Args:
            z: noisy frames in the dtype of the parameters unless autocast is on, (B, T, S_z, D).
            tau: signal levels in {0, 1/k_max, …, 1 − 1/k_max}, floating, (B, T).
            d: step sizes in {1, 1/2, …, 1/k_max}, floating, (B, T).
            actions: None, or every component by name, (B, T, …) each.

        Returns:
            ẑ₁ in the dtype of the parameters, (B, T, S_z, D).

        Example:
            >>> from dreamer4_impl.models.presets import tiny
            >>> z, tau, d = torch.zeros(1, 2, 5, 6), torch.zeros(1, 2), torch.ones(1, 2)
            >>> Dynamics(tiny().dynamics).network(z, tau, d, None).shape
            torch.Size([1, 2, 5, 6])
        """
        return self(z, tau, d, actions)[0]

    def empty_cache(self, batch: int) -> Cache:
        """Allocate a cache before the first frame.

        Args:
            batch: B, sequences, 1 or more.

        Returns:
            Empty cache on the device of the parameters, in their dtype, or under autocast in that of autocast.

        Example:
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

    def _require_inputs(self, z: Tensor, tau: Tensor, d: Tensor) -> None:
        require_floating(z=z, tau=tau, d=d)
        require_rank("z", z, 4, "(B, T, S_z, D)")
        shape = (*z.shape[:2], self.config.spatial_tokens, self.config.spatial_channels)
        require_shape("z", z, shape, "(B, T, S_z, D)", like=self.registers)
        require_shape("tau", tau, z.shape[:2], "(B, T)", like=z)
        require_shape("d", d, z.shape[:2], "(B, T)", like=z)
        require_dtype("z", z, self.registers)
