"""Operations of Eq. (5) and Sec. 3.1: the tokenizer, its loss, its masked patches and its latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dreamer4_conformance.adapter.operation import Array, operation
from dreamer4_conformance.verdicts import NotProvided


class TokenizerOperations:
    """The tokenizer. Sec. 3.1, p. 5."""

    @operation
    def tokenizer_loss(self, mse: Array, lpips: Array) -> Array:
        """Combine the tokenizer's loss terms: L_MSE + 0.2 L_LPIPS. Eq. (5), Sec. 3.1, p. 5.

        Args:
            mse: the normalised mean squared error, a float scalar.
            lpips: the normalised LPIPS term, a float scalar.

        Returns:
            The loss, a float scalar. No state: equal arguments give equal results.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def loss_normalizer(self) -> Callable[[str, Array], Array]:
        """Create a running-RMS normaliser of loss terms. Sec. 3.1, p. 5; Sec. 3.4.

        Reading A24: decay, first estimate and order of update and division are open; `rms_warmup` declares when the
        estimate is settled.

        Returns:
            A fresh function n(name, value) → value divided by the running root mean square of the term `name`. It
            updates that estimate in each call. The suite's terms are "mse" and "lpips", each value is a float scalar.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def encode(self, video: Array) -> Array:
        """Encode frames at inference, without patch dropout. Sec. 3.1, p. 5.

        Args:
            video: "video" of `example`, (B, T, …).

        Returns:
            Latents z after the bottleneck's tanh, float (B, T, S, D) in [−1, 1].

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def decode(self, z: Array) -> Array:
        """Decode latents into frames. Sec. 3.1, p. 5.

        Args:
            z: latents, float (B, T, S, D) in [−1, 1].

        Returns:
            Frames, float (B, T, …).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def reconstruct(self, video: Array) -> Array:
        """Encode and decode frames at inference, in one pass. Sec. 3.1, p. 5.

        Args:
            video: "video" of `example`, (B, T, …).

        Returns:
            Frames, float (B, T, …); decode(encode(video)) unless the bottleneck is bypassed. Either may clip pixels.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def decode_init(self, batch: int) -> Any:
        """Create the state of `decode_step` before the first frame. Sec. 3.1, p. 5.

        Args:
            batch: B, at least 1.

        Returns:
            The state, of any type, with an empty cache.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def decode_step(self, state: Any, z: Array) -> tuple[Array, Any]:
        """Decode the next frame with a cache of the past; frame by frame it equals `decode`. Sec. 3.1, p. 5.

        Args:
            state: from `decode_init` or the previous step.
            z: latents of the frame, float (B, 1, S, D) in [−1, 1].

        Returns:
            A pair (video, state): the frame, float (B, 1, …), and the state after it.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def patch_dropout(self, seed: int, batch: int, time: int, patches: int) -> Array:
        """Draw the patches that masked-autoencoder training drops. Sec. 3.1, p. 5.

        For each image p ~ U(0, 0.9); then each patch is dropped with probability p, or an exact count of them (A33).

        Args:
            seed: determines the draw, in [0, 2³¹).
            batch: B, at least `min_batch`.
            time: T, at least 1.
            patches: N, patches of a frame, at least 1.

        Returns:
            bool (B, T, N), True = dropped.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def mae_replace(self, tokens: Array, mask: Array, embedding: Array) -> Array:
        """Replace dropped patches by the learned embedding. Sec. 3.1, p. 5.

        Args:
            tokens: patch tokens, float (B, T, N, D).
            mask: bool (B, T, N), True = dropped.
            embedding: the learned embedding, float (D,).

        Returns:
            float (B, T, N, D).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def patch_grid(self, height: int, width: int) -> tuple[int, int]:
        """Count the patches of a frame after padding. Sec. 3.1, p. 5.

        Args:
            height: of the frame in pixels, before padding, at least 1.
            width: of the frame in pixels, before padding, at least 1.

        Returns:
            A pair (rows, columns) of patches, integers.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def regroup(self, z: Array) -> Array:
        """Reshape the bottleneck's latents to those that the dynamics model takes. Sec. 3.1, p. 5.

        Reading A36: consecutive pairs of tokens side by side, or another order.

        Args:
            z: latents of the bottleneck, float (B, T, 512, 16).

        Returns:
            float (B, T, 256, 32).

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided
