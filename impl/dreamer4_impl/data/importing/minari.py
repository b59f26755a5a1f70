"""Datasets of Minari (extra `minari`): episodes of Gymnasium environments whose observations are images."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.game import component_of
from dreamer4_impl.data.source import EpisodeArrays, Source, Unit, episode_of_steps
from dreamer4_impl.layers.actions import Component


def open_minari(name: str, view: FrameView, camera: str | None = None, task: str | None = None) -> Source:
    """Open a dataset of Minari.

    Args:
        name: id of a local dataset such as "atari/breakout/expert-v0", or the folder of one.
        view: size and colour of the frames.
        camera: key of the images in observations that are a Dict; None for the only ones.
        task: name of the task; None is the text of the first observation if there is one (as missions of MiniGrid are),
            else the id of the environment, else that of the dataset.

    Returns:
        Source with one episode per episode: all frames, actions and rewards, the last ones included; it terminates
        where Minari's does.

    Raises:
        DatasetError: if Minari is not installed, the dataset is not on this machine, its observations hold no images,
            or its actions are of a kind that datasets do not have.
    """
    dataset = _load(name)
    camera = camera_of(dataset.observation_space, camera)
    components = components_of(dataset.action_space)
    name = dataset.env_spec.id if dataset.env_spec else dataset.id
    meta = {"format": "minari", "dataset": dataset.id, "camera": camera}
    header = Header(task or name, view.height, view.width, view.channels, components, meta=meta)
    units = [
        Unit(f"episode {number} of {dataset.id}", partial(_episode, dataset, number, view, header, camera, task))
        for number in range(dataset.total_episodes)
    ]
    return Source(header, units, dataset.total_steps + dataset.total_episodes)


def camera_of(space: Any, camera: str | None) -> str | None:
    """Find the images in the observations of a Gymnasium space.

    Args:
        space: uint8 Box of images, or a Dict that holds some.
        camera: key that was chosen; None for the only one.

    Returns:
        Key of the images; None if the observations themselves are images.

    Raises:
        DatasetError: if there are no such images, or several and none was chosen.
    """
    if _is_image(space) and camera is None:
        return None
    images = (
        [key for key, subspace in getattr(space, "spaces", {}).items() if _is_image(subspace)]
        if _is_dict(space)
        else []
    )
    if camera in images or (camera is None and len(images) == 1):
        return camera or images[0]
    wanted = "one of its images must be chosen, --camera KEY" if images else "it must hold uint8 images"
    raise DatasetError(f"the observation is {space}: {wanted}; images: {images or 'none'}, camera: {camera}")


def components_of(space: Any) -> tuple[Component, ...]:
    """Convert a Gymnasium action space.

    Args:
        space: a space that `component_of` converts, Discrete that starts elsewhere, or a Dict of these.

    Returns:
        One component named "action", or one by key, sorted.

    Raises:
        DatasetError: if the space is of another kind.
    """
    if _is_dict(space):
        return tuple(replace(_component(subspace), name=key) for key, subspace in sorted(space.spaces.items()))
    return (_component(space),)


def _component(space: Any) -> Component:
    return component_of(type(space)(space.n) if hasattr(space, "start") else space)


def _load(name: str) -> Any:
    try:
        import minari
    except ImportError as error:
        raise DatasetError(f"importing {name} needs Minari: pip install 'dreamer4-conformance[minari]'") from error
    folder = Path(name)
    try:
        return minari.MinariDataset(folder / "data") if folder.is_dir() else minari.load_dataset(name)
    except FileNotFoundError as error:
        raise DatasetError(
            f"{name} is neither a folder nor a dataset of Minari on this machine: `minari download {name}` fetches one"
        ) from error
    except Exception as error:  # of h5py, of Gymnasium, or of Minari, which also asserts
        raise DatasetError(f"{name} cannot be read as a dataset of Minari: {error}") from error


def _episode(
    dataset: Any, number: int, view: FrameView, header: Header, camera: str | None, task: str | None
) -> Iterator[EpisodeArrays]:
    where = f"episode {number} of {dataset.id}"
    try:
        episode = dataset[number]
    except Exception as error:  # of h5py, Pillow, or Minari, which also asserts
        raise DatasetError(f"{where} is damaged: {error}") from error
    images = np.asarray(episode.observations if camera is None else episode.observations[camera])
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(episode.rewards) + 1:
        raise DatasetError(
            f"{where} is damaged: {len(episode.rewards)} rewards and observations {images.dtype} {images.shape}, which "
            "must be uint8 images, one more than rewards"
        )
    frames = np.stack([view.frame(picture) for picture in _pictures(images)])
    taken = _actions(episode.actions, dataset.action_space)
    text = task or _text(dataset.observation_space, episode.observations) or header.name
    yield episode_of_steps(frames, taken, np.asarray(episode.rewards), bool(np.any(episode.terminations)), task=text)


def _pictures(images: UInt8[np.ndarray, "N ..."]) -> UInt8[np.ndarray, "N H W C"]:
    if images.ndim == 3:
        return images[..., None]
    return images if images.shape[3] in (1, 3) else np.moveaxis(images, 1, 3)


def _actions(actions: Any, space: Any) -> Mapping[str, np.ndarray[Any, Any]]:
    parts = {key: (actions[key], subspace) for key, subspace in space.spaces.items()} if _is_dict(space) else None
    parts = parts or {"action": (actions, space)}
    return {key: np.asarray(values) - getattr(subspace, "start", 0) for key, (values, subspace) in parts.items()}


def _text(space: Any, observations: Any) -> str | None:
    keys = (
        [key for key, subspace in space.spaces.items() if type(subspace).__name__ == "Text"] if _is_dict(space) else []
    )
    return str(observations[keys[0]][0]) if keys else None


def _is_dict(space: Any) -> bool:
    return type(space).__name__ == "Dict"


def _is_image(space: Any) -> bool:
    shape = tuple(getattr(space, "shape", None) or ())
    channels = len(shape) == 2 or (len(shape) == 3 and (shape[2] in (1, 3) or shape[0] in (1, 3)))
    return type(space).__name__ == "Box" and space.dtype == np.uint8 and channels
