"""Quality of the tokenizer's reconstructions, against PCA, the mean frame and the previous frame."""

import torch

from dreamer4_impl.evaluation.baselines import LinearCode, principal_components
from dreamer4_impl.evaluation.held_out import HeldOut
from dreamer4_impl.evaluation.results import SectionResult, SkippedError
from dreamer4_impl.evaluation.scores import Scores
from dreamer4_impl.models.tokenizer import Tokenizer


@torch.no_grad()
def tokenizer_quality(tokenizer: Tokenizer, data: HeldOut, batch: int = 16, seed: int = 0) -> SectionResult:
    """Score reconstructions of all frames of the clips except the first.

    The tokenizer encodes a frame with its context of earlier frames. `copy` is the previous frame. PCA has as many
    values per frame as the latents, and is left out if there are too few training frames.

    Args:
        tokenizer: tokenizer in evaluation mode.
        data: held-out clips, and the training frames that the baselines are fitted to.
        batch: clips per batch, 1 or more.
        seed: seed of the randomised PCA, 0 or more.

    Returns:
        Measures `tokenizer.{model, mean_frame, copy, pca}.{psnr, ssim}`.
    """
    device, result, scores = tokenizer.decoder.queries.device, SectionResult(), Scores()
    mean, code = data.mean_frame.to(device), _linear_code(tokenizer, data, seed, result)
    for clips in data.clips.batches(batch):
        video = clips.pixels(device)
        truth = video[:, 1:]
        scores.add("model", tokenizer.reconstruct(video)[:, 1:], truth)
        scores.add("mean_frame", mean.expand(truth.shape), truth)
        scores.add("copy", video[:, :-1], truth)
        if code is not None:
            scores.add("pca", code.reconstruct(truth), truth)
    for name in ("model", "mean_frame", "copy", *(["pca"] if code else [])):
        result.measures |= scores.measures(name, slice(None), f"tokenizer.{name}.{{metric}}")
    return result


def _linear_code(tokenizer: Tokenizer, data: HeldOut, seed: int, result: SectionResult) -> LinearCode | None:
    values = tokenizer.config.spatial_tokens * tokenizer.config.spatial_channels
    try:
        code = principal_components(data.training_frames.to(tokenizer.decoder.queries.device), values, seed)
    except SkippedError as reason:
        result.notes.append(f"{reason}.")
        return None
    result.notes.append(
        f"PCA has {values} values per frame, like the latents, and is fitted to {len(data.training_frames)} frames."
    )
    return code
