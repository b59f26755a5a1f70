"""Videos as unlabelled clips."""

import numpy as np
import pytest

av = pytest.importorskip("av")

from dreamer4_impl.data.clips import ClipSampler  # noqa: E402
from dreamer4_impl.data.dataset import Dataset, concatenate  # noqa: E402
from dreamer4_impl.data.format import DatasetError, Header  # noqa: E402
from dreamer4_impl.data.source import DamageWarning  # noqa: E402
from dreamer4_impl.data.video import VideoView, record_videos  # noqa: E402
from dreamer4_impl.data.writer import DatasetWriter  # noqa: E402
from dreamer4_impl.layers.actions import Categorical  # noqa: E402

from .contents import contents  # noqa: E402
from .films import film  # noqa: E402


def test_frames_are_read_in_order_and_resized(tmp_path):
    dataset = record_videos([film(tmp_path / "film.mkv")], tmp_path / "out", VideoView(2, 2))
    clip = dataset.clip(0, 0, 7)
    assert (dataset.height, dataset.width, dataset.channels) == (2, 2, 3)
    assert clip.frames[:, 0, 1].tolist() == [[20 * t, 100, 0] for t in range(7)]
    assert not clip.frames[:, :, 0].any()


def test_actions_of_a_video_are_unlabelled(tmp_path):
    actions = (Categorical("action", 4),)
    dataset = record_videos([film(tmp_path / "film.mkv")], tmp_path / "out", VideoView(2, 2), actions)
    batch = ClipSampler(dataset, seed=0).batch(0, range(4), 3, [False] * 4)
    assert not batch.actions["labelled"].any()
    assert not batch.taken_labelled.any()
    assert not batch.actions["action"].any()
    assert batch.continues.all()
    assert not batch.rewards.any()


def test_videos_can_be_joined_with_a_labelled_dataset(tmp_path):
    actions = (Categorical("action", 4),)
    with DatasetWriter(tmp_path / "game", Header("game", 2, 2, 3, actions)) as writer:
        writer.add_episode(np.zeros((5, 2, 2, 3), np.uint8), {"action": [0, 1, 2, 3, 1]}, task="game")
    videos = record_videos([film(tmp_path / "film.mkv")], tmp_path / "out", VideoView(2, 2), actions)
    both = concatenate([Dataset.open(tmp_path / "game"), videos])
    assert both.tasks == ("game", "video")
    batch = ClipSampler(both, seed=0).batch(0, range(40), 3, [False] * 40)
    assert batch.taken_labelled[:, 0].tolist() == (batch.task == 0).tolist()
    assert set(batch.task.tolist()) == {0, 1}


def test_each_file_is_one_episode_or_several_if_long(tmp_path):
    files = [film(tmp_path / "a.mkv", 7), film(tmp_path / "b.mkv", 2)]
    counted = []
    dataset = record_videos(files, tmp_path / "out", VideoView(2, 2, longest=3), progress=counted.append)
    assert [episode.length for episode in dataset.episodes] == [3, 3, 1, 2]
    assert dataset.clip(1, 0, 3).frames[:, 0, 1, 0].tolist() == [60, 80, 100]
    assert counted == [3, 6, 7, 9]
    assert dataset.meta["videos"] == ["a.mkv", "b.mkv"]


def test_every_nth_frame_can_be_taken(tmp_path):
    dataset = record_videos([film(tmp_path / "film.mkv")], tmp_path / "out", VideoView(2, 2, every=3))
    assert dataset.clip(0, 0, 3).frames[:, 0, 1, 0].tolist() == [0, 60, 120]


def test_a_video_can_be_grey(tmp_path):
    dataset = record_videos([film(tmp_path / "film.mkv")], tmp_path / "out", VideoView(2, 2, grey=True))
    expected = [round(0.299 * 20 * t + 0.587 * 100) for t in range(7)]
    assert dataset.clip(0, 0, 7).frames[:, 0, 1, 0].tolist() == expected


def test_error_names_the_file_that_is_not_a_video(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(DatasetError, match=f"{name} cannot be read as a video"):
            record_videos([tmp_path / name], tmp_path / f"out-{name}", VideoView(2, 2))


def test_error_names_the_file_without_a_video_stream(tmp_path):
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DatasetError, match=r"sound.wav has no video in it"):
        record_videos([tmp_path / "sound.wav"], tmp_path / "out", VideoView(2, 2))


@pytest.mark.parametrize("options", [{"height": 0}, {"width": 0}, {"every": 0}, {"longest": 0}])
def test_refuses_a_view_out_of_range(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be 1 or more; got 0"):
        VideoView(**{"height": 2, "width": 2} | options)


@pytest.mark.parametrize("options", [{"fps": 0.0}, {"fps": float("nan")}, {"fps": 5.0, "every": 2}])
def test_refuses_a_rate_out_of_range_and_two_selections_of_frames(options):
    with pytest.raises(ValueError, match="fps"):
        VideoView(2, 2, **options)


def values(dataset):
    """Position in the film of every frame of the first episode."""
    return (dataset.clip(0, 0, dataset.episodes[0].length).frames[:, 0, 1, 0] // 20).tolist()


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(10, [0, 1, 2, 3, 4, 5]), (5, [0, 2, 4]), (20, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]), (4, [0, 2, 5])],
)
def test_resampled_frames_are_those_that_a_player_shows_at_these_times(tmp_path, fps, expected):
    dataset = record_videos([film(tmp_path / "film.mkv", 6)], tmp_path / "out", VideoView(2, 2, fps=fps))
    assert values(dataset) == expected
    assert dataset.meta["fps"] == [fps]


def test_frames_of_a_variable_rate_are_shown_as_long_as_they_last(tmp_path):
    # Times are rounded to milliseconds, as Matroska does: the second frame starts 0.3 ms before 1/30 s.
    irregular = film(tmp_path / "phone.mkv", 4, times=[0, 33, 200, 233])
    dataset = record_videos([irregular], tmp_path / "out", VideoView(2, 2, fps=30))
    assert values(dataset) == [0, 1, 1, 1, 1, 1, 2, 3]


def test_rates_are_stored_and_differing_ones_are_reported(tmp_path):
    files = [film(tmp_path / "a.mkv", rate=10), film(tmp_path / "b.mp4", rate=30)]
    with pytest.warns(UserWarning, match=r"come at 5 to 15 per second: choose one rate \(fps\)"):
        dataset = record_videos(files, tmp_path / "out", VideoView(2, 2, every=2))
    assert dataset.meta["fps"] == [5, 15]


def test_an_interrupted_recording_resumes_without_reading_complete_files_again(tmp_path, monkeypatch):
    files, view = [film(tmp_path / name, 7) for name in ("a.mkv", "b.mkv", "c.mkv")], VideoView(2, 2, longest=3)

    def record(out, progress=lambda frames: None, **options):
        return record_videos(files, tmp_path / out, view, progress=progress, shard_frames=4, **options)

    def stop(frames):
        if frames == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record("killed", stop)
    files[0].write_bytes(b"")
    monkeypatch.setattr("dreamer4_impl.data.video.frame_rate", lambda file: 10.0)
    resumed = record("killed", resume=True)
    film(files[0], 7)
    record("whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(resumed) == 21


def test_a_damaged_file_is_left_out_by_choice_and_reported(tmp_path):
    files = [film(tmp_path / name, 24, level=lambda t: t) for name in ("a.mkv", "b.mkv", "c.mkv")]
    files[0].write_text("no video")
    content = files[1].read_bytes()
    files[1].write_bytes(content[: round(0.8 * len(content))])
    with pytest.warns(DamageWarning) as messages:
        dataset = record_videos(files, tmp_path / "out", VideoView(2, 2, longest=4), damaged="skip")
    assert [str(message.message).partition(".mkv")[0][-1] for message in messages] == ["a", "b"]
    # The complete episodes before the damage are kept; all six of the last file.
    assert {episode.length for episode in dataset.episodes} == {4}
    assert 6 < len(dataset.episodes) < 12
    with pytest.raises(DatasetError, match="holds no episode that can be read"), pytest.warns(DamageWarning):
        record_videos(files[:1], tmp_path / "none", VideoView(2, 2), damaged="skip")


def test_error_names_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DatasetError, match=r"needs PyAV: pip install 'dreamer4-conformance\[video\]'"):
        record_videos([tmp_path / "film.mkv"], tmp_path / "out", VideoView(2, 2))


@pytest.mark.parametrize("frames", [1, 2, 12])
@pytest.mark.parametrize("name", ["film.mkv", "film.avi"])
def test_complete_videos_of_any_length_are_read(tmp_path, name, frames):
    dataset = record_videos([film(tmp_path / name, frames)], tmp_path / "out", VideoView(2, 2))
    assert len(dataset) == frames


@pytest.mark.parametrize(("name", "share"), [("film.mkv", 0.5), ("film.avi", 0.5), ("film.mkv", 0.42)])
def test_video_that_breaks_off_is_refused(tmp_path, name, share):
    content = film(tmp_path / name, 12).read_bytes()
    (tmp_path / name).write_bytes(content[: round(len(content) * share)])
    with pytest.raises(DatasetError, match=f"{name} (is damaged: it breaks off after|has no frames|cannot be read)"):
        record_videos([tmp_path / name], tmp_path / "out", VideoView(2, 2))


#: Matrix of an MP4 track header → corner that holds the upper left pixel after turning.
TURNS = {
    "none": ([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], (0, 0)),
    "clockwise": ([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], (0, -1)),
    "half": ([-(1 << 16), 0, 0, 0, -(1 << 16), 0, 64 << 16, 48 << 16, 1 << 30], (-1, -1)),
    "mirrored": ([-(1 << 16), 0, 0, 0, 1 << 16, 0, 64 << 16, 0, 1 << 30], (0, -1)),
    "mirrored and clockwise": ([0, 1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30], (0, 0)),
    "counterclockwise": ([0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 64 << 16, 1 << 30], (-1, 0)),
}


@pytest.mark.parametrize(("matrix", "corner"), TURNS.values(), ids=TURNS)
def test_video_stored_sideways_is_turned_as_players_show_it(tmp_path, matrix, corner):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32] = 255
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    content = bytearray((tmp_path / "phone.mp4").read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    (tmp_path / "phone.mp4").write_bytes(content)
    dataset = record_videos([tmp_path / "phone.mp4"], tmp_path / "out", VideoView(2, 2))
    brightest = np.argmax(dataset.clip(0, 0, 1).frames[0, :, :, 0])
    assert brightest == np.ravel_multi_index(np.array(corner) % 2, (2, 2))
