"""Sec. 3.1, p. 5: training loss of the tokenizer.

    L = L_MSE + 0.2 L_LPIPS   (Eq. 5), each term divided by its running RMS

Read as (A34): the mean square error is over all pixels of the frame, of dropped and other patches; the padding does not
belong to the frame.
"""

from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_floating, require_non_empty, require_rank, require_shape
from dreamer4_impl.equations.eq05_tokenizer_loss import tokenizer_loss
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.models.perceptual import Perceptual
from dreamer4_impl.precision import compute_dtype


class ReconstructionLoss(nn.Module):
    """Eq. (5) of a reconstruction, with the running estimates of its terms.

    Args:
        perceptual: perceptual distance. A module is not registered as a submodule: it is neither trained nor saved with
            this one, and must already lie on the device of the videos.

    Example:
        >>> import torch
        >>> loss = ReconstructionLoss(lambda video_hat, video: (video_hat - video).abs().mean())
        >>> float(loss(torch.ones(1, 1, 2, 2, 3), torch.zeros(1, 1, 2, 2, 3)))
        1.2000000476837158
    """

    def __init__(self, perceptual: Perceptual) -> None:
        super().__init__()
        # In a tuple, torch does not register it, so it is neither trained nor saved.
        self._perceptual = (perceptual,)
        self.normalise = RunningRMS(["mse", "lpips"])

    def forward(self, video_hat: Float[Tensor, "B T H W C"], video: Float[Tensor, "B T H W C"]) -> Float[Tensor, ""]:
        """Compute the loss of a reconstruction. In training mode, update the running estimates with its terms.

        Differentiable in video_hat; no host synchronisation if the perceptual distance has none.

        Args:
            video_hat: reconstruction, floating, (B, T, H, W, C).
            video: data in [0, 1], floating, (B, T, H, W, C), not empty.

        Returns:
            Scalar in float32 (float64 for float64).

        Raises:
            TypeError: if a video is not a floating-point tensor.
            ValueError: if shapes or devices do not match, or the videos are empty.
        """
        require_floating(video_hat=video_hat, video=video)
        require_rank("video", video, 5, "(B, T, H, W, C)")
        require_shape("video_hat", video_hat, video.shape, "of video", like=video)
        require_non_empty("video", video)
        compute = compute_dtype(video_hat, video)
        mse = (video_hat.to(compute) - video.to(compute)).square().mean()
        lpips = self._perceptual[0](video_hat, video)
        return tokenizer_loss(self.normalise("mse", mse), self.normalise("lpips", lpips.to(compute)))
