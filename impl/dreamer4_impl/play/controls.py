"""Assignment of keys to actions, derived from the components of an action and the names of their classes.

Classes with the names of Atari's actions are chords: UPRIGHTFIRE is ↑, → and space together. The arrow keys move the
mouse of Sec. 4, and are classes with the names of movements, as in MiniGrid. All other classes get digits and letters
in turn, then buttons without a key.

A game whose actions are named and none of which is idle is played in turns: time waits for a key.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch

from dreamer4_impl.layers.actions import Categorical, Component, Continuous
from dreamer4_impl.layers.mouse import mouse_class
from dreamer4_impl.play.action import idle, is_mouse

#: Words in the names of Atari's actions, with their keys (`KeyboardEvent.code`).
CHORD: Final = {"UP": "ArrowUp", "DOWN": "ArrowDown", "LEFT": "ArrowLeft", "RIGHT": "ArrowRight", "FIRE": "Space"}
#: Names of movements with their keys.
MOVES: Final = {
    "left": "ArrowLeft",
    "right": "ArrowRight",
    "up": "ArrowUp",
    "forward": "ArrowUp",
    "down": "ArrowDown",
    "backward": "ArrowDown",
}
#: Symbols of the keys, in the order in which they are shown.
SYMBOLS: Final = {"ArrowLeft": "←", "ArrowUp": "↑", "ArrowDown": "↓", "ArrowRight": "→", "Space": "space"}
#: Names of an action that does nothing, in lower case.
IDLE: Final = frozenset({"noop", "no-op", "none", "idle", "stay", "wait", "nothing"})
#: Keys for classes without a chord, in order of assignment; disjoint from the keys of the page's commands.
POOL: Final = tuple(f"Digit{digit}" for digit in "1234567890") + tuple(
    f"Key{key}" for key in "ASDFGHJKLQWERTYUIOPZXCVBNM"
)
#: Movement of the mouse per frame while an arrow key is pressed, in degrees.
MOUSE_STEP: Final = 3.0
#: Directions of the arrow keys on the two axes of the mouse; down and right are positive.
MOUSE_AXES: Final = ({"ArrowUp": -1, "ArrowDown": 1}, {"ArrowLeft": -1, "ArrowRight": 1})

Binding = dict[str, Any]


def controls(components: Sequence[Component], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Assign keys to all components, as JSON for the page.

    A binding is active while all its `keys` are pressed. For a categorical component the active binding with the most
    keys decides; for a switch or a number, `value` is added to the entry `index`.

    Args:
        components: components of an action.
        names: names of the classes, switches or numbers, by component; components may be missing.

    Returns:
        Object with `components` (name, idle value and bindings of each), `keys` (every key once, in display order) and
        `turns` (True if a component has no idle class; its idle value is then class 0).

    Example:
        >>> layout = controls([Categorical("move", 3)], {"move": ["NOOP", "LEFT", "LEFTFIRE"]})
        >>> [key["symbol"] for key in layout["keys"]], layout["components"][0]["bindings"][1]["keys"]
        (['←', 'space'], ['ArrowLeft', 'Space'])
    """
    free = iter(POOL)
    resting = {component.name: idle_value(component, names.get(component.name)) for component in components}
    entries: list[dict[str, Any]] = [
        {
            "name": component.name,
            "categorical": isinstance(component, Categorical),
            "idle": idle(component) if resting[component.name] is None else resting[component.name],
            "bindings": _bindings(component, names.get(component.name), resting[component.name], free),
        }
        for component in components
    ]
    keys = _keys([binding for entry in entries for binding in entry["bindings"]])
    return {"components": entries, "keys": keys, "turns": None in resting.values()}


def idle_value(component: Component, names: Sequence[str] | None) -> object:
    """Value of a component that does nothing, as far as names tell.

    Args:
        component: component of an action.
        names: names of its classes, switches or numbers, or None; ignored if their number differs.

    Returns:
        The class with the name of an idle action, None if no class has one; as `idle` where there are no names.

    Example:
        >>> idle_value(Categorical("a", 2), ["FIRE", "NOOP"]), idle_value(Categorical("a", 2), ["left", "right"])
        (1, None)
    """
    if names is None or len(names) != component.size or not isinstance(component, Categorical) or is_mouse(component):
        return idle(component)
    return next((value for value, name in enumerate(names) if name.lower() in IDLE), None)


def action_text(layout: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Name an action as the page does.

    Args:
        layout: result of `controls`.
        values: value of each component by name, valid for `read_action`.

    Returns:
        Labels of the active classes, switches and numbers, separated by commas; "none" if all are idle.

    Example:
        >>> action_text(controls([Categorical("move", 3)], {"move": ["NOOP", "LEFT", "LEFTFIRE"]}), {"move": 2})
        'left fire'
    """
    labels = [label for entry in layout["components"] for label in _labels(entry, values[entry["name"]])]
    return ", ".join(labels) or "none"


def _labels(entry: Mapping[str, Any], value: Any) -> list[str]:
    if not entry["categorical"]:
        return [b["label"] for b in entry["bindings"] if value[b["index"]] * b["value"] > 0]
    bound = [b["label"] for b in entry["bindings"] if b["value"] == value]
    return bound or ([] if value == entry["idle"] else [f"{entry['name']} {value}"])


def chord(name: str) -> tuple[str, ...] | None:
    """Keys of an action of Atari.

    Args:
        name: name of the action.

    Returns:
        The keys, none for NOOP; None if the name is not one of Atari's.

    Example:
        >>> chord("UPRIGHTFIRE"), chord("NOOP"), chord("open door")
        (('ArrowUp', 'ArrowRight', 'Space'), (), None)
    """
    words = _words(name)
    return tuple(CHORD[word] for word in words) if "".join(words) == name or name == "NOOP" else None


def _words(name: str) -> list[str]:
    return re.findall("|".join(CHORD), name)


def _bindings(component: Component, names: Sequence[str] | None, resting: object, free: Iterator[str]) -> list[Binding]:
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
    if None not in chords and all(keys or value == resting for value, keys in enumerate(chords)):
        return [
            {"keys": list(keys), "label": " ".join(_words(name)).lower(), "value": value}
            for value, (name, keys) in enumerate(zip(names, chords, strict=True))
            if keys
        ]
    return [
        {"keys": [MOVES[name]], "label": name, "value": value}
        if name in MOVES
        else _single(name, free, {"value": value})
        for value, name in enumerate(names)
        if value != resting
    ]


def _single(label: str, free: Iterator[str], effect: dict[str, Any]) -> Binding:
    """Bind the next free key, or a button without a key if there is none."""
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
    """Every key once, labelled by its binding with the fewest keys."""
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
