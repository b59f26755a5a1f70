"""Imagined against real return of the same policy, undiscounted, from the same starts and over as many frames."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.evaluation.held_out import evenly
from dreamer4_impl.evaluation.measures import Measure, estimate
from dreamer4_impl.evaluation.played_game import Episode, PlayedGame, PolicyPlay
from dreamer4_impl.evaluation.results import SectionResult, SkippedError
from dreamer4_impl.evaluation.sections.imagined import predicted_returns
from dreamer4_impl.generation.imagination import imagine
from dreamer4_impl.models.dreamer4 import Dreamer4

#: Largest difference of imagined and real return at which they agree, as a share of the real return.
TOLERANCE: Final = 0.2


@torch.no_grad()
def compare_returns(game: PlayedGame, options: ImagineOptions, starts: int, batch: int, seed: int) -> SectionResult:
    """Imagine the frames after frames of real episodes of the policy, and compare their rewards with the real ones.

    The context of a start is what the policy has seen last, up to `options.context` frames. An episode that terminates
    within the horizon H counts its rewards until the end, as the head for ends does in imagination. An episode that is
    cut at frame L has no end to predict, so with such episodes no start has less than H frames up to the smallest L.

    Args:
        game: the game, with a model in evaluation mode.
        options: horizon H, context, K and signal level of imagination; γ is not used.
        starts: number of starts, 1 or more, evenly spaced over all frames of all episodes; fewer if there are fewer.
        batch: rollouts per batch, 1 or more.
        seed: seed of the noise and the imagined actions, 0 or more.

    Returns:
        Measures `returns.imagined`, `returns.real`, `returns.difference` (imagined − real, paired) and `returns.ratio`
        (imagined / real). Their n is the number of starts; episodes are resampled for the intervals.

    Raises:
        SkippedError: as `PlayedGame.play`, or if every episode is shorter than the horizon and cut.
    """
    play = game.by_policy
    possible = _starts(play.episodes, options.horizon)
    if not possible:
        raise SkippedError(f"every episode is cut before {options.horizon} frames follow its first one")
    chosen = [possible[i] for i in evenly(len(possible), starts)]
    # Sorted by the length of the context: a batch of equal lengths is imagined in fewer steps.
    chosen.sort(key=lambda start: -min(start[1] + 1, options.context))
    real = np.array([sum(play.episodes[b].rewards[t + 1 : t + 1 + options.horizon]) for b, t in chosen])
    batches = [range(first, min(first + batch, len(chosen))) for first in range(0, len(chosen), batch)]
    imagined = [_imagined(game, play, [chosen[i] for i in numbers], options, seed, numbers) for numbers in batches]
    sums = _sums_by_episode([b for b, _ in chosen], np.concatenate(imagined), real)
    result = SectionResult(measures=_measures(sums, len(chosen)))
    result.notes.append(
        f"{len(chosen)} starts in {len(sums)} episodes of {game.task}; sums of the rewards of {options.horizon} "
        "frames, undiscounted; n counts starts, and the intervals are over episodes."
    )
    return result


def disagreement(measures: dict[str, Measure]) -> str | None:
    """Explain that the imagined return is not reliable.

    Args:
        measures: measures by name, with `returns.ratio`.

    Returns:
        Sentence for page and terminal; None if imagined and real return agree within `TOLERANCE`.

    Example:
        >>> disagreement({"returns.ratio": Measure(1.5, 1.4, 1.6, n=400)})
        'The imagined return is not reliable: it is 1.50 times the real return, and must be 0.8 to 1.2 times.'
    """
    ratio = measures["returns.ratio"].value
    if abs(ratio - 1) <= TOLERANCE:
        return None
    relation = f"it is {ratio:.2f} times the real return" if np.isfinite(ratio) else "the real return is 0"
    return f"The imagined return is not reliable: {relation}, and must be {1 - TOLERANCE:g} to {1 + TOLERANCE:g} times."


def _starts(episodes: Sequence[Episode], horizon: int) -> list[tuple[int, int]]:
    """Episode and frame of every start; which frames they are does not depend on when an episode terminates."""
    limit = min((len(episode.rewards) - 1 for episode in episodes if not episode.terminated), default=None)
    counts = [len(episode.rewards) - 1 for episode in episodes]
    if limit is not None:
        counts = [min(count, limit - horizon + 1) for count in counts]
    return [(number, t) for number, count in enumerate(counts) for t in range(count)]


def _imagined(
    game: PlayedGame,
    play: PolicyPlay,
    starts: Sequence[tuple[int, int]],
    options: ImagineOptions,
    seed: int,
    numbers: Sequence[int],
) -> Float[np.ndarray, "B"]:
    """Predicted return of the policy from each start."""
    model, device = game.model, game.model.dynamics.registers.device
    assert model.agent is not None
    rows, last = torch.tensor(starts).T
    lengths = (last + 1).clamp(max=options.context)
    context, actions = _contexts(play, rows, last, lengths, model)
    task = None if game.task_index is None else torch.full((len(starts),), game.task_index, device=device)
    keys = [("returns", number) for number in numbers]
    equal = None if int(lengths.min()) == int(lengths.max()) else lengths.to(device)
    h = imagine(model, model.agent.policy, context, actions, task, options, seed, keys, equal).h
    return predicted_returns(model.agent, h, gamma=1.0).double().cpu().numpy()


def _contexts(
    play: PolicyPlay, rows: Int[Tensor, "B"], last: Int[Tensor, "B"], lengths: Int[Tensor, "B"], model: Dreamer4
) -> tuple[Float[Tensor, "B T S D"], dict[str, Tensor]]:
    """Latents and actions of the frames up to each start; a shorter context is padded after its last frame."""
    device = model.dynamics.registers.device
    frames = torch.minimum((last - lengths + 1)[:, None] + torch.arange(int(lengths.max())), last[:, None])
    actions = {name: values[rows[:, None], frames].to(device) for name, values in play.actions.items()}
    return play.z[rows[:, None], frames].to(device), actions


def _sums_by_episode(
    episodes: Sequence[int], imagined: Float[np.ndarray, "N"], real: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "E 3"]:
    """Number of starts, sum of imagined and sum of real returns of each episode that has a start."""
    _, index = np.unique(episodes, return_inverse=True)
    return np.stack([np.bincount(index, weights=values) for values in (np.ones_like(real), imagined, real)], axis=1)


def _measures(sums: Float[np.ndarray, "E 3"], starts: int) -> dict[str, Measure]:
    def _ratio(sums: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums[..., 1] / sums[..., 2]

    statistics = {
        "returns.imagined": lambda sums: sums[..., 1] / sums[..., 0],
        "returns.real": lambda sums: sums[..., 2] / sums[..., 0],
        "returns.difference": lambda sums: (sums[..., 1] - sums[..., 2]) / sums[..., 0],
        "returns.ratio": _ratio,
    }
    measures = {name: estimate(statistic, sums) for name, statistic in statistics.items()}
    return {name: Measure(m.value, m.low, m.high, starts, m.unit) for name, m in measures.items()}
