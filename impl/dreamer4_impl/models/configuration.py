"""What a model consists of: frozen configurations that refuse what does not fit together.

dataclasses.replace(config, …) makes a variant, and checks it.
"""

from dataclasses import dataclass, field

from dreamer4_impl.arguments import require_power_of_two
from dreamer4_impl.constants import K_MAX, LONG_LENGTH, MTP_LENGTH, SHORT_LENGTH
from dreamer4_impl.equations.twohot import TwoHot
from dreamer4_impl.layers.actions import Component, Continuous
from dreamer4_impl.layers.patches import patch_grid
from dreamer4_impl.models.transformer import TransformerConfig


@dataclass(frozen=True)
class TokenizerConfig:
    """Sec. 3.1: frames and the latents that they are compressed to.

    Args:
        encoder, decoder: their transformers.
        height, width: of a frame, in pixels.
        patch: side of a square patch, in pixels.
        channels: of a pixel.
        latents: latent tokens of a frame at the bottleneck; the paper's 512.
        latent_channels: of one of them; the paper's 16.
        spatial_tokens: S_z, what the dynamics takes them as; the paper's 256, of 32 channels then.
        standardise: the transformers see and make deviations from the data's mean frame, in units of their standard
            deviation (`Tokenizer.standardise`), where the paper's see pixels. A game whose frames are nearly all alike is
            learned so: otherwise the mean frame is a plateau.
    """

    encoder: TransformerConfig
    decoder: TransformerConfig
    height: int
    width: int
    patch: int = 16
    channels: int = 3
    latents: int = 512
    latent_channels: int = 16
    spatial_tokens: int = 256
    standardise: bool = False

    def __post_init__(self) -> None:
        """Refuse latents that cannot be regrouped, and what is empty."""
        _require_at_least(
            1,
            height=self.height,
            width=self.width,
            patch=self.patch,
            channels=self.channels,
            latents=self.latents,
            latent_channels=self.latent_channels,
            spatial_tokens=self.spatial_tokens,
        )
        if self.latents % self.spatial_tokens:
            raise ValueError(
                f"latents must be a multiple of spatial_tokens, so that whole latents make up a spatial token; "
                f"got {self.latents} and {self.spatial_tokens}"
            )

    @property
    def patches(self) -> int:
        """N, patches of a frame after padding."""
        rows, columns = patch_grid(self.height, self.width, self.patch)
        return rows * columns

    @property
    def patch_width(self) -> int:
        """P, values of a patch."""
        return self.patch * self.patch * self.channels

    @property
    def spatial_channels(self) -> int:
        """D, channels of a spatial token."""
        return self.latents // self.spatial_tokens * self.latent_channels


@dataclass(frozen=True)
class DynamicsConfig:
    """Sec. 3.2: the tokens of a frame, [S_z spatial | S_r register | 1 label | S_a action | agent], and their transformer.

    Args:
        transformer: its `context` is C.
        actions: the components of an action; may be empty.
        spatial_tokens, spatial_channels: S_z and D of the representation z, those of the tokenizer.
        registers: S_r. The paper gives no number.
        action_tokens: S_a. The paper gives no number.
        agent: whether there is an agent token, as from agent finetuning on.
        tasks: how many tasks the agent token may be told, 0 for none.
        k_max: K_max.
    """

    transformer: TransformerConfig
    actions: tuple[Component, ...] = ()
    spatial_tokens: int = 256
    spatial_channels: int = 32
    registers: int = 4
    action_tokens: int = 1
    agent: bool = False
    tasks: int = 0
    k_max: int = K_MAX

    def __post_init__(self) -> None:
        """Refuse tokens without a place, and tasks that nobody is told."""
        require_power_of_two("k_max", self.k_max)
        _require_at_least(
            1,
            spatial_tokens=self.spatial_tokens,
            spatial_channels=self.spatial_channels,
            action_tokens=self.action_tokens,
        )
        _require_at_least(0, registers=self.registers, tasks=self.tasks)
        names = [component.name for component in self.actions]
        if len(set(names)) != len(names):
            raise ValueError(f"actions must have distinct names; got {names}")
        if self.tasks and not self.agent:
            raise ValueError(f"tasks are told to the agent token alone: agent must be True; got tasks={self.tasks}")
        if self.transformer.width % 2:
            raise ValueError(
                f"transformer.width must be even, one half for τ and one for d; got {self.transformer.width}"
            )

    @property
    def tokens(self) -> int:
        """S, tokens of a frame."""
        return self.spatial_tokens + self.registers + 1 + self.action_tokens + self.agent


@dataclass(frozen=True)
class AgentConfig:
    """Sec. 3.3: policy, reward and value heads on the agent token.

    Args:
        hidden: width of each head's hidden layer.
        length: L, the longest distance that policy and reward head predict.
        twohot: the bins of reward and value.
    """

    hidden: int
    length: int = MTP_LENGTH
    twohot: TwoHot = field(default_factory=TwoHot)

    def __post_init__(self) -> None:
        """Refuse heads without a hidden layer or a distance."""
        _require_at_least(1, hidden=self.hidden)
        _require_at_least(0, length=self.length)


@dataclass(frozen=True)
class ModelConfig:
    """The whole model, and the lengths of the batches that it is trained on.

    Args:
        tokenizer, dynamics: what they say of the representation must agree.
        agent: its heads; None before agent finetuning.
        short_length, long_length: T1 and T2, frames. Time attention must see a full window in the long batches, or the
            model meets longer histories when it is used than it was trained on (T2 > C).
    """

    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    agent: AgentConfig | None = None
    short_length: int = SHORT_LENGTH
    long_length: int = LONG_LENGTH

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together."""
        self._check_representation()
        self._check_lengths()
        if self.agent is not None:
            self._check_agent(self.agent)

    def _check_representation(self) -> None:
        made = (self.tokenizer.spatial_tokens, self.tokenizer.spatial_channels)
        taken = (self.dynamics.spatial_tokens, self.dynamics.spatial_channels)
        if made != taken:
            raise ValueError(
                f"dynamics must take the representation that the tokenizer makes, {made[0]} tokens of {made[1]} channels "
                f"({self.tokenizer.latents} latents of {self.tokenizer.latent_channels}); got {taken[0]} of {taken[1]}"
            )

    def _check_lengths(self) -> None:
        context = self.dynamics.transformer.context
        if not 1 <= self.short_length <= self.long_length:
            raise ValueError(f"short_length must lie in [1, long_length = {self.long_length}]; got {self.short_length}")
        if self.long_length <= context:
            raise ValueError(
                f"long_length must exceed the context length of the dynamics, {context}; got {self.long_length}"
            )

    def _check_agent(self, agent: AgentConfig) -> None:
        continuous = [part.name for part in self.dynamics.actions if isinstance(part, Continuous)]
        if not self.dynamics.agent:
            raise ValueError("agent heads need an agent token: dynamics.agent must be True; got False")
        if continuous or not self.dynamics.actions:
            raise ValueError(
                f"a policy head needs categorical and binary actions, at least one; got {self.dynamics.actions}"
            )
        if agent.length >= self.short_length:
            raise ValueError(
                f"agent.length must be below short_length = {self.short_length}, or no batch holds its targets; "
                f"got {agent.length}"
            )


def _require_at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < least:
            raise ValueError(f"{name} must be an integer, {least} or more; got {number!r}")
