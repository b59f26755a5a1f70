"""Games and policies that users bring: Dict observations, drawn frames, import paths, and messages for bad input."""

import sys

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from dreamer4_impl.data.command import main  # noqa: E402
from dreamer4_impl.data.dataset import Dataset  # noqa: E402
from dreamer4_impl.data.format import DatasetError  # noqa: E402
from dreamer4_impl.data.game import Game, View, component_of  # noqa: E402
from dreamer4_impl.data.record import Recording, record  # noqa: E402

Box, Dict, Discrete, Tuple = (getattr(gymnasium.spaces, name) for name in ("Box", "Dict", "Discrete", "Tuple"))
IMAGE, SMALL, NUMBERS = Box(0, 255, (8, 8, 3), np.uint8), Box(0, 255, (3, 3), np.uint8), Box(-1, 1, (4,))
SPACES = {
    "Image": IMAGE,
    "Numbers": NUMBERS,
    "Entry": Dict({"image": IMAGE, "speed": NUMBERS}),
    "Two": Dict({"left": IMAGE, "right": IMAGE}),
    "Nested": Dict({"robot": Dict({"camera": IMAGE}), "pair": Tuple((NUMBERS, SMALL))}),
    "Blind": Dict({"speed": NUMBERS, "level": Discrete(3)}),
    "Codes": Dict({"image": SMALL, "direction": Discrete(4)}),
}


def filled(space, value):
    """Observation of a space whose arrays hold one value."""
    if isinstance(space, Dict):
        return {key: filled(entry, value) for key, entry in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(filled(entry, value) for entry in space.spaces)
    return np.full(space.shape, value, space.dtype)


class Player(gymnasium.Env):
    """Observations hold the number of steps, drawn frames 100 plus this number; an episode has 5 steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    action_space = Discrete(3)

    def __init__(self, space="Image", render_mode=None):
        self.observation_space, self.render_mode = SPACES[space], render_mode

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return filled(self.observation_space, 0), {}

    def step(self, action):
        self.t += 1
        return filled(self.observation_space, self.t), self.reward(), self.t == 5, False, {}

    def reward(self):
        return 1.0

    def render(self):
        return np.full((8, 8, 3), 100 + self.t, np.uint8) if self.render_mode == "rgb_array" else None


class Silent(Player):
    """A game that draws nothing, although it has observations of numbers only."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012

    def __init__(self, render_mode=None):
        super().__init__("Numbers")


class Broken(Player):
    """Fails in one of its methods, or returns a value of another type."""

    def __init__(self, fault, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.fault = fault
        if fault == "init":
            raise RuntimeError("no display")

    def reset(self, seed=None, options=None):
        return super().reset() if self.fault != "reset" else None

    def step(self, action):
        return super().step(action)[:4] if self.fault == "step" else super().step(action)

    def reward(self):
        return {"reward": None, "infinite": np.inf}.get(self.fault, 1.0)

    def render(self):
        return [] if self.fault == "render" else super().render()


for name in SPACES:
    gymnasium.register(f"Player{name}-v0", Player, kwargs={"space": name})
for fault in ("init", "reset", "step", "reward", "infinite", "render"):
    gymnasium.register(f"Broken{fault}-v0", Broken, kwargs={"fault": fault})
gymnasium.register("Silent-v0", Silent)


@pytest.mark.parametrize(
    ("task", "frames_from", "shown"),
    [
        ("Image", "observation", 1),
        ("Image", "render", 101),
        ("Numbers", "render", 101),
        ("Entry", "observation", 1),
        ("Entry", "observation.image", 1),
        ("Two", "observation.right", 1),
        ("Nested", "observation.robot.camera", 1),
        ("Nested", "observation.pair.1", 1),
        ("Codes", "render", 101),
        ("Codes", "observation.image", 1),
    ],
)
def test_frames_are_observations_entries_of_them_or_drawn(tmp_path, task, frames_from, shown):
    view = View(4, frame_skip=1, frames_from=frames_from)
    dataset = record(Recording(f"Player{task}-v0", 6, view), tmp_path)
    assert dataset.clip(0, 0, 6).frames[:, 0, 0, 0].tolist() == [*range(shown - 1, shown + 5)]
    assert View.recorded(dataset.meta["view"]).frames_from == frames_from
    assert ("frames_from" in dataset.meta["view"]) == (frames_from != "observation")


@pytest.mark.parametrize(
    ("task", "frames_from", "message"),
    [
        ("PlayerTwo-v0", "observation", r"must be 'render' or .*'observation.left', 'observation.right'; got 'obs"),
        ("PlayerTwo-v0", "observation.middle", r"'observation.left', 'observation.right'; got 'observation.middle'"),
        ("PlayerEntry-v0", "observation.speed", r"'observation.image'; got 'observation.speed'"),
        ("PlayerBlind-v0", "observation", r"must be 'render' or .* of PlayerBlind-v0, which hold none; got"),
        ("PlayerImage-v0", "observation.image", r"which hold none; got 'observation.image'"),
        ("PlayerNumbers-v0", "observation", r"uint8 images.*got float32 \(4,\): --frames-from render takes"),
        (
            "PlayerCodes-v0",
            "observation",
            r"'observation.image' of .* has 3×3 pixels, fewer than frames of 4×4: choose",
        ),
        ("Silent-v0", "render", r"Silent-v0 does not draw images: .* needs the render mode 'rgb_array'"),
        ("Silent-v0", "observation", r"got float32 \(4,\)$"),
        ("Brokenrender-v0", "render", r"results of render\(\) of Brokenrender-v0 must be uint8 images"),
        ("Brokeninit-v0", "observation", r"creating Brokeninit-v0 failed: RuntimeError: no display \(test_.*, line"),
        ("Brokenreset-v0", "observation", r"reset\(\) of Brokenreset-v0 failed: TypeError: "),
        ("Brokenstep-v0", "observation", r"step\(\) of Brokenstep-v0 failed: ValueError: not enough values"),
        ("Brokenreward-v0", "observation", r"step\(\) of Brokenreward-v0 failed: TypeError: float\(\)"),
        ("Brokeninfinite-v0", "observation", r"rewards of Brokeninfinite-v0 must be finite; got inf"),
        ("missing_module:Maze-v0", "observation", r"there is no module 'missing_module' in the current directory"),
        ("math:Maze-v0", "observation", r"math:Maze-v0 cannot be played: "),
        ("missing.py:Maze-v0", "observation", r"there is no file missing.py"),
        ("PlayerImage-v0", "pictures", r"frames_from must be 'observation', 'observation.KEY' or 'render'; got 'pict"),
    ],
)
def test_a_game_without_usable_images_is_one_sentence(tmp_path, capsys, task, frames_from, message):
    with pytest.raises(ValueError, match=message):
        record(Recording(task, 4, View(4, frames_from=frames_from)), tmp_path / "a")
    line = [task, "--out", str(tmp_path / "b"), "--size", "4", "--frames", "4", "--frames-from", frames_from]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert error.count("dreamer4-record: ") == 1
    assert "Traceback" not in error


GAME_FILE = """
import gymnasium, numpy as np

class Maze(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (4, 4), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        return np.zeros((4, 4), np.uint8), {}

    def step(self, action):
        return np.full((4, 4), 10 * action, np.uint8), 0.0, False, False, {}

gymnasium.register("%s-v0", Maze)
"""

POLICY_FILE = """
class Brighter:
    def __init__(self, game, generator):
        self.game = game

    def __call__(self):
        return int(self.game.frame.max() < 15) + int(self.game.observation.max() < 5)

constant, number = 2, lambda game, generator: 2
wrong, text = (lambda game, generator: lambda: 3), (lambda game, generator: lambda: "left")
fraction = lambda game, generator: lambda: 1.0
failing = lambda game, generator: lambda: 1 / 0
def picky(game): return None
"""


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """Current directory with a module, a file with a game of another id, and a file with policies."""
    (tmp_path / "user_maze.py").write_text(GAME_FILE % "UserMaze")
    (tmp_path / "maze-file.py").write_text(GAME_FILE % "FileMaze")
    (tmp_path / "user_policies.py").write_text(POLICY_FILE)
    (tmp_path / "broken_policies.py").write_text("import missing_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("user_maze", "user_policies"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("UserMaze-v0", "FileMaze-v0"):
        monkeypatch.delitem(gymnasium.registry, name, raising=False)


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize("task", ["user_maze:UserMaze-v0", "maze-file.py:FileMaze-v0"])
@pytest.mark.parametrize("policy", ["user_policies:Brighter", "user_policies.py:Brighter"])
def test_modules_and_files_bring_games_and_policies(tmp_path, task, policy):
    line = [task, "--out", "out", "--size", "4", "--grey", "--frames", "7", "--frame-skip", "1", "--policy", policy]
    assert main(line) == 0
    dataset = Dataset.open(tmp_path / "out", verify="full")
    assert dataset.clip(0, 1, 6).actions["action"].tolist() == [2, 0, 2, 0, 2, 0]
    assert dataset.clip(0, 1, 6).frames[:, 0, 0, 0].tolist() == [20, 0, 20, 0, 20, 0]
    assert (dataset.name, dataset.meta["policy"]) == (task, policy)
    assert main([*line, "--resume"]) == 0


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            "clever",
            r"policy must be 'random', 'sticky', 'scripted', or an import path MODULE:NAME or FILE.py:NAME; got",
        ),
        (":clever", r"must have the form MODULE:NAME or FILE.py:NAME; got ':clever'"),
        ("user_policies:Brihter", r"user_policies does not define 'Brihter'; did you mean Brighter\?"),
        ("user_policies:constant", r"must be a function or class that takes \(game, generator\); got 2"),
        ("user_policies:number", r"must return a function without arguments that returns an action; got 2"),
        ("user_policies:picky", r"starting the policy user_policies:picky with \(game, generator\) failed: TypeError"),
        ("user_policies:wrong", r"an action of PlayerImage-v0 must lie in Discrete\(3\); got 3"),
        ("user_policies:text", r"an action of PlayerImage-v0 must lie in Discrete\(3\); got 'left'"),
        ("user_policies:fraction", r"an action of PlayerImage-v0 must lie in Discrete\(3\); got 1.0"),
        ("user_policies:failing", r"action of the policy .* failed: ZeroDivisionError: .* \(user_policies.py, line"),
        ("no_policies:Brighter", r"there is no module 'no_policies' in the current directory"),
        ("broken_policies:Brighter", r"broken_policies needs the module 'missing_package', which is not installed"),
    ],
)
def test_a_policy_that_cannot_play_is_one_sentence(tmp_path, policy, message):
    with pytest.raises(ValueError, match=message):
        record(Recording("PlayerImage-v0", 4, View(4), policy), tmp_path / "out")


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (gymnasium.spaces.MultiBinary(2), [[0, 1], np.array([True, False])], [[0, 2], [0.5, 1], [1], 1]),
        (Box(-1, 1, (2,)), [[0.5, -1], np.zeros(2)], [[2, 0], [np.nan, 0], [0], None]),
        (Discrete(3), [2, np.int8(1), np.array(0)], [3, -1, 1.5, [1], None]),
    ],
)
def test_actions_are_converted_if_they_lie_in_the_space(space, good, bad):
    game = Game("PlayerImage-v0", View(4))
    game.environment.unwrapped.action_space = space
    game.component = component_of(space)
    assert all(space.contains(game.accepted(action)) for action in good)
    for action in bad:
        with pytest.raises(DatasetError, match="must lie in"):
            game.accepted(action)


def test_missing_package_of_a_game_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "dreamer4_impl.examples.rooms", raising=False)
    for module in ("minigrid", "minigrid.core.world_object"):
        monkeypatch.setitem(sys.modules, module, None)
    for task in ("MiniGrid-Empty-5x5-v0", "dreamer4_impl.examples.rooms:OneGoal-v0"):
        with pytest.raises(DatasetError, match=r"needs minigrid: pip install 'dreamer4-conformance\[minigrid\]'"):
            Game(task, View(48))
