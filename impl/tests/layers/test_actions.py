"""Sec. 3.2 and 4: action components and their tokens."""

import pytest
import torch

from dreamer4_impl.layers.actions import ActionEncoder, Binary, Categorical, Continuous, sum_action_tokens

COMPONENTS = (Binary("keys", 3), Categorical("mouse", 5), Continuous("joystick", 2))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return ActionEncoder(COMPONENTS, tokens=2, width=4).double()


def actions(batch=2, time=3):
    generator = torch.Generator().manual_seed(0)
    return {
        "keys": torch.randint(2, (batch, time, 3), generator=generator),
        "mouse": torch.randint(5, (batch, time), generator=generator),
        "joystick": torch.randn(batch, time, 2, generator=generator, dtype=torch.float64),
    }


def only(**present):
    return {component.name: present.get(component.name) for component in COMPONENTS}


def test_components_are_added_to_an_embedding_that_is_always_present(encoder):
    values = actions()
    alone = [encoder(only(**{name: value}), 2, 3) - encoder.embedding for name, value in values.items()]
    torch.testing.assert_close(encoder(values, 2, 3), encoder.embedding + sum(alone))
    torch.testing.assert_close(encoder(None, 2, 3), encoder.embedding.expand(2, 3, -1, -1))
    assert torch.equal(encoder(only(), 2, 3), encoder(None, 2, 3))


def test_each_switch_selects_one_of_two_embeddings(encoder):
    keys = torch.tensor([[[True, False, True]]])
    on, off = encoder.encoders[0].on, encoder.encoders[0].off
    expected = (on[0] + off[1] + on[2]).reshape(2, 4) + encoder.embedding
    for dtype in (torch.bool, torch.int64, torch.float64):
        torch.testing.assert_close(encoder(only(keys=keys.to(dtype)), 1, 1)[0, 0], expected)


def test_an_action_of_zeros_differs_from_no_action(encoder):
    for name, value in actions().items():
        assert not torch.isclose(encoder(only(**{name: 0 * value}), 2, 3), encoder(None, 2, 3)).all()


@pytest.mark.parametrize("labelled", [torch.tensor([True, False]), torch.tensor([[True] * 3, [False] * 3])])
def test_values_without_a_label_are_ignored(encoder, labelled):
    values, invalid = actions(), actions()
    invalid["keys"][1], invalid["mouse"][1], invalid["joystick"][1] = 7, -1, torch.nan
    tokens = encoder({**invalid, "labelled": labelled}, 2, 3)
    assert torch.equal(tokens, encoder({**values, "labelled": labelled}, 2, 3))
    assert torch.equal(tokens[0], encoder(values, 2, 3)[0])
    assert torch.equal(tokens[1], encoder(None, 2, 3)[1])


def test_nan_without_a_label_does_not_reach_gradients(encoder):
    values = actions()
    values["joystick"][1] = torch.nan
    encoder({**values, "labelled": torch.tensor([True, False])}, 2, 3).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_a_single_timestep_may_have_no_action(encoder):
    labelled = torch.tensor([[False, True, True]])
    values = actions(batch=1)
    tokens = encoder({**values, "labelled": labelled}, 1, 3)
    assert torch.equal(tokens[:, 0], encoder(None, 1, 1)[:, 0])
    assert torch.equal(tokens[:, 1:], encoder(values, 1, 3)[:, 1:])


def test_components_are_summed_without_scale():
    encoded = [torch.randn(2, 3, 2, 4) for _ in range(3)]
    embedding, labelled = torch.randn(2, 4), torch.tensor([True, False])
    tokens = sum_action_tokens(encoded, embedding, labelled)
    torch.testing.assert_close(tokens[0], embedding + sum(encoded)[0])
    assert torch.equal(tokens[1], embedding.expand(3, 2, 4))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keys": torch.zeros(2, 3)}, ValueError, r"actions\['keys'\] must have shape of Binary.* = \(2, 3, 3\); got"),
        ({"mouse": torch.zeros(2, 3)}, TypeError, "must be an integer tensor"),
        ({"joystick": torch.zeros(2, 3, 2, dtype=torch.int64)}, TypeError, "must be a floating-point tensor"),
        ({"keys": [1, 0, 1]}, TypeError, r"actions\['keys'\] must be a torch tensor; got list"),
        ({"jump": None}, ValueError, r"actions must hold the components \['joystick', 'keys', 'mouse'\]"),
    ],
)
def test_bad_actions_are_refused_with_a_clear_message(encoder, change, error, message):
    with pytest.raises(error, match=message):
        encoder({**actions(), **change}, 2, 3)


def test_missing_component_is_refused(encoder):
    with pytest.raises(ValueError, match=r"None where one is absent; got \['keys'\]"):
        encoder({"keys": actions()["keys"]}, 2, 3)


@pytest.mark.parametrize("name", ["labelled", "", "two words"])
def test_component_names_that_cannot_be_keys_are_refused(name):
    with pytest.raises(ValueError, match="name must be an identifier other than 'labelled'"):
        Binary(name, 2)
    with pytest.raises(ValueError, match="size of the component 'keys' must be a whole number, 1 or more; got 0"):
        Binary("keys", 0)


def test_classes_may_be_stored_in_bytes(encoder):
    values = actions()
    stored = {**values, "mouse": values["mouse"].to(torch.uint8)}
    assert torch.equal(encoder(stored, 2, 3), encoder(values, 2, 3))


def test_components_of_another_shape_do_not_broadcast():
    with pytest.raises(ValueError, match=r"encoded\[1\] must have shape \(B, T, S_a, W\) = \(2, 3, 1, 4\)"):
        sum_action_tokens(
            [torch.ones(2, 3, 1, 4), torch.ones(2, 1, 1, 4)], torch.ones(1, 4), torch.ones(2, dtype=torch.bool)
        )
