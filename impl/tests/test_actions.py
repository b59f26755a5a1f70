"""Sec. 3.2 and 4: action components, their tokens, the (τ, d) token, the masks of a frame, Minecraft's mouse."""

import itertools

import pytest
import torch

from dreamer4_impl.attention import Visible
from dreamer4_impl.layers.actions import ActionEncoder, Binary, Categorical, Continuous, sum_action_tokens
from dreamer4_impl.layers.label_token import LabelToken, level_index, step_index
from dreamer4_impl.layers.masks import may_attend, private_tokens, space_mask
from dreamer4_impl.layers.mouse import class_movement, mouse_class

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


def test_components_are_summed_with_an_embedding_that_is_always_there(encoder):
    values = actions()
    alone = [encoder(only(**{name: value}), 2, 3) - encoder.embedding for name, value in values.items()]
    torch.testing.assert_close(encoder(values, 2, 3), encoder.embedding + sum(alone))
    torch.testing.assert_close(encoder(None, 2, 3), encoder.embedding.expand(2, 3, -1, -1))
    assert torch.equal(encoder(only(), 2, 3), encoder(None, 2, 3))


def test_each_switch_looks_one_of_two_embeddings_up(encoder):
    keys = torch.tensor([[[True, False, True]]])
    on, off = encoder.encoders[0].on, encoder.encoders[0].off
    expected = (on[0] + off[1] + on[2]).reshape(2, 4) + encoder.embedding
    for dtype in (torch.bool, torch.int64, torch.float64):
        torch.testing.assert_close(encoder(only(keys=keys.to(dtype)), 1, 1)[0, 0], expected)


def test_an_action_of_zeros_is_not_the_same_as_none(encoder):
    for name, value in actions().items():
        assert not torch.isclose(encoder(only(**{name: 0 * value}), 2, 3), encoder(None, 2, 3)).all()


@pytest.mark.parametrize("labelled", [torch.tensor([True, False]), torch.tensor([[True] * 3, [False] * 3])])
def test_values_without_a_label_are_never_looked_at(encoder, labelled):
    values, other = actions(), actions()
    other["keys"][1], other["mouse"][1], other["joystick"][1] = 7, -1, torch.nan
    tokens = encoder({**other, "labelled": labelled}, 2, 3)
    assert torch.equal(tokens, encoder({**values, "labelled": labelled}, 2, 3))
    assert torch.equal(tokens[0], encoder(values, 2, 3)[0])
    assert torch.equal(tokens[1], encoder(None, 2, 3)[1])


def test_values_without_a_label_poison_no_gradient(encoder):
    values = actions()
    values["joystick"][1] = torch.nan
    encoder({**values, "labelled": torch.tensor([True, False])}, 2, 3).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_one_timestep_may_have_no_action(encoder):
    labelled = torch.tensor([[False, True, True]])
    values = actions(batch=1)
    tokens = encoder({**values, "labelled": labelled}, 1, 3)
    assert torch.equal(tokens[:, 0], encoder(None, 1, 1)[:, 0])
    assert torch.equal(tokens[:, 1:], encoder(values, 1, 3)[:, 1:])


def test_the_sum_has_no_mean_and_no_scale():
    encoded = [torch.randn(2, 3, 2, 4) for _ in range(3)]
    embedding, labelled = torch.randn(2, 4), torch.tensor([True, False])
    tokens = sum_action_tokens(encoded, embedding, labelled)
    torch.testing.assert_close(tokens[0], embedding + sum(encoded)[0])
    assert torch.equal(tokens[1], embedding.expand(3, 2, 4))


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"keys": torch.zeros(2, 3)}, ValueError, r"actions\['keys'\] must have shape of Binary.* = \(2, 3, 3\); got"),
        ({"mouse": torch.zeros(2, 3)}, TypeError, "must be an integer tensor"),
        ({"joystick": torch.zeros(2, 3, 2, dtype=torch.int64)}, TypeError, "must be a floating-point tensor"),
        ({"keys": [1, 0, 1]}, TypeError, r"actions\['keys'\] must be a torch tensor; got list"),
        ({"jump": None}, ValueError, r"actions must hold the components \['joystick', 'keys', 'mouse'\]"),
    ],
)
def test_bad_actions_get_a_sentence(encoder, change, error, sentence):
    with pytest.raises(error, match=sentence):
        encoder({**actions(), **change}, 2, 3)


def test_a_component_that_is_left_out_is_refused(encoder):
    with pytest.raises(ValueError, match=r"None where one is absent; got \['keys'\]"):
        encoder({"keys": actions()["keys"]}, 2, 3)


@pytest.mark.parametrize("name", ["labelled", "", "two words"])
def test_component_names_that_cannot_be_keys_are_refused(name):
    with pytest.raises(ValueError, match="name must be an identifier other than 'labelled'"):
        Binary(name, 2)
    with pytest.raises(ValueError, match="size of the component 'keys' must be a whole number, 1 or more; got 0"):
        Binary("keys", 0)


def test_labels_are_the_nearest_grid_level_and_a_clean_frame_the_last():
    tau = torch.tensor([0.0, 1 / 64, 0.9, 63 / 64, 1.0])
    assert level_index(tau, 64).tolist() == [0, 1, 58, 63, 63]
    assert step_index(torch.tensor([1.0, 0.5, 1 / 64]), 64).tolist() == [0, 1, 6]


@pytest.mark.parametrize("k_max", [1, 2, 64, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_label_has_a_row_of_its_own(k_max, dtype):
    steps = torch.arange(k_max)
    assert torch.equal(level_index((steps / k_max).to(dtype), k_max), steps)
    exponents = torch.arange(k_max.bit_length())
    assert torch.equal(step_index((0.5**exponents).to(dtype), k_max), exponents)


def test_the_label_token_is_two_embeddings_side_by_side():
    token = LabelToken(width=6, k_max=4)
    tau, d = torch.tensor([[0.25, 0.5]]), torch.tensor([[0.25, 0.5]])
    expected = torch.cat([token.tau_table[[1, 2]], token.d_table[[2, 1]]], dim=-1)
    assert torch.equal(token(tau, d)[0], expected)


def test_bad_labels_get_a_sentence():
    with pytest.raises(ValueError, match="width must be even, one half for τ and one for d; got 5"):
        LabelToken(5, 4)
    with pytest.raises(ValueError, match=r"d must have shape \(B, T\) = \(2, 3\); got \(2,\)"):
        LabelToken(4, 4)(torch.zeros(2, 3), torch.zeros(2))


def test_latents_of_the_encoder_see_every_modality_and_the_others_only_themselves():
    assert {
        (q, k) for q, k in itertools.product(("latent", "image", "sound"), repeat=2) if may_attend("encoder", q, k)
    } == {
        *(("latent", k) for k in ("latent", "image", "sound")),
        ("image", "image"),
        ("sound", "sound"),
    }


def test_modalities_of_the_decoder_see_themselves_and_the_latents_which_see_only_latents():
    assert {
        (q, k) for q, k in itertools.product(("latent", "image", "sound"), repeat=2) if may_attend("decoder", q, k)
    } == {
        ("latent", "latent"),
        *((q, k) for q in ("image", "sound") for k in ("latent", q)),
    }


def test_agent_tokens_see_everything_and_are_seen_by_none_but_themselves():
    names = ("latent", "register", "label", "action", "agent")
    for query, key in itertools.product(names, repeat=2):
        assert may_attend("dynamics", query, key) == (key != "agent" or query == "agent")


def test_the_mask_of_a_frame_has_queries_as_rows():
    modalities = ["image", "latent", "image", "sound"]
    expected = [[may_attend("encoder", q, k) for k in modalities] for q in modalities]
    assert space_mask("encoder", modalities).tolist() == expected


#: What a frame consists of, and how many of its last tokens are seen by themselves alone.
FRAMES = {
    "encoder": (["image"] * 3 + ["latent"] * 2, 2),
    "decoder": (["latent"] * 2 + ["image"] * 3, 3),
    "dynamics": (["world"] * 4 + ["agent"], 1),
    "dynamics without agent": (["world"] * 4, 0),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_the_bound_of_private_tokens_says_what_the_mask_says(frame):
    modalities, expected = FRAMES[frame]
    kind = frame.split()[0]
    assert private_tokens(kind, modalities) == expected
    table = Visible(private=expected).table(len(modalities), len(modalities), torch.device("cpu"))
    mask = space_mask(kind, modalities)
    assert torch.equal(torch.ones_like(mask) if table is None else table, mask)


@pytest.mark.parametrize(
    ("kind", "modalities"),
    [
        ("encoder", ["latent", "image"]),
        ("encoder", ["image", "proprioception", "latent"]),
        ("dynamics", ["agent", "world", "agent"]),
    ],
)
def test_modalities_that_no_bound_describes_are_refused(kind, modalities):
    with pytest.raises(ValueError, match="modalities must end with those that no other sees, all else being seen"):
        private_tokens(kind, modalities)


def test_an_unknown_kind_of_mask_is_refused():
    with pytest.raises(ValueError, match="kind must be one of 'encoder', 'decoder', 'dynamics'; got 'other'"):
        may_attend("other", "latent", "latent")


def test_the_mouse_has_121_classes_and_rest_is_the_middle_one():
    classes = mouse_class(class_movement(torch.arange(121)))
    assert torch.equal(classes, torch.arange(121))
    assert mouse_class(torch.zeros(2)).item() == 60


def test_mouse_bins_are_odd_monotone_and_finest_at_rest():
    movement = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    bins = mouse_class(torch.stack([movement, torch.zeros_like(movement)], dim=-1)) // 11
    assert (bins.diff() >= 0).all()
    assert torch.equal(bins + bins.flip(0), torch.full_like(bins, 10))
    widths = torch.bincount(bins)[5:-1]
    assert (widths[1:].diff() > 0).all()


def test_movements_beyond_the_limit_are_clipped():
    assert mouse_class(torch.tensor([[99.0, -99.0], [10.0, -10.0]])).tolist() == [110, 110]


def test_the_first_axis_counts_elevens():
    assert mouse_class(torch.tensor([10.0, 0.0])) - mouse_class(torch.tensor([0.0, 0.0])) == 55


def test_a_movement_of_three_axes_is_refused():
    with pytest.raises(ValueError, match=r"movement must have 2 axes of the mouse last, \(…, 2\); got \(4, 3\)"):
        mouse_class(torch.zeros(4, 3))
    with pytest.raises(TypeError, match="mouse must be an integer tensor"):
        class_movement(torch.zeros(4))


def test_classes_may_be_stored_in_bytes(encoder):
    given = actions()
    stored = {**given, "mouse": given["mouse"].to(torch.uint8)}
    assert torch.equal(encoder(stored, 2, 3), encoder(given, 2, 3))


def test_components_of_another_shape_do_not_broadcast():
    with pytest.raises(ValueError, match=r"encoded\[1\] must have shape \(B, T, S_a, W\) = \(2, 3, 1, 4\)"):
        sum_action_tokens(
            [torch.ones(2, 3, 1, 4), torch.ones(2, 1, 1, 4)], torch.ones(1, 4), torch.ones(2, dtype=torch.bool)
        )
