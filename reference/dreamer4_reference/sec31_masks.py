"""Sec. 3.1, p. 5, and Sec. 3.3, p. 7: which token may attend to which.

A key is visible to a query if two rules allow it. Time: no token sees a later frame. Modality:

    encoder     latents see everything, each modality sees itself       query = latent  or  query = key
    decoder     each modality sees itself and the latents               key = latent    or  query = key
    dynamics    agent tokens see everything, nothing else sees them     query = agent   or  key ≠ agent

So information from the encoder's patches reaches the decoder's patches only through the latents, and agent tokens do
not influence the predicted frames. All three relations are transitive: stacking layers opens no path that the mask
forbids. Layers are factorised: a space layer applies the modality rule within each frame, a time layer lets each token
index attend to its own past.

Modalities are strings: "latent", "image" and names of further modalities; in the dynamics "latent" (its spatial
tokens), "register", "label", "action", "agent".
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Int

from dreamer4_reference.levels import require_option, require_shape

Kind = Literal["encoder", "decoder", "dynamics"]


def encoder_may_attend(query_modality: str, key_modality: str) -> bool:
    """Modality rule of the encoder: latents see every modality; patches see only their own modality, never latents.

    Args:
        query_modality: modality of the query, such as "latent" or "image".
        key_modality: that of the key, by the same names.

    Returns:
        True if the query may attend to the key within a frame.

    Example:
        >>> encoder_may_attend("latent", "image"), encoder_may_attend("image", "latent")
        (True, False)
    """
    return query_modality in ("latent", key_modality)


def decoder_may_attend(query_modality: str, key_modality: str) -> bool:
    """Modality rule of the decoder: every modality sees itself and the latents; latents see only latents.

    Args:
        query_modality: modality of the query, such as "latent" or "image".
        key_modality: that of the key, by the same names.

    Returns:
        True if the query may attend to the key within a frame.

    Example:
        >>> decoder_may_attend("image", "latent"), decoder_may_attend("latent", "image")
        (True, False)
    """
    return key_modality in ("latent", query_modality)


def dynamics_may_attend(query_modality: str, key_modality: str) -> bool:
    """Modality rule of the dynamics: agent tokens see everything, agent tokens included; all others see all but agent
    tokens.

    Args:
        query_modality: modality of the query: "latent", "register", "label", "action" or "agent".
        key_modality: that of the key, by the same names.

    Returns:
        True if the query may attend to the key within a frame.

    Example:
        >>> dynamics_may_attend("agent", "latent"), dynamics_may_attend("latent", "agent")
        (True, False)
    """
    return query_modality == "agent" or key_modality != "agent"


RULES: Final[dict[str, Callable[[str, str], bool]]] = {
    "encoder": encoder_may_attend,
    "decoder": decoder_may_attend,
    "dynamics": dynamics_may_attend,
}
"""Modality rule (query, key) → allowed, by kind of transformer."""


def modality_mask(kind: Kind, modality: Sequence[str], frame: Int[np.ndarray, " N"]) -> Bool[np.ndarray, "N N"]:
    """Mask of both rules, time and modality, for every pair of N tokens.

    Args:
        kind: "encoder", "decoder" or "dynamics".
        modality: modality of each of the N tokens.
        frame: index of each token's frame, any integer dtype, (N,).

    Returns:
        bool, (N, N), rows are queries, True = may attend.

    Raises:
        TypeError: if frame is not of an integer dtype.
        ValueError: if kind is unknown or modality and frame differ in length.

    Example:
        >>> modality_mask("decoder", ["latent", "image", "image"], np.array([0, 0, 1])).astype(int).tolist()
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    require_option("kind", kind, tuple(RULES), equation="modality mask")
    require_shape("frame", frame, (len(modality),), equation="modality mask")
    if not np.issubdtype(frame.dtype, np.integer):
        raise TypeError(f"modality mask: frame has dtype {frame.dtype}, but must hold whole numbers")
    tokens = [(name, int(t)) for name, t in zip(modality, frame, strict=True)]
    allowed = [
        [key_frame <= query_frame and RULES[kind](query, key) for key, key_frame in tokens]
        for query, query_frame in tokens
    ]
    return np.array(allowed, dtype=bool).reshape(len(tokens), len(tokens))
