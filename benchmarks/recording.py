"""Speed of dreamer4-record as a share of that of the emulator alone, in turn in one process.

The emulator alone takes random actions, holds each for four frames and takes the maximum of the last two, in grey. The
recorder also resizes it to 64×64 and writes a dataset.

examples:
  python -m benchmarks.recording
  python -m benchmarks.recording ALE/Breakout-v5 --frames 4000 --rounds 31
"""

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial

import ale_py
import gymnasium
import numpy as np
from ale_py import roms

from benchmarks.timing import Interleaved, ratio
from dreamer4_impl.data.game import View
from dreamer4_impl.data.record import Recording, record


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recording", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("game", nargs="?", default="ALE/Boxing-v5", help="gymnasium id (default: ALE/Boxing-v5)")
    parser.add_argument("--frames", type=int, default=2000, help="frames of a round (default: 2000)")
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds (default: 15)")
    options = parser.parse_args(arguments)
    runs = {play.__name__: play, record_once.__name__: record_once}
    rounds = Interleaved({name: partial(run, options.game, options.frames) for name, run in runs.items()})
    for _ in range(options.rounds):
        rounds()
    share = ratio(*(rounds.times[name] for name in runs))
    print(f"{options.game}, {options.frames} frames, {options.rounds} rounds: {share} of the emulator's speed")


def play(game: str, frames: int) -> None:
    """Play at random without gymnasium."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    emulator = ale_py.ALEInterface()
    emulator.setFloat("repeat_action_probability", 0.0)
    rom = roms.get_rom_path(gymnasium.spec(game).kwargs["game"])
    assert rom is not None, f"ale-py has no ROM of {game}"
    emulator.loadROM(rom)
    actions, generator = emulator.getMinimalActionSet(), np.random.default_rng(0)
    for _ in range(frames):
        if emulator.game_over():
            emulator.reset_game()
        action = actions[generator.integers(len(actions))]
        for _ in range(3):
            emulator.act(action)
        before = emulator.getScreenGrayscale()
        emulator.act(action)
        np.maximum(before, emulator.getScreenGrayscale())


def record_once(game: str, frames: int) -> None:
    """Record at random."""
    with tempfile.TemporaryDirectory() as path:
        record(Recording(game, frames, View(64, grey=True)), path)


if __name__ == "__main__":
    main()
