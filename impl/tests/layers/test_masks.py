"""Sec. 3.1 and 3.3: which modality attends to which within a frame."""

import itertools

import pytest
import torch

from dreamer4_impl.attention import Visible
from dreamer4_impl.layers.masks import may_attend, private_tokens, space_mask


def test_encoder_latents_attend_to_all_and_modalities_to_themselves():
    assert {
        (q, k) for q, k in itertools.product(("latent", "image", "sound"), repeat=2) if may_attend("encoder", q, k)
    } == {
        *(("latent", k) for k in ("latent", "image", "sound")),
        ("image", "image"),
        ("sound", "sound"),
    }


def test_decoder_modalities_attend_to_themselves_and_latents():
    assert {
        (q, k) for q, k in itertools.product(("latent", "image", "sound"), repeat=2) if may_attend("decoder", q, k)
    } == {
        ("latent", "latent"),
        *((q, k) for q in ("image", "sound") for k in ("latent", q)),
    }


def test_agent_tokens_attend_to_all_and_are_hidden_from_all_others():
    names = ("latent", "register", "label", "action", "agent")
    for query, key in itertools.product(names, repeat=2):
        assert may_attend("dynamics", query, key) == (key != "agent" or query == "agent")


def test_rows_of_a_frame_mask_are_queries():
    modalities = ["image", "latent", "image", "sound"]
    expected = [[may_attend("encoder", q, k) for k in modalities] for q in modalities]
    assert space_mask("encoder", modalities).tolist() == expected


#: Modalities of a frame, and the number of private tokens.
FRAMES = {
    "encoder": (["image"] * 3 + ["latent"] * 2, 2),
    "decoder": (["latent"] * 2 + ["image"] * 3, 3),
    "dynamics": (["world"] * 4 + ["agent"], 1),
    "dynamics without agent": (["world"] * 4, 0),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_private_tokens_describe_the_same_rule_as_the_mask(frame):
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
def test_modalities_without_a_number_of_private_tokens_are_refused(kind, modalities):
    with pytest.raises(ValueError, match="modalities must end with the private ones, all others visible to all"):
        private_tokens(kind, modalities)


def test_unknown_kind_of_mask_is_refused():
    with pytest.raises(ValueError, match="kind must be one of 'encoder', 'decoder', 'dynamics'; got 'other'"):
        may_attend("other", "latent", "latent")
