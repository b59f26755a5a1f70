"""Draws the reports on three versions of README's adapter, as text and picture, and writes `examples.md`, their page.

python conformance/reports/picture.py
"""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from dreamer4_conformance import Report
from dreamer4_conformance.adapters.validation import examine
from dreamer4_conformance.report.terminal import print_report, to_text
from dreamer4_conformance.run_report import run, selection
from dreamer4_conformance.threads import single_thread
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss, shortcut_forcing_loss_at
from dreamer4_impl.equations.eq08_ramp_weight import ramp_weight

README = Path(__file__).parents[2] / "README.md"
COMMAND = "dreamer4-conformance run my_adapter.py:Mine"
WIDTH = 80


def inverted_ramp(tau: Tensor) -> Tensor:
    """1 − 0.9 τ where Eq. (8) has 0.9 τ + 0.1: a ramp for noise levels, on signal levels."""
    return 1 - 0.9 * tau


def loss_with_free_levels(network: Any, z1: Tensor, actions: Any) -> Tensor:
    """The shortcut forcing loss with τ uniform on [0, 1), where Eq. (4) draws multiples of d."""
    d = 0.5 ** torch.randint(7, z1.shape[:2]).to(z1)
    tau = torch.rand_like(d)
    return shortcut_forcing_loss_at(network, z1, torch.randn_like(z1), tau, d, actions, k_max=64)


TITLES = {
    "right": "All right",
    "failing": "An inverted ramp: `ramp(tau)` returns 1 − 0.9 τ",
    "free-levels": "Free levels: `shortcut_loss` draws τ uniformly on [0, 1), not on the grid of d",
}
PROJECTS = {
    "right": {"ramp": ramp_weight, "shortcut_loss": shortcut_forcing_loss},
    "failing": {"ramp": inverted_ramp, "shortcut_loss": shortcut_forcing_loss},
    "free-levels": {"ramp": ramp_weight, "shortcut_loss": loss_with_free_levels},
}
"""Name of a version → the functions that README's adapter imports from `my_project`."""


def report(name: str) -> Report:
    """The report on README's adapter of one version of `my_project`."""
    project, namespace = ModuleType("my_project"), {"__name__": "my_adapter"}
    vars(project).update(PROJECTS[name])
    source = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[0]
    sys.modules["my_project"] = project
    try:
        exec(source, namespace)
    finally:
        del sys.modules["my_project"]
    rerun = f"{COMMAND} --clause {{clause}}"
    with single_thread():
        subject = examine(namespace["Mine"])  # type: ignore[arg-type]
        return run(subject, selection(None, None), profile="ci", seed=0, rerun_command=rerun)


def picture(drawn: Report) -> str:
    """What a terminal of 80 columns shows, as SVG."""
    stream = StringIO()
    print_report(drawn, Console(file=stream, width=WIDTH, force_terminal=True, color_system="standard"))
    screen = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    for line in stream.getvalue().splitlines():
        text = Text.from_ansi(line)
        for row in text.divide(range(WIDTH, len(text), WIDTH)):  # a terminal breaks a long line at its edge
            screen.print(row)
    return screen.export_svg(title=COMMAND, unique_id="report")


def page(texts: dict[str, str]) -> str:
    """Markdown page of the three reports, each as picture and as text."""
    sections = [
        f"## {TITLES[name]}\n\n![{TITLES[name]}]({name}.svg)\n\n<details><summary>as text</summary>\n\n"
        f"```text\n{text}```\n\n</details>\n"
        for name, text in texts.items()
    ]
    start = f"# Three reports\n\nWhat `{COMMAND}` prints for README's adapter and three versions of `my_project`.\n"
    source = "`python conformance/reports/picture.py` draws this page; a test compares it with what the suite prints.\n"
    return "\n".join([start, source, *sections])


if __name__ == "__main__":
    texts = {}
    for name in PROJECTS:
        drawn, path = report(name), Path(__file__).with_name(name)
        texts[name] = to_text(drawn, WIDTH)
        path.with_suffix(".svg").write_text(picture(drawn) + "\n", "utf-8")
    Path(__file__).with_name("examples.md").write_text(page(texts), "utf-8")
