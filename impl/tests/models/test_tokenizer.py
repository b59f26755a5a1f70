"""Sec. 3.1: the tokenizer. Bottleneck, masks, causality, its loss."""

from dataclasses import replace

import pytest
import torch

from dreamer4_impl.layers.patches import patchify
from dreamer4_impl.models.reconstruction import ReconstructionLoss
from dreamer4_impl.models.tokenizer import Tokenizer, regroup, ungroup


def test_pairs_of_consecutive_latents_become_spatial_tokens():
    latents = torch.randn(2, 3, 512, 16)
    z = regroup(latents)
    assert z.shape == (2, 3, 256, 32)
    assert torch.equal(z[..., 7, :], torch.cat([latents[..., 14, :], latents[..., 15, :]], dim=-1))
    assert torch.equal(ungroup(z), latents)


def test_latents_that_cannot_be_regrouped_raise():
    with pytest.raises(ValueError, match="spatial_tokens must divide the 10 latents; got 4"):
        regroup(torch.zeros(1, 1, 10, 3), 4)
    with pytest.raises(ValueError, match="latents must be a multiple of the 4 spatial tokens; got 10"):
        ungroup(torch.zeros(1, 1, 4, 3), 10)


BATCH_AND_TIME = [(3, 3), (2, 5), (1, 4), (3, 1)]


@pytest.mark.parametrize(("batch", "time"), BATCH_AND_TIME)
def test_shapes_and_the_bound_of_the_bottleneck(tiny_on, device, batch, time):
    tiny = tiny_on(device)
    tokenizer, video = tiny.tokenizer(), tiny.video(batch, time)
    z = tokenizer.encode(video)
    assert z.shape == (batch, time, 5, 6)
    assert z.abs().max() < 1
    assert tokenizer.decode(z).shape == video.shape
    assert torch.equal(tokenizer.reconstruct(video), tokenizer.decode(z))
    with torch.no_grad():
        tokenizer.encoder.bottleneck.weight.mul_(1e6)
    assert tokenizer.encode(video).abs().max() == 1


@pytest.mark.parametrize(("batch", "time"), BATCH_AND_TIME)
def test_permuting_the_batch_permutes_the_output(tiny_on, device, batch, time):
    tiny = tiny_on(device)
    tokenizer, video = tiny.tokenizer(), tiny.video(batch, time)
    order = torch.arange(batch).roll(1)
    got, expected = tokenizer.reconstruct(video[order]), tokenizer.reconstruct(video)[order]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("operation", ["encode", "decode"])
def test_a_frame_influences_only_itself_and_later_frames(tiny_on, device, operation):
    tiny = tiny_on(device)
    tokenizer = tiny.tokenizer()
    x = tiny.video(2, 5) if operation == "encode" else tiny.latents(2, 5).tanh()
    other = x.clone()
    other[0, 2] = 1 - other[0, 2]
    function = getattr(tokenizer, operation)
    differs = (function(x) != function(other)).flatten(2).any(2)
    assert differs.tolist() == [[False, False, True, True, True], [False] * 5]


@pytest.mark.parametrize("patch", range(4))
def test_every_pixel_of_the_frame_influences_its_representation(tiny_on, device, patch):
    tiny = tiny_on(device)
    tokenizer, video = tiny.tokenizer(), tiny.video(1, 1)
    other = video.clone()
    row, column = divmod(patch, 2)
    other[:, :, 4 * row + 1, 4 * column + 3, 2] += 0.5
    assert (tokenizer.encode(video) != tokenizer.encode(other)).any()


def encoder_tokens(tokenizer, patches):
    """All tokens after the encoder's transformer."""
    seen = []
    hook = tokenizer.encoder.transformer.register_forward_hook(lambda module, given, out: seen.append(out))
    tokenizer.encoder(patches)
    hook.remove()
    return seen[0]


def test_encoder_patches_do_not_attend_to_latents(tiny_on, device):
    tiny = tiny_on(device)
    tokenizer, patches = tiny.tokenizer(), patchify(tiny.video(2, 3), 4)
    before = encoder_tokens(tokenizer, patches)
    with torch.no_grad():
        tokenizer.encoder.latents[3].add_(10.0)
    after = encoder_tokens(tokenizer, patches)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert (before[:, :, 4:] != after[:, :, 4:]).any(-1).all()


def test_decoder_latents_do_not_attend_to_patch_queries(tiny_on, device):
    tiny = tiny_on(device)
    tokenizer, z, seen = tiny.tokenizer(), tiny.latents(2, 3), []
    tokenizer.decoder.transformer.register_forward_hook(lambda module, given, out: seen.append(out))
    tokenizer.decode(z)
    with torch.no_grad():
        tokenizer.decoder.queries[2].add_(10.0)
    tokenizer.decode(z)
    assert torch.equal(seen[0][:, :, :10], seen[1][:, :, :10])
    assert (seen[0][:, :, 10:] != seen[1][:, :, 10:]).any(-1).all()


def step_by_step(function, x, cache, chunks):
    return torch.cat([function(part, cache=cache) for part in x.split(chunks, dim=1)], dim=1)


@pytest.mark.parametrize("chunks", [[1] * 27, [6, 1, 1, 12, 1, 4, 2]])
def test_frame_by_frame_equals_the_whole_video_far_beyond_the_window(tiny_on, device, chunks):
    tiny = tiny_on(device)
    tokenizer, video = tiny.tokenizer(), tiny.video(2, 27)
    assert video.shape[1] > 5 * tokenizer.config.encoder.context
    z = tokenizer.encode(video)
    steps = step_by_step(tokenizer.encode, video, tokenizer.encoder_cache(2), chunks)
    torch.testing.assert_close(steps, z, rtol=1e-10, atol=1e-10)
    steps = step_by_step(tokenizer.decode, z, tokenizer.decoder_cache(2), chunks)
    torch.testing.assert_close(steps, tokenizer.decode(z), rtol=1e-10, atol=1e-10)


def test_bfloat16_frame_by_frame_is_as_accurate_as_the_whole_video(tiny_on, device):
    exact, half = tiny_on(device), tiny_on(device, torch.bfloat16)
    tokenizer, truth, z = half.tokenizer(), exact.tokenizer(), half.latents(2, 27).tanh()
    truth.load_state_dict(tokenizer.state_dict())
    expected, whole = truth.decode(z.double()), tokenizer.decode(z)
    steps = step_by_step(tokenizer.decode, z, tokenizer.decoder_cache(2), [1] * 27)
    assert (steps - expected).norm() <= 2 * (whole - expected).norm()
    assert (whole - expected).norm() < 0.1 * expected.norm()


def test_patches_are_dropped_only_in_training(tiny_on, device):
    tiny = tiny_on(device)
    tokenizer, video = tiny.tokenizer(), tiny.video(2, 3)
    plain = tokenizer.reconstruct(video)
    assert torch.equal(tokenizer(video), plain)
    tokenizer.train()
    assert torch.equal(tokenizer.reconstruct(video), plain)
    first = tokenizer(video, generator=torch.Generator(device).manual_seed(0))
    again = tokenizer(video, generator=torch.Generator(device).manual_seed(0))
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)


def test_the_pixels_of_a_dropped_patch_do_not_matter(tiny_on, device):
    tiny = tiny_on(device)
    tokenizer, video = tiny.tokenizer(), tiny.video(2, 3)
    dropped = torch.zeros(2, 3, 4, dtype=torch.bool, device=device)
    dropped[:, 1, 0] = True
    other = video.clone()
    other[:, 1, :4, :4] = 0.5
    assert torch.equal(tokenizer.encode(video, dropped), tokenizer.encode(other, dropped))
    assert not torch.equal(tokenizer.encode(video), tokenizer.encode(other))


def test_gradient_reaches_every_parameter(tiny_on, device):
    tiny = tiny_on(device)
    tokenizer, video = tiny.tokenizer().train(), tiny.video(2, 6)
    (tokenizer(video, generator=torch.Generator(device).manual_seed(0)) - video).square().mean().backward()
    dead = [name for name, parameter in tokenizer.named_parameters() if not parameter.grad.any()]
    assert dead == []


def absolute(video_hat, video):
    return (video_hat - video).abs().mean()


def test_the_loss_of_equation_5_decreases(tiny_on, device):
    tiny = tiny_on(device, torch.float32)
    tokenizer, video = Tokenizer(tiny.config.tokenizer).to(device), tiny.video(4, 4)
    loss = ReconstructionLoss(absolute).to(device)
    optimiser = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    generator, before = torch.Generator(device).manual_seed(0), absolute(tokenizer.eval()(video), video)
    tokenizer.train()
    for _ in range(30):
        optimiser.zero_grad()
        loss(tokenizer(video, generator=generator), video).backward()
        optimiser.step()
    assert absolute(tokenizer.eval()(video), video) < 0.7 * before


def test_the_terms_of_equation_5_are_normalised_separately():
    video, video_hat = torch.zeros(1, 1, 2, 2, 3), torch.full((1, 1, 2, 2, 3), 3.0)
    loss = ReconstructionLoss(lambda a, b: 1000 * absolute(a, b))
    assert loss(video_hat, video).item() == pytest.approx(1.2)
    assert loss(video_hat, video).item() == pytest.approx(1.2)
    loss.eval()
    assert loss(2 * video_hat, video).item() == pytest.approx(4 + 0.2 * 2)


def test_the_perceptual_network_is_neither_trained_nor_saved():
    loss = ReconstructionLoss(torch.nn.Bilinear(3, 3, 1))
    assert list(loss.parameters()) == []
    assert set(loss.state_dict()) == {"normalise.mean_square", "normalise.weight"}


def test_the_host_never_waits_for_the_device(tiny_on, no_host_sync):
    tiny = tiny_on()
    tokenizer, video = tiny.tokenizer().train(), tiny.video(2, 3)
    cache, loss = tokenizer.encoder_cache(2), ReconstructionLoss(absolute)
    with no_host_sync:
        loss(tokenizer(video), video)
        tokenizer.encode(video, cache=cache)


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        (torch.zeros(1, 2, 6, 9, 3), ValueError, r"video must have shape \(B, T, H, W, C\) = \(1, 2, 6, 8, 3\); got"),
        (torch.zeros(1, 2, 6, 8), ValueError, r"video must have shape \(B, T, H, W, C\); got \(1, 2, 6, 8\)"),
        (torch.zeros(1, 2, 6, 8, 3, dtype=torch.uint8), TypeError, "video must be a floating-point tensor"),
    ],
)
def test_a_video_of_wrong_shape_raises(tiny_on, video, error, message):
    with pytest.raises(error, match=message):
        tiny_on().tokenizer().encode(video)


def test_latents_of_wrong_shape_raise(tiny_on):
    with pytest.raises(ValueError, match=r"z must have shape \(B, T, S, D\) = \(1, 2, 5, 6\); got \(1, 2, 10, 3\)"):
        tiny_on().tokenizer().decode(torch.zeros(1, 2, 10, 3))


def standardised(tiny_on):
    tiny = tiny_on(dtype=torch.float32)
    return tiny.random(lambda: Tokenizer(replace(tiny.config.tokenizer, standardise=True))).eval()


def test_a_standardised_tokenizer_is_the_plain_one_on_deviations(tiny_on):
    tokenizer, tiny, mean = standardised(tiny_on), tiny_on(dtype=torch.float32), torch.rand(6, 8, 3)
    plain, video = tiny.random(lambda: Tokenizer(tiny.config.tokenizer)).eval(), tiny.video(2, 3)
    tokenizer.standardise(mean, 0.25)
    z = plain.encode((video - mean) / 0.25)
    assert torch.equal(tokenizer.encode(video), z)
    assert torch.equal(tokenizer.decode(z), plain.decode(z) * 0.25 + mean)


def test_the_mean_frame_is_saved_only_by_a_standardised_model(tiny_on):
    tokenizer = standardised(tiny_on)
    tokenizer.standardise(torch.full((6, 8, 3), 0.5), 0.25)
    saved = tokenizer.state_dict()
    assert saved["pixel_mean"].unique().tolist() == [0.5]
    assert float(saved["pixel_std"]) == 0.25
    assert not any(name.startswith("pixel") for name in tiny_on().tokenizer().state_dict())


def test_standardised_latents_are_those_of_the_plain_tokenizer_in_another_unit(tiny_on):
    tiny, mean = tiny_on(dtype=torch.float32), torch.rand(5, 6)
    plain, video = tiny.random(lambda: Tokenizer(tiny.config.tokenizer)).eval(), tiny.video(2, 3)
    tokenizer = tiny.random(lambda: Tokenizer(replace(tiny.config.tokenizer, standardise_latents=True))).eval()
    assert torch.equal(tokenizer.encode(video), plain.encode(video))
    tokenizer.standardise_latents(mean, 0.25)
    z = plain.encode(video)
    assert torch.equal(tokenizer.encode(video), (z - mean) / 0.25)
    torch.testing.assert_close(tokenizer.reconstruct(video), plain.reconstruct(video))
    assert float(tokenizer.state_dict()["latent_std"]) == 0.25


def test_an_invalid_standardisation_of_latents_raises(tiny_on):
    config = tiny_on().config.tokenizer
    with pytest.raises(ValueError, match=r"config\.standardise_latents must be True"):
        Tokenizer(config).standardise_latents(torch.zeros(5, 6), 1.0)
    tokenizer = Tokenizer(replace(config, standardise_latents=True))
    with pytest.raises(ValueError, match=r"std must be above 0 and finite; got 0\.0"):
        tokenizer.standardise_latents(torch.zeros(5, 6), 0.0)
    with pytest.raises(ValueError, match=r"mean must have shape \(S, D\) = \(5, 6\)"):
        tokenizer.standardise_latents(torch.zeros(4, 6), 1.0)


def test_an_invalid_standardisation_raises(tiny_on):
    mean = torch.zeros(6, 8, 3)
    with pytest.raises(ValueError, match=r"config\.standardise must be True for a tokenizer with a mean frame"):
        tiny_on().tokenizer().standardise(mean, 1.0)
    with pytest.raises(ValueError, match=r"std must be above 0 and finite; got 0\.0"):
        standardised(tiny_on).standardise(mean, 0.0)
    with pytest.raises(ValueError, match=r"mean must have shape \(H, W, C\) = \(6, 8, 3\)"):
        standardised(tiny_on).standardise(mean[:5], 1.0)


def test_patch_queries_and_latents_start_about_one_vector(tiny_on):
    tokenizer = Tokenizer(replace(tiny_on().config.tokenizer, query_spread=0.01, latent_spread=0.01))
    for tokens in (tokenizer.decoder.queries, tokenizer.encoder.latents):
        assert 0 < tokens.std(0).max() < 0.05 < tokens.mean(0).std()
