"""Cached latents equal those of the tokenizer, and belong to one tokenizer."""

import resource
from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamer4_impl.data.clips import ClipSampler
from dreamer4_impl.data.dataset import Dataset, concatenate
from dreamer4_impl.data.format import DatasetError, Header
from dreamer4_impl.data.latents import LatentCache, encode_episode, fingerprint
from dreamer4_impl.data.writer import DatasetWriter
from dreamer4_impl.models.tokenizer import Tokenizer

LENGTHS = [9, 4, 12, 3]


@pytest.fixture
def tokenizer(tiny_on):
    return tiny_on(dtype=torch.float32).tokenizer()


def write_noise(path, seed=0):
    generator = np.random.default_rng(seed)
    with DatasetWriter(path, Header("noise", 6, 8, 3, ()), shard_frames=12) as writer:
        for length in LENGTHS:
            writer.add_episode(generator.integers(256, size=(length, 6, 8, 3), dtype=np.uint8))
    return Dataset.open(path)


@pytest.fixture
def noise(tmp_path):
    return write_noise(tmp_path / "noise")


def directly(tokenizer, dataset, episode):
    """Latents of an episode encoded in one call."""
    frames = torch.from_numpy(np.array(dataset.clip(episode, 0, dataset.episodes[episode].length).frames))
    with torch.no_grad():
        return tokenizer.encode(frames[None] / 255)[0]


@pytest.mark.parametrize("block", [1, 4, 64])
def test_encoding_in_blocks_equals_encoding_at_once(noise, tokenizer, block):
    frames = noise.clip(2, 0, 12).frames
    torch.testing.assert_close(encode_episode(tokenizer, frames, block), directly(tokenizer, noise, 2))


def test_latents_of_a_clip_are_those_of_its_episode(noise, tokenizer, tmp_path):
    latents = LatentCache(tmp_path / "z", noise, tokenizer, dtype="float32")
    for episode, length in enumerate(LENGTHS):
        z = directly(tokenizer, noise, episode).numpy()
        np.testing.assert_allclose(latents.clip(noise, episode, 0, length), z, atol=1e-5)
        np.testing.assert_allclose(latents.clip(noise, episode, 1, 2), z[1:3], atol=1e-5)
    alone = encode_episode(tokenizer, noise.clip(2, 5, 3).frames).numpy()
    assert np.abs(latents.clip(noise, 2, 5, 3) - alone).max() > 1e-3


def test_float16_storage_rounds_to_half_a_unit_in_the_last_place(noise, tokenizer, tmp_path):
    """|z| ≤ 1: the spacing of float16 below 1 is 2⁻¹¹."""
    latents = LatentCache(tmp_path / "z", noise, tokenizer)
    stored = latents.clip(noise, 0, 0, 9)
    assert stored.dtype == np.float32
    assert np.abs(stored - directly(tokenizer, noise, 0).numpy()).max() < 2**-12 + 1e-5


def test_sampler_returns_latents_instead_of_frames(noise, tokenizer, tmp_path):
    latents = LatentCache(tmp_path / "z", noise, tokenizer, dtype="float32")
    batch = ClipSampler(noise, seed=0, latents=latents).batch(0, range(6), 2, [False] * 6)
    frames = ClipSampler(noise, seed=0).batch(0, range(6), 2, [False] * 6)
    assert batch.video is None
    assert (batch.latents.shape, batch.latents.dtype) == ((6, 2, 5, 6), torch.float32)
    known = {
        noise.clip(e, t, 1).frames.tobytes(): z for e in range(4) for t, z in enumerate(directly(tokenizer, noise, e))
    }
    for z, frame in zip(batch.latents.flatten(0, 1), frames.video.flatten(0, 1), strict=True):
        torch.testing.assert_close(z, known[frame.numpy().tobytes()])


def test_latents_of_a_short_episode_are_padded_and_no_row_is_that_of_the_next_episode(noise, tokenizer, tmp_path):
    latents = LatentCache(tmp_path / "z", noise, tokenizer, dtype="float32")
    batch = ClipSampler(noise, seed=0, latents=latents).batch(0, range(8), 12, [False] * 8)
    for z, valid in zip(batch.latents, batch.valid, strict=True):
        assert any(torch.equal(z[valid], torch.tensor(latents.clip(noise, e, 0, n))) for e, n in enumerate(LENGTHS))
        assert not z[~valid].any()
    assert not batch.valid.all()
    with pytest.raises(ValueError, match="must lie in episode 1 of 4 frames; got 1 and 4"):
        latents.clip(noise, 1, 1, 4)


def test_subsets_and_concatenations_share_the_latents(noise, tokenizer, tmp_path):
    latents = LatentCache(tmp_path / "z", noise, tokenizer, dtype="float32")
    train, held_out = noise.split(0.5)
    both = concatenate([train, held_out])
    for dataset, index, episode in ((train, 0, 1), (held_out, 1, 2), (both, 1, 3)):
        expected = latents.clip(noise, episode, 0, 3)
        np.testing.assert_array_equal(latents.clip(dataset, index, 0, 3), expected)


def test_existing_latents_are_not_encoded_again(noise, tokenizer, tmp_path, monkeypatch):
    first = LatentCache(tmp_path / "z", noise, tokenizer)
    monkeypatch.setattr(Tokenizer, "encode", None)
    again = LatentCache(tmp_path / "z", noise, tokenizer)
    np.testing.assert_array_equal(again.clip(noise, 2, 0, 12), first.clip(noise, 2, 0, 12))


@pytest.mark.parametrize("interrupted_at", [1, 15, 27])
def test_only_an_interrupted_shard_is_encoded_again(noise, tokenizer, tmp_path, interrupted_at):
    """Shards end after 13 and 28 frames."""
    encoded = []

    def interrupt(frames):
        encoded.append(frames)
        if frames >= interrupted_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LatentCache(tmp_path / "z", noise, tokenizer, block=1, progress=interrupt)
    encoded.clear()
    resumed = LatentCache(tmp_path / "z", noise, tokenizer, block=1, progress=encoded.append)
    assert encoded[0] == (1 if interrupted_at < 13 else 13)
    assert encoded[-1] == 28
    whole = LatentCache(tmp_path / "whole", noise, tokenizer, block=1)
    for episode, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(resumed.clip(noise, episode, 0, length), whole.clip(noise, episode, 0, length))


def test_a_truncated_file_is_encoded_again(noise, tokenizer, tmp_path):
    expected = LatentCache(tmp_path / "z", noise, tokenizer).clip(noise, 3, 0, 3)
    for file in (tmp_path / "z").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:-1])
    np.testing.assert_array_equal(LatentCache(tmp_path / "z", noise, tokenizer).clip(noise, 3, 0, 3), expected)


@pytest.mark.parametrize("position", [10, 200, -70, -1])
def test_a_file_with_a_changed_byte_is_encoded_again(noise, tokenizer, tmp_path, position):
    """In the header, the latents, and their digest."""
    expected = LatentCache(tmp_path / "z", noise, tokenizer).clip(noise, 3, 0, 3)
    for file in (tmp_path / "z").glob("*.npy"):
        content = bytearray(file.read_bytes())
        content[position] ^= 1
        file.write_bytes(content)
    encoded = []
    again = LatentCache(tmp_path / "z", noise, tokenizer, progress=encoded.append)
    assert len(encoded) > 2
    np.testing.assert_array_equal(again.clip(noise, 3, 0, 3), expected)


def test_a_full_disk_leaves_no_partial_latents(noise, tokenizer, tmp_path):
    """The kernel refuses the write; through a memory map it would end the process with SIGBUS."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            LatentCache(tmp_path / "z", noise, tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in (tmp_path / "z").iterdir()] == ["latents.json"]
    LatentCache(tmp_path / "z", noise, tokenizer)


def test_latents_of_another_tokenizer_are_refused(noise, tokenizer, tmp_path):
    LatentCache(tmp_path / "z", noise, tokenizer)
    with torch.no_grad():
        tokenizer.encoder.bottleneck.bias[0] += 1e-3
    with pytest.raises(DatasetError, match=r"holds latents of another tokenizer .*Delete the directory"):
        LatentCache(tmp_path / "z", noise, tokenizer)


def test_frames_that_were_not_encoded_are_refused(noise, tokenizer, tmp_path):
    latents = LatentCache(tmp_path / "z", noise, tokenizer)
    other = write_noise(tmp_path / "other", seed=1)
    with pytest.raises(DatasetError, match="holds no latents of the dataset 'noise'"):
        latents.clip(other, 0, 0, 1)


def test_fingerprint_covers_everything_that_latents_depend_on(tiny_on):
    def made(**changes):
        torch.manual_seed(0)
        return Tokenizer(replace(tiny_on().config.tokenizer, **changes))

    tokenizer = made()
    same = made(decoder=replace(tokenizer.config.decoder, softcap=None))
    with torch.no_grad():
        same.decoder.queries.add_(1)
    assert fingerprint(same) == fingerprint(tokenizer)
    others = [
        made(encoder=replace(tokenizer.config.encoder, rope_base=100.0)),
        made(encoder=replace(tokenizer.config.encoder, context=4)),
        made(standardise=True),
        tokenizer.double(),
    ]
    assert len({fingerprint(other) for other in (same, *others)}) == 5


def test_fingerprint_covers_the_mean_frame(tiny_on):
    tokenizer = Tokenizer(replace(tiny_on().config.tokenizer, standardise=True))
    before = fingerprint(tokenizer)
    tokenizer.standardise(torch.full((6, 8, 3), 0.5), 0.25)
    assert fingerprint(tokenizer) != before
