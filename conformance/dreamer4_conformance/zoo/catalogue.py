"""Names, clauses and descriptions of all mistakes without importing them, which would import PyTorch.

`python -m dreamer4_conformance.zoo.catalogue` writes `mistakes.json` from the classes; run it after adding a mistake or
changing its description. A test compares both.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

FILE = "mistakes.json"


def catalogue() -> dict[str, tuple[str, str]]:
    """Every mistake of the zoo: id → (clause that rejects it, description)."""
    return {name: (clause, text) for name, (clause, text) in json.loads(_resource().read_text("utf-8")).items()}


def write() -> None:
    """Writes the file from the registered classes."""
    from dreamer4_conformance.zoo.mistakes import MISTAKES

    rows = {mistake.id: [mistake.clause, mistake.description] for mistake in MISTAKES.values()}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in rows.items())
    _resource().write_text(f"{{\n{lines}\n}}\n", "utf-8")


def _resource() -> Path:
    return Path(str(files(__package__) / FILE))


if __name__ == "__main__":
    write()
