"""Videos as unlabelled clips."""

import numpy as np
import pytest

av = pytest.importorskip("av")

from dreamer4_impl.data.clips import ClipSampler  # noqa: E402
from dreamer4_impl.data.dataset import Dataset, concatenate  # noqa: E402
from dreamer4_impl.data.format import DatasetError, Header  # noqa: E402
from dreamer4_impl.data.video import VideoView, record_videos  # noqa: E402
from dreamer4_impl.data.writer import DatasetWriter  # noqa: E402
from dreamer4_impl.layers.actions import Categorical  # noqa: E402


def film(path, frames=7):
    """Lossless video; frame t is black on the left and (20 t, 100, 0) on the right."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "bgr0"
        for t in range(frames):
            picture = np.zeros((8, 16, 3), np.uint8)
            picture[:, 8:] = (20 * t, 100, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


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


def test_error_names_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(DatasetError, match=r"needs PyAV: pip install 'dreamer4-conformance\[video\]'"):
        record_videos([tmp_path / "film.mkv"], tmp_path / "out", VideoView(2, 2))


@pytest.mark.parametrize("frames", [1, 2, 12])
@pytest.mark.parametrize("name", ["film.mkv", "film.avi"])
def test_complete_videos_of_any_length_are_read(tmp_path, name, frames):
    dataset = record_videos([film(tmp_path / name, frames)], tmp_path / "out", VideoView(2, 2))
    assert len(dataset) == frames


@pytest.mark.parametrize("name", ["film.mkv", "film.avi"])
def test_video_that_breaks_off_is_refused(tmp_path, name):
    content = film(tmp_path / name, 12).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=f"{name} (is damaged: it breaks off after|has no frames|cannot be read)"):
        record_videos([tmp_path / name], tmp_path / "out", VideoView(2, 2))


#: Matrix of an MP4 track header → corner that holds the upper left pixel after turning.
TURNS = {
    "none": ([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], (0, 0)),
    "clockwise": ([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], (0, -1)),
    "half": ([-(1 << 16), 0, 0, 0, -(1 << 16), 0, 64 << 16, 48 << 16, 1 << 30], (-1, -1)),
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
