"""Finding a bug: takes the code and the repairs from the tutorial's page, and trains a network with each version.

python -m docs.finding_a_bug
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from docs.shortcut_forcing import Network, draw, measure

PAGE = Path(__file__).with_name("finding-a-bug.md")
RESULTS = Path(__file__).with_suffix(".json")
NAMES = ("as found", "first repair", "both repairs")
"""Names of the versions, in the order of the page."""


def blocks(language: str) -> list[str]:
    """Code blocks of the page in one language, in order.

    Args:
        language: as it is marked in the page.
    """
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"))


@cache
def versions() -> dict[str, str]:
    """Source of the implementation before and after each repair, by name.

    Raises:
        ValueError: if a line that a repair replaces does not occur once.
    """
    sources = [blocks("python")[0]]
    for repair in blocks("diff"):
        ((old,), (new,)) = (re.findall(rf"(?m)^\{sign}(    .*)$", repair) for sign in "-+")
        if sources[-1].count(old) != 1:
            raise ValueError(f"the repair needs the line {old!r} once; it occurs {sources[-1].count(old)} times")
        sources.append(sources[-1].replace(old, new))
    return dict(zip(NAMES, sources, strict=True))


def implementation(name: str) -> ModuleType:
    """Module of one version.

    Args:
        name: one of `NAMES`.
    """
    module = ModuleType("small_loss")
    exec(versions()[name], module.__dict__)
    return module


def adapter(name: str) -> Any:
    """The page's adapter of one version.

    Args:
        name: one of `NAMES`.
    """
    namespace: dict[str, Any] = {}
    previous = sys.modules.get("small_loss")
    sys.modules["small_loss"] = implementation(name)
    try:
        exec(blocks("python")[1], namespace)
    finally:
        sys.modules.pop("small_loss")
        if previous is not None:
            sys.modules["small_loss"] = previous
    return namespace["Mine"]()


def train(name: str, steps: int = 4000, seed: int = 0) -> tuple[Network, list[float]]:
    """Train a network on numbers with one version of the loss.

    Args:
        name: one of `NAMES`.
        steps: of the optimiser, with 512 numbers each.
        seed: of parameters, data and noise.

    Returns:
        The network, and the loss of every step.
    """
    torch.manual_seed(seed)
    loss_of = implementation(name).shortcut_loss
    generator, network, losses = torch.Generator().manual_seed(seed), Network(), []
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(steps):
        loss = loss_of(network, draw(512, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return network, losses


def results(name: str) -> dict[str, Any]:
    """Mean losses of stretches of 100 steps, and distances and paths of samples, of one version.

    Args:
        name: one of `NAMES`.
    """
    network, losses = train(name)
    means = torch.tensor(losses).view(-1, 100).mean(1)
    return {"losses": [round(x, 5) for x in means.tolist()], **measure(network, shortcut=True)}


def main() -> None:
    """Train with every version and write the results."""
    RESULTS.write_text(json.dumps({name: results(name) for name in NAMES}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
