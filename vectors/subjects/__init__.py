"""The subjects of the vectors: one module for each stem, which yields the vectors of its equation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vectors.subjects import (
    constants,
    eq01_corruption,
    eq02_sampling,
    eq04_grid,
    eq05_tokenizer_loss,
    eq06_07_shortcut_forcing,
    eq08_ramp_weight,
    eq09_multi_token,
    eq10_lambda_return,
    eq11_pmpo,
    loss_normalisation,
    minecraft_actions,
    sec31_masks,
    sec31_patch_dropout,
    sec31_tokenizer,
    sec34_attention,
    sec34_norms,
    sec34_rope,
    sec34_swiglu,
    twohot,
)
from vectors.vector import Vector

SUBJECTS: Mapping[str, Callable[[], Iterator[Vector]]] = {
    "eq01_corruption": eq01_corruption.vectors,
    "eq02_sampling": eq02_sampling.vectors,
    "eq04_grid": eq04_grid.vectors,
    "eq05_tokenizer_loss": eq05_tokenizer_loss.vectors,
    "eq06_07_shortcut_forcing": eq06_07_shortcut_forcing.vectors,
    "eq08_ramp_weight": eq08_ramp_weight.vectors,
    "eq09_multi_token": eq09_multi_token.vectors,
    "twohot": twohot.vectors,
    "eq10_lambda_return": eq10_lambda_return.vectors,
    "eq11_pmpo": eq11_pmpo.vectors,
    "loss_normalisation": loss_normalisation.vectors,
    "constants": constants.vectors,
    "minecraft_actions": minecraft_actions.vectors,
    "sec31_masks": sec31_masks.vectors,
    "sec31_patch_dropout": sec31_patch_dropout.vectors,
    "sec31_tokenizer": sec31_tokenizer.vectors,
    "sec34_attention": sec34_attention.vectors,
    "sec34_norms": sec34_norms.vectors,
    "sec34_rope": sec34_rope.vectors,
    "sec34_swiglu": sec34_swiglu.vectors,
}
"""Stem, which is the name of the file, → its vectors."""
