"""Report of the GPU stages: merges results files and renders them as Markdown. Needs only the standard library.

    python benchmarks/gpu/report.py results.json                       writes results.md next to it
    python benchmarks/gpu/report.py A.json B.json --merge merged.json  one file of several runs, and its Markdown

A document is {"schema": 1, "environment": {…}, "ceilings": {stage: {…}}, "rows": […]}. Every row has "stage", "group",
"name", "status" and "seconds"; further keys depend on the group. Values derived from other rows, fractions of the floor
and ratios, are computed here.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

SCHEMA = 1
Row: TypeAlias = dict[str, Any]
Document: TypeAlias = dict[str, Any]
#: Statuses of rows that were started and gave no figures.
FAILED = ("failed", "timed out", "died")
#: Statuses of rows that were not started, or stopped before their budget, for lack of time.
UNFINISHED = ("not reached", "cut off")


def merged(documents: Sequence[Document]) -> Document:
    """Merge the documents of several runs: rows by stage, group and name (see `latest`), ceilings by stage.

    Args:
        documents: results of runs on one GPU, the earliest first.

    Returns:
        Document with all rows; environment entries that differ are joined by commas.

    Raises:
        ValueError: if a document has another schema, or if the GPUs differ.

    Example:
        >>> a = {"schema": 1, "environment": {"gpu": "X", "commit": "a"}, "ceilings": {}, "rows": []}
        >>> merged([a, {**a, "environment": {"gpu": "X", "commit": "b"}}])["environment"]
        {'gpu': 'X', 'commit': 'a, b'}
    """
    for document in documents:
        if document.get("schema") != SCHEMA:
            raise ValueError(f"a results file must have schema {SCHEMA}; got {document.get('schema')!r}")
    gpus = {document["environment"].get("gpu") for document in documents}
    if len(gpus) > 1:
        raise ValueError(f"only results of one GPU at a time can be merged; got those of {sorted(map(str, gpus))}")
    rows: dict[tuple[str, str, str], Row] = {}
    environment: dict[str, list[Any]] = {}
    ceilings: dict[str, Any] = {}
    for document in documents:
        ceilings |= document["ceilings"]
        for name, value in document["environment"].items():
            environment.setdefault(name, []).append(value)
        for row in document["rows"]:
            key = row["stage"], row["group"], row["name"]
            rows[key] = latest(rows[key], row) if key in rows else row
    return {
        "schema": SCHEMA,
        "environment": {name: _joined(values) for name, values in environment.items()},
        "ceilings": ceilings,
        "rows": list(rows.values()),
    }


def _joined(values: Sequence[Any]) -> Any:
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else ", ".join(map(str, distinct))


def latest(earlier: Row, later: Row) -> Row:
    """Select the valid one of two measurements of a row: the later one, unless it has less information.

    A row that was not reached or cut off replaces only another such row. Figures are replaced only by figures; a later
    failure is added to them as a note.

    >>> ok = {"status": "ok", "ms": 1.0}
    >>> latest(ok, {"status": "not reached"}), latest({"status": "failed"}, ok)
    ({'status': 'ok', 'ms': 1.0}, {'status': 'ok', 'ms': 1.0})
    >>> latest(ok, {"status": "died", "error": "exit status 3"})
    {'status': 'ok', 'ms': 1.0, 'note': 'died in a later run', 'error': 'exit status 3'}
    """
    if later["status"] == "ok" or earlier["status"] in UNFINISHED:
        return later
    if later["status"] in UNFINISHED:
        return earlier
    if earlier["status"] != "ok":
        return later
    if later["status"] not in FAILED:
        return earlier
    return earlier | {"note": f"{later['status']} in a later run", "error": later["error"]}


def of_stage(rows: Iterable[Row], stage: str) -> list[Row]:
    """Rows of one stage, in the same order.

    >>> of_stage([{"stage": "check"}, {"stage": "decode"}], "decode")
    [{'stage': 'decode'}]
    """
    return [row for row in rows if row["stage"] == stage]


def floor_ms(passes: Iterable[dict[str, float]], ceilings: dict[str, float]) -> float:
    """Least possible time of consecutive passes in ms: for each the larger of its arithmetic and its memory time.

    >>> floor_ms([{"flop": 2e12, "bytes": 1e9}], {"matmul_tflops": 1000.0, "copy_tbps": 4.0})
    2.0
    """
    flops, bandwidth = ceilings["matmul_tflops"] * 1e9, ceilings["copy_tbps"] * 1e9
    return sum(max(work["flop"] / flops, work["bytes"] / bandwidth) for work in passes)


def derived(document: Document) -> Document:
    """Add "floor_ms" and "fraction" to rows with passes, and "to_flex" to rows in groups with Flex.

    >>> row = {"stage": "kernels", "group": "g", "name": "triton", "status": "ok", "ms": 1.0}
    >>> rows = derived({"ceilings": {}, "rows": [row, {**row, "name": "flex", "ms": 3.0}]})["rows"]
    >>> [row["to_flex"] for row in rows]
    [3.0, 1.0]
    """
    flex = {_case(row): row["ms"] for row in document["rows"] if row["name"].startswith("flex") and "ms" in row}
    rows = []
    for row in document["rows"]:
        ceilings, more = document["ceilings"].get(row["stage"]), {}
        if "ms" in row and "passes" in row and ceilings:
            floor = floor_ms(row["passes"], ceilings)
            more = {"floor_ms": floor, "fraction": floor / row["ms"]}
        if "ms" in row and _case(row) in flex:
            more["to_flex"] = flex[_case(row)] / row["ms"]
        rows.append(row | more)
    return document | {"rows": rows}


def markdown(document: Document) -> str:
    """Render the document as one Markdown page.

    >>> print(markdown({"environment": {}, "ceilings": {}, "rows": []}).splitlines()[0])
    # Results on a GPU
    """
    document = derived(document)
    parts = [_heading(document)]
    for stage in _distinct(document["rows"], "stage"):
        rows = of_stage(document["rows"], stage)
        parts.append(f"## {stage}")
        if stage in document["ceilings"]:
            parts.append(_ceilings(document["ceilings"][stage]))
        parts += [_group(group, [row for row in rows if row["group"] == group]) for group in _distinct(rows, "group")]
    failures = [row for row in document["rows"] if "error" in row]
    if failures:
        parts += ["## Failures", *map(_failure, failures)]
    return "\n\n".join(parts) + "\n"


def _heading(document: Document) -> str:
    environment = document["environment"]
    listed = "\n".join(f"- {name}: {value}" for name, value in environment.items() if name != "gpu")
    return f"# Results on {environment.get('gpu', 'a GPU')}\n\n{listed}".strip()


def _ceilings(ceilings: dict[str, float]) -> str:
    return (
        f"Measured in the same run: {ceilings['matmul_tflops']:.0f} TFLOP/s in a bfloat16 matrix product of "
        f"{ceilings['matmul_size']}³, {ceilings['copy_tbps']:.2f} TB/s in a copy, bytes read and written both counted."
    )


#: Title and format of every column; a table shows the columns that have a value in at least one row.
COLUMNS = {
    "status": ("", "{}"),
    "note": ("note", "{}"),
    "reason": ("reason", "{}"),
    "ms": ("ms", "{:.3f}"),
    "time_ms": ("ms over time", "{:.3f}"),
    "fps": ("frames/s", "{:.1f}"),
    "frame_ms": ("ms per frame", "{:.2f}"),
    "paper_fps": ("paper, one H100", "{:.1f}"),
    "floor_ms": ("floor, ms", "{:.3f}"),
    "fraction": ("floor / time", "{:.0%}"),
    "to_flex": ("speed-up over Flex", "{:.2f}×"),
    "attention_share": ("attention", "{:.1%}"),
    "peak_gib": ("peak, GiB", "{:.2f}"),
    "predicted": ("predicted", "{}"),
    "detail": ("description", "{}"),
    "seconds": ("seconds", "{:.1f}"),
}


def _group(group: str, rows: list[Row]) -> str:
    if any("ranked" in row for row in rows):
        rows = sorted(rows, key=lambda row: row.get("ms", float("inf")))
    held = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)]
    if all(row["status"] == "ok" for row in rows):
        held.remove("status")
    lines = ["| " + " | ".join([group, *(COLUMNS[name][0] for name in held)]) + " |", "|---" * (len(held) + 1) + "|"]
    lines += ["| " + " | ".join([row["name"], *(_cell(row, name) for name in held)]) + " |" for row in rows]
    return "\n".join(lines)


def _cell(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else COLUMNS[name][1].format(value).replace("|", "\\|")


def _failure(row: Row) -> str:
    status = row.get("note", row["status"])
    return f"{row['group']}, {row['name']}: {status}\n\n```\n{row.get('error', '').strip()}\n```"


def _case(row: Row) -> tuple[str, str]:
    return row["stage"], row["group"]


def _distinct(rows: Iterable[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def dumped(document: Document) -> str:
    """JSON text of the document with its derived values."""
    return json.dumps(derived(document), indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: merge results files, and write the JSON and Markdown files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="results.json")
    parser.add_argument("--merge", type=Path, metavar="merged.json", help="output file for the merged results")
    options = parser.parse_args(arguments)
    if options.merge is None and len(options.results) > 1:
        parser.error("several files need --merge")
    try:
        document = merged([json.loads(path.read_text(encoding="utf-8")) for path in options.results])
    except (OSError, ValueError) as error:
        parser.error(str(error))
    path = options.merge or options.results[0]
    path.write_text(dumped(document), encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(document), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
