"""Episodes of the real game: of a policy, which acts on the agent token of the world model, and of random play."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dreamer4_impl.attention.cache import Cache
from dreamer4_impl.data.clips import as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.data.policies import random_policy
from dreamer4_impl.evaluation.results import SkippedError
from dreamer4_impl.generation.engine import FrameEngine
from dreamer4_impl.layers.actions import LABELLED, Categorical
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.heads import PolicyHead

#: Frames after which an episode is cut, because a policy that never serves does not end its episode.
LONGEST: Final = 2000

#: Actions of the games in play, from their current frames, (P, H, W, C), and their numbers.
_Act: TypeAlias = Callable[[UInt8[np.ndarray, "P H W C"], Sequence[int]], list[Any]]


@dataclass
class Episode:
    """Rewards of an episode of T frames.

    Args:
        rewards: r_t on arriving at frame t, 0 at the first frame, T values.
        terminated: the episode ended in a terminal state.
        truncated: the game's own limit of time ended the episode; False if it was cut after `longest` frames.
    """

    rewards: list[float] = field(default_factory=lambda: [0.0])
    terminated: bool = False
    truncated: bool = False

    @property
    def over(self) -> bool:
        """The game ended the episode.

        Returns:
            False for an episode that goes on, or was cut.
        """
        return self.terminated or self.truncated


@dataclass(frozen=True)
class PolicyPlay:
    """Episodes of a policy, with everything that it saw, padded with zeros to the longest.

    Args:
        episodes: B episodes.
        z: latents of every frame that was acted on, each encoded with its past, as in training, on the CPU,
            (B, T, S, D).
        actions: components of the actions that led to these frames, and `labelled`, (B, T, …) each.
    """

    episodes: list[Episode]
    z: Float[Tensor, "B T S D"]
    actions: Mapping[str, Shaped[Tensor, "B T ..."]]


@dataclass(frozen=True)
class PlayedGame:
    """A game in which a model is evaluated; nothing is played before an episode is needed.

    Args:
        model: model with an agent, in evaluation mode.
        dataset: dataset recorded from the game; policies get the same view of the game.
        task: gymnasium id of the game, or MODULE:ID or FILE.py:ID; None if no game was named.
        episodes: number of episodes of each policy, 1 or more.
        seed: seed of the games and of the actions, 0 or more.
        longest: frames after which an episode is cut, 1 or more.
    """

    model: Dreamer4
    dataset: Dataset
    task: str | None
    episodes: int
    seed: int = 0
    longest: int = LONGEST

    @cached_property
    def by_policy(self) -> PolicyPlay:
        """Episodes of the model's policy, played once.

        Returns:
            The episodes.

        Raises:
            SkippedError: as `play`.
        """
        if self.model.agent is None:
            raise SkippedError("the model has no agent")
        return self.play(self.model.agent.policy)

    def play(self, policy: PolicyHead) -> PolicyPlay:
        """Play whole episodes in parallel.

        Args:
            policy: head on the agent token of the model.

        Returns:
            The episodes.

        Raises:
            SkippedError: if no game is named, the dataset has no view of the game, the game cannot be opened or fails,
                its actions differ, or the task is unknown to the policy.
        """
        with self._open(self.episodes) as games:
            player = _Player(self.model, policy, self.task_index, self.episodes, self.seed)
            episodes = _play(games, player.act, self.seed, self.longest)
        return PolicyPlay(episodes, *player.history())

    def play_randomly(self, count: int) -> list[Episode]:
        """Play whole episodes at random, in as many games at once as `play`.

        Args:
            count: number of episodes, 1 or more.

        Returns:
            The episodes; the first ones begin as those of `play`.

        Raises:
            SkippedError: as `play`.
        """
        played: list[Episode] = []
        with self._open(min(self.episodes, count)) as games:
            for first in range(0, count, len(games)):
                seed, several = self.seed + first, games[: count - first]
                played += _play(several, _random_actions(several, seed), seed, self.longest)
        return played

    @property
    def task_index(self) -> int | None:
        """Index of the task for the agent token.

        Returns:
            The index; None for a model without tasks.

        Raises:
            SkippedError: if the task is none of the dataset's.
        """
        if not self.model.dynamics.config.tasks:
            return None
        if self.task not in self.dataset.tasks:
            raise SkippedError(f"task must be one of the dataset's, {', '.join(self.dataset.tasks)}; got {self.task}")
        return self.dataset.tasks.index(self.task)

    @contextmanager
    def _open(self, count: int) -> Iterator[list[Game]]:
        if self.task is None:
            raise SkippedError("no game was named (--game ALE/Breakout-v5)")
        if "view" not in self.dataset.meta:
            raise SkippedError(f"the dataset does not record the view of {self.task}: meta.view is missing")
        try:
            with ExitStack() as stack:
                yield [stack.enter_context(closing(_game(self.task, self.dataset))) for _ in range(count)]
        except DatasetError as error:
            raise SkippedError(str(error)) from error


class _Player:
    """Acts in several games at once; the caches of tokenizer and dynamics hold the frames so far.

    The agent token is read in the pass that commits a frame, as in imagination.
    """

    def __init__(self, model: Dreamer4, policy: PolicyHead, task: int | None, batch: int, seed: int) -> None:
        self.model, self.policy, self.task, self.device = model, policy, task, model.dynamics.registers.device
        self.playing = list(range(batch))
        self.encoder_cache = model.tokenizer.encoder_cache(batch)
        self.engine = self._engine(model.dynamics.empty_cache(batch))
        self.noise = torch.Generator(self.device).manual_seed(seed)
        self.actions: dict[str, Tensor] = {
            component.name: torch.zeros(component.shape(batch, 1), dtype=torch.int64, device=self.device)
            for component in model.dynamics.config.actions
        } | {LABELLED: torch.zeros(batch, 1, dtype=torch.bool, device=self.device)}
        self._z: list[list[Tensor]] = [[] for _ in self.playing]
        self._taken: list[list[dict[str, Tensor]]] = [[] for _ in self.playing]

    @torch.no_grad()
    def act(self, frames: UInt8[np.ndarray, "P H W C"], playing: Sequence[int]) -> list[Any]:
        """Commit the frames and sample the next actions.

        Args:
            frames: current frame of each game in play, uint8, (P, H, W, C).
            playing: numbers of these games in [0, B), ascending; a game that is not among them is over.

        Returns:
            One action per game in play: an int, or an int8 array of switches.
        """
        if len(playing) < len(self.playing):
            self._keep(playing)
        video = as_video(torch.from_numpy(frames).to(self.device)[:, None])
        z = self.model.tokenizer.encode(video, cache=self.encoder_cache)
        latents, actions = z.cpu(), {name: values.cpu() for name, values in self.actions.items()}
        for row, number in enumerate(playing):
            self._z[number].append(latents[row])
            self._taken[number].append({name: values[row] for name, values in actions.items()})
        noise = torch.randn(z.shape, generator=self.noise, device=self.device)
        h = self.engine.commit(z, noise, self.actions)
        assert h is not None
        labelled = torch.ones_like(self.actions[LABELLED])
        self.actions = {**self.policy.act(h).sample(self.noise), LABELLED: labelled}
        (component,) = self.model.dynamics.config.actions
        values = self.actions[component.name][:, 0].cpu().numpy()
        return [int(value) for value in values] if isinstance(component, Categorical) else list(values.astype(np.int8))

    def history(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Join what the policy saw.

        Returns:
            Latents and actions of `PolicyPlay`.
        """

        def _joined(frames_by_game: list[list[Tensor]]) -> Tensor:
            return pad_sequence([torch.cat(frames) for frames in frames_by_game], batch_first=True)

        actions = {name: _joined([[frame[name] for frame in game] for game in self._taken]) for name in self.actions}
        return _joined(self._z), actions

    def _keep(self, playing: Sequence[int]) -> None:
        rows = [self.playing.index(number) for number in playing]
        self.playing = list(playing)
        self.encoder_cache = self.encoder_cache.keep(rows)
        self.engine = self._engine(self.engine.cache.keep(rows))
        self.actions = {name: values[rows] for name, values in self.actions.items()}

    def _engine(self, cache: Cache) -> FrameEngine:
        batch = len(self.playing)
        tasks = None if self.task is None else torch.full((batch,), self.task, device=self.device)
        return FrameEngine(self.model.dynamics, batch, task=tasks, cache=cache)


def _play(games: Sequence[Game], act: _Act, seed: int, longest: int) -> list[Episode]:
    """Play one episode of each game in parallel."""
    frames = [game.reset(seed=seed + number) for number, game in enumerate(games)]
    episodes = [Episode() for _ in games]
    playing = list(range(len(games)))
    for _ in range(longest - 1):
        for number, action in zip(playing, act(np.stack([frames[n] for n in playing]), playing), strict=True):
            step = games[number].step(action)
            frames[number] = step.frame
            episodes[number].rewards.append(step.reward)
            episodes[number].terminated, episodes[number].truncated = step.terminated, step.truncated
        playing = [number for number in playing if not episodes[number].over]
        if not playing:
            break
    return episodes


def _random_actions(games: Sequence[Game], seed: int) -> _Act:
    policies = [random_policy(game, np.random.default_rng([seed, number])) for number, game in enumerate(games)]
    return lambda frames, playing: [policies[number]() for number in playing]


def _game(task: str, dataset: Dataset) -> Game:
    game = Game(task, View.recorded(dataset.meta["view"]))
    if (game.component,) != dataset.components:
        game.close()
        raise SkippedError(f"{task} has the actions {game.component}, the dataset has {dataset.components}")
    return game
