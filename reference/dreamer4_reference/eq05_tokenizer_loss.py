"""Eq. (5), Sec. 3.1, p. 5: loss of the tokenizer.

    L = L_MSE + 0.2 L_LPIPS

Both terms are first divided by a running estimate of their own root mean square: `loss_normalisation`.
"""

from dreamer4_reference.constants import LPIPS_WEIGHT


def tokenizer_loss(mse: float, lpips: float) -> float:
    """Add the squared error and 0.2 times the perceptual distance.

    Args:
        mse: mean squared pixel error, at least 0, already normalised by its running RMS.
        lpips: LPIPS distance, at least 0, already normalised by its running RMS.

    Returns:
        L.

    Example:
        >>> tokenizer_loss(mse=1.0, lpips=0.5)
        1.1
    """
    return mse + LPIPS_WEIGHT * lpips
