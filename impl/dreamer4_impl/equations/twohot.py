"""Sec. 3.3, p. 7: symexp two-hot distribution over a scalar, as in Dreamer 3.

    symlog(x) = sign(x) ln(1 + |x|),   symexp(x) = sign(x) (exp|x| − 1)
    bins = symexp(linspace(−20, 20, 255)),   x = p_k b_k + p_{k+1} b_{k+1},   decoded = Σ_k p_k b_k

Read as (A23): raw values over symexp-spaced bins. The bins are symmetric with an exact 0 in the middle.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_shape
from dreamer4_impl.constants import TWOHOT_BINS, TWOHOT_LIMIT
from dreamer4_impl.precision import compute_dtype


def symlog(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sign(x) ln(1 + |x|), in the dtype of x; differentiable; compiles without graph breaks.

    >>> symlog(torch.tensor([0.0])).tolist()
    [0.0]
    """
    require_floating(x=x)
    return x.sign() * x.abs().log1p()


def symexp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sign(x) (exp|x| − 1), the inverse of `symlog`, in the dtype of x; differentiable; compiles without graph breaks.

    >>> symexp(symlog(torch.tensor([-3.0], dtype=torch.float64))).round(decimals=9).tolist()
    [-3.0]
    """
    require_floating(x=x)
    return x.sign() * x.abs().expm1()


@dataclass(frozen=True)
class TwoHot:
    """A categorical distribution over `num_bins` raw values, symexp-spaced in [−symexp(limit), symexp(limit)].

    Args:
        num_bins: K, odd and at least 3, so that 0 is a bin.
        limit: the outermost bins in symlog space, above 0.

    Values and logits come in any floating dtype; computed and returned in float32 (float64 where an input is float64).
    All methods are deterministic, differentiable, compile without graph breaks and never make the host wait.
    NaN comes out as NaN.

    >>> TwoHot(num_bins=3, limit=1.0).bins(torch.device("cpu")).tolist()
    [-1.718281865119934, 0.0, 1.718281865119934]
    """

    num_bins: int = TWOHOT_BINS
    limit: float = TWOHOT_LIMIT

    def __post_init__(self) -> None:
        """Refuse bins without a middle."""
        if self.num_bins < 3 or self.num_bins % 2 == 0:
            raise ValueError(f"num_bins must be odd and at least 3; got {self.num_bins!r}")
        if not self.limit > 0:
            raise ValueError(f"limit must be above 0; got {self.limit!r}")

    def bins(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Float[Tensor, "K"]:
        """The raw values (K,), ascending; computed in float64 and rounded once.

        >>> float(TwoHot().bins(torch.device("cpu"), torch.float64)[-1])
        485165194.4097903
        """
        half = torch.linspace(0, self.limit, self.num_bins // 2 + 1, device=device, dtype=torch.float64).expm1()
        return torch.cat([-half[1:].flip(0), half]).to(dtype)

    def encode(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch K"]:
        """Probabilities on the two bins next to x whose mean is x; beyond the range, all on the outermost bin.

        >>> TwoHot(num_bins=3, limit=1.0).encode(torch.tensor([0.0, 9.0])).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        """
        lower, weight = self._place(x)
        p = weight.new_zeros((*x.shape, self.num_bins))
        p = p.scatter(-1, lower[..., None], (1 - weight)[..., None])
        return p.scatter(-1, lower[..., None] + 1, weight[..., None])

    def decode(self, logits: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """Mean of the raw values under softmax(logits).

        Bins of opposite sign are paired before they are summed: uniform logits decode to exactly 0, although the outer
        bins are of the order of 10⁸.

        >>> TwoHot().decode(torch.zeros(255))
        tensor(0.)
        """
        self._check_logits(logits)
        p = logits.to(compute_dtype(logits)).softmax(dim=-1)
        half = self.num_bins // 2
        positive = self.bins(logits.device, p.dtype)[half + 1 :]
        return ((p[..., half + 1 :] - p[..., :half].flip(-1)) * positive).sum(dim=-1)

    def cross_entropy(self, logits: Float[Tensor, "*batch K"], x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """−Σ_k encode(x)_k ln softmax(logits)_k, without building the encoding.

        >>> TwoHot(num_bins=3).cross_entropy(torch.zeros(3), torch.tensor(0.5))
        tensor(1.0986)
        """
        self._check_logits(logits)
        require_shape("x", x, logits.shape[:-1], "of the leading axes of logits", like=logits)
        lower, weight = self._place(x)
        log_p = logits.to(compute_dtype(logits, x)).log_softmax(dim=-1)
        both = log_p.gather(-1, torch.stack([lower, lower + 1], dim=-1))
        return -((1 - weight) * both[..., 0] + weight * both[..., 1])

    def _place(self, x: Tensor) -> tuple[Int[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Index of the bin below x, at most K − 2, and the weight of the bin above it."""
        require_floating(x=x)
        x = x.to(compute_dtype(x)).contiguous()
        bins = self.bins(x.device, x.dtype)
        lower = (torch.searchsorted(bins, x, right=True) - 1).clamp(0, self.num_bins - 2)
        return lower, ((x - bins[lower]) / (bins[lower + 1] - bins[lower])).clamp(0, 1)

    def _check_logits(self, logits: Tensor) -> None:
        require_floating(logits=logits)
        if logits.ndim == 0 or logits.shape[-1] != self.num_bins:
            raise ValueError(f"logits must have {self.num_bins} bins on the last axis; got {tuple(logits.shape)}")
