"""An evaluation as a self-contained HTML page, in the light or dark colours of the reader."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from dreamer4_impl.evaluation.bars import Verdict
from dreamer4_impl.evaluation.evaluation import SECTIONS, Evaluation
from dreamer4_impl.evaluation.output.plots import dots, plots
from dreamer4_impl.evaluation.output.strips import animation, strip
from dreamer4_impl.evaluation.output.tables import TITLES, Table, format_measure, tables

_TEMPLATES: Final = Environment(
    loader=PackageLoader("dreamer4_impl.evaluation.output"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["measure"] = format_measure


@dataclass(frozen=True)
class _Image:
    caption: str
    text: str
    source: str


@dataclass(frozen=True)
class _Section:
    name: str
    title: str
    skipped: str = ""
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    plots: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[_Image] = ()


def to_html(evaluation: Evaluation, verdicts: Sequence[Verdict] = ()) -> str:
    """Render an evaluation; all texts are escaped.

    Args:
        evaluation: results of all sections.
        verdicts: one verdict for each bar; empty without bars.

    Returns:
        HTML document that loads nothing from other addresses.
    """
    seconds = {f"seconds, {section}": f"{value:.1f}" for section, value in evaluation.seconds.items()}
    return _TEMPLATES.get_template("evaluation.html").render(
        title=f"Evaluation of {_name(evaluation)}",
        verdicts=verdicts,
        sections=[_section(name, evaluation) for name in SECTIONS],
        facts=[*_flat(evaluation.facts), *seconds.items()],
    )


def _name(evaluation: Evaluation) -> str:
    path = Path(evaluation.facts.get("checkpoint", {}).get("path", "a model"))
    return f"{path.parents[1].name}, {path.name}" if len(path.parts) > 2 else str(path)


def _section(name: str, evaluation: Evaluation) -> _Section:
    if name in evaluation.skipped:
        return _Section(name, TITLES[name], skipped=evaluation.skipped[name])
    rollout = name == "rollout"
    drawn = plots(evaluation.measures) if rollout else {"Dots with 95 % intervals": dots(evaluation.measures, name)}
    return _Section(
        name,
        TITLES[name],
        tables=[table for table in tables(evaluation.measures) if table.section == name],
        notes=evaluation.notes.get(name, []),
        plots={title: svg for title, svg in drawn.items() if svg},
        images=list(_images(evaluation)) if rollout else (),
    )


def _images(evaluation: Evaluation) -> Iterator[_Image]:
    for pictures in evaluation.pictures:
        title, rows = pictures.title, ", ".join(pictures.rows)
        yield _Image(f"{title}, frames ahead", f"{title}: rows {rows}", _data_url("png", strip(pictures)))
        yield _Image(f"{title}, moving", f"{title}, moving: {rows}", _data_url("webp", animation(pictures)))


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            yield path, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
