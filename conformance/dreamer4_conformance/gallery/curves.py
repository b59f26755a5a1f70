"""Curves of an implementation and of the paper: how they are stored. `recording` computes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

SCHEMA = 1
Kind = Literal["line", "bars", "points"]


@dataclass(frozen=True)
class Curve:
    """Values of an implementation and of the paper over the same abscissae.

    Attributes:
        title: what is drawn, with its conditions.
        x_label: quantity of the abscissa.
        y_label: quantity of the ordinate.
        x: abscissae; texts for categories.
        theirs: values of the implementation, one for each abscissa; None where there is none.
        paper: values of the paper, likewise.
        kind: "line" for values of a function, "bars" for shares, "points" for scattered values.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float | str, ...]
    theirs: tuple[float | None, ...]
    paper: tuple[float | None, ...]
    kind: Kind = "line"

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.theirs) == len(self.paper) > 0:
            sizes = f"{len(self.x)}, {len(self.theirs)} and {len(self.paper)}"
            raise ValueError(f"{self.title}: x, theirs and paper have {sizes} values; they need as many, at least one")


def to_json(adapter: str, version: str, curves: Mapping[str, Curve]) -> str:
    """Curves of one implementation as JSON text.

    Args:
        adapter: name of the adapter.
        version: of the implementation.
        curves: by name.

    Returns:
        JSON text, the same for the same curves.
    """
    document = {
        "schema": SCHEMA,
        "adapter": adapter,
        "version": version,
        "curves": {name: asdict(curve) for name, curve in curves.items()},
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_curves(path: Path) -> dict[str, Curve]:
    """Read the curves of one implementation.

    Args:
        path: of a file written by `dreamer4-conformance curves`.

    Returns:
        Curves by name; none if there is no file.

    Raises:
        ValueError: if the file cannot be read or does not follow the format.
    """
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']}; this version reads {SCHEMA}")
        return {name: _curve(entry) for name, entry in document["curves"].items()}
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _curve(entry: dict[str, Any]) -> Curve:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    return Curve(**values)
