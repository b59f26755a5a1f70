"""What one part of an evaluation has found."""

from dataclasses import dataclass, field

from jaxtyping import UInt8
from torch import Tensor

from dreamer4_impl.evaluation.measures import Measure


class SkippedError(Exception):
    """The reason, as a sentence, why a part of an evaluation is left out."""


@dataclass(frozen=True)
class Pictures:
    """One clip as several rows show it, from the last frames of the context on.

    Args:
        title: which clip it is.
        rows: name → frames (T, H, W, C), all of one length.
        context: how many of them are context, the same in every row.
    """

    title: str
    rows: dict[str, UInt8[Tensor, "T H W C"]]
    context: int


@dataclass
class Findings:
    """Measures by name, sentences for people, and pictures."""

    measures: dict[str, Measure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: list[Pictures] = field(default_factory=list)
