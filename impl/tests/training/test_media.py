"""Videos and trackers of a run: what they show, and that training is the same with and without them."""

import io
import random
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dreamer4_impl.checkpoints.checkpoint import read, steps
from dreamer4_impl.checkpoints.options import ImagineOptions
from dreamer4_impl.checkpoints.settings import (
    Execution,
    Records,
    TrainingSettings,
    settings_from_json,
    settings_to_json,
)
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.generation.imagination import imagine
from dreamer4_impl.models.dreamer4 import Dreamer4
from dreamer4_impl.models.presets import tiny
from dreamer4_impl.training import media
from dreamer4_impl.training.command import main
from dreamer4_impl.training.data import TrainingData, facts_of
from dreamer4_impl.training.distributed import Processes
from dreamer4_impl.training.launch import TrainingRun
from dreamer4_impl.training.log import Log
from dreamer4_impl.training.metrics import Metrics, read_metrics
from dreamer4_impl.training.pictures import film, write_gif

from . import toy
from .test_command import DOCUMENT, record
from .test_loop import captured, equal

CPU = torch.device("cpu")
VIDEO = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), np.uint8)


def draw():
    """Advance all global random states."""
    return random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002 (the global state is intended)


class Tracker(types.ModuleType):
    """A module like trackio and wandb that notes its calls, draws random numbers, and fails where it is asked to."""

    def __init__(self, fails=""):
        super().__init__("tracker")
        self.fails, self.calls, self.name, self.id = fails, [], "chosen-name", "random-id"

    def _note(self, call, *values):
        draw()
        if call == self.fails:
            raise ConnectionError("no network")
        self.calls.append((call, *values))
        return self

    def init(self, **options):
        return self._note("init", options)

    def log(self, values, step):
        self._note("log", values, step)

    def finish(self):
        self._note("finish")

    def Video(self, path):  # noqa: N802
        with Image.open(path) as image:
            return self._note("Video", image.n_frames) and image.n_frames


@pytest.fixture
def tracker(monkeypatch):
    """Function that installs a tracker as the package trackio or wandb."""

    def install(package="wandb", fails=""):
        monkeypatch.setitem(sys.modules, package, installed := Tracker(fails))
        return installed

    return install


def run(directory, media_every=2, checkpoint=None, tracker=None, tensorboard=False, movie=None, steps=6):
    chosen = toy.settings(every=2, steps=steps, keep=9)
    records = replace(chosen.records, media_every=media_every, tracker=tracker, tensorboard=tensorboard)
    begun = toy.trainer(directory, replace(chosen, records=records), checkpoint=checkpoint)
    begun.media = movie or (lambda model: (draw(), {"clip": VIDEO})[1])
    begun.run()
    return begun


def test_training_is_the_same_bit_for_bit_with_media_and_tracker_and_resumed(tmp_path, tracker):
    """The media and the tracker draw from all global random states, which are saved in checkpoints."""
    without = run(tmp_path / "without", media_every=0)
    calls = tracker().calls
    run(tmp_path / "with", tracker="wandb", steps=4)
    earlier = read(steps(tmp_path / "with")[0])
    assert earlier.step == 2
    begun = run(tmp_path / "with", tracker="wandb", checkpoint=earlier)
    assert equal(captured(begun), captured(without))
    assert toy.curve(tmp_path / "with") == toy.curve(tmp_path / "without")
    videos = [step for call, values, step in (c for c in calls if c[0] == "log") if "media/clip" in values]
    assert videos == [2, 4, 4, 6]
    assert {path.name for path in (tmp_path / "with" / "media").iterdir()} == {
        f"clip-0000000{n}.gif" for n in (2, 4, 6)
    }
    assert not (tmp_path / "without" / "media").exists()


@pytest.mark.parametrize(
    ("package", "key", "value"), [("wandb", "id", "random-id"), ("trackio", "name", "chosen-name")]
)
def test_a_tracker_run_has_the_name_of_the_directory_and_is_continued(tmp_path, tracker, package, key, value):
    calls = tracker(package).calls
    for step in (0, 1):
        with Metrics(tmp_path / "grid", step, tensorboard=False, tracker=package, project="rooms") as metrics:
            metrics.write({"step": step + 1, "loss": 0.5, "means": {"mse": float("nan"), "size": 2.0}})
            metrics.show(step + 1, {"rollout": VIDEO})
    begin = {"project": "rooms", "name": "grid", "resume": "never"}
    assert calls == [
        *[("init", begin), ("log", {"loss": 0.5, "means/size": 2.0}, 1)],
        *[("Video", 5), ("log", {"media/rollout": 5}, 1), ("finish",)],
        *[("init", begin | {key: value, "resume": "allow"}), ("log", {"loss": 0.5, "means/size": 2.0}, 2)],
        *[("Video", 5), ("log", {"media/rollout": 5}, 2), ("finish",)],
    ]


@pytest.mark.parametrize("fails", ["init", "log", "Video", "finish"])
def test_a_failing_tracker_is_reported_once_and_stops_nothing(tmp_path, tracker, fails):
    calls, messages = tracker(fails=fails).calls, []
    with Metrics(tmp_path, 0, tensorboard=False, tracker="wandb", project="p", report=messages.append) as metrics:
        for step in (1, 2):
            metrics.write({"step": step, "loss": 0.5})
            metrics.show(step, {"rollout": VIDEO})
    assert messages == ["wandb failed: ConnectionError: no network; this run sends it nothing more"]
    assert len(calls) == {"init": 0, "log": 1, "Video": 2, "finish": 7}[fails]
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_media_that_fail_are_reported_once_and_stop_nothing(tmp_path):
    def fail(model):
        raise torch.OutOfMemoryError("out of memory")

    assert run(tmp_path, movie=fail).state.step == 6
    assert (tmp_path / "log.txt").read_text().count("no more videos are made: OutOfMemoryError") == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "media").write_text("in the way")  # as a disk without space
    assert run(tmp_path / "full").state.step == 6
    assert (tmp_path / "full" / "log.txt").read_text().count("no more videos are made: ") == 1


def test_tensorboard_receives_an_animation(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, tensorboard=True, steps=4)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Images("media/clip")
    assert [event.step for event in events] == [2, 4]
    for event in events:
        assert (event.height, event.width) == VIDEO.shape[1:3]
        with Image.open(io.BytesIO(event.encoded_image_string)) as image:
            assert (image.format, image.n_frames) == ("GIF", 5)


def test_a_gif_has_the_frames_of_the_video(tmp_path):
    write_gif(tmp_path / "media" / "clip.gif", VIDEO)
    with Image.open(tmp_path / "media" / "clip.gif") as image:
        for t in range(5):
            image.seek(t)
            assert np.abs(np.asarray(image.convert("RGB"), float) - VIDEO[t]).mean() < 10  # 256 colours


def test_a_film_shows_rows_rewards_and_predicted_frames():
    truth, other = torch.rand(2, 3, 50, 60, 1), torch.rand(2, 3, 50, 60, 3) + 2
    predicted, rewards = torch.tensor([[False, False, True]] * 2), torch.tensor([[0.0, 0.5, -9.0], [0.0, 0.0, 0.0]])
    video = film([truth, other], predicted, rewards)
    assert video.shape == (3, 2 * 104 + 10, 2 * 124, 3)  # frames are enlarged twice
    assert np.array_equal(video[:, :100:2, 124:244:2, 1], (truth[1, ..., 0] * 255).round().byte().numpy())
    assert (video[:, 104:204, :120] == 255).all()
    strip = video[:, 208:214, :120]
    assert (strip[0] == (70, 70, 70)).all()
    assert (strip[1, :, :60] == (60, 210, 60)).all()
    assert (strip[1, :, 60:] == (70, 70, 70)).all()
    assert (strip[2] == (225, 60, 60)).all()
    assert (video[2, 208:214, 124:244] == (40, 80, 200)).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Dataset with episodes longer and shorter than a context."""
    return record(tmp_path_factory.mktemp("media") / "data", lengths=(9, 3, 3, 9, 3))


def made(data, phase, **options):
    """Settings, model and media of a phase on the dataset."""
    from dreamer4_impl.checkpoints.settings import Data, settings_from

    document = {"model": {"preset": "tiny"}, "init": "none", "data": {"paths": [data]}, "execution": {"device": "cpu"}}
    chosen = settings_from(phase, document, facts=facts_of([data], tasks=("game",)))
    chosen = replace(chosen, imagine=ImagineOptions(horizon=3, context=4), data=Data(paths=(data,)), **options)
    torch.manual_seed(0)
    return chosen, Dreamer4(chosen.model).train(), media.Media(chosen, Dataset.open(data), CPU)


@pytest.mark.parametrize(
    ("phase", "name", "rows", "frames"),
    [
        ("tokenizer", "reconstruction", 2, 7),
        ("dynamics", "rollout", 2, 7),
        ("imagine", "imagined", 1, 7),
    ],
)
def test_videos_of_a_phase_are_repeatable_and_leave_everything_unchanged(data, monkeypatch, phase, name, rows, frames):
    films = []
    monkeypatch.setattr(media, "film", lambda *arguments: films.append(arguments) or film(*arguments))
    _, model, videos = made(data, phase)
    before, state = {n: p.clone() for n, p in model.state_dict().items()}, torch.get_rng_state()
    first, second = videos(model), videos(model)
    assert first.keys() == {name}
    assert np.array_equal(first[name], second[name])
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(dict(model.state_dict()), before)
    assert model.training
    (shown, predicted, *_), clips = films[0], videos.clips
    assert [row.shape for row in shown] == [(media.CLIPS, frames, 6, 8, 3)] * rows
    valid = clips.valid if clips.valid is not None else torch.ones(media.CLIPS, frames, dtype=torch.bool)
    if rows == 2:
        assert torch.equal(shown[0][valid], clips.video[valid] / 255)
        assert all((row[~valid] == 0).all() for row in shown)
    starts = {"tokenizer": torch.full((4,), 99), "dynamics": torch.full((4,), 4)}.get(phase, valid.sum(1))
    ends = valid if rows == 2 else True
    assert torch.equal(predicted, (torch.arange(frames) >= starts[:, None]) & ends)


def test_a_short_context_is_followed_by_its_imagined_frames(data, monkeypatch):
    """Padding after a short context has no influence, and the last imagined frame is repeated."""
    films, rollouts = [], []
    monkeypatch.setattr(media, "film", lambda *arguments: films.append(arguments) or film(*arguments))
    monkeypatch.setattr(media, "imagine", lambda *arguments: rollouts.append(imagine(*arguments)) or rollouts[-1])
    monkeypatch.setattr(media, "CLIPS", 24)
    _, model, videos = made(data, "imagine")
    clips, short = videos.clips, int(videos.clips.valid.sum(1).argmin())
    assert clips.valid[short].tolist() == [True, True, True, False]
    videos(model)
    clips.video[~clips.valid], clips.rewards[~clips.valid] = 255, 9.0
    videos(model)
    assert all(torch.equal(*pair) for pair in zip(*((video, rewards) for (video,), _, rewards in films), strict=True))
    z = model.tokenizer.encode(clips.video[short, None, :3] / 255)
    frames = torch.cat([z, rollouts[0].z[short, None], rollouts[0].z[short, None, -1:]], dim=1)
    (video,), predicted, rewards = films[0]
    torch.testing.assert_close(video[short], model.tokenizer.decode(frames)[0], atol=1e-5, rtol=1e-5)
    assert predicted[short].tolist() == [False] * 3 + [True] * 4
    ahead = model.agent.reward.predict(rollouts[0].h[short, None, 1:])[0]
    torch.testing.assert_close(rewards[short], torch.cat([clips.rewards[short, :3], ahead, ahead[-1:]]))


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_videos_compile_no_forms(data):
    chosen, model, videos = made(data, "dynamics", execution=Execution(device="cpu", compile="eager"))
    from dreamer4_impl.training.loop import _configure

    plain = videos(model)["rollout"]
    torch._dynamo.utils.counters.clear()
    _configure(model, chosen.execution)
    assert np.array_equal(videos(model)["rollout"], plain)
    assert not torch._dynamo.utils.counters["stats"]


def test_media_are_made_from_held_out_clips_in_the_first_process_of_an_unsharded_model(data, tmp_path):
    def of(rank=0, world=1, engine="ddp", held_out=0.25, every=2):
        chosen, _, _ = made(data, "tokenizer", execution=Execution(device="cpu", distributed=engine))
        chosen = replace(chosen, data=replace(chosen.data, held_out=held_out), records=Records(media_every=every))
        launched = TrainingRun(chosen, tmp_path, Log(None, quiet=True))
        return launched._media(TrainingData(chosen), Processes(CPU, rank, world))

    def frames(numbers):
        clips = [Dataset.open(data).clip(n, 0, Dataset.open(data).episodes[n].length).frames for n in numbers]
        return {frame.tobytes() for clip in clips for frame in clip}

    clips = of().clips
    valid = clips.valid if clips.valid is not None else torch.ones(clips.video.shape[:2], dtype=torch.bool)
    assert {frame.numpy().tobytes() for frame in clips.video[valid]} <= frames((0, 4))
    assert of(held_out=None) is not None
    assert of(world=2) is not None
    for nothing in ({"rank": 1, "world": 2}, {"world": 2, "engine": "fsdp"}, {"every": 0}, {"every": 10**6}):
        assert of(**nothing) is None


def test_settings_of_earlier_versions_have_the_defaults():
    table = settings_to_json(TrainingSettings("tokenizer", tiny()))
    for name in ("media_every", "tracker", "project"):
        del table["records"][name]
    assert settings_from_json(table).records == Records()


@pytest.mark.parametrize("wrong", [{"media_every": -1}, {"project": ""}])
def test_records_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Records(**wrong)


def test_a_missing_tracker_names_what_to_install(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    (tmp_path / "mine.toml").write_text(DOCUMENT)
    typed = ["tokenizer", str(tmp_path / "mine.toml"), "--data", data, "--run", str(tmp_path / "run")]
    assert main([*typed, "--set", "records.tracker=wandb"]) == 2
    assert "pip install 'dreamer4-conformance[wandb]'" in capsys.readouterr().err
    assert main([*typed, "--dry-run"]) == 0  # nothing is imported that is not chosen


@pytest.mark.nightly
def test_all_phases_are_the_same_with_and_without_media(data, tmp_path, tracker):
    tracker()
    (tmp_path / "mine.toml").write_text(DOCUMENT)
    for with_media in ("with", "without"):
        init, place = [], tmp_path / with_media
        chosen = ["records.tracker=wandb", "records.media_every=1", "records.tensorboard=true"]
        options = [word for text in chosen if with_media == "with" for word in ("--set", text)]
        for phase in ("tokenizer", "dynamics", "agent", "imagine"):
            typed = [phase, str(tmp_path / "mine.toml"), "--data", data, "--run", str(place / phase), *init]
            assert main([*typed, *options, "--set", "imagine.horizon=3", "--set", "imagine.context=4"]) == 0
            init = ["--init", str(place / phase)]
    for phase in ("tokenizer", "dynamics", "agent", "imagine"):
        first, second = (read(steps(tmp_path / name / phase)[-1]) for name in ("with", "without"))
        assert equal([dict(first.weights), first.state], [dict(second.weights), second.state])
        assert toy.curve(tmp_path / "with" / phase) == toy.curve(tmp_path / "without" / phase)
        assert len(list((tmp_path / "with" / phase / "media").iterdir())) == 2
        assert "no more videos" not in (tmp_path / "with" / phase / "log.txt").read_text()
