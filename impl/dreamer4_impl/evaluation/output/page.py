"""The evaluation as one HTML page that needs nothing from elsewhere; light or dark, as the reader has it."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from dreamer4_impl.evaluation.bars import Verdict
from dreamer4_impl.evaluation.evaluation import SECTIONS, Evaluation
from dreamer4_impl.evaluation.output.plots import dots, plots
from dreamer4_impl.evaluation.output.strips import animation, strip
from dreamer4_impl.evaluation.output.tables import TITLES, Table, tables, written
from dreamer4_impl.evaluation.results import Pictures

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { font-weight: 600; text-align: left; padding: .5rem 0; }
th, td { text-align: left; padding: .25rem 1.25rem .25rem 0; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums; }
tbody th { font-weight: 400; }
td { white-space: nowrap; }
figure { background: #fff; color: #000; margin: 1rem 0; padding: .75rem; border: 1px solid #8884; border-radius: .5rem;
  width: fit-content; max-width: 100%; box-sizing: border-box; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; display: block; }
figure img { max-width: 100%; }
.plots { display: flex; flex-wrap: wrap; gap: 0 1rem; }
figcaption { font-size: .9rem; padding-bottom: .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
small { font-weight: 400; opacity: .75; }
.met { color: light-dark(#17692c, #6cd587); }
.missed { color: light-dark(#b3151c, #ff8f8f); font-weight: 600; }
.skipped { border-left: 4px solid #8886; padding-left: 1rem; }
"""

_INTERVALS: Final = (
    "In brackets: 95 % bootstrap intervals over clips (rollouts, episodes), paired where differences are. "
    "PSNR is that of the mean square error over clips."
)


def to_html(evaluation: Evaluation, verdicts: Sequence[Verdict] = ()) -> str:
    """The whole page."""
    name = f"Evaluation of {_name(evaluation)}"
    parts = [f"<h1>{escape(name)}</h1>", f"<p>{escape(_INTERVALS)}</p>", *_bars(verdicts)]
    for section in SECTIONS:
        parts += _section(section, evaluation)
    parts += _facts(evaluation)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(name)}</title>'
    body = "\n".join(parts)
    page = f'<html lang="en">\n<head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>'
    return f"<!doctype html>\n{page}\n"


def _name(evaluation: Evaluation) -> str:
    path = Path(evaluation.facts.get("checkpoint", {}).get("path", "a model"))
    return f"{path.parents[1].name}, {path.name}" if len(path.parts) > 2 else str(path)


def _section(section: str, evaluation: Evaluation) -> Iterator[str]:
    yield f'<h2 id="{section}">{escape(TITLES[section])}</h2>'
    if section in evaluation.skipped:
        yield f'<p class="skipped">Left out: {escape(evaluation.skipped[section])}.</p>'
        return
    for table in tables(evaluation.measures):
        if table.section == section:
            yield from _table(table)
    for note in evaluation.notes.get(section, []):
        yield f"<p>{escape(note)}</p>"
    if section == "rollout":
        yield from _rollouts(evaluation)
    elif drawn := dots(evaluation.measures, section):
        yield _figure(drawn, "Dots with 95 % intervals")


def _rollouts(evaluation: Evaluation) -> Iterator[str]:
    yield '<div class="plots">'
    for title, svg in plots(evaluation.measures).items():
        yield _figure(svg, title)
    yield "</div>"
    for pictures in evaluation.pictures:
        yield from _pictures(pictures)


def _pictures(pictures: Pictures) -> Iterator[str]:
    rows = ", ".join(pictures.rows)
    yield _figure(_image("png", strip(pictures), f"{pictures.title}: rows {rows}"), f"{pictures.title}, frames ahead")
    yield _figure(_image("webp", animation(pictures), f"{pictures.title}, moving: {rows}"), f"{pictures.title}, moving")


def _image(kind: str, data: bytes, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/{kind};base64,{b64encode(data).decode()}">'


def _figure(content: str, title: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{content}</figure>"


def _table(table: Table) -> Iterator[str]:
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", *table.columns))
    title = "" if table.title == TITLES[table.section] else escape(table.title)
    yield f"<table><caption>{title} <small>{escape(table.n)}</small></caption>"
    yield f"<thead><tr>{columns}</tr></thead><tbody>"
    for name, cells in table.rows:
        values = "".join(f"<td>{escape(written(cell)) if cell else ''}</td>" for cell in cells)
        yield f'<tr><th scope="row">{escape(name)}</th>{values}</tr>'
    yield "</tbody></table>"


def _bars(verdicts: Sequence[Verdict]) -> Iterator[str]:
    if not verdicts:
        return
    met = sum(verdict.met for verdict in verdicts)
    yield f"<table><caption>Bars: {met} of {len(verdicts)} met</caption><tbody>"
    for verdict in verdicts:
        word = "met" if verdict.met else "missed"
        why = verdict.reason or f"{verdict.left:.3f} and {verdict.right:.3f}"
        yield f'<tr><th scope="row"><code>{escape(verdict.bar)}</code></th><td class="{word}">{word}</td>'
        yield f"<td>{escape(why)}</td></tr>"
    yield "</tbody></table>"


def _facts(evaluation: Evaluation) -> Iterator[str]:
    yield "<h2>What was evaluated</h2><dl>"
    for name, value in _flat(evaluation.facts):
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    for section, seconds in evaluation.seconds.items():
        yield f"<dt>seconds, {escape(section)}</dt><dd>{seconds:.1f}</dd>"
    yield "</dl>"


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        path = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            yield path, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
