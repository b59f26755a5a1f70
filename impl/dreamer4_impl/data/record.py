"""Record a policy's play of a game as a dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.data.policies import Policy, PolicyFactory, mixed, policy_factory, random_policy, require_policy_name
from dreamer4_impl.data.progress import OnFrames, counted_from, ignore
from dreamer4_impl.data.writer import SHARD_FRAMES, DatasetWriter


@dataclass(frozen=True)
class Recording:
    """Game, policy and length of a recording.

    Args:
        task: gymnasium id of the game, or MODULE:ID or FILE.py:ID, see `Game`.
        frames: number of frames, 2 or more; the last episode is cut to reach exactly this number.
        view: size and colour of the frames, frame skip.
        policy: "random", "sticky", "scripted", or the import path of a policy as `policies` describes it.
        epsilon: bounds (low, high) in [0, 1] of the share of random actions, drawn uniformly for each episode.
        seed: seed of everything random, 0 or more.
        longest: frames after which an episode is cut, 2 or more; None for never.

    Raises:
        ValueError: if a value is out of range or the policy is unknown.
    """

    task: str
    frames: int
    view: View = field(default_factory=View)
    policy: str = "random"
    epsilon: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    longest: int | None = None

    def __post_init__(self) -> None:
        require_policy_name(self.policy)
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more; got {self.seed}")
        if not 0 <= self.epsilon[0] <= self.epsilon[1] <= 1:
            raise ValueError(f"epsilon must be 0 ≤ low ≤ high ≤ 1; got {self.epsilon}")
        if self.frames < 2 or (self.longest is not None and self.longest < 2):
            raise ValueError(f"frames and longest must be 2 or more; got {self.frames} and {self.longest}")

    def meta(self) -> dict[str, Any]:
        """Describe the recording for dataset.json; without the number of frames, which a resumed recording may change.

        Returns:
            JSON object.
        """
        return {
            "view": self.view.meta(self.task),
            "policy": self.policy,
            "epsilon": list(self.epsilon),
            "seed": self.seed,
            "longest": self.longest,
        }


def record(
    recording: Recording,
    path: Path | str,
    resume: bool = False,
    progress: OnFrames = ignore,
    shard_frames: int = SHARD_FRAMES,
) -> Dataset:
    """Play a game and write a dataset.

    Episode e is a function of the seed and e. A resumed recording is byte for byte the same as an uninterrupted one. A
    finished recording is extended, from the next episode on, if more frames are requested.

    Args:
        recording: game, policy and length.
        path: directory of the dataset.
        resume: continue an existing dataset.
        progress: called with the number of recorded frames after each frame.
        shard_frames: frames after which a shard is closed at the end of an episode, 1 or more.

    Returns:
        The recorded dataset.

    Raises:
        DatasetError: if the game or the policy cannot be imported, played or recorded, the directory holds a dataset
            and `resume` is False, or the existing dataset was recorded with other settings.
    """
    factory = policy_factory(recording.policy)
    game = Game(recording.task, recording.view)
    size = recording.view.size
    meta = recording.meta() | ({"action_names": game.action_names} if game.action_names else {})
    header = Header(recording.task, size, size, recording.view.channels, (game.component,), meta=meta)
    try:
        with DatasetWriter(path, header, shard_frames, resume) as writer:
            while writer.frames < recording.frames:
                done = writer.frames
                most = min(recording.longest or recording.frames, recording.frames - done)
                episode = _play(game, factory, recording, writer.episodes, most, counted_from(done, progress))
                writer.add_episode(**episode, task=recording.task)
    finally:
        game.close()
    return Dataset.open(path)


def _play(
    game: Game, factory: PolicyFactory, recording: Recording, number: int, most: int, progress: OnFrames
) -> dict[str, Any]:
    generator = np.random.default_rng([recording.seed, number])
    frames = [game.reset(seed=int(generator.integers(2**31)))]
    policy = _policy(game, factory, recording, generator)
    component = game.component
    actions = [np.zeros(component.shape(1, 1)[2:])]
    rewards, terminated, truncated = [0.0], False, False
    while len(frames) < most and not (terminated or truncated):
        action = policy()
        step = game.step(action)
        frames.append(step.frame)
        actions.append(np.array(action))  # a copy, as a policy may reuse its array
        rewards.append(step.reward)
        terminated, truncated = step.terminated, step.truncated
        progress(len(frames))
    continues = np.ones(len(frames), bool)
    continues[-1] = not terminated
    return {
        "frames": np.stack(frames),
        "actions": {component.name: np.stack(actions)},
        "rewards": rewards,
        "continues": continues,
    }


def _policy(game: Game, factory: PolicyFactory, recording: Recording, generator: np.random.Generator) -> Policy:
    epsilon = generator.uniform(*recording.epsilon)
    policy = factory(game, generator)
    return mixed(policy, random_policy(game, generator), epsilon, generator)
