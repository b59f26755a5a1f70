"""Eq. (5), Sec. 3.1, p. 5: tokenizer loss.

    L = L_MSE + 0.2 L_LPIPS

Both terms are already divided by their running RMS (`loss_normalisation`).
"""

from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.arguments import require_floating, require_shape
from dreamer4_impl.constants import LPIPS_WEIGHT
from dreamer4_impl.precision import compute_dtype


def tokenizer_loss(mse: Float[Tensor, "*batch"], lpips: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Add the normalised reconstruction and perceptual terms.

    Deterministic; differentiable; compiles without graph breaks; no host synchronisation.

    Args:
        mse: mean square error, normalised, floating, usually a scalar.
        lpips: perceptual distance, normalised, floating, of the same shape.

    Returns:
        mse + 0.2 lpips in float32 (float64 for float64).

    Raises:
        TypeError: if a term is not a floating-point tensor.
        ValueError: if shapes or devices differ.

    Example:
        >>> import torch
        >>> tokenizer_loss(torch.tensor(1.0), torch.tensor(2.0))
        tensor(1.4000)
    """
    require_floating(mse=mse, lpips=lpips)
    require_shape("lpips", lpips, mse.shape, "of mse", like=mse)
    compute = compute_dtype(mse, lpips)
    return mse.to(compute) + LPIPS_WEIGHT * lpips.to(compute)
