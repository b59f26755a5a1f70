"""Recordings in the format of OpenAI's Video PreTraining: videos next to actions as lines of JSON (extra `video`).

    FOLDER/NAME.mp4     frames
    FOLDER/NAME.jsonl   line t: action taken at frame t
        {"mouse": {"dx": 3.0, "dy": -1.0, "buttons": [0], "newButtons": [0]}, "keyboard": {"keys": ["key.keyboard.w"]},
         "hotbar": 2}

Subfolders are read too. Movements of the mouse are pixels, of which 2400 are one turn. They become the 121 classes of
Sec. 4, keys and buttons become 23 switches. Two peculiarities of the contractors' recordings are corrected: the left
button that counts as pressed from the first line on until it is pressed for the first time, and selections of the
hotbar with the mouse's wheel, which are recorded as no key. A line whose mouse or keyboard is null is unlabelled. Two
are not: the videos lack the cursor of open menus, and some versions scale the mouse in menus by 0.5 or 2.
"""

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from dreamer4_impl.data.decoding import decoded, frame_rate, upright
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.frame_view import FrameView
from dreamer4_impl.data.source import DamageWarning, EpisodeArrays, Source, Unit, episode_of_steps
from dreamer4_impl.layers.actions import Binary, Categorical
from dreamer4_impl.layers.mouse import MOUSE_CLASSES, mouse_class

#: Keys that are actions of Minecraft; other keys are ignored.
KEYS: Final = {
    "w": "forward",
    "a": "left",
    "s": "back",
    "d": "right",
    "space": "jump",
    "left.shift": "sneak",
    "left.control": "sprint",
    "e": "inventory",
    "q": "drop",
    "f": "swapHands",
    "escape": "ESC",
    **{str(slot): f"hotbar.{slot}" for slot in range(1, 10)},
}
#: Actions of the mouse's buttons 0, 1 and 2.
BUTTONS: Final = ("attack", "use", "pickItem")
SWITCHES: Final = (*KEYS.values(), *BUTTONS)
#: Degrees that the view turns per pixel of the mouse's movement.
DEGREES: Final = 360 / 2400
#: Mouse and keyboard of a line in which they are null.
IDLE: Final[tuple[dict[str, Any], dict[str, Any]]] = ({"dx": 0.0, "dy": 0.0, "buttons": []}, {"keys": []})
#: Share of the lines, and number, by which a video may be shorter or longer than its actions.
SHARE, FRAMES = 0.01, 2


@dataclass(frozen=True)
class Steps:
    """Actions of a recording, one row per line.

    Args:
        switches: 1 where an action of `SWITCHES` is taken.
        movement: degrees that the view turns down and right.
        recorded: False where mouse or keyboard were not recorded.
    """

    switches: UInt8[np.ndarray, "T 23"]
    movement: Float32[np.ndarray, "T 2"]
    recorded: Bool[np.ndarray, " T"]


def open_vpt(folder: Path, view: FrameView, task: str | None = None) -> Source:
    """Open a folder of recordings.

    Args:
        folder: folder with pairs of files NAME.mp4 and NAME.jsonl, also in subfolders.
        view: size and colour of the frames.
        task: name of the task; None is the folder's name.

    Returns:
        Source with one episode per pair, without rewards and terminations, which the format lacks.

    Raises:
        DatasetError: if PyAV is not installed or there is no pair.
    """
    stems = sorted({file.with_suffix("") for suffix in ("mp4", "jsonl") for file in folder.rglob(f"*.{suffix}")})
    videos = [stem.with_name(f"{stem.name}.mp4") for stem in stems]
    complete = [file for file in videos if file.is_file() and file.with_suffix(".jsonl").is_file()]
    if not complete:
        raise DatasetError(
            f"{folder} has no recordings that can be imported: no pairs of files NAME.mp4 and NAME.jsonl (VPT), no "
            "meta/info.json (LeRobot), no data/metadata.json (Minari)"
        )
    name = task or folder.resolve().name
    meta = {"format": "vpt", "fps": frame_rate(complete[0]), "action_names": {"keys": list(SWITCHES)}}
    components = (Binary("keys", len(SWITCHES)), Categorical("mouse", MOUSE_CLASSES))
    header = Header(name, view.height, view.width, view.channels, components, meta=meta)
    return Source(header, [Unit(str(file), partial(_episode, file, view, name)) for file in videos])


def read_steps(file: Path) -> Steps:
    """Read the actions of a recording.

    Args:
        file: file of JSON objects, one per line.

    Returns:
        The actions.

    Raises:
        DatasetError: if the file cannot be read, a line is no JSON object, or a field is missing or of another type.
    """
    rows = [_step(file, number, line) for number, line in enumerate(_lines(file), 1)]
    if not rows:
        raise DatasetError(f"{file} has no lines")
    pressed = _corrected(rows)
    switches = np.array([[name in names for name in SWITCHES] for names in pressed], np.uint8)
    movement = np.array([(row["dy"], row["dx"]) for row in rows], np.float32) * np.float32(DEGREES)
    return Steps(switches, movement, np.array([row["recorded"] for row in rows]))


def _episode(file: Path, view: FrameView, task: str) -> Iterator[EpisodeArrays]:
    steps = read_steps(file.with_suffix(".jsonl"))
    frames = [view.frame(upright(frame, file)) for _, frame in decoded(file)]
    difference = abs(len(frames) - len(steps.recorded))
    counts = f"{file} has {len(frames)} frames, and {file.stem}.jsonl {len(steps.recorded)} lines"
    if difference > max(FRAMES, SHARE * len(steps.recorded)):
        raise DatasetError(f"{counts}: actions and frames do not belong together")
    if difference:
        warnings.warn(f"{counts}; the surplus at the end is left out", DamageWarning, stacklevel=2)
    mouse = mouse_class(torch.from_numpy(steps.movement)).numpy()
    taken = {"keys": steps.switches, "mouse": mouse}
    shared = min(len(frames), len(steps.recorded))
    yield episode_of_steps(np.stack(frames[:shared]), taken, None, terminated=False, recorded=steps.recorded, task=task)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


def _step(file: Path, number: int, line: str) -> dict[str, Any]:
    """Actions by name, movement in pixels and hotbar of a line."""
    try:
        step = json.loads(line)
        recorded = step["mouse"] is not None and step["keyboard"] is not None
        mouse, keyboard = (step["mouse"], step["keyboard"]) if recorded else IDLE
        return {
            "recorded": recorded,
            "names": _names(mouse, keyboard),
            "new": list(mouse.get("newButtons", [])),
            "dx": _finite(mouse["dx"]),
            "dy": _finite(mouse["dy"]),
            "hotbar": None if step.get("hotbar") is None else range(9).index(step["hotbar"]),
        }
    except KeyError as error:
        raise DatasetError(f"{file} is damaged: line {number} lacks {error}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{file} is damaged: line {number} is not an action: {error}") from None


def _finite(pixels: Any) -> float:
    if not math.isfinite(number := float(pixels)):
        raise ValueError(f"a movement must be finite; got {pixels}")
    return number


def _names(mouse: dict[str, Any], keyboard: dict[str, Any]) -> set[str]:
    keys = {KEYS.get(key.removeprefix("key.keyboard.")) for key in keyboard["keys"]}
    buttons = {BUTTONS[button] for button in mouse["buttons"] if button in range(len(BUTTONS))}
    return {name for name in keys if name} | buttons


def _corrected(rows: list[dict[str, Any]]) -> list[set[str]]:
    """Actions of every line, without the button that is not pressed and with the selections of the wheel."""
    stuck, slot, pressed = rows[0]["new"] == [0], rows[0]["hotbar"], []
    for number, row in enumerate(rows):
        names = set(row["names"])
        stuck = stuck and (number == 0 or 0 not in row["new"])
        if stuck:
            names.discard("attack")
        if row["hotbar"] is not None and row["hotbar"] != slot:
            slot = row["hotbar"]
            names.add(f"hotbar.{slot + 1}")
        pressed.append(names)
    return pressed
