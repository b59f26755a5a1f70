"""Sec. 3.3, p. 7: symexp two-hot distribution over a scalar, as in Dreamer 3.

    symlog(x) = sign(x) ln(1 + |x|),   symexp(x) = sign(x) (exp|x| − 1)
    bins = symexp(linspace(−20, 20, 255)),   x = p_k b_k + p_{k+1} b_{k+1},   decoded = Σ_k p_k b_k

Read as (A23): raw values over symexp-spaced bins. The bins are symmetric with an exact 0 in the middle.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_shape, require_size
from dreamer4_impl.constants import TWOHOT_BINS, TWOHOT_LIMIT
from dreamer4_impl.precision import compute_dtype


def symlog(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Compress magnitudes: sign(x) ln(1 + |x|). Differentiable; compiles without graph breaks.

    Args:
        x: raw values, floating, any shape.

    Returns:
        symlog(x), shaped like x, in its dtype.

    Raises:
        TypeError: if x is not a floating-point tensor.

    Example:
        >>> symlog(torch.tensor([0.0])).tolist()
        [0.0]
    """
    require_floating(x=x)
    return x.sign() * x.abs().log1p()


def symexp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Invert `symlog`: sign(x) (exp|x| − 1). Differentiable; compiles without graph breaks.

    Args:
        x: values in symlog space, floating, any shape.

    Returns:
        symexp(x), shaped like x, in its dtype.

    Raises:
        TypeError: if x is not a floating-point tensor.

    Example:
        >>> symexp(symlog(torch.tensor([-3.0], dtype=torch.float64))).round(decimals=9).tolist()
        [-3.0]
    """
    require_floating(x=x)
    return x.sign() * x.abs().expm1()


@dataclass(frozen=True)
class TwoHot:
    """Categorical distribution over raw values, symexp-spaced in [−symexp(limit), symexp(limit)].

    Inputs have any floating dtype; methods compute and return float32 (float64 where an input is float64). They are
    deterministic and differentiable, compile without graph breaks and never make the host wait. NaN gives NaN.

    Args:
        num_bins: K, odd and at least 3, so that 0 is a bin.
        limit: outermost bin in symlog space, above 0.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> TwoHot(num_bins=3, limit=1.0).bins(torch.device("cpu")).tolist()
        [-1.718281865119934, 0.0, 1.718281865119934]
    """

    num_bins: int = TWOHOT_BINS
    limit: float = TWOHOT_LIMIT

    def __post_init__(self) -> None:
        require_size(num_bins=self.num_bins)
        if self.num_bins < 3 or self.num_bins % 2 == 0:
            raise ValueError(f"num_bins must be odd and at least 3; got {self.num_bins!r}")
        if not 0 < self.limit < math.inf:
            raise ValueError(f"limit must be above 0 and finite; got {self.limit!r}")

    def bins(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Float[Tensor, "K"]:
        """Raw values of the bins, computed in float64 and rounded once.

        Args:
            device: device of the result.
            dtype: dtype of the result.

        Returns:
            The values in ascending order, (K,).

        Example:
            >>> float(TwoHot().bins(torch.device("cpu"), torch.float64)[-1])
            485165194.4097903
        """
        half = torch.linspace(0, self.limit, self.num_bins // 2 + 1, device=device, dtype=torch.float64).expm1()
        return torch.cat([-half[1:].flip(0), half]).to(dtype)

    def encode(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch K"]:
        """Encode values as probabilities of the two nearest bins, with mean x.

        Args:
            x: raw values, floating, any shape; a value beyond the range has probability 1 on the outermost bin.

        Returns:
            Probabilities, (…, K).

        Raises:
            TypeError: if x is not a floating-point tensor.

        Example:
            >>> TwoHot(num_bins=3, limit=1.0).encode(torch.tensor([0.0, 9.0])).tolist()
            [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        """
        lower, weight = self._interpolate(x)
        neighbours = torch.stack([lower, lower + 1], dim=-1)
        weights = torch.stack([1 - weight, weight], dim=-1)
        return weight.new_zeros((*x.shape, self.num_bins)).scatter_(-1, neighbours, weights)

    def decode(self, logits: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """Mean of the raw values under softmax(logits).

        Bins of opposite sign are paired before they are summed: uniform logits decode to exactly 0, although the outer
        bins are of the order of 10⁸.

        Args:
            logits: unnormalised log-probabilities, floating, (…, K).

        Returns:
            The mean, (…).

        Raises:
            TypeError: if logits is not a floating-point tensor.
            ValueError: if the last axis does not have K bins.

        Example:
            >>> TwoHot().decode(torch.zeros(255))
            tensor(0.)
        """
        self._require_logits(logits)
        p = logits.to(compute_dtype(logits)).softmax(dim=-1)
        half = self.num_bins // 2
        positive = self.bins(logits.device, p.dtype)[half + 1 :]
        return ((p[..., half + 1 :] - p[..., :half].flip(-1)) * positive).sum(dim=-1)

    def cross_entropy(self, logits: Float[Tensor, "*batch K"], x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """−Σ_k encode(x)_k ln softmax(logits)_k, without building the encoding.

        Args:
            logits: unnormalised log-probabilities, floating, (…, K).
            x: raw values, floating, (…).

        Returns:
            The cross-entropy in nats, (…).

        Raises:
            TypeError: if an argument is not a floating-point tensor.
            ValueError: if shapes or devices do not match.

        Example:
            >>> TwoHot(num_bins=3).cross_entropy(torch.zeros(3), torch.tensor(0.5))
            tensor(1.0986)
        """
        self._require_logits(logits)
        require_shape("x", x, logits.shape[:-1], "of the leading axes of logits", like=logits)
        lower, weight = self._interpolate(x)
        log_p = logits.to(compute_dtype(logits, x)).log_softmax(dim=-1)
        neighbours = log_p.gather(-1, torch.stack([lower, lower + 1], dim=-1))
        return -((1 - weight) * neighbours[..., 0] + weight * neighbours[..., 1])

    def _interpolate(self, x: Tensor) -> tuple[Int[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Index of the bin below x, at most K − 2, and the weight of the bin above it."""
        require_floating(x=x)
        x = x.to(compute_dtype(x)).contiguous()
        bins = self.bins(x.device, x.dtype)
        lower = (torch.searchsorted(bins, x, right=True) - 1).clamp(0, self.num_bins - 2)
        return lower, ((x - bins[lower]) / (bins[lower + 1] - bins[lower])).clamp(0, 1)

    def _require_logits(self, logits: Tensor) -> None:
        require_floating(logits=logits)
        if logits.ndim == 0 or logits.shape[-1] != self.num_bins:
            raise ValueError(f"logits must have {self.num_bins} bins on the last axis; got {tuple(logits.shape)}")
