"""Which keys mean which action: derived from the components of an action and from what their classes are called.

Classes named as Atari names them are chords: UPRIGHTFIRE is ↑, → and space together. The mouse of Sec. 4 moves with
the arrows. Everything else is given digits and letters in turn, and where those end, buttons without a key.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch

from dreamer4_impl.layers.actions import Categorical, Component, Continuous
from dreamer4_impl.layers.mouse import mouse_class
from dreamer4_impl.play.action import idle, is_mouse

#: Words in the names of Atari's actions, and the keys (`KeyboardEvent.code`) that stand for them.
CHORD: Final = {"UP": "ArrowUp", "DOWN": "ArrowDown", "LEFT": "ArrowLeft", "RIGHT": "ArrowRight", "FIRE": "Space"}
#: In the order in which they are shown.
SYMBOLS: Final = {"ArrowLeft": "←", "ArrowUp": "↑", "ArrowDown": "↓", "ArrowRight": "→", "Space": "space"}
#: In the order in which they are given away; the page's own commands use none of them.
POOL: Final = tuple(f"Digit{digit}" for digit in "1234567890") + tuple(
    f"Key{key}" for key in "ASDFGHJKLQWERTYUIOPZXCVBNM"
)
#: Degrees that the mouse moves in a frame while an arrow is held.
MOUSE_STEP: Final = 3.0
#: Held arrows and the direction of the two axes of the mouse, down and right positive.
MOUSE_AXES: Final = ({"ArrowUp": -1, "ArrowDown": 1}, {"ArrowLeft": -1, "ArrowRight": 1})

Binding = dict[str, Any]


def controls(components: Sequence[Component], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the page needs to turn held keys into actions, and to show which there are, as JSON.

    Args:
        components: what an action consists of.
        names: component name → what its classes, switches or numbers are called; components may be missing.

    A binding holds while all its `keys` are held. Of a categorical component the binding with the most keys decides; a
    switch or number (`index`) takes the `value`. `keys` lists every key once, in the order to show them.

    >>> shown = controls([Categorical("move", 3)], {"move": ["NOOP", "LEFT", "LEFTFIRE"]})
    >>> [key["symbol"] for key in shown["keys"]], shown["components"][0]["bindings"][1]["keys"]
    (['←', 'space'], ['ArrowLeft', 'Space'])
    """
    free = iter(POOL)
    parts: list[dict[str, Any]] = [
        {
            "name": part.name,
            "categorical": isinstance(part, Categorical),
            "idle": idle(part),
            "bindings": _bindings(part, names.get(part.name), free),
        }
        for part in components
    ]
    return {"components": parts, "keys": _keys([binding for part in parts for binding in part["bindings"]])}


def chord(name: str) -> tuple[str, ...] | None:
    """The keys of an action that Atari names so; none for NOOP, None for another name.

    >>> chord("UPRIGHTFIRE"), chord("NOOP"), chord("open door")
    (('ArrowUp', 'ArrowRight', 'Space'), (), None)
    """
    words = _words(name)
    return tuple(CHORD[word] for word in words) if "".join(words) == name or name == "NOOP" else None


def _words(name: str) -> list[str]:
    return re.findall("|".join(CHORD), name)


def _bindings(component: Component, names: Sequence[str] | None, free: Iterator[str]) -> list[Binding]:
    if is_mouse(component):
        return list(_mouse())
    if names is None or len(names) != component.size:
        names = [f"{component.name} {index}" for index in range(component.size)]
    if not isinstance(component, Categorical):
        signs = ((1, " +"), (-1, " −")) if isinstance(component, Continuous) else ((1, ""),)
        single = [
            (name + sign, {"index": index, "value": value}) for index, name in enumerate(names) for value, sign in signs
        ]
        return [_single(label, free, effect) for label, effect in single]
    chords = [chord(name) for name in names]
    if None not in chords and chords[idle(component)] == ():  # type: ignore[call-overload]
        return [
            {"keys": list(keys), "label": " ".join(_words(name)).lower(), "value": value}
            for value, (name, keys) in enumerate(zip(names, chords, strict=True))
            if keys
        ]
    return [_single(name, free, {"value": value}) for value, name in enumerate(names) if value != idle(component)]


def _single(label: str, free: Iterator[str], effect: dict[str, Any]) -> Binding:
    """A binding of the next key that is free, or of a button's own name."""
    return {"keys": [next(free, f"button {label}")], "label": label, **effect}


def _mouse() -> Iterator[Binding]:
    vertical, horizontal = ({None: 0, **axis} for axis in MOUSE_AXES)
    for down, first in vertical.items():
        for right, second in horizontal.items():
            if keys := [key for key in (down, right) if key]:
                moved = torch.tensor([first, second]) * MOUSE_STEP
                label = "look " + " ".join(key.removeprefix("Arrow").lower() for key in keys)
                yield {"keys": keys, "label": label, "value": int(mouse_class(moved))}


def _keys(bindings: Sequence[Binding]) -> list[dict[str, str]]:
    """Every key, with the label of the binding that it has alone."""
    labels: dict[str, str] = {}
    for binding in sorted(bindings, key=lambda binding: len(binding["keys"])):
        for code in binding["keys"]:
            labels.setdefault(code, binding["label"])
    order = [code for code in SYMBOLS if code in labels] + [code for code in labels if code not in SYMBOLS]
    return [{"code": code, "symbol": _symbol(code), "label": labels[code]} for code in order]


def _symbol(code: str) -> str:
    if code.startswith("button "):
        return ""
    return SYMBOLS.get(code) or code.removeprefix("Key").removeprefix("Digit")
