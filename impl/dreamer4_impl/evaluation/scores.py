"""Image metrics of several predictors on the same frames, accumulated over batches."""

from collections import defaultdict
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.evaluation.measures import Measure, estimate
from dreamer4_impl.evaluation.metrics import WINDOW, decibel_gap, decibels, squared_error, ssim


class Scores:
    """Mean square error and SSIM of every frame, by predictor, in float64 on the CPU.

    Methods that take `frames` average over these frames of each clip; an index or slice into [0, T).

    Example:
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
        """Score a batch of clips.

        Args:
            name: name of the predictor, as passed to `add`.
            video_hat: predicted frames, clipped to [0, 1] before they are compared, (B, T, H, W, C).
            video: true frames in [0, 1], shaped like video_hat.

        Raises:
            TypeError: if an argument is not a floating tensor.
            ValueError: if shapes or devices differ.
        """
        clipped = video_hat.clamp(0, 1)
        self._mse[name].append(squared_error(clipped, video).double().cpu().numpy())
        if min(video.shape[2:4]) >= WINDOW:
            self._ssim[name].append(ssim(clipped, video).double().cpu().numpy())

    def mse(self, name: str) -> Float[np.ndarray, "N T"]:
        """Mean square errors of every frame.

        Args:
            name: name of the predictor, as passed to `add`.

        Returns:
            Errors of all clips in the order in which they were added, (N, T).

        Raises:
            ValueError: if the predictor has no clips.
        """
        return np.concatenate(self._mse[name])

    def psnr(self, name: str, frames: int | slice) -> Measure:
        """PSNR of the mean square error over clips, which a single exact frame does not make infinite.

        Args:
            name: name of the predictor, as passed to `add`.
            frames: frames of each clip.

        Returns:
            PSNR in dB.

        Raises:
            ValueError: if the predictor has no clips.
        """
        return estimate(decibels, self._of_clips(name, frames), unit="dB")

    def gap(self, worse: str, better: str, frames: int | slice) -> Measure:
        """PSNR gain of one predictor over another, paired by clip.

        Args:
            worse: the predictor that is compared against.
            better: the predictor whose gain is measured.
            frames: frames of each clip.

        Returns:
            PSNR of better minus PSNR of worse in dB.

        Raises:
            ValueError: if a predictor has no clips.
        """
        return estimate(decibel_gap, self._of_clips(worse, frames), self._of_clips(better, frames), unit="dB")

    def ssim(self, name: str, frames: int | slice) -> Measure:
        """Mean SSIM over clips.

        Args:
            name: name of the predictor, as passed to `add`.
            frames: frames of each clip.

        Returns:
            SSIM in [-1, 1].

        Raises:
            ValueError: if the predictor has no clips large enough for the window.
        """
        values = np.concatenate(self._ssim[name])[:, frames]
        return estimate(lambda mean: mean, values.reshape(len(values), -1).mean(1))

    def measures(self, name: str, frames: int | slice, template: str) -> dict[str, Measure]:
        """PSNR, and SSIM if the frames are large enough for its window.

        Args:
            name: name of the predictor, as passed to `add`.
            frames: frames of each clip.
            template: name of a measure with a field for the metric, such as "tokenizer.model.{metric}".

        Returns:
            Measures by name.

        Raises:
            ValueError: if the predictor has no clips.
        """
        metrics = {"psnr": partial(self.psnr, name, frames)}
        if self._ssim[name]:
            metrics["ssim"] = partial(self.ssim, name, frames)
        return {template.format(metric=metric): measure() for metric, measure in metrics.items()}

    def _of_clips(self, name: str, frames: int | slice) -> Float[np.ndarray, "N"]:
        errors = self.mse(name)[:, frames]
        return errors.reshape(len(errors), -1).mean(1)
