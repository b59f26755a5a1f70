"""Sec. 3.1 and 3.3: which modality attends to which within a frame.

    encoder:  latents see every modality; every other modality sees only itself
    decoder:  latents see only latents; every other modality sees itself and the latents
    dynamics: agent tokens see everything; everything else sees everything but agent tokens

Over time each token attends to its own place in earlier frames alone, so what holds within a frame holds throughout.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from dreamer4_impl.arguments import require_option

Kind = Literal["encoder", "decoder", "dynamics"]


def may_attend(kind: Kind, query: str, key: str) -> bool:
    """Whether a token of modality `query` may attend to one of modality `key` in the same frame.

    Args:
        kind: "encoder", "decoder" or "dynamics".
        query, key: "latent" or any other name of a modality; in the dynamics "agent" or any other name.

    >>> may_attend("encoder", "latent", "image"), may_attend("decoder", "latent", "image")
    (True, False)
    >>> may_attend("dynamics", "agent", "latent"), may_attend("dynamics", "latent", "agent")
    (True, False)
    """
    require_option("kind", kind, get_args(Kind))
    if kind == "dynamics":
        return query == "agent" or key != "agent"
    return query == key or (query if kind == "encoder" else key) == "latent"


def space_mask(kind: Kind, modalities: Sequence[str], device: torch.device | str | None = None) -> Bool[Tensor, "S S"]:
    """Mask of the S tokens of a frame with these modalities: rows are queries, True = may attend.

    >>> space_mask("decoder", ["latent", "image"]).tolist()
    [[True, False], [True, True]]
    """
    names = list(dict.fromkeys(modalities))
    table = torch.tensor([[may_attend(kind, query, key) for key in names] for query in names], device=device)
    index = torch.tensor([names.index(modality) for modality in modalities], device=device)
    return table[index[:, None], index]


def private_tokens(kind: Kind, modalities: Sequence[str]) -> int:
    """How many tokens at the end of a frame are seen by themselves alone, while all else is seen by everybody.

    So `attention` needs a bound in place of a mask. Modalities that do not come down to this are refused.

    >>> private_tokens("encoder", ["image", "image", "latent"]), private_tokens("dynamics", ["latent", "latent"])
    (1, 0)
    """
    last, names = modalities[-1], set(modalities)
    private = len(list(takewhile(lambda modality: modality == last, reversed(modalities))))
    table = {(query, key): may_attend(kind, query, key) for query in names for key in names}
    if all(table.values()):
        return 0
    bounded = {(query, key): key != last or query == last for query, key in table}
    if table != bounded or last in modalities[:-private]:
        raise ValueError(f"modalities must end with those that no other sees, all else being seen; got {modalities}")
    return private
