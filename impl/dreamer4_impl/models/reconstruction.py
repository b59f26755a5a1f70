"""Sec. 3.1, p. 5: the loss that trains the tokenizer.

    L = L_MSE + 0.2 L_LPIPS   (Eq. 5), each term divided by its running RMS

Read as (A34): the mean square error is over all pixels of the frame, of dropped patches and others; the padding is not
part of the frame.
"""

from jaxtyping import Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_floating, require_non_empty, require_rank, require_shape
from dreamer4_impl.equations.eq05_tokenizer_loss import tokenizer_loss
from dreamer4_impl.equations.loss_normalisation import RunningRMS
from dreamer4_impl.models.perceptual import Perceptual
from dreamer4_impl.precision import compute_dtype


class ReconstructionLoss(nn.Module):
    """Eq. (5) of a reconstruction, with the running estimates that it needs.

    Args:
        perceptual: the perceptual distance. Where it is a module, it is not a part of this one: it is neither trained nor
            saved with it, and whoever made it puts it on the device of the videos.

    >>> import torch
    >>> loss = ReconstructionLoss(lambda video_hat, video: (video_hat - video).abs().mean())
    >>> float(loss(torch.ones(1, 1, 2, 2, 3), torch.zeros(1, 1, 2, 2, 3)))
    1.2000000476837158
    """

    def __init__(self, perceptual: Perceptual) -> None:
        """Start without estimates."""
        super().__init__()
        # The tuple hides it from torch, which would train and save it.
        self._perceptual = (perceptual,)
        self.normalise = RunningRMS(["mse", "lpips"])

    def forward(self, video_hat: Float[Tensor, "B T H W C"], video: Float[Tensor, "B T H W C"]) -> Float[Tensor, ""]:
        """The loss of `video_hat`, the reconstruction of `video`.

        In training mode the terms enter the running estimates. Computed and returned in float32 (float64 for float64);
        differentiable in video_hat; no host synchronisation as far as the perceptual network has none.
        """
        require_floating(video_hat=video_hat, video=video)
        require_rank("video", video, 5, "(B, T, H, W, C)")
        require_shape("video_hat", video_hat, video.shape, "of video", like=video)
        require_non_empty("video", video)
        compute = compute_dtype(video_hat, video)
        mse = (video_hat.to(compute) - video.to(compute)).square().mean()
        lpips = self._perceptual[0](video_hat, video)
        return tokenizer_loss(self.normalise("mse", mse), self.normalise("lpips", lpips.to(compute)))
