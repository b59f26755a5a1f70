"""Draws `failing.svg`, the picture in README: the terminal report of a wrong adapter.

python conformance/reports/picture.py
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import torch
from rich.console import Console

from dreamer4_conformance import TorchAdapter
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.report.terminal import print_report
from dreamer4_conformance.run_report import run, selection

COMMAND = "dreamer4-conformance run my_adapter.py:Mine"


class Mine(TorchAdapter):
    """A ramp weight for noise levels, declared as one for signal levels."""

    name, version = "me/dreamer4", "1.0"
    k_max = 64

    def ramp_weight(self, tau: torch.Tensor) -> torch.Tensor:
        """1 − 0.9 τ where Eq. (8) has 0.9 τ + 0.1."""
        return 1 - 0.9 * tau


def picture() -> str:
    """The report on the clauses of Eq. (8) as SVG, 100 columns wide."""
    rerun = f"{COMMAND} --clause {{clause}}"
    report = run(examine(Mine()), selection([8], None), profile="ci", seed=0, rerun_command=rerun)
    console = Console(record=True, width=100, file=StringIO(), force_terminal=True)
    print_report(report, console)
    return console.export_svg(title=f"{COMMAND} --eq 8")


if __name__ == "__main__":
    Path(__file__).with_name("failing.svg").write_text(picture() + "\n", "utf-8")
