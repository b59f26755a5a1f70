"""Command line of `dreamer4-train all`, without imports that take long."""

import argparse
from pathlib import Path

from dreamer4_impl.checkpoints.names import preset_documents

DESCRIPTION = """\
Trains an agent from nothing: records a game, trains the four phases, and evaluates the agent in the game.

  dreamer4-train all grid-cpu --env dreamer4_impl.examples.rooms:MovingGoal-v0 --run runs/moving
  dreamer4-train all atari-cpu --env ALE/Seaquest-v5 --run runs/seaquest --seed 1
  dreamer4-train all mine.toml --env my_game.py:Maze-v0 --data maze --run runs/maze     trains on existing recordings
  dreamer4-train all grid-cpu --env MiniGrid-Empty-Random-6x6-v0 --run r --set record.policy=sticky \\
    --set only.dynamics.steps=2000 --dry-run                                            prints commands and settings

Every stage is a command with a directory of its own in DIR, on which the commands work as well:
  data, tokenizer, latents (of all frames), dynamics, agent, imagine, evaluation
DIR/results.json has versions, seed, wall-clock and processor time of every stage, and all measures and bars. It is
written after every stage.

The same command continues where it was stopped or killed: finished stages are skipped, training continues from its
newest checkpoint, recording after its last complete shard. Settings of a stage that has begun cannot be changed, except
those of the evaluation, which is then repeated.
"""

EPILOG = """\
configuration:
  CONFIG is a TOML document or one of the presets {presets}. In addition to the settings of training it may have
    [record]      frames, size, grey, frame_skip, frames_from, flicker, policy, epsilon, repeat_probability, longest
    [evaluation]  episodes, random_episodes, rollouts, clips, context, horizons, bars
  with the options of dreamer4-record and dreamer4-eval of these names. --set changes a setting of training in all
  phases (seed=3), in one phase (only.dynamics.steps=2000), or one of these tables (record.policy=sticky).

exit status:
  0          all stages completed, and every bar is met
  1          all stages completed, and a bar is missed; or a phase of training failed with this status
  2          wrong command line or configuration, a directory in use, or data or a checkpoint that cannot be used
  129, 130, 143
             stopped by SIGHUP (a closed terminal; not under nohup), SIGINT or SIGTERM; the same command continues
  other      128 + n, if the process of a stage was ended by signal n, such as 137 when memory is exhausted
"""


def sequence_parser() -> argparse.ArgumentParser:
    """Create the parser of `dreamer4-train all`.

    Returns:
        Parser of the words after "all".
    """
    parser = argparse.ArgumentParser(
        "dreamer4-train all",
        description=DESCRIPTION,
        epilog=EPILOG.format(presets=", ".join(preset_documents())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="TOML document or name of a preset")
    add("--env", metavar="GAME", help="game to record and to evaluate in: gymnasium id, MODULE:ID or FILE.py:ID")
    add("--data", metavar="DIR", nargs="+", default=[], help="datasets in place of recording; several are joined")
    add("--run", metavar="DIR", type=Path, required=True, help="directory of all stages and results.json")
    add("--seed", metavar="N", type=int, help="seed of all stages (default: that of CONFIG, or 0)")
    add("--frames", metavar="N", type=int, help="number of recorded frames (default: record.frames of CONFIG)")
    add("--size", metavar="PIXELS", type=int, help="height and width of a frame (default: record.size of CONFIG)")
    add("--frame-skip", metavar="N", type=int, help="game frames per action (default: record.frame_skip of CONFIG)")
    add("--episodes", metavar="N", type=int, help="episodes of the evaluation (default: evaluation.episodes of CONFIG)")
    add("--rollouts", metavar="N", type=int, help="imagined rollouts (default: evaluation.rollouts of CONFIG)")
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting, such as only.agent.steps=90")
    add("--dry-run", action="store_true", help="print commands and settings with their sources, and exit")
    return parser
