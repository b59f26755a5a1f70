"""Returns in the real game: the policy, which sees the game through the world model, and a random policy."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.game import Game, View
from dreamer4_impl.data.policies import random_policy
from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.results import Findings, SkippedError
from dreamer4_impl.generation.imagination import Imagination
from dreamer4_impl.layers.actions import LABELLED, Categorical
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.training.phases.tokenizer import as_video

#: Frames after which an episode is cut: a policy that never serves would play for hours.
LONGEST: Final = 2000


def game_returns(
    model: Dreamer4, dataset: Dataset, task: str | None, episodes: int, seed: int = 0, longest: int = LONGEST
) -> Findings:
    """`game.policy`, `game.random`, `game.difference`: undiscounted returns of whole episodes.

    Args:
        model: with an agent, in evaluation mode.
        dataset: recorded from the game; its view of the game is the policy's.
        task: gymnasium id of the game.
        episodes: for each of the two.
        seed: of the games and of the policies' draws.
        longest: frames after which an episode is cut.
    """
    if task is None:
        raise SkippedError("no game was asked for (--game ALE/Breakout-v5)")
    if model.agent is None:
        raise SkippedError("the model has no agent")
    if "view" not in dataset.meta:
        raise SkippedError(f"the dataset does not say how {task} was looked at: it has no meta.view")
    found = Findings()
    with ExitStack() as stack:
        games = [stack.enter_context(closing(_game(task, dataset))) for _ in range(episodes)]
        player = _Player(model, _task_index(model, dataset, task), episodes, seed)
        of_policy, cut = _play(games, player.act, seed, longest)
        of_random, _ = _play(games, _randomly(games, seed), seed, longest)
    found.measures["game.policy"] = estimate(lambda mean: mean, of_policy)
    found.measures["game.random"] = estimate(lambda mean: mean, of_random)
    found.measures["game.difference"] = estimate(lambda a, b: a - b, of_policy, of_random, paired=False)
    found.notes.append(f"{episodes} episodes of {task} each; {cut} of the policy's were cut after {longest} frames.")
    return found


class _Player:
    """Draws the policy's actions in several games at once, from what the world model remembers of each.

    The agent token is read as in imagination, where a frame joins the past.
    """

    def __init__(self, model: Dreamer4, task: int | None, batch: int, seed: int) -> None:
        self.model, self.batch, self.device = model, batch, model.dynamics.registers.device
        told = None if task is None else torch.full((batch,), task, device=self.device)
        self.seen, self.world = model.tokenizer.encoder_cache(batch), Imagination(model, ImagineOptions(), told, batch)
        self.noise = torch.Generator(self.device).manual_seed(seed)
        self.taken: dict[str, Tensor] = {
            part.name: torch.zeros(part.shape(batch, 1), dtype=torch.int64, device=self.device)
            for part in model.dynamics.config.actions
        }
        self.known = torch.zeros(batch, 1, dtype=torch.bool, device=self.device)

    @torch.no_grad()
    def act(self, frames: UInt8[np.ndarray, "B H W C"]) -> list[Any]:
        """Actions at these frames, which the player remembers."""
        assert self.model.agent is not None
        video = as_video(torch.from_numpy(frames).to(self.device)[:, None])
        z = self.model.tokenizer.encode(video, cache=self.seen)
        noise = torch.randn(z.shape, generator=self.noise, device=self.device)
        h = self.world.remember(z, noise, {**self.taken, LABELLED: self.known})
        self.taken = self.model.agent.policy.act(h[:, None]).sample(self.noise)
        self.known = torch.ones_like(self.known)
        (component,) = self.model.dynamics.config.actions
        values = self.taken[component.name][:, 0].cpu().numpy()
        return [int(value) for value in values] if isinstance(component, Categorical) else list(values.astype(np.int8))


def _play(
    games: Sequence[Game], act: Callable[[UInt8[np.ndarray, "B H W C"]], list[Any]], seed: int, longest: int
) -> tuple[Float[np.ndarray, "B"], int]:
    """Returns of an episode of each game, side by side, and how many were cut; what is over stays on its last frame."""
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


def _randomly(games: Sequence[Game], seed: int) -> Callable[[UInt8[np.ndarray, "B H W C"]], list[Any]]:
    policies = [random_policy(game, np.random.default_rng([seed, number])) for number, game in enumerate(games)]
    return lambda frames: [policy() for policy in policies]


def _game(task: str, dataset: Dataset) -> Game:
    try:
        game = Game(task, View(**dataset.meta["view"]))
    except DatasetError as error:
        raise SkippedError(str(error)) from error
    if (game.component,) != dataset.components:
        game.close()
        raise SkippedError(f"{task} takes {game.component}, the dataset has {dataset.components}")
    return game


def _task_index(model: Dreamer4, dataset: Dataset, task: str) -> int | None:
    """What the agent token is told; None for a model without tasks."""
    if not model.dynamics.config.tasks:
        return None
    if task not in dataset.tasks:
        raise SkippedError(f"the dataset has the tasks {', '.join(dataset.tasks)}; the policy was not told of {task}")
    return dataset.tasks.index(task)
