"""Tables of an evaluation on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamer4_impl.evaluation.bars import Verdict
from dreamer4_impl.evaluation.evaluation import Evaluation
from dreamer4_impl.evaluation.output.tables import format_measure, tables


def print_evaluation(evaluation: Evaluation, verdicts: Sequence[Verdict], console: Console) -> None:
    """Print the tables, the skipped sections with their reasons, and the verdicts.

    Args:
        evaluation: results of all sections.
        verdicts: one verdict for each bar; empty without bars.
        console: where to print.
    """
    for table in tables(evaluation.measures):
        grid = Table(title=f"{escape(table.title)} ({table.n})", title_justify="left")
        grid.add_column("")
        for column in table.columns:
            grid.add_column(column, justify="right")
        for name, cells in table.rows:
            grid.add_row(escape(name), *(escape(format_measure(cell)) if cell else "" for cell in cells))
        console.print(grid)
    for section, notes in evaluation.notes.items():
        for note in notes:
            console.print(f"[dim]{section}:[/] {escape(note)}", highlight=False)
    for section, reason in evaluation.skipped.items():
        console.print(f"[yellow]skipped[/] {section}: {escape(reason)}", highlight=False)
    for verdict in verdicts:
        status = "[green]met   [/]" if verdict.met else "[red]missed[/]"
        console.print(f"{status} {escape(verdict.bar)}  [dim]({escape(verdict.detail)})[/]", highlight=False)
