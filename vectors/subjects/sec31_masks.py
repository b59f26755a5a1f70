"""Vectors of Sec. 3.1 and 3.2: which token may attend to which.

Null where a mask may hide what the rule shows: keys of earlier frames, which time layers may carry.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dreamer4_reference.sec31_masks import Kind, modality_mask
from vectors.vector import Vector, exact

CLAUSES: dict[Kind, str] = {
    "encoder": "tok.encoder-mask",
    "decoder": "tok.decoder-mask",
    "dynamics": "net.space-full",
}
TOKENS: dict[Kind, dict[str, list[str]]] = {
    "encoder": {
        "images": ["latent", "image", "image", "latent"],
        "two-modalities": ["sound", "latent", "image", "latent", "sound", "image"],
    },
    "decoder": {
        "images": ["latent", "image", "image", "latent"],
        "two-modalities": ["sound", "latent", "image", "latent", "sound", "image"],
    },
    "dynamics": {
        "all-tokens": ["action", "label", "latent", "latent", "register", "agent"],
        "two-agents": ["latent", "agent", "latent", "agent", "action"],
    },
}


def _mask(kind: Kind, name: str, tokens: list[str], frames: int) -> Vector:
    frame = np.repeat(np.arange(frames), len(tokens))
    allowed = modality_mask(kind, frames * tokens, frame)
    free = (frame[:, None] > frame) & allowed
    clause = "dyn.agent-firewall" if name == "two-agents" else CLAUSES[kind]
    inputs = {"kind": kind, "modality": frames * tokens, "frame": frame}
    flags = ("time_one",) if frames == 1 else ()
    title = f"{kind}-{name}-{'one-frame' if frames == 1 else f'{frames}-frames'}"
    return Vector(title, "modality_mask", clause, inputs, {"result": exact(allowed, free)}, flags)


def _space_mask(kind: Kind, counts: list[tuple[str, int]]) -> Vector:
    tokens = [name for name, count in counts for _ in range(count)]
    allowed = modality_mask(kind, tokens, np.zeros(len(tokens), np.int64))
    name, inputs = "-".join([kind, *(modality for modality, _ in counts)]), {"kind": kind, "counts": counts}
    return Vector(name, "space_mask", CLAUSES[kind], inputs, {"result": exact(allowed)}, ("time_one",))


def vectors() -> Iterator[Vector]:
    """Masks of one frame and of two, by both operations."""
    for kind, lists in TOKENS.items():
        for name, tokens in lists.items():
            yield from (_mask(kind, name, tokens, frames) for frames in (1, 2))
    for kind in ("encoder", "decoder"):
        for counts in ([("image", 3), ("latent", 2)], [("latent", 1), ("sound", 2), ("image", 1)]):
            yield _space_mask(kind, counts)
    yield _space_mask("dynamics", [("latent", 2), ("register", 1), ("label", 1), ("action", 1), ("agent", 1)])
