"""Conversion of actions from the JSON of the page to tensors for the dynamics."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from dreamer4_impl.layers.actions import LABELLED, Binary, Categorical, Component
from dreamer4_impl.layers.mouse import MOUSE_CLASSES
from dreamer4_impl.play.autopilot import POLICY
from dreamer4_impl.play.errors import RequestError

#: Largest magnitude of a continuous value; values in training are of the order of 1.
LIMIT: Final = 10.0


def idle(component: Component) -> object:
    """Value of a component while no key is pressed.

    Args:
        component: component of the action.

    Returns:
        Class 0 of a categorical component, the class without movement of the mouse; a list of zeros otherwise.

    Example:
        >>> idle(Categorical("keys", 4)), idle(Binary("keys", 2))
        (0, [0, 0])
    """
    if isinstance(component, Categorical):
        return MOUSE_CLASSES // 2 if is_mouse(component) else 0
    return [0] * component.size


def is_mouse(component: Component) -> bool:
    """Test for the mouse of Sec. 4.

    Args:
        component: component of the action.

    Returns:
        True for a categorical component of 121 classes with the name "mouse".

    Example:
        >>> is_mouse(Categorical("mouse", 121))
        True
    """
    return isinstance(component, Categorical) and (component.name, component.size) == ("mouse", MOUSE_CLASSES)


def read_action(
    components: Sequence[Component],
    values: object,
    device: torch.device | str = "cpu",
    default: Mapping[str, object] | None = None,
) -> dict[str, Tensor | None]:
    """Convert the action of a frame, for `FrameDecoder.step`.

    Args:
        components: components of an action of the model.
        values: object of the request: an integer per categorical component, a list of numbers per binary or continuous
            one, by name.
        device: device of the model.
        default: values of missing components, by name; None is those of `idle`.

    Returns:
        Components, (1, …) each, int64 or float32, and `labelled`, bool, (1,).

    Raises:
        RequestError: if values is not an object, or a name or a value is invalid.

    Example:
        >>> read_action([Categorical("move", 4)], {"move": 3})
        {'move': tensor([3]), 'labelled': tensor([True])}
    """
    if not isinstance(values, dict):
        raise RequestError(
            f'action must be an object of component names and values, "{POLICY}" or null; got {values!r}'
        )
    names = [component.name for component in components]
    if unknown := sorted(set(values) - set(names)):
        raise RequestError(f"action must have components among {names}; got {unknown[0]!r}")
    values = {c.name: idle(c) for c in components} | dict(default or {}) | values
    action = {c.name: _read(c, values[c.name]).to(device)[None] for c in components}
    return {**action, LABELLED: torch.tensor([True], device=device)}


def _read(component: Component, value: object) -> Tensor:
    if isinstance(component, Categorical):
        if type(value) is not int or not 0 <= value < component.size:
            raise RequestError(f"{component.name} must be an integer from 0 to {component.size - 1}; got {value!r}")
        return torch.tensor(value)
    switches = isinstance(component, Binary)
    low, high, meaning = (0, 1, "switches, 0 or 1") if switches else (-LIMIT, LIMIT, "numbers")
    number = int if switches else int | float
    if (
        not isinstance(value, list)
        or len(value) != component.size
        or not all(isinstance(x, number) and low <= x <= high for x in value)
    ):
        between = "" if switches else f" from {low:g} to {high:g}"
        raise RequestError(f"{component.name} must be a list of {component.size} {meaning}{between}; got {value!r}")
    return torch.tensor(value, dtype=torch.float32)
