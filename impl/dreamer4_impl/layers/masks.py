"""Sec. 3.1 and 3.3: which modality attends to which within a frame.

    encoder:  latents attend to every modality; every other modality only to itself
    decoder:  latents attend only to latents; every other modality to itself and the latents
    dynamics: agent tokens attend to all tokens; all other tokens to all but agent tokens

Over time each token attends only to the tokens at its position in earlier frames, so the rules hold across frames too.
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
    """Decide whether a token may attend to another one of the same frame.

    Args:
        kind: "encoder", "decoder" or "dynamics".
        query: modality of the token that attends: "latent" or another name; in the dynamics "agent" or another name.
        key: modality of the token that is attended to, named like `query`.

    Returns:
        True where attention is allowed.

    Raises:
        ValueError: if the kind is unknown.

    Example:
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
    """Build the mask of the S tokens of a frame.

    Args:
        kind: "encoder", "decoder" or "dynamics".
        modalities: of the S tokens, in order, named as in `may_attend`.
        device: of the result; None is torch's default.

    Returns:
        Bool, rows are queries, True = may attend.

    Raises:
        ValueError: if the kind is unknown.

    Example:
        >>> space_mask("decoder", ["latent", "image"]).tolist()
        [[True, False], [True, True]]
    """
    names = list(dict.fromkeys(modalities))
    table = torch.tensor([[may_attend(kind, query, key) for key in names] for query in names], device=device)
    index = torch.tensor([names.index(modality) for modality in modalities], device=device)
    return table[index[:, None], index]


def private_tokens(kind: Kind, modalities: Sequence[str]) -> int:
    """Count the tokens at the end of a frame that are visible to each other only, all others being visible to all.

    With this number `attention` needs no mask.

    Args:
        kind: "encoder", "decoder" or "dynamics".
        modalities: of the S tokens, in order, named as in `may_attend`; at least one.

    Returns:
        The number of private tokens, in [0, S].

    Raises:
        ValueError: if the kind is unknown, or the rule for these modalities is not of this form.

    Example:
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
        raise ValueError(f"modalities must end with the private ones, all others visible to all; got {modalities}")
    return private
