"""Settings of single phases: the tables [tokenizer], [dynamics], [agent] and [imagine] of a configuration."""

import math
from dataclasses import dataclass
from typing import Literal

from dreamer4_impl.arguments import require_between, require_option, require_size
from dreamer4_impl.constants import ALPHA, BETA, CONTEXT_LEVEL, GAMMA, LAMBDA, MAE_MAX_DROP, SAMPLING_STEPS


@dataclass(frozen=True)
class TokenizerOptions:
    """Sec. 3.1.

    Args:
        perceptual: package of the LPIPS network; "none" trains on the mean square error alone.
        net: network within the package.
        most_dropped: patches of an image are dropped with probability p ~ U(0, most_dropped); in [0, 1].
        latent_noise: standard deviation of Gaussian noise that is added to z before the decoder, 0 or more; 0 is none,
            as in the paper. It keeps the latents of different frames apart, which the dynamics have to distinguish.
        noise_share: share of the steps, at the end, that add this noise, in [0, 1].
    """

    perceptual: Literal["none", "lpips", "torchmetrics"] = "none"
    net: Literal["vgg", "alex", "squeeze"] = "vgg"
    most_dropped: float = MAE_MAX_DROP
    latent_noise: float = 0.0
    noise_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("most_dropped", "noise_share"):
            require_between(name, getattr(self, name), 0.0, 1.0)
        if not 0 <= self.latent_noise < math.inf:
            raise ValueError(f"latent_noise must be 0 or more and finite; got {self.latent_noise!r}")


@dataclass(frozen=True)
class DynamicsOptions:
    """Sec. 3.2.

    Args:
        per: draw d for each timestep or once for each sequence (A3).
        d_min_share: probability in [0, 1] that a sample is at d_min (A2); None draws step sizes uniformly.
        rewarded_share: share of the sequences of a batch that are drawn from those in which a reward above 0 lies, in
            [0, 1]. Above 0 it is a departure from the paper, for games in which the frames of a reward are rare.
    """

    per: Literal["timestep", "sequence"] = "timestep"
    d_min_share: float | None = None
    rewarded_share: float = 0.0

    def __post_init__(self) -> None:
        require_between("rewarded_share", self.rewarded_share, 0.0, 1.0)
        if self.d_min_share is not None:
            require_between("d_min_share", self.d_min_share, 0.0, 1.0)


@dataclass(frozen=True)
class AgentOptions:
    """Sec. 3.3, agent finetuning.

    Args:
        relevant_share: share of the relevant sequences in a batch, in [0, 1].
        relevant: the relevant sequences: "returns" are those of episodes whose return is above the median of their
            task, "rewards" are those in which a reward above 0 lies.
        levels: signal levels of the frames that the heads read: "drawn" are those of the dynamics loss, a level for
            each frame; "context" is `imagine.context_level`, at which the heads read frames when they act. This takes
            a pass of its own, and is a departure from the paper.
        dynamics: the sequences that the dynamics loss counts: "uniform" as in the paper, or "all". With few rewarded
            frames among the uniform sequences, the dynamics forget what happens in them.
    """

    relevant_share: float = 0.5
    relevant: Literal["returns", "rewards"] = "returns"
    levels: Literal["drawn", "context"] = "drawn"
    dynamics: Literal["uniform", "all"] = "uniform"

    def __post_init__(self) -> None:
        require_between("relevant_share", self.relevant_share, 0.0, 1.0)
        require_option("relevant", self.relevant, ("returns", "rewards"))
        require_option("levels", self.levels, ("drawn", "context"))
        require_option("dynamics", self.dynamics, ("uniform", "all"))


@dataclass(frozen=True)
class ImagineOptions:
    """Sec. 3.3, imagination training.

    Args:
        horizon: H, imagined frames, 1 or more.
        context: recorded frames before them, 1 or more.
        steps: K, denoising evaluations of a frame, 1 or more.
        context_level: signal level τ of the context in [0, 1] (A9).
        gamma: discount factor γ of Eq. (10), in [0, 1].
        lam: weight λ of later returns in Eq. (10), in [0, 1].
        alpha: weight α of D⁺ in Eq. (11), in [0, 1].
        beta: weight β of the KL in Eq. (11), 0 or more.
        value_steps: first steps in which the value is learned and the policy stays as it is, 0 or more. The value is 0
            at the start, so that any reward makes every action taken look good.
    """

    horizon: int = 16
    context: int = 8
    steps: int = SAMPLING_STEPS
    context_level: float = CONTEXT_LEVEL
    gamma: float = GAMMA
    lam: float = LAMBDA
    alpha: float = ALPHA
    beta: float = BETA
    value_steps: int = 0

    def __post_init__(self) -> None:
        if self.value_steps < 0:
            raise ValueError(f"value_steps must be 0 or more; got {self.value_steps!r}")
        require_size(horizon=self.horizon, context=self.context, steps=self.steps)
        for name in ("context_level", "gamma", "lam", "alpha"):
            require_between(name, getattr(self, name), 0.0, 1.0)
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be 0 or more and finite; got {self.beta!r}")
