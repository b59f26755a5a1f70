"""Influence between tokens of the tokenizer and the dynamics: none on forbidden paths, some on required ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dreamer4_reference.sec31_tokenizer import decode, encode
from dreamer4_reference.sec32_dynamics import dynamics, embed_classes, project_numbers
from dreamer4_reference.sec34_layers import layer_kinds, layer_shapes

Array = np.ndarray
TIME, PATCHES, PIXELS, LATENTS, CHANNELS, WIDTH, DEPTH = 4, 3, 5, 4, 2, 6, 8
SPATIAL, REGISTERS, SLOTS, K_MAX = 2, 2, 2, 8
KINDS = layer_kinds(DEPTH)


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def stack(seed: int) -> dict[str, Any]:
    shapes = layer_shapes(WIDTH, heads=4, kv_heads=2, head_width=4, mlp_width=5)
    layers = [
        {
            name: draw(*shape, seed=seed + 20 * i + j) + (len(shape) == 1)
            for j, (name, shape) in enumerate(shapes.items())
        }
        for i in range(DEPTH)
    ]
    return {"layers": layers, "norm": 1 + 0.3 * draw(WIDTH, seed=seed)}


ENCODER = stack(100) | {
    "patch_weight": draw(PIXELS, WIDTH),
    "patch_bias": draw(WIDTH),
    "dropped": draw(WIDTH, seed=1),
    "latents": draw(LATENTS, WIDTH, seed=2),
    "bottleneck_weight": draw(WIDTH, CHANNELS, seed=3) / 4,
    "bottleneck_bias": draw(CHANNELS, seed=4),
}
DECODER = stack(400) | {
    "latent_weight": draw(CHANNELS, WIDTH),
    "latent_bias": draw(WIDTH),
    "queries": draw(PATCHES, WIDTH, seed=1),
    "patch_weight": draw(WIDTH, PIXELS, seed=2),
    "patch_bias": draw(PIXELS, seed=3),
}
DYNAMICS = stack(700) | {
    "spatial_weight": draw(CHANNELS, WIDTH),
    "spatial_bias": draw(WIDTH),
    "registers": draw(REGISTERS, WIDTH, seed=1),
    "tau_table": draw(K_MAX, WIDTH // 2, seed=2),
    "d_table": draw(4, WIDTH // 2, seed=3),
    "actions": draw(SLOTS, WIDTH, seed=4),
    "read_weight": draw(WIDTH, CHANNELS, seed=5),
    "read_bias": draw(CHANNELS, seed=6),
}


def frames_moved(function: Callable[[Array], Array], x: Array, index: tuple[int, ...]) -> list[int]:
    """Frames of the first video that change with x[index]; asserts that a frame changes in all tokens or in none."""
    changed = x.copy()
    changed[index] += 0.5
    moved = (function(x) != function(changed)).any(-1)
    assert not moved[1:].any()
    assert (moved.all(-1) == moved.any(-1)).all()
    return [int(t) for t in np.flatnonzero(moved[0].all(-1))]


# Tokenizer


def test_z_depends_on_every_patch_of_its_frame_and_of_earlier_frames() -> None:
    patches = draw(2, TIME, PATCHES, PIXELS)
    for patch in range(PATCHES):
        assert frames_moved(lambda x: encode(ENCODER, x, KINDS), patches, (0, 1, patch)) == [1, 2, 3]


def test_reconstruction_depends_on_every_token_of_its_frame_and_earlier_ones() -> None:
    z = np.tanh(draw(2, TIME, LATENTS // 2, CHANNELS * 2))
    for token in range(LATENTS // 2):
        assert frames_moved(lambda x: decode(DECODER, x, KINDS), z, (0, 2, token)) == [2, 3]


def test_z_is_bounded_and_has_the_shape_that_the_dynamics_takes() -> None:
    z = encode(ENCODER, draw(2, TIME, PATCHES, PIXELS), KINDS)
    assert z.shape == (2, TIME, LATENTS // 2, CHANNELS * 2)
    assert (np.abs(z) < 1).all()
    assert decode(DECODER, z, KINDS).shape == (2, TIME, PATCHES, PIXELS)
    assert encode(ENCODER, draw(2, TIME, PATCHES, PIXELS), KINDS, factor=1).shape == (2, TIME, LATENTS, CHANNELS)


def test_z_is_read_from_the_latents_and_the_video_from_the_patch_queries() -> None:
    # A read-out from the wrong tokens would not change: patches do not see latents, and latents do not see queries.
    patches, z = draw(2, TIME, PATCHES, PIXELS), np.tanh(draw(2, TIME, LATENTS // 2, CHANNELS * 2))
    other_encoder, other_decoder = (
        ENCODER | {"latents": ENCODER["latents"] + 1},
        DECODER | {"queries": DECODER["queries"] + 1},
    )
    assert (encode(other_encoder, patches, KINDS) != encode(ENCODER, patches, KINDS)).all()
    assert (decode(other_decoder, z, KINDS) != decode(DECODER, z, KINDS)).all()


def test_dropped_patches_have_no_effect_and_their_embedding_has() -> None:
    patches, dropped = draw(2, TIME, PATCHES, PIXELS), np.zeros((2, TIME, PATCHES), bool)
    dropped[0, 1, 2] = True

    def z(x: Array) -> Array:
        return encode(ENCODER, x, KINDS, dropped=dropped)

    assert frames_moved(z, patches, (0, 1, 2)) == []
    assert frames_moved(z, patches, (0, 1, 1)) == [1, 2, 3]
    other = encode(ENCODER | {"dropped": ENCODER["dropped"] + 1}, patches, KINDS, dropped=dropped)
    assert (z(patches) != other)[0, 1:].all()


# Dynamics


def world(**change: Any) -> dict[str, Any]:
    case = {
        "z": draw(2, TIME, SPATIAL, CHANNELS),
        "tau": np.full((2, TIME), 0.5),
        "d": np.full((2, TIME), 0.25),
        "components": [draw(2, TIME, SLOTS, WIDTH, seed=1), draw(2, TIME, SLOTS, WIDTH, seed=2)],
        "labelled": np.array([True, True]),
        "agent": draw(2, TIME, 1, WIDTH, seed=3),
    }
    return case | change


def predicted(case: dict[str, Any]) -> tuple[Array, Array]:
    """Predicted latents and the output of the agent tokens."""
    z_hat, agent = dynamics(DYNAMICS, **case, kinds=KINDS)
    assert agent is not None
    return z_hat, agent


def changed(array: Array, amount: float) -> Array:
    """Change one condition in the second frame of the first clip."""
    other = array.copy()
    other[0, 1] += amount
    return other


CONDITIONS: dict[str, dict[str, Any]] = {
    "z": {"z": changed(world()["z"], 1.0)},
    "tau": {"tau": changed(world()["tau"], -0.5)},
    "d": {"d": changed(world()["d"], 0.25)},
    "first component": {"components": [changed(world()["components"][0], 1.0), world()["components"][1]]},
    "second component": {"components": [world()["components"][0], changed(world()["components"][1], 1.0)]},
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_affects_exactly_its_frame_and_later_ones_of_its_clip(condition: str) -> None:
    for before, after in zip(predicted(world()), predicted(world(**CONDITIONS[condition])), strict=True):
        assert (before != after)[0, 1:].all()
        assert np.array_equal(before[0, 0], after[0, 0])
        assert np.array_equal(before[1], after[1])


def test_agent_token_is_visible_only_to_itself() -> None:
    z_hat, agent = predicted(world())
    other_z_hat, other_agent = predicted(world(agent=changed(world()["agent"], 1.0)))
    assert np.array_equal(z_hat, other_z_hat)
    assert (agent != other_agent)[0, 1:].all()
    without, nothing = dynamics(DYNAMICS, **world(agent=None), kinds=KINDS)
    assert nothing is None
    np.testing.assert_allclose(without, z_hat, rtol=1e-10)


def test_a_clip_without_actions_has_the_learned_embedding_alone() -> None:
    unlabelled = world(labelled=np.array([False, True]))
    absurd = [part.copy() for part in unlabelled["components"]]
    for part in absurd:
        part[0] = np.nan
    z_hat, _ = predicted(unlabelled)
    assert np.array_equal(predicted(unlabelled | {"components": absurd})[0], z_hat)
    assert np.array_equal(predicted(unlabelled | {"components": []})[0][0], z_hat[0])
    assert (predicted(world())[0] != z_hat)[0].all()
    moved = dynamics(DYNAMICS | {"actions": DYNAMICS["actions"] + 1}, **unlabelled, kinds=KINDS)[0]
    assert (moved != z_hat).all()


def test_registers_affect_the_output_and_are_not_part_of_it() -> None:
    z_hat, _ = predicted(world())
    assert z_hat.shape == world()["z"].shape
    moved = dynamics(DYNAMICS | {"registers": DYNAMICS["registers"] + 1}, **world(), kinds=KINDS)[0]
    assert (moved != z_hat).all()


def test_components_are_looked_up_or_projected() -> None:
    tables, classes = draw(3, 2, SLOTS, WIDTH), np.array([[[0, 1, 1]]])
    expected = tables[0, 0] + tables[1, 1] + tables[2, 1]
    np.testing.assert_allclose(embed_classes(classes, tables)[0, 0], expected)
    weight, bias, numbers = draw(2, SLOTS, WIDTH), draw(SLOTS, WIDTH, seed=1), np.array([[[3.0, -1.0]]])
    np.testing.assert_allclose(project_numbers(numbers, weight, bias)[0, 0], 3 * weight[0] - weight[1] + bias)
