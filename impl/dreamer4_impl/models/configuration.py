"""Configurations of a model: frozen dataclasses that raise ValueError if their values do not fit together.

`dataclasses.replace(config, …)` makes a variant and checks it.
"""

import math
from dataclasses import dataclass, field

from dreamer4_impl.arguments import require_power_of_two, require_size
from dreamer4_impl.constants import K_MAX, LONG_LENGTH, MTP_LENGTH, SHORT_LENGTH
from dreamer4_impl.equations.twohot import TwoHot
from dreamer4_impl.layers.actions import Component, Continuous
from dreamer4_impl.layers.patches import patch_grid
from dreamer4_impl.models.transformer import TransformerConfig


@dataclass(frozen=True)
class TokenizerConfig:
    """Sec. 3.1: sizes of frames, patches and latents, and the two transformers.

    Args:
        encoder: transformer of the encoder.
        decoder: transformer of the decoder.
        height: pixels of a frame vertically, 1 or more.
        width: pixels of a frame horizontally, 1 or more.
        patch: side of a square patch in pixels, 1 or more.
        channels: channels of a pixel, 1 or more.
        latents: N_l, latent tokens of a frame at the bottleneck, a multiple of spatial_tokens; 512 in the paper.
        latent_channels: C, channels of a latent token, 1 or more; 16 in the paper.
        spatial_tokens: S, spatial tokens of a frame in the dynamics, a divisor of latents; 256 of 32 channels in the
            paper.
        standardise: the transformers read and predict deviations from the data's mean frame, in units of their standard
            deviation (`Tokenizer.standardise`), instead of pixels as in the paper. Needed for games whose frames are
            nearly equal: otherwise training stays at the mean frame.
        standardise_latents: z is given as deviations from its mean over the data, in units of their standard deviation
            (`Tokenizer.standardise_latents`), instead of in [−1, 1] as in the paper. Eq. (1) mixes z with noise of
            variance 1: a z that varies less is invisible at most signal levels.
        query_spread: initial standard deviation of the decoder's patch queries about one random vector, above 0, so
            that at first only RoPE distinguishes them; None is independent queries.
        latent_spread: the same of the encoder's latent tokens; None is independent tokens.

    Raises:
        ValueError: if a size is below 1, latents is no multiple of spatial_tokens, or a spread is out of range.
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
    standardise_latents: bool = False
    query_spread: float | None = None
    latent_spread: float | None = None

    def __post_init__(self) -> None:
        require_size(
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
                f"latents must be a multiple of spatial_tokens, so that a spatial token consists of whole latents; "
                f"got {self.latents} and {self.spatial_tokens}"
            )
        for name in ("query_spread", "latent_spread"):
            spread = getattr(self, name)
            if spread is not None and not 0 < spread < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, or None; got {spread!r}")

    @property
    def patches(self) -> int:
        """Number of patches N of a padded frame.

        Returns:
            Rows times columns of the grid.

        Raises:
            ValueError: if a size is below 1, which the configuration excludes.
        """
        rows, columns = patch_grid(self.height, self.width, self.patch)
        return rows * columns

    @property
    def patch_width(self) -> int:
        """Number of values P of a patch.

        Returns:
            Pixels times channels.
        """
        return self.patch * self.patch * self.channels

    @property
    def spatial_channels(self) -> int:
        """Number of channels D of a spatial token.

        Returns:
            Latents of a spatial token times their channels.
        """
        return self.latents // self.spatial_tokens * self.latent_channels


@dataclass(frozen=True)
class DynamicsConfig:
    """Sec. 3.2: tokens of a frame, [S_z spatial | S_r register | 1 label | S_a action | agent], and the transformer.

    Args:
        transformer: sizes of the transformer, of even width; its `context` is C.
        actions: components of an action, with distinct names; may be empty.
        spatial_tokens: S_z of the representation z, 1 or more, that of the tokenizer.
        spatial_channels: D of the representation z, 1 or more, that of the tokenizer.
        registers: S_r, 0 or more. The paper gives no number.
        action_tokens: S_a, 1 or more. The paper gives no number.
        agent: add the agent token, which agent finetuning needs.
        tasks: number of task embeddings of the agent token, 0 or more; 0 without an agent token.
        k_max: K_max, a power of two.

    Raises:
        ValueError: if a size is out of range, names repeat, or there are tasks without an agent token.
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
        """Check the sizes, the names of the actions and the tasks."""
        require_power_of_two("k_max", self.k_max)
        require_size(k_max=self.k_max)
        require_size(
            spatial_tokens=self.spatial_tokens,
            spatial_channels=self.spatial_channels,
            action_tokens=self.action_tokens,
        )
        require_size(0, registers=self.registers, tasks=self.tasks)
        names = [component.name for component in self.actions]
        if len(set(names)) != len(names):
            raise ValueError(f"actions must have distinct names; got {names}")
        if self.tasks and not self.agent:
            raise ValueError(f"only the agent token has tasks: agent must be True; got tasks={self.tasks}")
        if self.transformer.width % 2:
            raise ValueError(
                f"transformer.width must be even, one half for τ and one for d; got {self.transformer.width}"
            )

    @property
    def tokens(self) -> int:
        """Number of tokens S of a frame.

        Returns:
            Spatial, register, label, action and agent tokens in all.
        """
        return self.spatial_tokens + self.registers + 1 + self.action_tokens + self.agent


@dataclass(frozen=True)
class AgentConfig:
    """Sec. 3.3: policy, reward and value heads on the agent token.

    Args:
        hidden: width of each head's hidden layer, 1 or more.
        length: L, longest distance that policy and reward head predict, 0 or more.
        twohot: bins of reward and value.
        continues: add a head that predicts whether the episode continues, for data whose episodes terminate. The paper
            has none: its imagination never ends.

    Raises:
        ValueError: if hidden or length is out of range.
    """

    hidden: int
    length: int = MTP_LENGTH
    twohot: TwoHot = field(default_factory=TwoHot)
    continues: bool = False

    def __post_init__(self) -> None:
        require_size(hidden=self.hidden)
        require_size(0, length=self.length)


@dataclass(frozen=True)
class ModelConfig:
    """The whole model, and the lengths of its training batches.

    Args:
        tokenizer: sizes of frames, patches and latents.
        dynamics: dynamics, for the spatial tokens and channels of the tokenizer.
        agent: heads of the agent; None before agent finetuning.
        short_length: T1, frames of a short batch, in [1, T2], longer than the agent's longest distance.
        long_length: T2, frames of a long batch, more than the context C of the dynamics: otherwise time attention would
            meet longer histories in use than in training.

    Raises:
        ValueError: if the parts or lengths do not fit together.
    """

    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    agent: AgentConfig | None = None
    short_length: int = SHORT_LENGTH
    long_length: int = LONG_LENGTH

    def __post_init__(self) -> None:
        """Check that the parts and lengths fit together."""
        require_size(long_length=self.long_length)
        self._require_one_representation()
        self._require_lengths()
        if self.agent is not None:
            self._require_agent(self.agent)

    def _require_one_representation(self) -> None:
        produced = (self.tokenizer.spatial_tokens, self.tokenizer.spatial_channels)
        expected = (self.dynamics.spatial_tokens, self.dynamics.spatial_channels)
        if produced != expected:
            raise ValueError(
                f"dynamics must take the representation of the tokenizer, {produced[0]} tokens of {produced[1]} "
                f"channels ({self.tokenizer.latents} latents of {self.tokenizer.latent_channels}); "
                f"got {expected[0]} of {expected[1]}"
            )

    def _require_lengths(self) -> None:
        context = self.dynamics.transformer.context
        if not 1 <= self.short_length <= self.long_length:
            raise ValueError(f"short_length must lie in [1, long_length = {self.long_length}]; got {self.short_length}")
        if self.long_length <= context:
            raise ValueError(
                f"long_length must exceed the context length of the dynamics, {context}; got {self.long_length}"
            )

    def _require_agent(self, agent: AgentConfig) -> None:
        continuous = [component.name for component in self.dynamics.actions if isinstance(component, Continuous)]
        if not self.dynamics.agent:
            raise ValueError("agent heads need an agent token: dynamics.agent must be True; got False")
        if continuous or not self.dynamics.actions:
            raise ValueError(
                f"a policy head needs categorical and binary actions, at least one; got {self.dynamics.actions}"
            )
        if agent.length >= self.short_length:
            raise ValueError(
                f"agent.length must be below short_length = {self.short_length}, or short batches lack its targets; "
                f"got {agent.length}"
            )
