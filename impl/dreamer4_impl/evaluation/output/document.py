"""evaluation.json: an evaluation as data, with the schema beside this module (schema.json)."""

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
    """The document.

    Numbers are JSON numbers; "inf" and "-inf" stand for what has none, null for what does not exist, as the interval of a
    single clip.

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
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """JSON Schema of the document.

    >>> schema()["title"]
    'An evaluation of a Dreamer 4 model'
    """
    found: dict[str, Any] = json.loads(
        files("dreamer4_impl.evaluation.output").joinpath("schema.json").read_text("utf-8")
    )
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
