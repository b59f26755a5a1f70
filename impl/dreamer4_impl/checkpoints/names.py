"""Names that commands list before anything else is loaded: phases of training and configuration presets."""

from pathlib import Path
from typing import Final, Literal

PhaseName = Literal["tokenizer", "dynamics", "agent", "imagine"]
PHASES: Final[tuple[PhaseName, ...]] = ("tokenizer", "dynamics", "agent", "imagine")
"""Phases of training in the order of Algorithm 1."""

SEQUENCE_TABLES: Final = ("record", "evaluation")
"""Tables of a configuration that only `dreamer4-train all` uses."""


def preset_documents() -> dict[str, Path]:
    """Configurations that come with the package.

    Returns:
        Path of the TOML document by preset name, sorted by name.

    Example:
        >>> list(preset_documents())
        ['atari-cpu', 'atari-gpu', 'grid-cpu']
    """
    return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.toml"))}
