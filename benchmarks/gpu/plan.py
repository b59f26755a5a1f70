"""Stages, and the order of measurements of the command `card`."""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.gpu.report import Row

#: Stage → number of its rows that run in parallel: more than one only in stages without timings.
STAGES = {"check": 4, "kernels": 1, "decode": 1}
#: Default time of a run in seconds; with the start-up it stays below ten minutes.
SECONDS = 520.0


@dataclass(frozen=True)
class Step:
    """Rows of one stage that are measured together.

    Args:
        stage: a key of `STAGES`.
        pattern: shell-style pattern of "group: name". Rows of the group "ceilings" belong to the first step of a stage.
        seconds: time limit after which rows of the step are postponed until all limited steps are done; None for a step
            that starts only then.
    """

    stage: str
    pattern: str = "*"
    seconds: float | None = None


#: The most valuable rows first. The limits add up to 480 s; a step may exceed its limit by the budget of its last rows.
CARD = (
    Step("check", "tests: the Triton kernels", 75),
    Step("decode", "*: triton, graph", 45),
    Step("kernels", "*ward, width 128*: triton", 50),
    Step("decode", "a training step: triton", 40),
    Step("kernels", "*ward, width 128*: flex", 80),
    Step("decode", "*: triton, graph, [!w]*", 100),
    Step("decode", "a training step: *", 50),
    Step("check", "repeats: *bfloat16", 40),
    Step("kernels", "one frame *, width 128: triton"),
    Step("check", "tests: [!F]*"),
    Step("decode", "the paper's model*"),
    Step("check", "conformance suite: *"),
    Step("decode"),
    Step("kernels", "*ward, width *"),
    Step("kernels", "one frame *"),
    Step("check", "[!c]*"),
    Step("kernels", "tiles of 'attend', *"),
    Step("kernels", "tiles of 'queries', *"),
    Step("check"),
    Step("kernels"),
)


def assigned(planned: Sequence[Row], steps: Sequence[Step]) -> Iterator[tuple[Step, list[int]]]:
    """Assign each row to the first step that selects it.

    Args:
        planned: rows with "stage", "group" and "name".
        steps: steps in the order of measurement.

    Yields:
        Step and indices into `planned`, in the order of `planned`.

    Example:
        >>> rows = [{"stage": "check", "group": "g", "name": name} for name in ("a", "b")]
        >>> [indices for _, indices in assigned(rows, [Step("check", "g: b"), Step("check")])]
        [[1], [0]]
    """
    remaining = dict(enumerate(planned))
    for step in steps:
        indices = [index for index, row in remaining.items() if _selects(step, row)]
        for index in indices:
            del remaining[index]
        yield step, indices


def _selects(step: Step, row: Row) -> bool:
    if row["stage"] != step.stage:
        return False
    return row["group"] == "ceilings" or fnmatch.fnmatchcase(f"{row['group']}: {row['name']}", step.pattern)
