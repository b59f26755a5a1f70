"""Sec. 3.1, p. 5: the causal tokenizer.

    encoder: [N patches | N_l latents] of each frame → latents → linear, tanh → (B, T, 512, 16) → z (B, T, 256, 32)
    decoder: z → (B, T, 512, 16) → linear → [N_l latents | N patch queries] → patches → linear → pixels

Latents, patch queries and the embedding of a dropped patch are learned. The masks are those of `masks`; over time each
token attends to the tokens of the same index in earlier frames. The decoder receives only z.
Read as (A36): a spatial token is the concatenation of two consecutive latents.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer4_impl.arguments import require_dtype, require_floating, require_rank, require_shape
from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.equations.sec31_patch_dropout import patch_dropout, replace_dropped
from dreamer4_impl.layers.initialisation import learned
from dreamer4_impl.layers.masks import private_tokens
from dreamer4_impl.layers.patches import patchify, unpatchify
from dreamer4_impl.layers.rms_norm import RMSNorm
from dreamer4_impl.models.configuration import TokenizerConfig
from dreamer4_impl.models.transformer import Transformer


def regroup(latents: Float[Tensor, "B T N C"], spatial_tokens: int = 256) -> Float[Tensor, "B T S D"]:
    """Concatenate every N/S consecutive latents to one spatial token: (B, T, 512, 16) → (B, T, 256, 32).

    Exact; differentiable; compiles without graph breaks.

    Args:
        latents: any dtype, (B, T, N, C).
        spatial_tokens: S, a divisor of N.

    Returns:
        Spatial tokens, a view, (B, T, S, D) with D = C N/S.

    Raises:
        ValueError: if latents do not have four axes or S does not divide N.

    Example:
        >>> regroup(torch.arange(4.0).reshape(1, 1, 4, 1), spatial_tokens=2).tolist()
        [[[[0.0, 1.0], [2.0, 3.0]]]]
    """
    require_rank("latents", latents, 4, "(B, T, N, C)")
    if latents.shape[2] % spatial_tokens:
        raise ValueError(f"spatial_tokens must divide the {latents.shape[2]} latents; got {spatial_tokens!r}")
    return latents.reshape(*latents.shape[:2], spatial_tokens, -1)


def ungroup(z: Float[Tensor, "B T S D"], latents: int = 512) -> Float[Tensor, "B T N C"]:
    """Split spatial tokens into latents: the inverse of `regroup`.

    Exact; differentiable; compiles without graph breaks.

    Args:
        z: spatial tokens of any dtype, (B, T, S, D).
        latents: N, a multiple of S.

    Returns:
        Latents, a view, (B, T, N, C) with C = D S/N.

    Raises:
        ValueError: if z does not have four axes or N is no multiple of S.

    Example:
        >>> ungroup(torch.arange(4.0).reshape(1, 1, 2, 2), latents=4).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    require_rank("z", z, 4, "(B, T, S, D)")
    if latents % z.shape[2]:
        raise ValueError(f"latents must be a multiple of the {z.shape[2]} spatial tokens; got {latents!r}")
    return z.reshape(*z.shape[:2], latents, -1)


class Encoder(nn.Module):
    """Encoder of the tokenizer: patches to latents.

    Args:
        config: sizes of patches and latents, and the transformer.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> Encoder(tiny().tokenizer)(torch.zeros(1, 2, 4, 48)).shape
        torch.Size([1, 2, 10, 3])
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config, width = config, config.encoder.width
        self.embed_patch = nn.Linear(config.patch_width, width)
        self.dropped = learned(width)
        self.latents = learned(config.latents, width, spread=config.latent_spread)
        self.transformer = Transformer(config.encoder)
        self.norm = RMSNorm(width, config.encoder.norm_eps)
        self.bottleneck = nn.Linear(width, config.latent_channels)
        self.private = private_tokens("encoder", ["image"] * config.patches + ["latent"] * config.latents)

    def forward(
        self,
        patches: Float[Tensor, "B T N P"],
        dropped: Bool[Tensor, "B T N"] | None = None,
        *,
        cache: Cache | None = None,
    ) -> Float[Tensor, "B T N_l C"]:
        """Encode patches.

        Args:
            patches: values in the dtype of the parameters, (B, T, N, P).
            dropped: patches that are replaced by a learned embedding, bool, (B, T, N); None is none of them.
            cache: past of the frames of this call, to which they are added; None is no past.

        Returns:
            Latents in [−1, 1], tanh of a linear map of the latent tokens, (B, T, N_l, C).

        Raises:
            TypeError: if patches or dropped has a wrong dtype.
            ValueError: if shapes or devices do not match.
        """
        tokens = self.embed_patch(patches)
        if dropped is not None:
            tokens = replace_dropped(tokens, dropped, self.dropped)
        tokens = torch.cat([tokens, self.latents.expand(*tokens.shape[:2], -1, -1)], dim=2)
        tokens = self.transformer(tokens, private=self.private, cache=cache)
        return self.bottleneck(self.norm(tokens[:, :, self.config.patches :])).tanh()


class Decoder(nn.Module):
    """Decoder of the tokenizer: latents to patches.

    Args:
        config: sizes of patches and latents, and the transformer.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> Decoder(tiny().tokenizer)(torch.zeros(1, 2, 10, 3)).shape
        torch.Size([1, 2, 4, 48])
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config, width = config, config.decoder.width
        self.embed_latent = nn.Linear(config.latent_channels, width)
        self.queries = learned(config.patches, width, spread=config.query_spread)
        self.transformer = Transformer(config.decoder)
        self.norm = RMSNorm(width, config.decoder.norm_eps)
        self.read_patch = nn.Linear(width, config.patch_width)
        self.private = private_tokens("decoder", ["latent"] * config.latents + ["image"] * config.patches)

    def forward(self, latents: Float[Tensor, "B T N_l C"], *, cache: Cache | None = None) -> Float[Tensor, "B T N P"]:
        """Decode latents.

        Args:
            latents: values in the dtype of the parameters, (B, T, N_l, C).
            cache: past of the frames of this call, to which they are added; None is no past.

        Returns:
            Pixels of every patch, not clipped, (B, T, N, P).

        Raises:
            TypeError: if latents has a wrong dtype.
            ValueError: if shape or device of latents does not match.
        """
        tokens = self.embed_latent(latents)
        tokens = torch.cat([tokens, self.queries.expand(*tokens.shape[:2], -1, -1)], dim=2)
        tokens = self.transformer(tokens, private=self.private, cache=cache)
        return self.read_patch(self.norm(tokens[:, :, self.config.latents :]))


class Tokenizer(nn.Module):
    """Encodes video in [0, 1] to its representation z, and decodes it. Starts with random parameters.

    z lies in [−1, 1], unless `standardise_latents` has set another origin and unit.

    With a cache, `encode` and `decode` continue its frames: frame by frame equals all at once. Inputs and outputs have
    the dtype of the parameters. Deterministic except for patch dropout; differentiable without a cache; compiles
    without graph breaks; no host synchronisation.

    Args:
        config: sizes of frames, patches and latents, and the transformers.

    Example:
        >>> from dreamer4_impl.models.presets import tiny
        >>> tokenizer, video = Tokenizer(tiny().tokenizer), torch.rand(2, 3, 6, 8, 3)
        >>> tokenizer(video).shape, tokenizer.encode(video, cache=tokenizer.encoder_cache(2)).shape
        (torch.Size([2, 3, 6, 8, 3]), torch.Size([2, 3, 5, 6]))
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        if config.standardise:
            self.register_buffer("pixel_mean", torch.zeros(config.height, config.width, config.channels))
            self.register_buffer("pixel_std", torch.ones(()))
        if config.standardise_latents:
            self.register_buffer("latent_mean", torch.zeros(config.spatial_tokens, config.spatial_channels))
            self.register_buffer("latent_std", torch.ones(()))

    def standardise(self, mean: Float[Tensor, "H W C"], std: float) -> None:
        """Set mean frame and standard deviation of the data, which are saved with the model.

        Args:
            mean: mean frame of the data, floating, (H, W, C).
            std: root mean square of the data's deviations from it, over all pixels, above 0.

        Raises:
            TypeError: if mean is not a floating-point tensor.
            ValueError: if the configuration has no `standardise`, mean has a wrong shape, or std is not above 0.
        """
        if not self.config.standardise:
            raise ValueError("config.standardise must be True for a tokenizer with a mean frame; got False")
        require_floating(mean=mean)
        require_shape("mean", mean, self.pixel_mean.shape, "(H, W, C)", like=mean)
        _require_std(std)
        self.pixel_mean.copy_(mean)
        self.pixel_std.fill_(std)

    def standardise_latents(self, mean: Float[Tensor, "S D"], std: float) -> None:
        """Set origin and unit of z, which are saved with the model: z ← (z − mean) / std.

        A second call replaces the first, whose z is that of the networks trained since.

        Args:
            mean: mean of z in [−1, 1] over the data, floating, (S, D).
            std: root mean square of the data's deviations from it, over all entries of z, above 0.

        Raises:
            TypeError: if mean is not a floating-point tensor.
            ValueError: if the configuration has no `standardise_latents`, mean has a wrong shape, or std is not above
                0.
        """
        if not self.config.standardise_latents:
            raise ValueError("config.standardise_latents must be True for a tokenizer with a mean of z; got False")
        require_floating(mean=mean)
        require_shape("mean", mean, self.latent_mean.shape, "(S, D)", like=mean)
        _require_std(std)
        self.latent_mean.copy_(mean)
        self.latent_std.fill_(std)

    def forward(
        self, video: Float[Tensor, "B T H W C"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "B T H W C"]:
        """Reconstruct a video, in training mode with dropped patches.

        Args:
            video: values in [0, 1] in the dtype of the parameters, (B, T, H, W, C).
            generator: source of the dropped patches, on the device of video; None is torch's global state.

        Returns:
            Reconstruction, not clipped, (B, T, H, W, C).

        Raises:
            TypeError: if video has a wrong dtype.
            ValueError: if shape or device of video does not match.
        """
        if not self.training:
            return self.reconstruct(video)
        batch, time = video.shape[:2]
        dropped = patch_dropout(batch, time, self.config.patches, generator=generator, device=video.device)
        return self.decode(self.encode(video, dropped))

    def reconstruct(self, video: Float[Tensor, "B T H W C"]) -> Float[Tensor, "B T H W C"]:
        """Reconstruct a video without dropping patches.

        Args:
            video: values in [0, 1] in the dtype of the parameters, (B, T, H, W, C).

        Returns:
            Reconstruction, not clipped, (B, T, H, W, C).

        Raises:
            TypeError: if video has a wrong dtype.
            ValueError: if shape or device of video does not match.
        """
        return self.decode(self.encode(video))

    def encode(
        self,
        video: Float[Tensor, "B T H W C"],
        dropped: Bool[Tensor, "B T N"] | None = None,
        *,
        cache: Cache | None = None,
    ) -> Float[Tensor, "B T S D"]:
        """Encode a video.

        Args:
            video: values in [0, 1] in the dtype of the parameters unless autocast is on, (B, T, H, W, C).
            dropped: patches that the encoder does not receive, bool, (B, T, N), True for a dropped one; None, as at
                inference, is none of them.
            cache: past of the frames of this call, from `encoder_cache`, to which they are added; None is no past.

        Returns:
            Representation z, (B, T, S, D).

        Raises:
            TypeError: if video or dropped has a wrong dtype.
            ValueError: if shapes or devices do not match.
        """
        config = self.config
        require_floating(video=video)
        require_rank("video", video, 5, "(B, T, H, W, C)")
        frame = (config.height, config.width, config.channels)
        require_shape("video", video, (*video.shape[:2], *frame), "(B, T, H, W, C)", like=self.encoder.latents)
        require_dtype("video", video, self.encoder.latents)
        if config.standardise:
            video = (video - self.pixel_mean) / self.pixel_std
        latents = self.encoder(patchify(video, config.patch), dropped, cache=cache)
        z = regroup(latents, config.spatial_tokens)
        return (z - self.latent_mean) / self.latent_std if config.standardise_latents else z

    def decode(self, z: Float[Tensor, "B T S D"], *, cache: Cache | None = None) -> Float[Tensor, "B T H W C"]:
        """Decode a representation.

        Args:
            z: representation in the dtype of the parameters unless autocast is on, (B, T, S, D).
            cache: past of the frames of this call, from `decoder_cache`, to which they are added; None is no past.

        Returns:
            Video, not clipped to [0, 1], (B, T, H, W, C).

        Raises:
            TypeError: if z has a wrong dtype.
            ValueError: if shape or device of z does not match.
        """
        config = self.config
        require_floating(z=z)
        require_rank("z", z, 4, "(B, T, S, D)")
        shape = (*z.shape[:2], config.spatial_tokens, config.spatial_channels)
        require_shape("z", z, shape, "(B, T, S, D)", like=self.decoder.queries)
        require_dtype("z", z, self.decoder.queries)
        if config.standardise_latents:
            z = z * self.latent_std + self.latent_mean
        patches = self.decoder(ungroup(z, config.latents), cache=cache)
        video = unpatchify(patches, config.height, config.width, config.patch)
        return video * self.pixel_std + self.pixel_mean if config.standardise else video

    def encoder_cache(self, batch: int) -> Cache:
        """Allocate a cache for `encode`.

        Args:
            batch: B, videos, 1 or more.

        Returns:
            Empty cache on the device of the parameters.
        """
        return self.encoder.transformer.empty_cache(batch, self.config.patches + self.config.latents)

    def decoder_cache(self, batch: int) -> Cache:
        """Allocate a cache for `decode`.

        Args:
            batch: B, videos, 1 or more.

        Returns:
            Empty cache on the device of the parameters.
        """
        return self.decoder.transformer.empty_cache(batch, self.config.patches + self.config.latents)


def _require_std(std: float) -> None:
    if not 0 < std < math.inf:
        raise ValueError(f"std must be above 0 and finite; got {std!r}")
