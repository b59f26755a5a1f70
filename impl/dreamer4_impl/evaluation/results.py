"""Results of a section of an evaluation."""

from dataclasses import dataclass, field

from jaxtyping import UInt8
from torch import Tensor

from dreamer4_impl.evaluation.measures import Measure


class SkippedError(Exception):
    """Raised if a section cannot be measured; the message is the reason, without a full stop."""


@dataclass(frozen=True)
class Pictures:
    """One clip as shown by several predictors, starting with the last frames of the context.

    Args:
        title: caption, which clip it is.
        rows: frames by predictor, uint8, (T, H, W, C) each, of equal T.
        context: number of leading frames that are context, equal in every row.
    """

    title: str
    rows: dict[str, UInt8[Tensor, "T H W C"]]
    context: int


@dataclass
class SectionResult:
    """Result of one section.

    Args:
        measures: measures by name, such as "rollout.k4.psnr.h8".
        notes: remarks for the page, full sentences.
        pictures: example clips.
    """

    measures: dict[str, Measure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: list[Pictures] = field(default_factory=list)
