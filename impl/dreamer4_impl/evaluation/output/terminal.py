"""The evaluation as tables on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamer4_impl.evaluation.bars import Verdict
from dreamer4_impl.evaluation.evaluation import Evaluation
from dreamer4_impl.evaluation.output.tables import tables, written


def print_evaluation(evaluation: Evaluation, verdicts: Sequence[Verdict], console: Console) -> None:
    """Every table, what was left out and why, and the bars."""
    for table in tables(evaluation.measures):
        shown = Table(title=f"{escape(table.title)} ({table.n})", title_justify="left")
        shown.add_column("")
        for column in table.columns:
            shown.add_column(column, justify="right")
        for name, cells in table.rows:
            shown.add_row(escape(name), *(escape(written(cell)) if cell else "" for cell in cells))
        console.print(shown)
    for section, notes in evaluation.notes.items():
        for note in notes:
            console.print(f"[dim]{section}:[/] {escape(note)}", highlight=False)
    for section, reason in evaluation.skipped.items():
        console.print(f"[yellow]left out[/] {section}: {escape(reason)}", highlight=False)
    for verdict in verdicts:
        word = "[green]met   [/]" if verdict.met else "[red]missed[/]"
        why = verdict.reason or f"{verdict.left:.3f} and {verdict.right:.3f}"
        console.print(f"{word} {escape(verdict.bar)}  [dim]({escape(why)})[/]", highlight=False)
