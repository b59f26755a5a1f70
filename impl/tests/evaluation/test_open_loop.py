"""Rollouts of models whose errors are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamer4_impl.evaluation.baselines import principal_components
from dreamer4_impl.evaluation.held_out import Clips
from dreamer4_impl.evaluation.metrics import decibels
from dreamer4_impl.evaluation.results import SectionResult, SkippedError
from dreamer4_impl.evaluation.sections.open_loop import OpenLoopSettings, _shuffled, open_loop
from dreamer4_impl.evaluation.sections.tokenizer import tokenizer_quality

PLAN = OpenLoopSettings(context=4, horizons=(1, 2, 6), steps=(1, 4, 64), batch=4)


def test_exact_model_matches_the_exact_reconstruction(exact_model, square_clips):
    measures = open_loop(exact_model, square_clips, PLAN).measures
    assert measures["rollout.reconstruction.psnr.h6"].value == np.inf
    for k in (1, 4):
        assert measures[f"rollout.k{k}.psnr.h6"].low > 100  # all but rounding
        assert measures[f"rollout.k{k}.ssim.h6"].value == pytest.approx(1)


def test_baselines_are_the_last_context_frame_and_the_mean_training_frame(exact_model, square_clips):
    measures = open_loop(exact_model, square_clips, PLAN).measures
    video = square_clips.clips.video.double().numpy() / 255
    for h in (1, 2, 6):
        error = ((video[:, 4 + h - 1] - video[:, 3]) ** 2).mean()
        assert measures[f"rollout.copy.psnr.h{h}"].value == pytest.approx(decibels(error))
        mean = square_clips.training_frames.double().numpy().mean(0) / 255
        error = ((video[:, 4 + h - 1] - mean) ** 2).mean()
        assert measures[f"rollout.mean_frame.psnr.h{h}"].value == pytest.approx(decibels(error), abs=1e-4)


def test_shuffled_actions_hurt_a_model_that_uses_actions(exact_model, square_clips):
    result = open_loop(exact_model, square_clips, PLAN)
    assert result.measures["rollout.shuffle_gap.psnr.h6"].low > 10


def test_shuffled_actions_leave_an_action_blind_model_unchanged(action_blind_model, square_clips):
    measures = open_loop(action_blind_model, square_clips, PLAN).measures
    gap = measures["rollout.shuffle_gap.psnr.h6"]
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    assert measures["rollout.k4.psnr.h1"].value == pytest.approx(measures["rollout.copy.psnr.h1"].value, abs=1e-3)


def test_shuffling_replaces_every_action_after_the_context():
    own = torch.arange(5)[:, None].expand(5, 10)
    actions = {"move": own, "labelled": torch.ones(5, 10, dtype=torch.bool)}
    clips = Clips(torch.zeros(5, 10, 2, 2, 1, dtype=torch.uint8), actions, torch.zeros(5, 10), torch.zeros(5))
    mixed = _shuffled(clips, PLAN, SectionResult()).actions["move"]
    assert (mixed[:, :4] == own[:, :4]).all()
    assert (mixed[:, 4:] != own[:, 4:]).all()
    assert sorted(mixed[:, 4].tolist()) == [0, 1, 2, 3, 4]


def test_videos_without_actions_are_predicted_from_frames_alone(square_model, square_clips):
    clips = square_clips.clips
    unlabelled = replace(clips, actions={"labelled": torch.zeros_like(clips.labelled)})
    result = open_loop(square_model.eval(), replace(square_clips, clips=unlabelled), replace(PLAN, steps=(1,)))
    assert "rollout.k1.psnr.h6" in result.measures
    assert "rollout.shuffle_gap.psnr.h6" not in result.measures
    assert "Actions were not shuffled: this needs at least two clips with actions." in result.notes


def test_steps_above_k_max_are_left_out_with_a_note(exact_model, square_clips):
    result = open_loop(exact_model, square_clips, PLAN)
    assert not any(".k64." in name for name in result.measures)
    assert any("K = 64 was left out: above k_max = 8 of the model" in note for note in result.notes)
    with pytest.raises(SkippedError, match="at most K = 8 steps; got 64"):
        open_loop(exact_model, square_clips, replace(PLAN, steps=(64,)))


def test_pictures_start_with_the_shared_context(exact_model, square_clips):
    median, worst = open_loop(exact_model, square_clips, PLAN).pictures
    assert [p.title for p in (median, worst)] == ["The median of 6 clips", "The worst of 6 clips"]
    assert list(median.rows) == ["truth", "reconstruction", "model, K = 4", "copy"]
    truth, copy = median.rows["truth"], median.rows["copy"]
    assert len(truth) == median.context + 6 == 8
    assert (copy[:2] == truth[:2]).all()
    assert (copy[2:] == truth[1]).all()


def test_lossless_tokenizer_has_infinite_psnr(exact_model, square_clips):
    measures = tokenizer_quality(exact_model.tokenizer, square_clips).measures
    assert measures["tokenizer.model.psnr"].value == np.inf
    video = square_clips.clips.video.double().numpy() / 255
    error = ((video[:, 1:] - video[:, :-1]) ** 2).mean()
    assert measures["tokenizer.copy.psnr"].value == pytest.approx(decibels(error))


def test_randomised_pca_has_the_error_of_exact_pca(square_clips):
    frames = square_clips.training_frames[:200]
    x = frames.flatten(1).double().numpy() / 255
    spectrum = np.linalg.svd(x - x.mean(0), compute_uv=False)
    video = frames.float() / 255
    error = (principal_components(frames, 20).reconstruct(video) - video).square().mean()
    assert float(error) == pytest.approx((spectrum[20:] ** 2).sum() / x.size, rel=0.02)
