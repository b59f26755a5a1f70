"""Record play into a dataset."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dreamer4_impl.arguments import require_option
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import Header
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.data.policies import POLICIES, Policy, mixed, random_policy
from dreamer4_impl.data.progress import Told, after, nobody
from dreamer4_impl.data.writer import SHARD_FRAMES, DatasetWriter


@dataclass(frozen=True)
class Recording:
    """What is played, by whom, and for how long.

    Args:
        task: gymnasium id of the game.
        frames: to record; the last episode is cut so that there are exactly as many.
        view: how the game is looked at.
        policy: "random", "sticky" or "scripted".
        epsilon: share of random actions, drawn for each episode uniformly from low to high.
        seed: of everything random.
        longest: frames after which an episode is cut, None for never.
    """

    task: str
    frames: int
    view: View = field(default_factory=View)
    policy: str = "random"
    epsilon: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    longest: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be recorded."""
        require_option("policy", self.policy, tuple(POLICIES))
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more; got {self.seed}")
        if not 0 <= self.epsilon[0] <= self.epsilon[1] <= 1:
            raise ValueError(f"epsilon must be 0 ≤ low ≤ high ≤ 1; got {self.epsilon}")
        if self.frames < 2 or (self.longest is not None and self.longest < 2):
            raise ValueError(f"frames and longest must be 2 or more; got {self.frames} and {self.longest}")

    def meta(self) -> dict[str, Any]:
        """How it was recorded, in JSON; how much of it does not matter."""
        return {
            "view": asdict(self.view),
            "policy": self.policy,
            "epsilon": list(self.epsilon),
            "seed": self.seed,
            "longest": self.longest,
        }


def record(
    recording: Recording,
    path: Path | str,
    resume: bool = False,
    progress: Told = nobody,
    shard_frames: int = SHARD_FRAMES,
) -> Dataset:
    """Play and write a dataset to the directory `path`.

    Episode e is a function of the seed and e alone. A recording that was interrupted and resumed is byte for byte the same
    as one that was not; a finished one is lengthened, from the next episode on, where more frames are asked for.

    Args:
        recording: what is recorded.
        path: of the dataset.
        resume: go on with what is there.
        progress: told how many frames there are, after each one.
        shard_frames: as for `DatasetWriter`.
    """
    game = Game(recording.task, recording.view)
    size = recording.view.size
    meta = recording.meta() | ({"action_names": game.action_names} if game.action_names else {})
    header = Header(recording.task, size, size, recording.view.channels, (game.component,), meta=meta)
    try:
        with DatasetWriter(path, header, shard_frames, resume) as writer:
            while writer.frames < recording.frames:
                done = writer.frames
                most = min(recording.longest or recording.frames, recording.frames - done)
                episode = _play(game, recording, writer.episodes, most, after(done, progress))
                writer.add_episode(**episode, task=recording.task)
    finally:
        game.close()
    return Dataset.open(path)


def _play(game: Game, recording: Recording, number: int, most: int, progress: Told) -> dict[str, Any]:
    generator = np.random.default_rng([recording.seed, number])
    frames = [game.reset(seed=int(generator.integers(2**31)))]
    policy = _policy(game, recording, generator)
    component = game.component
    actions = [np.zeros(component.shape(1, 1)[2:])]
    rewards, terminated, truncated = [0.0], False, False
    while len(frames) < most and not (terminated or truncated):
        action = policy()
        step = game.step(action)
        frames.append(step.frame)
        actions.append(np.asarray(action))
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


def _policy(game: Game, recording: Recording, generator: np.random.Generator) -> Policy:
    epsilon = generator.uniform(*recording.epsilon)
    policy = POLICIES[recording.policy](game, generator)
    return mixed(policy, random_policy(game, generator), epsilon, generator)
