"""The oracle of the kernel tests equals the reference, which it cannot import: outputs, gradients, norm, rotation."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamer4_reference.sec34_attention import attention, attention_gradients, attention_mask
from dreamer4_reference.sec34_norms import rms_norm
from dreamer4_reference.sec34_rope import rope, rope_angles

ORACLE = runpy.run_path(str(Path(__file__).parents[3] / "impl" / "tests" / "attention" / "kernel_oracle.py"))
WIDTH = 6


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("rule", [{"causal": False, "window": None}, {"causal": True, "window": 3}])
def test_oracle_equals_the_reference_with_all_gradients(rule: dict[str, object], softcap: float | None) -> None:
    q, k, v, d_out = draw(2, 5, 4, WIDTH), draw(2, 7, 2, WIDTH), draw(2, 7, 2, WIDTH), draw(2, 5, 4, WIDTH)
    options = {"mask": attention_mask(5, 7, **rule), "softcap": softcap, "scale": 0.9}
    expected = [attention(q, k, v, **options), *attention_gradients(q, k, v, d_out, **options)]
    leaves = [torch.tensor(x)[:, :, None].requires_grad_() for x in (q, k, v)]
    visible = ORACLE["visible_keys"](5, 7, **rule)
    out = ORACLE["attend"](*leaves, visible, axis="time", softcap=softcap, scale=0.9)
    got = [out, *torch.autograd.grad(out, leaves, torch.tensor(d_out)[:, :, None])]
    for x, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(x.detach()[:, :, 0].numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_the_axes_differ_in_nothing_but_their_place() -> None:
    q, k, v = (torch.tensor(draw(2, 5, 3, heads, WIDTH)) for heads in (4, 2, 2))
    visible = ORACLE["visible_keys"](5, 5, causal=True)
    time = ORACLE["attend"](q, k, v, visible, axis="time", softcap=None, scale=0.9)
    space = ORACLE["attend"](*(x.transpose(1, 2) for x in (q, k, v)), visible, axis="space", softcap=None, scale=0.9)
    assert torch.equal(space.transpose(1, 2), time)


def test_preparation_equals_the_reference() -> None:
    x, gain, positions = draw(2, 7, 4, WIDTH), draw(WIDTH), np.array([0, 3, 4, 9, 2, 100, 7])
    expected = rope(rms_norm(x, gain, 0.1), positions)
    angles = torch.tensor(rope_angles(positions, WIDTH))
    tensors = torch.tensor(x)[:, :, None], torch.tensor(gain), 0.1, (angles.cos(), angles.sin())
    got = ORACLE["prepare"](*tensors, "time")
    np.testing.assert_allclose(got[:, :, 0].numpy(), expected, rtol=1e-12, atol=1e-12)
