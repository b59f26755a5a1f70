"""Actions as the page sends them, JSON, to those that the dynamics takes."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from dreamer4_impl.layers.actions import LABELLED, Binary, Categorical, Component
from dreamer4_impl.layers.mouse import MOUSE_CLASSES
from dreamer4_impl.play.errors import RequestError

#: Continuous components are of the order of 1; what is far beyond was never seen in training.
LIMIT: Final = 10.0


def idle(component: Component) -> object:
    """What is sent while no key is held: class 0, no movement for the mouse of Sec. 4; switches off; zeros.

    >>> idle(Categorical("keys", 4)), idle(Binary("keys", 2))
    (0, [0, 0])
    """
    if isinstance(component, Categorical):
        return MOUSE_CLASSES // 2 if is_mouse(component) else 0
    return [0] * component.size


def is_mouse(component: Component) -> bool:
    """Whether this is the mouse of Sec. 4, with its 121 classes.

    >>> is_mouse(Categorical("mouse", 121))
    True
    """
    return isinstance(component, Categorical) and (component.name, component.size) == ("mouse", MOUSE_CLASSES)


def read_action(
    components: Sequence[Component], given: object, device: torch.device | str = "cpu"
) -> dict[str, Tensor | None]:
    """The action of one frame of one sequence, for `FrameDecoder.step`.

    Args:
        components: what an action consists of.
        given: component name → a number for a categorical one, a list of numbers else; what is left out is idle.
        device: of the model.

    >>> read_action([Categorical("move", 4)], {"move": 3})
    {'move': tensor([3]), 'labelled': tensor([True])}
    """
    if not isinstance(given, dict):
        raise RequestError(f"action must be an object of component names and values; got {given!r}")
    names = [component.name for component in components]
    if unknown := sorted(set(given) - set(names)):
        raise RequestError(f"action has the components {names}; got {unknown[0]!r}")
    read = {part.name: _read(part, given.get(part.name, idle(part))).to(device)[None] for part in components}
    return {**read, LABELLED: torch.tensor([True], device=device)}


def _read(component: Component, value: object) -> Tensor:
    if isinstance(component, Categorical):
        if type(value) is not int or not 0 <= value < component.size:
            raise RequestError(f"{component.name} must be a whole number from 0 to {component.size - 1}; got {value!r}")
        return torch.tensor(value)
    low, high, meaning = (0, 1, "switches, 0 or 1") if isinstance(component, Binary) else (-LIMIT, LIMIT, "numbers")
    switches = isinstance(component, Binary)
    if (
        not isinstance(value, list)
        or len(value) != component.size
        or not all(_in(low, high, switches, x) for x in value)
    ):
        between = "" if switches else f" from {low:g} to {high:g}"
        raise RequestError(f"{component.name} must be a list of {component.size} {meaning}{between}; got {value!r}")
    return torch.tensor(value, dtype=torch.float32)


def _in(low: float, high: float, whole: bool, number: Any) -> bool:
    return isinstance(number, int if whole else int | float) and low <= number <= high
