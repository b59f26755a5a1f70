"""Conversion of JSON actions to tensors."""

import pytest

from dreamer4_impl.layers.actions import ActionEncoder, Binary, Categorical, Continuous
from dreamer4_impl.play.action import LIMIT, read_action
from dreamer4_impl.play.errors import RequestError

COMPONENTS = (Categorical("move", 4), Binary("keys", 2), Continuous("stick", 2), Categorical("mouse", 121))


def test_action_has_the_values_of_the_request():
    action = read_action(COMPONENTS, {"move": 3, "keys": [0, 1], "stick": [-1, 0.5], "mouse": 7})
    assert {name: value.tolist() for name, value in action.items()} == {
        "move": [3],
        "keys": [[0, 1]],
        "stick": [[-1, 0.5]],
        "mouse": [7],
        "labelled": [True],
    }


def test_missing_components_are_idle():
    action = read_action(COMPONENTS, {})
    assert [action[name].tolist() for name in ("move", "keys", "stick", "mouse")] == [[0], [[0, 0]], [[0, 0]], [60]]


def test_action_encoder_accepts_the_action():
    action = read_action(COMPONENTS, {"stick": [0.25, 1]})
    encoder = ActionEncoder(COMPONENTS, tokens=1, width=4)
    assert encoder({name: value[:, None] for name, value in action.items()}, batch=1, time=1).isfinite().all()


def test_model_without_actions_gets_only_labelled():
    assert read_action((), {})["labelled"].tolist() == [True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "object"),
        (None, "object"),
        ({"jump": 1}, "jump"),
        ({"move": 4}, "move must be an integer from 0 to 3; got 4"),
        ({"move": -1}, "move must be an integer from 0 to 3; got -1"),
        ({"move": 1.0}, "move must be an integer"),
        ({"move": True}, "move must be an integer"),
        ({"move": "1"}, "move must be an integer"),
        ({"keys": [1]}, "keys must be a list of 2 switches, 0 or 1"),
        ({"keys": [0, 2]}, "keys must be a list of 2 switches"),
        ({"keys": [0, 0.5]}, "keys must be a list of 2 switches"),
        ({"keys": 1}, "keys must be a list of 2 switches"),
        ({"stick": [0, float("nan")]}, "stick must be a list of 2 numbers from -10 to 10"),
        ({"stick": [0, float("inf")]}, "stick must be a list of 2 numbers"),
        ({"stick": [0, 10**400]}, "stick must be a list of 2 numbers"),
        ({"stick": [0, 1.01 * LIMIT]}, "stick must be a list of 2 numbers"),
        ({"stick": [[0], [0]]}, "stick must be a list of 2 numbers"),
    ],
)
def test_invalid_value_is_refused_by_name(values, message):
    with pytest.raises(RequestError, match=message):
        read_action(COMPONENTS, values)
