"""Draws the reports on three versions of README's adapter, as text and picture, and writes `examples.md`, their page.

python conformance/reports/picture.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

README = Path(__file__).parents[2] / "README.md"
ARGUMENTS = ("run", "my_adapter.py:Mine")
COMMAND = " ".join(["dreamer4-conformance", *ARGUMENTS])
WIDTH = 80

TITLES = {
    "right": "All right",
    "failing": "An inverted ramp: `ramp(tau)` returns 1 − 0.9 τ",
    "free-levels": "Free levels: `shortcut_loss` draws τ uniformly on [0, 1), not on the grid of d",
}
RIGHT_LOSS = """
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss as shortcut_loss
"""
FREE_LEVELS = """
import torch
from dreamer4_impl.equations.eq06_07_shortcut_forcing import shortcut_forcing_loss_at

def shortcut_loss(network, z1, actions):
    d = 0.5 ** torch.randint(7, z1.shape[:2]).to(z1)
    tau = torch.rand_like(d)
    return shortcut_forcing_loss_at(network, z1, torch.randn_like(z1), tau, d, actions, k_max=64)
"""
RIGHT_RAMP = """
def ramp(tau):
    return 0.9 * tau + 0.1
"""
INVERTED_RAMP = """
def ramp(tau):
    return 1 - 0.9 * tau
"""
PROJECTS = {
    "right": RIGHT_RAMP + RIGHT_LOSS,
    "failing": INVERTED_RAMP + RIGHT_LOSS,
    "free-levels": RIGHT_RAMP + FREE_LEVELS,
}
"""Name of a version → the module `my_project` that README's adapter imports."""


def output(name: str) -> str:
    """What the command prints for one version of `my_project`, with the escape sequences of a terminal's colours."""
    adapter = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[0]
    with TemporaryDirectory() as folder:
        Path(folder, "my_adapter.py").write_text(adapter, "utf-8")
        Path(folder, "my_project.py").write_text(PROJECTS[name], "utf-8")
        settings = {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        run = subprocess.run(
            [sys.executable, "-m", "dreamer4_conformance", *ARGUMENTS],
            cwd=folder,
            env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    if run.returncode not in (0, 1):
        raise RuntimeError(f"{COMMAND} ended with status {run.returncode}: {run.stderr}")
    return run.stdout


def text_of(printed: str) -> str:
    """The output without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", printed)


def picture(printed: str) -> str:
    """What a terminal of 80 columns shows, as SVG."""
    screen = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    for line in printed.splitlines():
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
    printed = {name: output(name) for name in PROJECTS}
    for name in PROJECTS:
        Path(__file__).with_name(f"{name}.svg").write_text(picture(printed[name]) + "\n", "utf-8")
    texts = {name: text_of(printed[name]) for name in PROJECTS}
    Path(__file__).with_name("examples.md").write_text(page(texts), "utf-8")
