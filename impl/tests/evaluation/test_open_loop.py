"""Rollouts of models whose errors are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamer4_impl.evaluation.baselines import principal_components
from dreamer4_impl.evaluation.held_out import Clips
from dreamer4_impl.evaluation.metrics import decibels
from dreamer4_impl.evaluation.results import Findings, SkippedError
from dreamer4_impl.evaluation.sections.open_loop import Plan, _shuffled, open_loop
from dreamer4_impl.evaluation.sections.tokenizer import tokenizer_quality

PLAN = Plan(context=4, horizons=(1, 2, 6), steps=(1, 4, 64), batch=4)


def test_the_right_model_is_as_good_as_the_reconstruction_which_is_exact(right_model, square_clips):
    measures = open_loop(right_model, square_clips, PLAN).measures
    assert measures["rollout.reconstruction.psnr.h6"].value == np.inf
    for k in (1, 4):
        assert measures[f"rollout.k{k}.psnr.h6"].low > 100  # all but rounding
        assert measures[f"rollout.k{k}.ssim.h6"].value == pytest.approx(1)


def test_copy_is_the_last_frame_of_the_context_and_mean_frame_that_of_training(right_model, square_clips):
    measures = open_loop(right_model, square_clips, PLAN).measures
    video = square_clips.clips.video.double().numpy() / 255
    for h in (1, 2, 6):
        error = ((video[:, 4 + h - 1] - video[:, 3]) ** 2).mean()
        assert measures[f"rollout.copy.psnr.h{h}"].value == pytest.approx(decibels(error))
        mean = square_clips.training_frames.double().numpy().mean(0) / 255
        error = ((video[:, 4 + h - 1] - mean) ** 2).mean()
        assert measures[f"rollout.mean_frame.psnr.h{h}"].value == pytest.approx(decibels(error), abs=1e-4)


def test_actions_of_another_clip_cost_where_the_model_listens_to_them(right_model, square_clips):
    found = open_loop(right_model, square_clips, PLAN)
    assert found.measures["rollout.shuffle_gap.psnr.h6"].low > 10


def test_actions_of_another_clip_cost_exactly_nothing_where_the_model_is_deaf(deaf_model, square_clips):
    measures = open_loop(deaf_model, square_clips, PLAN).measures
    gap = measures["rollout.shuffle_gap.psnr.h6"]
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    assert measures["rollout.k4.psnr.h1"].value == pytest.approx(measures["rollout.copy.psnr.h1"].value, abs=1e-3)


def test_no_clip_keeps_its_own_actions_and_the_context_keeps_them():
    own = torch.arange(5)[:, None].expand(5, 10)
    actions = {"move": own, "labelled": torch.ones(5, 10, dtype=torch.bool)}
    clips = Clips(torch.zeros(5, 10, 2, 2, 1, dtype=torch.uint8), actions, torch.zeros(5, 10), torch.zeros(5))
    mixed = _shuffled(clips, PLAN, Findings()).actions["move"]
    assert (mixed[:, :4] == own[:, :4]).all()
    assert (mixed[:, 4:] != own[:, 4:]).all()
    assert sorted(mixed[:, 4].tolist()) == [0, 1, 2, 3, 4]


def test_videos_without_actions_are_predicted_from_frames_alone(square_model, square_clips):
    clips = square_clips.clips
    unlabelled = replace(clips, actions={"labelled": torch.zeros_like(clips.labelled)})
    found = open_loop(square_model.eval(), replace(square_clips, clips=unlabelled), replace(PLAN, steps=(1,)))
    assert "rollout.k1.psnr.h6" in found.measures
    assert "rollout.shuffle_gap.psnr.h6" not in found.measures
    assert "Actions are not shuffled: that takes two clips or more with actions." in found.notes


def test_steps_beyond_the_model_are_left_out_and_named(right_model, square_clips):
    found = open_loop(right_model, square_clips, PLAN)
    assert not any(".k64." in name for name in found.measures)
    assert any("K = 64 is above the model's k_max = 8" in note for note in found.notes)
    with pytest.raises(SkippedError, match="at most K = 8 steps; asked for 64"):
        open_loop(right_model, square_clips, replace(PLAN, steps=(64,)))


def test_pictures_begin_with_the_context_that_all_rows_share(right_model, square_clips):
    median, worst = open_loop(right_model, square_clips, PLAN).pictures
    assert [p.title for p in (median, worst)] == ["The median of 6 clips", "The worst of 6 clips"]
    assert list(median.rows) == ["truth", "reconstruction", "model, K = 4", "copy"]
    truth, copy = median.rows["truth"], median.rows["copy"]
    assert len(truth) == median.context + 6 == 8
    assert (copy[:2] == truth[:2]).all()
    assert (copy[2:] == truth[1]).all()


def test_tokenizer_that_loses_nothing_is_beyond_every_baseline(right_model, square_clips):
    measures = tokenizer_quality(right_model.tokenizer, square_clips).measures
    assert measures["tokenizer.model.psnr"].value == np.inf
    video = square_clips.clips.video.double().numpy() / 255
    error = ((video[:, 1:] - video[:, :-1]) ** 2).mean()
    assert measures["tokenizer.copy.psnr"].value == pytest.approx(decibels(error))


def test_pca_has_the_error_of_the_exact_one(square_clips):
    frames = square_clips.training_frames[:200]
    x = frames.flatten(1).double().numpy() / 255
    spectrum = np.linalg.svd(x - x.mean(0), compute_uv=False)
    video = frames.float() / 255
    error = (principal_components(frames, 20).reconstruct(video) - video).square().mean()
    assert float(error) == pytest.approx((spectrum[20:] ** 2).sum() / x.size, rel=0.02)
