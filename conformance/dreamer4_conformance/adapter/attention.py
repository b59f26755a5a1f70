"""Operations of Sec. 3.4: attention, its cap, its norms and its rotation."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from dreamer4_conformance.adapter.operation import Array, operation
from dreamer4_conformance.verdicts import NotProvided


class AttentionOptions(TypedDict):
    """Keyword arguments of `AttentionOperations.attention`, which documents them: for signatures of adapters.

    Example:
        `def attention(self, q, k, v, **options: Unpack[AttentionOptions])`
    """

    causal: bool
    window: int | None
    softcap: float | None
    scale: NotRequired[float | None]


class AttentionOperations:
    """Attention of one layer, as functions. Sec. 3.4."""

    @operation
    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        *,
        causal: bool,
        window: int | None,
        softcap: float | None,
        scale: float | None = None,
    ) -> Array:
        """Grouped-query attention without norms and rotation. Sec. 3.4.

        With a non-empty `backends`, the suite passes one of its names as the further keyword `backend`.

        Args:
            q: queries, float (B, L, Hq, D), Hq a multiple of Hkv.
            k: keys, float (B, L, Hkv, D); head h of k and v serves queries h Hq/Hkv to (h + 1) Hq/Hkv − 1.
            v: values, float (B, L, Hkv, D).
            causal: whether query i attends only to keys j ≤ i.
            window: number of keys that a query attends to, itself included: i − window < j. None disables it; set only
                together with `causal`.
            softcap: c of the logits' cap c tanh(logit / c), above 0, applied before the mask; None disables it.
            scale: factor of q·k before the cap, above 0; None stands for 1/√D.

        Returns:
            Outputs, float (B, L, Hq, D).

        Raises:
            NotProvided: if not overridden. Raise NotImplementedError for options that a backend does not support.
        """
        raise NotProvided

    @operation
    def soft_cap(self, logits: Array, cap: float) -> Array:
        """Bound logits smoothly: cap · tanh(logits / cap). Sec. 3.4.

        Args:
            logits: float of any shape.
            cap: c, above 0.

        Returns:
            Capped logits in [−cap, cap], shaped like logits.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def qk_norm(self, q: Array, k: Array) -> tuple[Array, Array]:
        """Normalise queries and keys for each head over D. Sec. 3.4.

        Reading A31: RMS, L2 or LayerNorm. Learned gains, if there are any, are 1.

        Args:
            q: queries, float (B, L, Hq, D).
            k: keys, float (B, L, Hkv, D).

        Returns:
            A pair (q, k) of the same shapes.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided

    @operation
    def rope(self, x: Array, positions: Array) -> Array:
        """Rotate queries or keys by their positions along one axis. Sec. 3.4.

        Reading A35: the model uses it along time and space, or along time only.

        Args:
            x: queries or keys, float (B, L, H, D), D even.
            positions: position of each token, int (L,), at least 0, increasing. From 64 on, an operation may
                raise any exception, as at the end of a table.

        Returns:
            Rotated x, float (B, L, H, D), with the same norm in every head.

        Raises:
            NotProvided: if not overridden.
        """
        raise NotProvided
