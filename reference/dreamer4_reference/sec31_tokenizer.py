"""Sec. 3.1, p. 5: the tokenizer, from video to a few bounded numbers for each frame and back.

    encoder   [patches W + b | learned latents] → layers → latents → z = tanh(latents W + b)
    decoder   [learned patch queries | z W + b] → layers → patches → patches W + b

Frames are padded to whole patches; Minecraft's 360×640 to 384×640. The masks are those of `sec31_masks`: only the
latents carry a frame from one side to the other, so that the reconstruction is a function of z alone, and |z| ≤ 1.
For the dynamics neighbouring latents are put side by side, 512×16 → 256×32.
Read as: the regrouping takes consecutive pairs (A36). The print says neither where the patch queries come from nor why 384: 360 needs
22.5 patches of 16; an even number of them, 24, is the nearest that gives 384.

video as patches (B, T, N, P).   latents M, of C channels.   z (B, T, M/f, f C), f = 2.   E the width of the layers.
"""

import numpy as np
from jaxtyping import Float64

from dreamer4_reference.levels import check_float64, check_shape


def patch_grid(height: int, width: int, patch: int = 16) -> tuple[int, int]:
    """Rows and columns of patches of a frame, each side padded up to an even number of them.

    >>> patch_grid(360, 640), patch_grid(256, 256)
    ((24, 40), (16, 16))
    """
    if min(height, width, patch) < 1:
        raise ValueError(f"tokenizer: height, width, patch are {height}, {width}, {patch}, but each must be ≥ 1")
    return 2 * -(-height // (2 * patch)), 2 * -(-width // (2 * patch))


def bottleneck(
    x: Float64[np.ndarray, "*batch E"], weight: Float64[np.ndarray, "E C"], bias: Float64[np.ndarray, " C"]
) -> Float64[np.ndarray, "*batch C"]:
    """tanh(x W + b): few channels, none beyond ±1.

    >>> bottleneck(np.array([[0.0, 9.0]]), np.eye(2), np.zeros(2)).round(3).tolist()
    [[0.0, 1.0]]
    """
    check_float64(equation="bottleneck", x=x, weight=weight, bias=bias)
    check_shape("weight", weight, (x.shape[-1], None), equation="bottleneck")
    check_shape("bias", bias, weight.shape[1:], equation="bottleneck")
    return np.tanh(x @ weight + bias)


def regroup(z: Float64[np.ndarray, "B T M C"], factor: int = 2) -> Float64[np.ndarray, "B T S D"]:
    """Each `factor` consecutive tokens side by side, as one token.

    >>> regroup(np.arange(8.0).reshape(1, 1, 4, 2)).tolist()
    [[[[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]]]
    """
    check_shape("z", z, (None,) * 4, equation="regrouping")
    batch, time, tokens, channels = z.shape
    if factor < 1 or tokens % factor:
        raise ValueError(f"regrouping: factor is {factor}, but must divide the {tokens} tokens of z")
    return z.reshape(batch, time, tokens // factor, channels * factor)


def unregroup(z: Float64[np.ndarray, "B T S D"], factor: int = 2) -> Float64[np.ndarray, "B T M C"]:
    """Undo `regroup`.

    >>> unregroup(np.arange(4.0).reshape(1, 1, 1, 4)).tolist()
    [[[[0.0, 1.0], [2.0, 3.0]]]]
    """
    check_shape("z", z, (None,) * 4, equation="regrouping")
    batch, time, tokens, channels = z.shape
    if factor < 1 or channels % factor:
        raise ValueError(f"regrouping: factor is {factor}, but must divide the {channels} channels of z")
    return z.reshape(batch, time, tokens * factor, channels // factor)
