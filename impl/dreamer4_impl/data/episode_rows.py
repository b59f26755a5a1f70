"""An episode as rows of a dataset's arrays, once nothing in it can be misread later."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Shaped
from numpy.typing import ArrayLike

from dreamer4_impl.data.format import Header, action_column
from dreamer4_impl.layers.actions import Binary, Categorical, Component

#: Arrays by name, one row per frame.
Rows: TypeAlias = dict[str, np.ndarray[Any, Any]]


def episode_rows(
    header: Header,
    task: int,
    frames: ArrayLike,
    actions: Mapping[str, ArrayLike] | None,
    rewards: ArrayLike | None,
    continues: ArrayLike | None,
    labelled: ArrayLike | None,
) -> Rows:
    """The arrays of `Header.columns`; ValueError names what does not fit. For the arguments see `DatasetWriter.add_episode`."""
    frames = np.asarray(frames)
    length = len(frames)
    if length == 0:
        raise ValueError("frames must hold at least one; got none")
    default = np.arange(length) > 0 if actions is not None else np.zeros(length, bool)
    known = _checked("labelled", default if labelled is None else labelled, (length,), "bool")
    rows: Rows = {
        "frames": _checked("frames", frames, (length, header.height, header.width, header.channels), "uint8"),
        "rewards": _numbers("rewards", np.zeros(length) if rewards is None else rewards, (length,)),
        "continues": _checked(
            "continues", np.ones(length, bool) if continues is None else continues, (length,), "bool"
        ),
        "first": np.arange(length) == 0,
        "labelled": known,
        "task": np.full(length, task),
    }
    if not rows["continues"][:-1].all():
        raise ValueError("continues must be True but in an episode's last row; got False before it")
    _require_names(header, actions, known)
    for part in header.components:
        rows[action_column(part)] = _action(part, (actions or {}).get(part.name), known)
    return {name: rows[name].astype(dtype, copy=False) for name, (dtype, _) in header.columns().items()}


def _require_names(header: Header, actions: Mapping[str, ArrayLike] | None, known: Bool[np.ndarray, " N"]) -> None:
    names = sorted(part.name for part in header.components)
    if actions is not None and sorted(actions) != names:
        raise ValueError(f"actions must hold the components {names}; got {sorted(actions)}")
    if actions is None and known.any():
        raise ValueError("labelled must be False where there are no actions; got True")


def _action(part: Component, values: ArrayLike | None, known: Bool[np.ndarray, " N"]) -> Shaped[np.ndarray, "N ..."]:
    """Values where they are known, 0 elsewhere."""
    name, shape = f"actions[{part.name!r}]", (len(known), *part.shape(1, 1)[2:])
    if values is None:
        return np.zeros(shape)
    given = np.asarray(values)
    if given.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {given.shape}")
    chosen = _numbers(name, np.where(known.reshape(-1, *(1,) * (given.ndim - 1)), given, 0), shape)
    if isinstance(part, Categorical | Binary):
        top = part.size - 1 if isinstance(part, Categorical) else 1
        if not np.isin(chosen, np.arange(top + 1)).all():
            raise ValueError(f"{name} must be whole numbers in [0, {top}] where they are labelled; got others")
    return chosen


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
