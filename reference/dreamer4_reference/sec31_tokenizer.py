"""Sec. 3.1, p. 5: the tokenizer compresses each frame of a video to a few bounded numbers and reconstructs the frame.

    encoder   [patches W + b | learned latents] → layers → latents → z = tanh(latents W + b)
    decoder   [z W + b | learned patch queries] → layers → patches → patches W + b

Frames are padded to whole patches; Minecraft's 360×640 to 384×640. The masks are those of `sec31_masks`: only the
latents connect encoder and decoder, so the reconstruction is a function of z alone, and |z| ≤ 1.
For the dynamics, neighbouring latents are concatenated along their channels, 512×16 → 256×32.
Read as: the regrouping takes consecutive pairs (A36). 360 is 22.5 patches of 16, so 23 would be enough; an even number
of patches per side is the smallest rule that gives 384. The patch queries are learned, one per patch.

video as patches (B, T, N, P), each patch's pixels flattened.   M latents of C channels.   z (B, T, M/f, f C), f = 2.
E is the width of the layers. Parameters are mappings: layers (as in `sec34_layers`) and norm (E,), and
encoder: patch_weight (P, E), patch_bias, dropped (E,), latents (M, E), bottleneck_weight (E, C), bottleneck_bias (C,)
decoder: latent_weight (C, E), latent_bias (E,), queries (N, E), patch_weight (E, P), patch_bias (P,)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Unpack

import numpy as np
from jaxtyping import Bool, Float64

from dreamer4_reference.levels import require_float64, require_names, require_shape
from dreamer4_reference.sec31_masks import modality_mask
from dreamer4_reference.sec31_patch_dropout import replace_dropped
from dreamer4_reference.sec34_layers import Settings, transformer

LAYERS: Final = ("layers", "norm")
ENCODER: Final = (*LAYERS, "patch_weight", "patch_bias", "latents", "bottleneck_weight", "bottleneck_bias")
"""Names of the encoder's parameters that are always needed."""

DECODER: Final = (*LAYERS, "latent_weight", "latent_bias", "queries", "patch_weight", "patch_bias")
"""Names of the decoder's parameters."""


def patch_grid(height: int, width: int, patch: int = 16) -> tuple[int, int]:
    """Rows and columns of patches of a frame, each side padded up to an even number of patches.

    Args:
        height: height of the frame in pixels, at least 1.
        width: width of the frame in pixels, at least 1.
        patch: side of a square patch in pixels, at least 1.

    Returns:
        (rows, columns), two even ints; the padded frame has rows · patch × columns · patch pixels.

    Raises:
        ValueError: if a size is below 1.

    Example:
        >>> patch_grid(360, 640), patch_grid(256, 256)
        ((24, 40), (16, 16))
    """
    if min(height, width, patch) < 1:
        raise ValueError(f"tokenizer: height, width, patch are {height}, {width}, {patch}, but each must be ≥ 1")
    return 2 * -(-height // (2 * patch)), 2 * -(-width // (2 * patch))


def bottleneck(
    x: Float64[np.ndarray, "*batch E"], weight: Float64[np.ndarray, "E C"], bias: Float64[np.ndarray, " C"]
) -> Float64[np.ndarray, "*batch C"]:
    """Project latents to few channels and bound them: tanh(x W + b).

    Args:
        x: latents, float64, (…, E).
        weight: W, float64, (E, C).
        bias: b, float64, (C,).

    Returns:
        float64, (…, C), in [−1, 1].

    Raises:
        TypeError: if an argument is not a float64 array.
        ValueError: if shapes do not match.

    Example:
        >>> bottleneck(np.array([[0.0, 9.0]]), np.eye(2), np.zeros(2)).round(3).tolist()
        [[0.0, 1.0]]
    """
    require_float64(equation="bottleneck", x=x, weight=weight, bias=bias)
    require_shape("weight", weight, (x.shape[-1], None), equation="bottleneck")
    require_shape("bias", bias, weight.shape[1:], equation="bottleneck")
    return np.tanh(x @ weight + bias)


def regroup(z: Float64[np.ndarray, "B T M C"], factor: int = 2) -> Float64[np.ndarray, "B T S D"]:
    """Concatenate the channels of every `factor` consecutive tokens (A36).

    Args:
        z: latents as the encoder emits them, any dtype, (B, T, M, C).
        factor: f, tokens per group, a divisor of M.

    Returns:
        (B, T, M/f, f C), the latents as the dynamics takes them; token s holds tokens f s … f s + f − 1 in order.

    Raises:
        ValueError: if z is not four-dimensional or factor does not divide M.

    Example:
        >>> regroup(np.arange(8.0).reshape(1, 1, 4, 2)).tolist()
        [[[[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]]]
    """
    require_shape("z", z, (None,) * 4, equation="regrouping")
    batch, time, tokens, channels = z.shape
    if factor < 1 or tokens % factor:
        raise ValueError(f"regrouping: factor is {factor}, but must divide the {tokens} tokens of z")
    return z.reshape(batch, time, tokens // factor, channels * factor)


def unregroup(z: Float64[np.ndarray, "B T S D"], factor: int = 2) -> Float64[np.ndarray, "B T M C"]:
    """Inverse of `regroup`.

    Args:
        z: latents as the dynamics takes them, any dtype, (B, T, S, D).
        factor: f, tokens per group, a divisor of D.

    Returns:
        (B, T, f S, D/f), the latents as the encoder emits them.

    Raises:
        ValueError: if z is not four-dimensional or factor does not divide D.

    Example:
        >>> unregroup(np.arange(4.0).reshape(1, 1, 1, 4)).tolist()
        [[[[0.0, 1.0], [2.0, 3.0]]]]
    """
    require_shape("z", z, (None,) * 4, equation="regrouping")
    batch, time, tokens, channels = z.shape
    if factor < 1 or channels % factor:
        raise ValueError(f"regrouping: factor is {factor}, but must divide the {channels} channels of z")
    return z.reshape(batch, time, tokens * factor, channels // factor)


def encode(
    parameters: Mapping[str, Any],
    patches: Float64[np.ndarray, "B T N P"],
    kinds: Sequence[str],
    *,
    dropped: Bool[np.ndarray, "B T N"] | None = None,
    factor: int = 2,
    window: int | None = None,
    **settings: Unpack[Settings],
) -> Float64[np.ndarray, "B T S D"]:
    """Encode a video to its latents z; frame t of z depends on frames 0 … t only.

    Args:
        parameters: arrays under the names of `ENCODER`, shapes in the module's docstring; also "dropped" if `dropped`
            is given.
        patches: pixels by patch, float64, (B, T, N, P).
        kinds: axes that the layers mix, as from `layer_kinds`; [] runs no layer.
        dropped: mask of dropped patches for training, bool, (B, T, N), True = dropped; None drops nothing.
        factor: f, latents per group of `regroup`.
        window: context length C of time layers in frames, at least 1, the current frame included; None for no limit.
        settings: softcap, eps, base and axes of the layers, as in `Settings`.

    Returns:
        z, float64, (B, T, M/f, f C), in [−1, 1].

    Raises:
        TypeError: if an array is not float64, or dropped is not bool.
        ValueError: if a parameter is missing, shapes do not match, factor does not divide M, or an option is invalid.

    Example:
        >>> parameters = {"patch_weight": np.ones((3, 2)), "patch_bias": np.zeros(2), "latents": np.ones((4, 2))}
        >>> parameters |= {"layers": [], "norm": np.ones(2)}
        >>> parameters |= {"bottleneck_weight": np.eye(2), "bottleneck_bias": np.zeros(2)}
        >>> encode(parameters, np.zeros((1, 1, 5, 3)), [])[0, 0].round(3).tolist()
        [[0.762, 0.762, 0.762, 0.762], [0.762, 0.762, 0.762, 0.762]]
    """
    require_names("parameters", parameters, ENCODER if dropped is None else (*ENCODER, "dropped"), equation="encoder")
    require_float64(equation="encoder", patches=patches)
    require_shape("patches", patches, (None, None, None, len(parameters["patch_weight"])), equation="encoder")
    tokens = patches @ parameters["patch_weight"] + parameters["patch_bias"]
    if dropped is not None:
        tokens = replace_dropped(tokens, dropped, parameters["dropped"])
    x = np.concatenate([tokens, _in_every_frame(parameters["latents"], patches)], axis=2)
    allow = _mask("encoder", ["image"] * patches.shape[2] + ["latent"] * len(parameters["latents"]))
    x = transformer(x, parameters["layers"], parameters["norm"], kinds, allow=allow, window=window, **settings)
    latents = x[:, :, patches.shape[2] :]
    return regroup(bottleneck(latents, parameters["bottleneck_weight"], parameters["bottleneck_bias"]), factor)


def decode(
    parameters: Mapping[str, Any],
    z: Float64[np.ndarray, "B T S D"],
    kinds: Sequence[str],
    *,
    factor: int = 2,
    window: int | None = None,
    **settings: Unpack[Settings],
) -> Float64[np.ndarray, "B T N P"]:
    """Reconstruct the patches of every frame from its z and the z of earlier frames.

    Args:
        parameters: arrays under the names of `DECODER`, shapes in the module's docstring.
        z: latents, float64, (B, T, S, D) = (B, T, M/f, f C).
        kinds: axes that the layers mix, as from `layer_kinds`; [] runs no layer.
        factor: f, latents per group of `regroup`.
        window: context length C of time layers in frames, at least 1, the current frame included; None for no limit.
        settings: softcap, eps, base and axes of the layers, as in `Settings`.

    Returns:
        Pixels by patch, float64, (B, T, N, P).

    Raises:
        TypeError: if an array is not float64.
        ValueError: if a parameter is missing, shapes do not match, factor does not divide D, or an option is invalid.

    Example:
        >>> parameters = {"latent_weight": np.eye(2), "latent_bias": np.zeros(2), "queries": np.ones((5, 2))}
        >>> parameters |= {"layers": [], "norm": np.ones(2), "patch_weight": np.ones((2, 3)), "patch_bias": np.zeros(3)}
        >>> decode(parameters, np.zeros((1, 1, 2, 4)), [])[0, 0, 0].round(3).tolist()
        [2.0, 2.0, 2.0]
    """
    require_names("parameters", parameters, DECODER, equation="decoder")
    require_float64(equation="decoder", z=z)
    latents = unregroup(z, factor)
    require_shape("unregrouped z", latents, (None, None, None, len(parameters["latent_weight"])), equation="decoder")
    tokens = latents @ parameters["latent_weight"] + parameters["latent_bias"]
    x = np.concatenate([tokens, _in_every_frame(parameters["queries"], z)], axis=2)
    allow = _mask("decoder", ["latent"] * latents.shape[2] + ["image"] * len(parameters["queries"]))
    x = transformer(x, parameters["layers"], parameters["norm"], kinds, allow=allow, window=window, **settings)
    return np.asarray(x[:, :, latents.shape[2] :] @ parameters["patch_weight"] + parameters["patch_bias"])


def _in_every_frame(tokens: np.ndarray, video: np.ndarray) -> np.ndarray:
    return np.broadcast_to(tokens, (*video.shape[:2], *tokens.shape))


def _mask(kind: Literal["encoder", "decoder"], modalities: list[str]) -> np.ndarray:
    return modality_mask(kind, modalities, np.zeros(len(modalities), np.int64))
