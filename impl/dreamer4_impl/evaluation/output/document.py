"""evaluation.json: an evaluation as JSON, described by schema.json next to this module."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Final

from dreamer4_impl.evaluation.bars import Verdict
from dreamer4_impl.evaluation.evaluation import Evaluation

FORMAT: Final = "dreamer4-evaluation"
VERSION: Final = 1


def to_json(evaluation: Evaluation, verdicts: Sequence[Verdict] = ()) -> str:
    """Serialise an evaluation.

    Infinities are the strings "inf" and "-inf"; NaN, as the interval of a single clip, is null.

    Args:
        evaluation: results of all sections.
        verdicts: one verdict for each bar; empty without bars.

    Returns:
        JSON text that the schema describes.

    Example:
        >>> json.loads(to_json(Evaluation()))["format"]
        'dreamer4-evaluation'
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        **evaluation.facts,
        "measures": {name: asdict(measure) for name, measure in evaluation.measures.items()},
        "skipped": evaluation.skipped,
        "notes": evaluation.notes,
        "bars": [asdict(verdict) for verdict in verdicts],
        "seconds": {section: round(seconds, 2) for section, seconds in evaluation.seconds.items()},
    }
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """JSON Schema of evaluation.json.

    Returns:
        The schema.

    Example:
        >>> schema()["title"]
        'An evaluation of a Dreamer 4 model'
    """
    content: dict[str, Any] = json.loads(
        files("dreamer4_impl.evaluation.output").joinpath("schema.json").read_text("utf-8")
    )
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
