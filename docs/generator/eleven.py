"""The page "Dreamer 4 in eleven equations": its displayed equations, shared with the pages of the equations."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "eleven-equations.md"

STEMS: dict[str, tuple[int, ...]] = {
    "eq01_corruption": (1, 6),
    "eq02_sampling": (2,),
    "eq03_shortcut_target": (3,),
    "eq04_grid": (4,),
    "eq05_tokenizer_loss": (5,),
    "eq06_07_shortcut_forcing": (6, 7),
    "eq08_ramp_weight": (8,),
    "eq09_multi_token": (9,),
    "eq10_lambda_return": (10,),
    "eq11_pmpo": (11,),
}
"""Reference module → numbers of its equations."""


@cache
def equations() -> dict[int, str]:
    """Displayed equations of the page by number, in LaTeX."""
    text = PAGE.read_text(encoding="utf-8")
    return {int(number): latex for latex, number in re.findall(r"^\$\$\n(.*?)\n\$\$ \(eq(\d+)\)$", text, re.M | re.S)}


def equations_of(stem: str) -> list[str]:
    """Displayed equations of a reference module.

    Args:
        stem: of the module.

    Raises:
        KeyError: if the page lacks an equation of the module.
    """
    return [equations()[number] for number in STEMS.get(stem, ())]
