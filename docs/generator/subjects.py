"""Modules of the reference in reading order: their pages, titles and counterparts in the implementation."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

COUNTERPARTS: dict[str, tuple[str, ...]] = {
    "eq01_corruption": ("equations/eq01_corruption.py",),
    "eq02_sampling": ("equations/eq02_sampling.py",),
    "eq03_shortcut_target": (),
    "eq04_grid": ("equations/eq04_grid.py",),
    "eq05_tokenizer_loss": ("equations/eq05_tokenizer_loss.py",),
    "loss_normalisation": ("equations/loss_normalisation.py",),
    "eq06_07_shortcut_forcing": ("equations/eq06_07_shortcut_forcing.py",),
    "eq08_ramp_weight": ("equations/eq08_ramp_weight.py",),
    "eq09_multi_token": ("equations/eq09_multi_token.py",),
    "twohot": ("equations/twohot.py",),
    "eq10_lambda_return": ("equations/eq10_lambda_return.py",),
    "eq11_pmpo": ("equations/eq11_pmpo.py",),
    "sec31_masks": ("layers/masks.py",),
    "sec31_patch_dropout": ("equations/sec31_patch_dropout.py",),
    "sec31_tokenizer": ("models/tokenizer.py", "layers/patches.py"),
    "sec32_dynamics": ("models/dynamics.py", "layers/actions.py", "layers/label_token.py"),
    "sec34_attention": ("attention/eager.py", "attention/dispatch.py"),
    "sec34_layers": ("models/transformer.py",),
    "sec34_norms": ("layers/rms_norm.py",),
    "sec34_rope": ("layers/rope.py",),
    "sec34_swiglu": ("layers/swiglu.py",),
    "algorithm1_training": ("training/step_plan.py",),
    "minecraft_actions": ("layers/mouse.py",),
    "constants": ("constants.py",),
    "levels": ("arguments.py",),
}
"""Reference module → files of `dreamer4_impl` with the same content."""

TITLES: dict[str, str] = {
    "eq01_corruption": "Eq. 1 and 6: corruption",
    "eq02_sampling": "Eq. 2: sampling",
    "eq03_shortcut_target": "Eq. 3: shortcut target in velocities",
    "eq04_grid": "Eq. 4: step sizes and signal levels",
    "eq05_tokenizer_loss": "Eq. 5: loss of the tokenizer",
    "loss_normalisation": "Sec. 3.1: running RMS of the losses",
    "eq06_07_shortcut_forcing": "Eq. 6 and 7: shortcut forcing",
    "eq08_ramp_weight": "Eq. 8: ramp weight",
    "eq09_multi_token": "Eq. 9: multi-token prediction",
    "twohot": "Sec. 3.3: symexp two-hot",
    "eq10_lambda_return": "Eq. 10: λ-returns and value loss",
    "eq11_pmpo": "Eq. 11: PMPO",
    "sec31_masks": "Sec. 3.1: masks",
    "sec31_patch_dropout": "Sec. 3.1: masked autoencoding",
    "sec31_tokenizer": "Sec. 3.1: tokenizer",
    "sec32_dynamics": "Sec. 3.2: dynamics",
    "sec34_attention": "Sec. 3.4: attention",
    "sec34_layers": "Sec. 3.4: space and time layers",
    "sec34_norms": "Sec. 3.4: RMSNorm and QK-norm",
    "sec34_rope": "Sec. 3.4: RoPE",
    "sec34_swiglu": "Sec. 3.4: SwiGLU",
    "algorithm1_training": "Algorithm 1: training phases and batches",
    "minecraft_actions": "Sec. 4: actions of Minecraft",
    "constants": "Constants of the paper",
    "levels": "Requirements on arguments",
}
"""Reference module → title of its page, without formatting."""


@dataclass(frozen=True)
class Subject:
    """A reference module, the subject of one page.

    Attributes:
        stem: file stem in the reference, and name of the page.
    """

    stem: str

    @property
    def module(self) -> ModuleType:
        """The reference module."""
        return import_module(f"dreamer4_reference.{self.stem}")

    @property
    def title(self) -> str:
        """Title of the page."""
        return TITLES[self.stem]

    @property
    def counterparts(self) -> tuple[str, ...]:
        """Files of the implementation with the same content, relative to the repository's root."""
        return tuple(f"impl/dreamer4_impl/{path}" for path in COUNTERPARTS[self.stem])

    @property
    def members(self) -> list[Any]:
        """Public functions and classes that the module defines, in the order of the file."""
        defined = [
            member
            for name, member in vars(self.module).items()
            if isinstance(member, FunctionType | type)
            and member.__module__ == self.module.__name__
            and not name.startswith("_")
        ]
        return sorted(defined, key=lambda member: inspect.getsourcelines(member)[1])


SUBJECTS = tuple(Subject(stem) for stem in TITLES)
