"""Validation of an episode and its conversion to rows of the dataset's arrays."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Shaped
from numpy.typing import ArrayLike

from dreamer4_impl.data.format import Header, action_column
from dreamer4_impl.layers.actions import Binary, Categorical, Component

Rows: TypeAlias = dict[str, np.ndarray[Any, Any]]
"""Arrays by name, one row per frame."""


def episode_rows(
    header: Header,
    task: int,
    frames: ArrayLike,
    actions: Mapping[str, ArrayLike] | None,
    rewards: ArrayLike | None,
    continues: ArrayLike | None,
    labelled: ArrayLike | None,
) -> Rows:
    """Convert an episode of N frames to the arrays of `Header.columns`.

    Args:
        header: header of the dataset.
        task: index of the episode's task, from 0.
        frames: uint8 (N, H, W, C), N of 1 or more.
        actions: a_{t−1} of every component by name, (N, …) each; None if they are unknown.
        rewards: finite numbers (N,); None is 0.
        continues: bool (N,), True in all rows but the last; None is True.
        labelled: bool (N,), True where the action is known; None is False in the first row and True in all others,
            or False everywhere if there are no actions.

    Returns:
        One array of N rows by column name.

    Raises:
        ValueError: if an argument has another shape or dtype, is not finite, or is out of range.
    """
    frames = np.asarray(frames)
    length = len(frames)
    if length == 0:
        raise ValueError("frames must hold at least one; got none")
    default = np.arange(length) > 0 if actions is not None else np.zeros(length, bool)
    labels = _checked("labelled", default if labelled is None else labelled, (length,), "bool")
    rows: Rows = {
        "frames": _checked("frames", frames, (length, header.height, header.width, header.channels), "uint8"),
        "rewards": _numbers("rewards", np.zeros(length) if rewards is None else rewards, (length,)),
        "continues": _checked(
            "continues", np.ones(length, bool) if continues is None else continues, (length,), "bool"
        ),
        "first": np.arange(length) == 0,
        "labelled": labels,
        "task": np.full(length, task),
    }
    if not rows["continues"][:-1].all():
        raise ValueError("continues must be True except in an episode's last row; got False before it")
    _require_names(header, actions, labels)
    for component in header.components:
        rows[action_column(component)] = _action(component, (actions or {}).get(component.name), labels)
    return {name: rows[name].astype(dtype, copy=False) for name, (dtype, _) in header.columns().items()}


def _require_names(header: Header, actions: Mapping[str, ArrayLike] | None, labels: Bool[np.ndarray, " N"]) -> None:
    names = sorted(component.name for component in header.components)
    if actions is not None and sorted(actions) != names:
        raise ValueError(f"actions must hold the components {names}; got {sorted(actions)}")
    if actions is None and labels.any():
        raise ValueError("labelled must be False where there are no actions; got True")


def _action(
    component: Component, values: ArrayLike | None, labels: Bool[np.ndarray, " N"]
) -> Shaped[np.ndarray, "N ..."]:
    """Values of a component where they are labelled, 0 elsewhere."""
    name, shape = f"actions[{component.name!r}]", (len(labels), *component.shape(1, 1)[2:])
    if values is None:
        return np.zeros(shape)
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {array.shape}")
    array = _numbers(name, np.where(labels.reshape(-1, *(1,) * (array.ndim - 1)), array, 0), shape)
    if isinstance(component, Categorical | Binary):
        top = component.size - 1 if isinstance(component, Categorical) else 1
        invalid = array[~np.isin(array, np.arange(top + 1))]
        if invalid.size:
            raise ValueError(f"{name} must be whole numbers in [0, {top}] where labelled; got {invalid[0]}")
    return array


def _checked(name: str, values: ArrayLike, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    array = np.asarray(values)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {dtype} {shape}; got {array.dtype} {array.shape}")
    return array


def _numbers(name: str, values: ArrayLike, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    array = np.asarray(values)
    if array.shape != shape or array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers {shape}; got {array.dtype} {array.shape}")
    return array
