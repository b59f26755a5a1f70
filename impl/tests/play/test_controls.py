"""Keys that the page offers, for every kind of action."""

import re
from importlib.resources import files

import pytest
import torch

from dreamer4_impl.layers.actions import Binary, Categorical, Continuous
from dreamer4_impl.layers.mouse import class_movement
from dreamer4_impl.play.controls import POOL, SYMBOLS, controls

#: Of ALE/Seaquest-v5: all that the joystick can do.
ALL = [
    "NOOP",
    "FIRE",
    "UP",
    "RIGHT",
    "LEFT",
    "DOWN",
    "UPRIGHT",
    "UPLEFT",
    "DOWNRIGHT",
    "DOWNLEFT",
    "UPFIRE",
    "RIGHTFIRE",
    "LEFTFIRE",
    "DOWNFIRE",
    "UPRIGHTFIRE",
    "UPLEFTFIRE",
    "DOWNRIGHTFIRE",
    "DOWNLEFTFIRE",
]


def bindings(component, names=None):
    shown = controls([component], {component.name: names} if names else {})
    return shown["components"][0]["bindings"]


def test_every_action_of_an_atari_game_has_arrows_and_space_of_its_own():
    bound = bindings(Categorical("action", len(ALL)), ALL)
    chords = {frozenset(binding["keys"]): ALL[binding["value"]] for binding in bound}
    assert len(chords) == len(ALL) - 1
    assert chords[frozenset({"ArrowUp", "ArrowLeft", "Space"})] == "UPLEFTFIRE"
    assert set().union(*chords) == set(SYMBOLS)


def test_an_atari_game_is_left_alone_while_no_key_is_held():
    (part,) = controls([Categorical("action", 3)], {"action": ["NOOP", "LEFT", "RIGHT"]})["components"]
    assert part["idle"] == 0
    assert all(binding["keys"] for binding in part["bindings"])


def test_classes_without_names_are_held_by_their_number():
    assert [(binding["value"], binding["keys"]) for binding in bindings(Categorical("move", 4))] == [
        (1, ["Digit1"]),
        (2, ["Digit2"]),
        (3, ["Digit3"]),
    ]


def test_names_of_another_number_of_classes_are_not_believed():
    assert [binding["label"] for binding in bindings(Categorical("move", 3), ["NOOP", "LEFT"])] == ["move 1", "move 2"]


def test_names_that_are_no_joystick_are_labels():
    assert [binding["label"] for binding in bindings(Categorical("tool", 2), ["none", "UPPER"])] == ["UPPER"]


def test_a_switch_has_a_key_and_a_number_has_one_for_each_direction():
    assert [(b["index"], b["value"]) for b in bindings(Binary("keys", 3))] == [(0, 1), (1, 1), (2, 1)]
    assert [(b["index"], b["value"]) for b in bindings(Continuous("stick", 2))] == [(0, 1), (0, -1), (1, 1), (1, -1)]


def test_the_mouse_moves_with_the_arrows_and_rests_without_them():
    (part,) = controls([Categorical("mouse", 121)], {})["components"]
    moved = {tuple(b["keys"]): class_movement(torch.tensor(b["value"])).sign().tolist() for b in part["bindings"]}
    assert len(moved) == 8
    assert moved[("ArrowUp",)] == [-1, 0]
    assert moved[("ArrowDown", "ArrowRight")] == [1, 1]
    assert class_movement(torch.tensor(part["idle"])).tolist() == [0, 0]


def test_components_share_no_key():
    shown = controls([Binary("keys", 23), Categorical("mouse", 121), Categorical("slot", 9), Continuous("tilt", 2)], {})
    single = [b["keys"][0] for part in shown["components"] for b in part["bindings"] if len(b["keys"]) == 1]
    assert len(single) == len(set(single)) == len(shown["keys"])


def test_what_has_no_key_left_has_a_button():
    shown = controls([Categorical("many", 60)], {})
    assert len({key["code"] for key in shown["keys"]}) == 59
    assert sum(not key["symbol"] for key in shown["keys"]) == 59 - len(POOL)


def test_no_action_takes_a_key_of_the_pages_commands():
    page = files("dreamer4_impl.play").joinpath("page.html").read_text()
    (commands,) = re.findall(r"const COMMANDS = \{(.*)\};", page)
    codes = set(re.findall(r"(\w+):", commands))
    assert codes == {"Escape", "Enter", "Backspace", "Period"}
    assert not codes & {*POOL, *SYMBOLS}


def test_a_model_without_actions_has_no_keys():
    assert controls([], {}) == {"components": [], "keys": []}


@pytest.mark.parametrize("order", [1, -1])
def test_keys_are_shown_in_the_same_order_however_a_game_lists_its_actions(order):
    names = ["NOOP", *["FIRE", "RIGHT", "LEFT"][::order]]
    shown = controls([Categorical("action", 4)], {"action": names})
    assert [key["label"] for key in shown["keys"]] == ["left", "right", "fire"]
