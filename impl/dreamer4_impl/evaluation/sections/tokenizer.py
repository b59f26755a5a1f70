"""How well the tokenizer's latents keep frames, beside what keeps them without learning anything of time or shape."""

import torch

from dreamer4_impl.evaluation.baselines import LinearCode, principal_components
from dreamer4_impl.evaluation.held_out import HeldOut
from dreamer4_impl.evaluation.results import Findings, SkippedError
from dreamer4_impl.evaluation.scores import Scores
from dreamer4_impl.models.tokenizer import Tokenizer


@torch.no_grad()
def tokenizer_quality(tokenizer: Tokenizer, data: HeldOut, batch: int = 16, seed: int = 0) -> Findings:
    """`tokenizer.{model, mean_frame, copy, pca}.{psnr, ssim}` over all frames of the clips but the first.

    Args:
        tokenizer: in evaluation mode.
        data: the clips, and the frames that mean frame and PCA are fitted to.
        batch: clips at a time.
        seed: of the randomised PCA.

    The tokenizer has seen the frames before in the clip, as far back as its context goes. `copy` shows the frame before.
    PCA has as many values for each frame as the representation, and is left out where there are too few frames to fit.
    """
    device, found, scores = tokenizer.decoder.queries.device, Findings(), Scores()
    mean, code = data.mean_frame.to(device), _linear_code(tokenizer, data, seed, found)
    for clips in data.clips.split(batch):
        video = clips.pixels(device)
        truth = video[:, 1:]
        scores.add("model", tokenizer.reconstruct(video)[:, 1:], truth)
        scores.add("mean_frame", mean.expand(truth.shape), truth)
        scores.add("copy", video[:, :-1], truth)
        if code is not None:
            scores.add("pca", code.reconstruct(truth), truth)
    for name in ("model", "mean_frame", "copy", *(["pca"] if code else [])):
        found.measures |= scores.measures(name, slice(None), f"tokenizer.{name}.{{metric}}")
    return found


def _linear_code(tokenizer: Tokenizer, data: HeldOut, seed: int, found: Findings) -> LinearCode | None:
    values = tokenizer.config.spatial_tokens * tokenizer.config.spatial_channels
    try:
        code = principal_components(data.training_frames.to(tokenizer.decoder.queries.device), values, seed)
    except SkippedError as reason:
        found.notes.append(str(reason))
        return None
    found.notes.append(
        f"PCA has {values} values for each frame, as the tokenizer, and {len(data.training_frames)} frames to fit."
    )
    return code
