"""Assignment of keys for every kind of component."""

import re
from importlib.resources import files

import pytest
import torch

from dreamer4_impl.layers.actions import Binary, Categorical, Continuous
from dreamer4_impl.layers.mouse import class_movement
from dreamer4_impl.play.controls import POOL, SYMBOLS, action_text, controls

#: Actions of ALE/Seaquest-v5, the full set of the joystick.
JOYSTICK = [
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
    layout = controls([component], {component.name: names} if names else {})
    return layout["components"][0]["bindings"]


def test_every_atari_action_has_its_own_chord_of_arrows_and_space():
    bound = bindings(Categorical("action", len(JOYSTICK)), JOYSTICK)
    chords = {frozenset(binding["keys"]): JOYSTICK[binding["value"]] for binding in bound}
    assert len(chords) == len(JOYSTICK) - 1
    assert chords[frozenset({"ArrowUp", "ArrowLeft", "Space"})] == "UPLEFTFIRE"
    assert set().union(*chords) == set(SYMBOLS)


def test_noop_of_an_atari_game_is_idle():
    (component,) = controls([Categorical("action", 3)], {"action": ["NOOP", "LEFT", "RIGHT"]})["components"]
    assert component["idle"] == 0
    assert all(binding["keys"] for binding in component["bindings"])


def test_classes_without_names_get_digits():
    assert [(binding["value"], binding["keys"]) for binding in bindings(Categorical("move", 4))] == [
        (1, ["Digit1"]),
        (2, ["Digit2"]),
        (3, ["Digit3"]),
    ]


def test_names_of_a_different_number_of_classes_are_ignored():
    assert [binding["label"] for binding in bindings(Categorical("move", 3), ["NOOP", "LEFT"])] == ["move 1", "move 2"]


def test_other_names_are_labels():
    assert [binding["label"] for binding in bindings(Categorical("tool", 2), ["none", "UPPER"])] == ["UPPER"]


def test_movements_of_a_grid_are_arrows_even_without_an_idle_class():
    bound = bindings(Categorical("action", 4), ["left", "right", "forward", "open"])
    assert [(binding["value"], *binding["keys"]) for binding in bound] == [
        (0, "ArrowLeft"),
        (1, "ArrowRight"),
        (2, "ArrowUp"),
        (3, "Digit1"),
    ]


@pytest.mark.parametrize(
    ("names", "idle", "bound", "turns"),
    [
        (["left", "right", "forward"], 0, [0, 1, 2], True),
        (["left", "stay", "right"], 1, [0, 2], False),
        (["jump", "duck", "roll"], 0, [0, 1, 2], True),
        (["FIRE", "LEFT", "RIGHT"], 0, [0, 1, 2], True),
        (["FIRE", "NOOP", "LEFT"], 1, [0, 2], False),
        (["left", "right"], 0, [1, 2], False),  # names of another game, so that class 0 may be idle
    ],
)
def test_a_game_without_an_idle_action_is_played_in_turns_and_binds_all(names, idle, bound, turns):
    layout = controls([Categorical("action", 3)], {"action": names})
    (entry,) = layout["components"]
    assert (entry["idle"], sorted(b["value"] for b in entry["bindings"]), layout["turns"]) == (idle, bound, turns)
    texts = [action_text(layout, {"action": value}) for value in range(3)]
    assert len(set(texts)) == 3
    assert ("none" in texts) == (not turns)


def test_text_of_an_action_names_what_is_active():
    layout = controls(
        [Binary("keys", 2), Categorical("mouse", 121), Continuous("tilt", 1)], {"keys": ["attack", "jump"]}
    )
    nothing = {"keys": [0, 0], "mouse": 60, "tilt": [0.0]}
    assert action_text(layout, nothing) == "none"
    active = {"keys": [1, 1], "mouse": 0, "tilt": [-0.5]}
    assert action_text(layout, active) == "attack, jump, mouse 0, tilt 0 −"


def test_switch_has_one_key_and_number_has_one_per_direction():
    assert [(b["index"], b["value"]) for b in bindings(Binary("keys", 3))] == [(0, 1), (1, 1), (2, 1)]
    assert [(b["index"], b["value"]) for b in bindings(Continuous("stick", 2))] == [(0, 1), (0, -1), (1, 1), (1, -1)]


def test_mouse_moves_with_the_arrow_keys():
    (component,) = controls([Categorical("mouse", 121)], {})["components"]
    moved = {tuple(b["keys"]): class_movement(torch.tensor(b["value"])).sign().tolist() for b in component["bindings"]}
    assert len(moved) == 8
    assert moved[("ArrowUp",)] == [-1, 0]
    assert moved[("ArrowDown", "ArrowRight")] == [1, 1]
    assert class_movement(torch.tensor(component["idle"])).tolist() == [0, 0]


def test_components_share_no_key():
    layout = controls(
        [Binary("keys", 23), Categorical("mouse", 121), Categorical("slot", 9), Continuous("tilt", 2)], {}
    )
    single = [b["keys"][0] for entry in layout["components"] for b in entry["bindings"] if len(b["keys"]) == 1]
    assert len(single) == len(set(single)) == len(layout["keys"])


def test_classes_beyond_the_keys_get_buttons():
    layout = controls([Categorical("many", 60)], {})
    assert len({key["code"] for key in layout["keys"]}) == 59
    assert sum(not key["symbol"] for key in layout["keys"]) == 59 - len(POOL)


def test_actions_do_not_use_keys_of_the_commands():
    page = files("dreamer4_impl.play").joinpath("page.html").read_text()
    (commands,) = re.findall(r"const COMMANDS = \{(.*)\};", page)
    codes = set(re.findall(r"(\w+):", commands))
    assert codes == {"Escape", "Enter", "Backspace", "Period", "Comma"}
    assert not codes & {*POOL, *SYMBOLS}


def test_model_without_actions_has_no_keys():
    assert controls([], {}) == {"components": [], "keys": [], "turns": False}


@pytest.mark.parametrize("order", [1, -1])
def test_order_of_keys_does_not_depend_on_the_order_of_actions(order):
    names = ["NOOP", *["FIRE", "RIGHT", "LEFT"][::order]]
    layout = controls([Categorical("action", 4)], {"action": names})
    assert [key["label"] for key in layout["keys"]] == ["left", "right", "fire"]
