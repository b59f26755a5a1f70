"""Witnesses of the readings' page: what they print, and that code which follows an option prints its number."""

from __future__ import annotations

import doctest
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from docs.generator.catalogue_pages import readings_page
from docs.generator.markdown import reading_label
from docs.generator.witnesses import WITNESSES
from dreamer4_conformance.readings import BY_ID, READINGS, Reading
from dreamer4_conformance.zoo.base import TextbookModel, TextbookSampler
from dreamer4_impl.equations.eq02_sampling import generate
from dreamer4_impl.models.reconstruction import ReconstructionLoss

ENTRIES = dict(re.findall(r"(?ms)^\((reading-\S+)\)=$(.*?)(?=^\(reading-|\Z)", readings_page()))
"""Label of a reading → its entry on the page."""
STEPS = 4
"""K of the witness of A28."""


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.id)
def test_witness_has_a_different_result_for_every_option_or_a_reason(reading: Reading) -> None:
    witness = WITNESSES[reading.id]
    results = witness.results()
    assert len(set(results.values())) == (1 if witness.equal_because else len(results))
    without = set(reading.options) - results.keys()
    assert set(results) <= set(reading.options) or (not reading.options and len(results) == 1)
    assert [option for option in without if f'"{option}"' not in witness.meaning] == []
    assert not witness.equal_because or (reading.free and not without)


def test_every_witness_belongs_to_a_reading() -> None:
    assert WITNESSES.keys() == BY_ID.keys()


@pytest.mark.parametrize("name", WITNESSES)
def test_session_on_the_page_prints_the_results_in_its_table(name: str) -> None:
    entry = ENTRIES[reading_label(name)]
    (session,) = re.findall(r"(?ms)^```pycon\n(.*?)^```", entry)
    report: list[str] = []
    examples = doctest.DocTestParser().get_doctest(session, {}, name, name, 0)
    assert doctest.DocTestRunner().run(examples, out=report.append).failed == 0, "".join(report)
    printed = [example.want.rstrip("\n") for example in examples.examples if example.want]
    assert re.findall(r"(?m)^\| `(.+)` \| `(.+)` \|$", entry) == list(zip(WITNESSES[name].calls, printed, strict=True))


def test_titles_are_not_cut_within_parentheses() -> None:
    titles = re.findall(r"(?m)^## (.*)$", readings_page())
    assert len(titles) == len(READINGS)
    assert [title for title in titles if title.count("(") != title.count(")")] == []


class Inputs:
    """A network that records the first past frame of every input."""

    def __init__(self) -> None:
        self.past: list[bytes] = []

    def __call__(self, z: Tensor, tau: Tensor, d: Tensor, actions: object = None) -> Tensor:
        self.past.append(z[0, 0].numpy().tobytes())
        return torch.zeros_like(z)

    def count(self) -> str:
        assert len(self.past) == 2 * STEPS
        return str(len(set(self.past)))


def test_samplers_print_the_number_of_their_option_of_a28() -> None:
    printed = {}
    generate(frame := Inputs(), torch.ones(1, 1, 1, 2), 2, STEPS)
    printed["frame"] = frame.count()
    for option in ("generated", "evaluation"):
        inputs, sampler = Inputs(), TextbookSampler(A28=option)
        for context in (torch.ones(1, 1, 1, 2), torch.ones(1, 2, 1, 2)):
            sampler.sample_frame(inputs, context, STEPS, 0)
        printed[option] = inputs.count()
    assert printed == WITNESSES["A28"].results()


@pytest.mark.parametrize("option", BY_ID["A32"].options)
def test_action_in_the_block_of_a32_leads_to_the_frame_after_the_one_it_is_taken_in(option: str) -> None:
    model = TextbookModel(A32=option)
    example = model.example(0, 1, 4)
    inputs = {name: example[name] for name in ("z", "tau", "d", "actions", "task", "labelled")}
    in_block_2 = int(WITNESSES["A32"].results()[option])
    block_of_1 = 2 + 1 - in_block_2
    keys = inputs["actions"]["keys"].clone()
    keys[:, block_of_1] = (keys[:, block_of_1] + 1) % model.keys
    changed = {**inputs, "actions": {**inputs["actions"], "keys": keys}}
    moved = (model.dynamics(**inputs)[0] != model.dynamics(**changed)[0]).flatten(2).any(2)[0]
    assert moved.tolist() == [False, False, True, True]


def test_loss_of_the_implementation_prints_the_number_of_a34_all() -> None:
    loss = ReconstructionLoss(lambda video_hat, video: torch.zeros(())).eval()
    video_hat = torch.tensor([1.0, 1.0, 1.0, 3.0]).reshape(1, 1, 2, 2, 1)
    results = WITNESSES["A34"].results()
    assert results["all"] == repr(loss(video_hat, torch.zeros_like(video_hat)).item())
    assert results["dropped"] == repr(3.0**2)


def test_separate_images_are_equal_under_both_options_of_a37() -> None:
    model = TextbookModel()
    z, tau, d, actions = (model.example(0, 2, 3)[name] for name in ("z", "tau", "d", "actions"))
    reshaped, unlabelled = model.image_dynamics(z, tau, d), torch.zeros(2, dtype=torch.bool)
    videos = model.dynamics(z, tau, d, actions, None, unlabelled)[0]
    model.context_frames = 1  # the mask of time attention: a frame attends to itself
    masked = model.dynamics(z, tau, d, actions, None, unlabelled)[0]
    np.testing.assert_allclose(masked.numpy(), reshaped.numpy(), rtol=0, atol=1e-5)
    assert not np.allclose(videos.numpy(), reshaped.numpy(), rtol=0, atol=1e-2)
