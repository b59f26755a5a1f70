"""How far several predictors are from the same frames, collected batch after batch."""

from collections import defaultdict
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.evaluation.measures import Measure, estimate
from dreamer4_impl.evaluation.metrics import WINDOW, decibel_gap, decibels, squared_error, ssim


class Scores:
    """Mean square error and SSIM of every frame, by predictor.

    >>> import torch
    >>> scores, video = Scores(), torch.zeros(2, 3, 12, 12, 1)
    >>> scores.add("model", video + 0.1, video)
    >>> round(scores.psnr("model", slice(None)).value, 3), scores.ssim("model", slice(None)).n
    (20.0, 2)
    """

    def __init__(self) -> None:
        self._mse: dict[str, list[np.ndarray]] = defaultdict(list)
        self._ssim: dict[str, list[np.ndarray]] = defaultdict(list)

    def add(self, name: str, video_hat: Float[Tensor, "B T H W C"], video: Float[Tensor, "B T H W C"]) -> None:
        """Add clips that `name` predicted: what it shows beyond [0, 1] is clipped, as a screen would."""
        shown = video_hat.clamp(0, 1)
        self._mse[name].append(squared_error(shown, video).double().cpu().numpy())
        if min(video.shape[2:4]) >= WINDOW:
            self._ssim[name].append(ssim(shown, video).double().cpu().numpy())

    def mse(self, name: str) -> Float[np.ndarray, "N T"]:
        """Of every clip and frame."""
        return np.concatenate(self._mse[name])

    def psnr(self, name: str, frames: int | slice) -> Measure:
        """PSNR of the mean square error over clips: one still frame that is copied exactly does not make it infinite."""
        return estimate(decibels, self._of_clips(name, frames), unit="dB")

    def gap(self, worse: str, better: str, frames: int | slice) -> Measure:
        """By how much the PSNR of `better` is higher, with the interval of the paired difference."""
        return estimate(decibel_gap, self._of_clips(worse, frames), self._of_clips(better, frames), unit="dB")

    def ssim(self, name: str, frames: int | slice) -> Measure:
        """Mean SSIM over clips."""
        values = np.concatenate(self._ssim[name])[:, frames]
        return estimate(lambda mean: mean, values.reshape(len(values), -1).mean(1))

    def measures(self, name: str, frames: int | slice, form: str) -> dict[str, Measure]:
        """PSNR, and SSIM where the frames are large enough, under the names that `form` gives: "a.{metric}.b"."""
        metrics = {"psnr": partial(self.psnr, name, frames)}
        if self._ssim[name]:
            metrics["ssim"] = partial(self.ssim, name, frames)
        return {form.format(metric=metric): measure() for metric, measure in metrics.items()}

    def _of_clips(self, name: str, frames: int | slice) -> Float[np.ndarray, "N"]:
        errors = self.mse(name)[:, frames]
        return errors.reshape(len(errors), -1).mean(1)
