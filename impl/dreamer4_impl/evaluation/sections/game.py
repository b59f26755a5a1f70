"""Returns in the real game of the policy, which acts on the agent token of the world model, and of a random policy."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dreamer4_impl.data.clips import as_video
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.data.policies import random_policy
from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.results import SectionResult, SkippedError
from dreamer4_impl.generation.engine import FrameEngine
from dreamer4_impl.layers.actions import LABELLED, Categorical
from dreamer4_impl.models.dreamer4 import Dreamer4

#: Frames after which an episode is cut, because a policy that never serves does not end its episode.
LONGEST: Final = 2000


def game_returns(
    model: Dreamer4, dataset: Dataset, task: str | None, episodes: int, seed: int = 0, longest: int = LONGEST
) -> SectionResult:
    """Play whole episodes with the policy and with a random policy.

    Args:
        model: model with an agent, in evaluation mode.
        dataset: dataset recorded from the game; the policy gets the same view of the game.
        task: gymnasium id of the game, or MODULE:ID or FILE.py:ID; None skips the section.
        episodes: number of episodes of each policy, 1 or more.
        seed: seed of the games and of the actions, 0 or more.
        longest: frames after which an episode is cut, 1 or more.

    Returns:
        Measures `game.policy`, `game.random` and `game.difference`: undiscounted returns, the difference unpaired.

    Raises:
        SkippedError: if no game is named, the model has no agent, the dataset has no view of the game, the game cannot
            be opened or fails, its actions differ, or the task is unknown to the policy.
    """
    if task is None:
        raise SkippedError("no game was named (--game ALE/Breakout-v5)")
    if model.agent is None:
        raise SkippedError("the model has no agent")
    if "view" not in dataset.meta:
        raise SkippedError(f"the dataset does not record the view of {task}: meta.view is missing")
    result = SectionResult()
    try:
        with ExitStack() as stack:
            games = [stack.enter_context(closing(_game(task, dataset))) for _ in range(episodes)]
            player = _Player(model, _task_index(model, dataset, task), episodes, seed)
            of_policy, cut = _play(games, player.act, seed, longest)
            of_random, _ = _play(games, _random_actions(games, seed), seed, longest)
    except DatasetError as error:
        raise SkippedError(str(error)) from error
    result.measures["game.policy"] = estimate(lambda mean: mean, of_policy)
    result.measures["game.random"] = estimate(lambda mean: mean, of_random)
    result.measures["game.difference"] = estimate(lambda a, b: a - b, of_policy, of_random, paired=False)
    result.notes.append(f"{episodes} episodes of {task} each; {cut} of the policy's were cut after {longest} frames.")
    return result


class _Player:
    """Acts in several games at once; the caches of tokenizer and dynamics hold the frames so far.

    The agent token is read in the pass that commits a frame, as in imagination.
    """

    def __init__(self, model: Dreamer4, task: int | None, batch: int, seed: int) -> None:
        self.model, self.device = model, model.dynamics.registers.device
        tasks = None if task is None else torch.full((batch,), task, device=self.device)
        self.encoder_cache = model.tokenizer.encoder_cache(batch)
        self.engine = FrameEngine(model.dynamics, batch, task=tasks)
        self.noise = torch.Generator(self.device).manual_seed(seed)
        self.actions: dict[str, Tensor] = {
            component.name: torch.zeros(component.shape(batch, 1), dtype=torch.int64, device=self.device)
            for component in model.dynamics.config.actions
        }
        self.labelled = torch.zeros(batch, 1, dtype=torch.bool, device=self.device)

    @torch.no_grad()
    def act(self, frames: UInt8[np.ndarray, "B H W C"]) -> list[Any]:
        """Commit the frames and sample the next actions.

        Args:
            frames: current frame of each game, uint8, (B, H, W, C).

        Returns:
            One action per game: an int, or an int8 array of switches.
        """
        assert self.model.agent is not None
        video = as_video(torch.from_numpy(frames).to(self.device)[:, None])
        z = self.model.tokenizer.encode(video, cache=self.encoder_cache)
        noise = torch.randn(z.shape, generator=self.noise, device=self.device)
        h = self.engine.commit(z, noise, {**self.actions, LABELLED: self.labelled})
        assert h is not None
        self.actions = self.model.agent.policy.act(h).sample(self.noise)
        self.labelled = torch.ones_like(self.labelled)
        (component,) = self.model.dynamics.config.actions
        values = self.actions[component.name][:, 0].cpu().numpy()
        return [int(value) for value in values] if isinstance(component, Categorical) else list(values.astype(np.int8))


def _play(
    games: Sequence[Game], act: Callable[[UInt8[np.ndarray, "B H W C"]], list[Any]], seed: int, longest: int
) -> tuple[Float[np.ndarray, "B"], int]:
    """Play one episode of each game in parallel; a game that is over repeats its last frame.

    Returns:
        Returns of the episodes, and the number of episodes that were cut.
    """
    frames = [game.reset(seed=seed + number) for number, game in enumerate(games)]
    returns, over = np.zeros(len(games)), np.zeros(len(games), dtype=bool)
    for _ in range(longest - 1):
        for number, action in enumerate(act(np.stack(frames))):
            if over[number]:
                continue
            step = games[number].step(action)
            frames[number] = step.frame
            returns[number] += step.reward
            over[number] = step.terminated or step.truncated
        if over.all():
            break
    return returns, int((~over).sum())


def _random_actions(games: Sequence[Game], seed: int) -> Callable[[UInt8[np.ndarray, "B H W C"]], list[Any]]:
    policies = [random_policy(game, np.random.default_rng([seed, number])) for number, game in enumerate(games)]
    return lambda frames: [policy() for policy in policies]


def _game(task: str, dataset: Dataset) -> Game:
    game = Game(task, View.recorded(dataset.meta["view"]))
    if (game.component,) != dataset.components:
        game.close()
        raise SkippedError(f"{task} has the actions {game.component}, the dataset has {dataset.components}")
    return game


def _task_index(model: Dreamer4, dataset: Dataset, task: str) -> int | None:
    """Index of the task for the agent token; None for a model without tasks."""
    if not model.dynamics.config.tasks:
        return None
    if task not in dataset.tasks:
        raise SkippedError(f"task must be one of the dataset's, {', '.join(dataset.tasks)}; got {task}")
    return dataset.tasks.index(task)
