"""Small datasets of Minari for tests, in the folder that $MINARI_DATASETS_PATH names."""

import warnings

import minari
import numpy as np
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer

IMAGE = Box(0, 255, (6, 8, 3), np.uint8)


def create(name, space, action_space, steps=3, episodes=2, **content):
    """Dataset whose episodes have the same content; the first one terminates, the others are truncated."""
    buffers = [
        EpisodeBuffer(
            rewards=np.arange(1.0, steps + 1),
            terminations=[t == steps - 1 and number == 0 for t in range(steps)],
            truncations=[t == steps - 1 and number > 0 for t in range(steps)],
            infos={},
            **content,
        )
        for number in range(episodes)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing credits
        minari.create_dataset_from_buffers(
            name, buffers, observation_space=space, action_space=action_space, data_format="hdf5"
        )


def images(steps=3):
    return np.arange(steps + 1, dtype=np.uint8)[:, None, None, None] * np.full((1, 6, 8, 3), 10, np.uint8)
