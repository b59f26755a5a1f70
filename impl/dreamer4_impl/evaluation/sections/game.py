"""Returns in the real game of the policy, of the behaviour-cloned prior, and of random play."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dreamer4_impl.evaluation.measures import estimate
from dreamer4_impl.evaluation.played_game import Episode, PlayedGame
from dreamer4_impl.evaluation.results import SectionResult
from dreamer4_impl.models.heads import PolicyHead


def game_returns(
    game: PlayedGame, prior: PolicyHead | None = None, random_episodes: int | None = None
) -> SectionResult:
    """Play whole episodes with the policy, with the prior, and at random.

    Args:
        game: the game, with the model.
        prior: behaviour-cloned policy head, or None if the checkpoint has none.
        random_episodes: number of episodes of random play, 1 or more; None for as many as of the policy.

    Returns:
        Measures `game.policy`, `game.prior` (with a prior), `game.random` and `game.difference`: undiscounted returns,
        the difference of policy and random play unpaired.

    Raises:
        SkippedError: as `PlayedGame.play`, or if the model has no agent.
    """
    result, of_policy = SectionResult(), game.by_policy.episodes
    returns = {"policy": _returns(of_policy)}
    if prior is not None:
        returns["prior"] = _returns(game.play(prior).episodes)
    returns["random"] = _returns(game.play_randomly(random_episodes or game.episodes))
    for name, values in returns.items():
        result.measures[f"game.{name}"] = estimate(lambda mean: mean, values)
    samples = returns["policy"], returns["random"]
    result.measures["game.difference"] = estimate(lambda a, b: a - b, *samples, paired=False)
    cut = sum(not episode.over for episode in of_policy)
    result.notes.append(
        f"{len(of_policy)} episodes of {game.task} of each policy and {len(returns['random'])} of random play; "
        f"{cut} of the policy's were cut after {game.longest} frames."
    )
    return result


def _returns(episodes: Sequence[Episode]) -> Float[np.ndarray, "B"]:
    return np.array([sum(episode.rewards) for episode in episodes])
