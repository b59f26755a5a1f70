"""What each phase alone can be told; the tables [tokenizer], [dynamics], [agent] and [imagine] of a configuration."""

from dataclasses import dataclass
from typing import Literal

from dreamer4_impl.arguments import require_between
from dreamer4_impl.constants import ALPHA, BETA, CONTEXT_LEVEL, GAMMA, LAMBDA, MAE_MAX_DROP, SAMPLING_STEPS


@dataclass(frozen=True)
class TokenizerOptions:
    """Sec. 3.1.

    Args:
        perceptual: where the LPIPS network comes from, a package or nowhere; "none" trains on the mean square error alone.
        net: which of its networks.
        most_dropped: a patch of an image is dropped with probability p ~ U(0, most_dropped).
    """

    perceptual: Literal["none", "lpips", "torchmetrics"] = "none"
    net: Literal["vgg", "alex", "squeeze"] = "vgg"
    most_dropped: float = MAE_MAX_DROP

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        require_between("most_dropped", self.most_dropped, 0.0, 1.0)


@dataclass(frozen=True)
class DynamicsOptions:
    """Sec. 3.2.

    Args:
        per: d for each timestep or once for each sequence (A3).
        d_min_share: None is the uniform law of step sizes; a number is the declared split (A2).
    """

    per: Literal["timestep", "sequence"] = "timestep"
    d_min_share: float | None = None

    def __post_init__(self) -> None:
        """Refuse a share outside [0, 1]."""
        if self.d_min_share is not None:
            require_between("d_min_share", self.d_min_share, 0.0, 1.0)


@dataclass(frozen=True)
class AgentOptions:
    """Sec. 3.3, agent finetuning.

    Args:
        relevant_share: of the sequences of a batch.
    """

    relevant_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a share outside [0, 1]."""
        require_between("relevant_share", self.relevant_share, 0.0, 1.0)


@dataclass(frozen=True)
class ImagineOptions:
    """Sec. 3.3, imagination training.

    Args:
        horizon: frames that are imagined.
        context: recorded frames before them.
        steps: K, denoising evaluations of a frame.
        context_level: signal level of the context (A9).
        gamma, lam, alpha, beta: of Eq. (10) and (11).
    """

    horizon: int = 16
    context: int = 8
    steps: int = SAMPLING_STEPS
    context_level: float = CONTEXT_LEVEL
    gamma: float = GAMMA
    lam: float = LAMBDA
    alpha: float = ALPHA
    beta: float = BETA

    def __post_init__(self) -> None:
        """Refuse an empty rollout."""
        for name in ("horizon", "context", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)!r}")
