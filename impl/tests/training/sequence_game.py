"""A game of 8×8 pixels for `dreamer4-train all`: a bar moves by the action, and its leftmost place is rewarded."""

import gymnasium
import numpy as np


class Strip(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.column = 0, int(self.np_random.integers(8))
        return self.frame(), {}

    def step(self, action):
        self.time += 1
        self.column = (self.column + int(action)) % 8
        return self.frame(), float(self.column == 0), False, self.time == 15, {}

    def frame(self):
        frame = np.zeros((8, 8, 3), np.uint8)
        frame[:, self.column] = 255
        return frame


if "Strip-v0" not in gymnasium.registry:  # pytest imports this file as well, to look for examples
    gymnasium.register("Strip-v0", Strip)
