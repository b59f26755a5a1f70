"""Sec. 3.1, p. 5, and Sec. 3.3, p. 7: which token may attend to which.

Two rules decide, both must allow. Time: no token sees a later frame. Modality:

    encoder     latents see everything, each modality sees itself       query = latent  or  query = key
    decoder     each modality sees itself and the latents               key = latent    or  query = key
    dynamics    agent tokens see everything, nothing else sees them     query = agent   or  key ≠ agent

So what the encoder's latents gather reaches the decoder's patches through the latents alone, and the world is predicted
as if there were no agent. All three relations are transitive: no path through several layers opens what they forbid.
Layers factorise: a space layer applies the modality rule within each frame, a time layer joins each place with its own past.

Modalities are names: "latent", "image", further ones by names of their own; in the dynamics "latent" (its spatial tokens),
"register", "label", "action", "agent".
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Int

from dreamer4_reference.levels import require_option, require_shape

Kind = Literal["encoder", "decoder", "dynamics"]


def encoder_may_attend(query_modality: str, key_modality: str) -> bool:
    """Latents gather from every modality; patches of a modality never see latents or other modalities.

    >>> encoder_may_attend("latent", "image"), encoder_may_attend("image", "latent")
    (True, False)
    """
    return query_modality in ("latent", key_modality)


def decoder_may_attend(query_modality: str, key_modality: str) -> bool:
    """Every modality reads from the latents; latents see only latents.

    >>> decoder_may_attend("image", "latent"), decoder_may_attend("latent", "image")
    (True, False)
    """
    return key_modality in ("latent", query_modality)


def dynamics_may_attend(query_modality: str, key_modality: str) -> bool:
    """The firewall: agent tokens see everything, themselves included; all other tokens see everything else.

    >>> dynamics_may_attend("agent", "latent"), dynamics_may_attend("latent", "agent")
    (True, False)
    """
    return query_modality == "agent" or key_modality != "agent"


RULES: Final[dict[str, Callable[[str, str], bool]]] = {
    "encoder": encoder_may_attend,
    "decoder": decoder_may_attend,
    "dynamics": dynamics_may_attend,
}


def modality_mask(kind: Kind, modality: Sequence[str], frame: Int[np.ndarray, " N"]) -> Bool[np.ndarray, "N N"]:
    """Both rules for every pair of N tokens, rows are queries; frame holds the index of each token's frame.

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
