"""Folders of recordings in the format of OpenAI's Video PreTraining."""

import json

from .films import film


def line(keys=(), buttons=(), dx=0.0, dy=0.0, new=(), hotbar=0, **fields):
    """Line of a recording, with the fields that the contractors' recorder writes."""
    mouse = {"x": 640.0, "y": 360.0, "dx": dx, "dy": dy, "scaledX": 0.0, "scaledY": 0.0, "dwheel": 0.0}
    mouse |= {"buttons": list(buttons), "newButtons": list(new)}
    keyboard = {"keys": [f"key.keyboard.{key}" for key in keys], "newKeys": [], "chars": ""}
    return {"mouse": mouse, "keyboard": keyboard, "isGuiOpen": False, "hotbar": hotbar, "tick": 0} | fields


def recording(folder, name, lines, frames=None):
    folder.mkdir(parents=True, exist_ok=True)
    film(folder / f"{name}.mp4", len(lines) if frames is None else frames, rate=20)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(content) + "\n" for content in lines))
    return folder
