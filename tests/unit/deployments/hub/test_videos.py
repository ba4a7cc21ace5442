import asyncio
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import av
import diffusers
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.hub.diffusion import STEPS, seed
from deployments.hub.frames import Frame, choose_frames, read_clips, write_mp4
from deployments.hub.videos import frame_rate_hz, video_size_px
from deployments.model import Call, MediaOutput, Output
from tests.tiny.image_generation import rewrite_json
from tests.tiny.image_generation import stable_diffusion as picture_pipeline
from tests.tiny.runs import Checkpoints, Folder, opened, refused
from tests.tiny.video import ACTIONS, CHECKPOINTS

CLASSIFIERS = [name for name in CHECKPOINTS if name.startswith(Task.VIDEO_CLASSIFICATION)]
RATE_HZ = 10
# numpy 2.4 about diffusers' Euler scheduler, which makes an array of a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """4 s that grow from black to white, and 0.3 s of noise."""
    folder = tmp_path_factory.mktemp("videos")
    noise = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    film(folder / "growing.mp4", [grey(level) for level in range(0, 240, 6)])
    film(folder / "noise.avi", list(noise), codec="mpeg4")
    return folder / "growing.mp4", folder / "noise.avi"


def grey(level: int) -> Frame:
    return np.full((48, 64, 3), level, np.uint8)


def film(path: Path, frames: list[Frame], codec: str = "libx264") -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def watched(output: Output) -> list[Frame]:
    """The frames as a player shows them."""
    assert isinstance(output.value, MediaOutput) and output.value.media_type == "video/mp4"
    with av.open(BytesIO(output.value.content)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.video[0].average_rate == output.data["frame_rate_hz"]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_video_is_classified_and_a_batch_gives_what_single_runs_give(name: str, checkpoint: Folder, videos: tuple[Path, Path]) -> None:
    model = opened(name, checkpoint(name))
    calls = [Call(Task.VIDEO_CLASSIFICATION, (path,)) for path in videos]
    both, single = model.compute(calls), [model.compute([call])[0] for call in calls]
    for output, alone in zip(both, single, strict=True):
        scores = [label["score"] for label in output.data["labels"]]
        assert {label["label"] for label in output.data["labels"]} == set(ACTIONS)
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-3)
        assert scores == pytest.approx([label["score"] for label in alone.data["labels"]], abs=1e-3)
        assert output.value.startswith(f"{output.data['labels'][0]['label']} (0.")
    assert [output.data["duration_s"] for output in both] == [4.0, 0.3]
    assert both[0].data["labels"] != both[1].data["labels"]
    assert model.size_bytes > 10_000 and model.max_batch > 1


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_scores_are_the_networks_own_averaged_over_the_clips(name: str, checkpoint: Folder, videos: tuple[Path, Path]) -> None:
    folder = checkpoint(name)
    network = transformers.AutoModelForVideoClassification.from_pretrained(folder).eval()
    processor = transformers.VideoMAEImageProcessorPil.from_pretrained(folder)
    clips, _ = read_clips(videos[0], 4, 4, 4 / 30)
    assert len(clips) == 4
    with torch.inference_mode():
        rows = [network(**processor(clip, return_tensors="pt")).logits.softmax(dim=1)[0] for clip in clips]
    (output,) = opened(name, folder).compute([Call(Task.VIDEO_CLASSIFICATION, (videos[0],))])
    expected = dict(zip(ACTIONS, torch.stack(rows).mean(dim=0).tolist(), strict=True))
    assert {label["label"]: label["score"] for label in output.data["labels"]} == pytest.approx(expected, abs=1e-3)


def test_a_newer_models_video_processor_is_read_as_an_image_processor(copy: Folder, videos: tuple[Path, Path]) -> None:
    folder, call = copy("video-classification"), Call(Task.VIDEO_CLASSIFICATION, (videos[0],))
    (older,) = opened("video-classification", folder).compute([call])
    (folder / "preprocessor_config.json").rename(folder / "video_preprocessor_config.json")
    rewrite_json(folder / "video_preprocessor_config.json", video_processor_type="VideoMAEVideoProcessor", do_sample_frames=False)
    (newer,) = opened("video-classification", folder).compute([call])
    assert newer.data == older.data
    (folder / "video_preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"^tiny/x has a video_preprocessor_config.json that cannot be read$"):
        opened("video-classification", folder)


def test_a_file_without_pictures_is_an_error_and_the_model_goes_on(checkpoint: Folder, videos: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with av.open(str(tmp_path / "speech.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    (tmp_path / "cut.mp4").write_bytes(videos[0].read_bytes()[:200])
    model = opened("video-classification", checkpoint("video-classification"))
    paths = [tmp_path / "notes.mp4", tmp_path / "speech.wav", tmp_path / "cut.mp4", videos[0]]
    *broken, good = asyncio.run(model.run([Call(Task.VIDEO_CLASSIFICATION, (path,)) for path in paths]))
    assert [refused(reply) for reply in broken] == [
        "notes.mp4 could not be read as a video",
        "speech.wav holds no video",
        "cut.mp4 could not be read as a video",
    ]
    assert isinstance(good, Output)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("mkv", "libx264"), ("webm", "libvpx")])
def test_the_frames_of_a_clip_are_those_shown_at_its_times(suffix: str, codec: str, tmp_path: Path) -> None:
    film(tmp_path / f"video.{suffix}", [grey(level) for level in range(0, 240, 6)], codec)
    clips, duration_s = read_clips(tmp_path / f"video.{suffix}", clips=2, frames=3, stride_s=0.2)
    assert duration_s == pytest.approx(4, abs=0.11)
    levels = [[float(frame.mean()) for frame in clip] for clip in clips]
    assert levels[0] == pytest.approx([0, 12, 24], abs=5)
    assert levels[1] == pytest.approx([210, 222, 234], abs=5)


def test_a_video_filmed_with_the_phone_upright_is_turned(tmp_path: Path) -> None:
    left_white = np.zeros((48, 64, 3), np.uint8)
    left_white[:, :32] = 255
    film(tmp_path / "lying.mp4", [left_white] * 4)
    content = bytearray((tmp_path / "lying.mp4").read_bytes())
    # The matrix in the track's header (ISO 14496-12, 8.3.2), whose 3rd word is 0x40000000: from none to a quarter turn clockwise.
    place = content.index((0x10000).to_bytes(4, "big") + bytes(12) + (0x10000).to_bytes(4, "big"), content.index(b"tkhd"))
    matrix = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    content[place : place + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in matrix)
    (tmp_path / "upright.mp4").write_bytes(content)
    ((frame,),), _ = read_clips(tmp_path / "upright.mp4", 1, 1, 0.1)
    assert frame.shape == (64, 48, 3)
    assert frame[:24].mean() > 240 and frame[40:].mean() < 15  # what was left is on top


def test_clips_are_spread_over_a_video_and_a_short_one_gives_one_clip() -> None:
    times_s = [place / 30 for place in range(300)]
    clips = choose_frames(times_s, clips=4, frames=16, stride_s=4 / 30)
    assert [clip[0] for clip in clips] == pytest.approx([0, 80, 160, 239], abs=1) and clips[-1][-1] == 299
    assert all(after - before == 4 for clip in clips for before, after in pairwise(clip))
    assert choose_frames(times_s[:16], 4, 16, 4 / 30) == [list(range(16))]
    assert choose_frames([0.0], 4, 3, 4 / 30) == [[0, 0, 0]]


def test_an_odd_side_loses_a_row_in_the_mp4_and_colours_stay() -> None:
    frames = [np.full((33, 47, 3), (200, 40, 90), np.uint8)] * 3
    with av.open(BytesIO(write_mp4(frames, 8))) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in shown] == [(32, 46, 3)] * 3
    assert np.abs(shown[0].astype(int) - frames[0][:32, :46]).max() < 12


def test_a_text_is_filmed_as_diffusers_films_it(checkpoint: Folder) -> None:
    folder, call = checkpoint("text-to-video"), Call(Task.TEXT_TO_VIDEO, ("a running fox",))
    (output,) = opened("text-to-video", folder).compute([call])
    size = {"width_px": 16, "height_px": 16, "frames": 16, "frame_rate_hz": 8, "duration_s": 2.0}
    assert output.data == size
    pipeline = diffusers.TextToVideoSDPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline("a running fox", num_inference_steps=STEPS, generator=torch.Generator().manual_seed(seed(call))).frames[0]
    expected = write_mp4([(frame * 255).round().astype(np.uint8) for frame in made], 8)
    assert output.value.content == expected
    assert len(watched(output)) == 16


def test_pictures_are_brought_to_life_and_a_batch_gives_what_single_runs_give(checkpoint: Folder, tmp_path: Path) -> None:
    gradient = Image.radial_gradient("L").convert("RGB")
    gradient.resize((90, 60)).save(tmp_path / "lying.png")
    gradient.rotate(30).resize((30, 120)).save(tmp_path / "standing.png")
    model = opened("image-to-video", checkpoint("image-to-video"))
    calls = [Call(Task.IMAGE_TO_VIDEO, (tmp_path / name,)) for name in ("lying.png", "standing.png")]
    both, single = model.compute(calls), model.compute(calls[1:])
    assert both[1] == single[0]
    assert both[0].data == {"width_px": 16, "height_px": 16, "frames": 2, "frame_rate_hz": 7, "duration_s": 0.286}
    assert both[1].data["height_px"] == 32
    assert [frame.shape for frame in watched(both[1])] == [(32, 16, 3)] * 2


def test_an_empty_description_is_an_error_before_any_work(checkpoint: Folder) -> None:
    (reply,) = asyncio.run(opened("text-to-video", checkpoint("text-to-video")).run([Call(Task.TEXT_TO_VIDEO, (" ",))]))
    assert "is empty" in refused(reply)


@pytest.mark.parametrize(("task", "given"), [("text-to-video", "image-to-video"), ("image-to-video", "text-to-video")])
def test_a_pipeline_of_another_task_is_refused(task: str, given: str, checkpoint: Folder) -> None:
    with pytest.raises(ModelError, match=rf"^tiny/x is a checkpoint for \w+Pipeline, which cannot do {task}$"):
        opened(task, checkpoint(given))


def test_a_pipeline_of_pictures_is_refused(tmp_path: Path) -> None:
    picture_pipeline(tmp_path)
    for task in ("text-to-video", "image-to-video"):
        with pytest.raises(ModelError, match=rf"is a checkpoint for StableDiffusionPipeline, which cannot do {task}$"):
            opened(task, tmp_path)


def test_a_classifier_without_its_head_is_refused_and_so_is_another_networks_checkpoint(copy: Folder, tmp_path: Path) -> None:
    folder = copy("video-classification")
    config = transformers.VideoMAEConfig.from_pretrained(folder)
    transformers.VideoMAEModel(config).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"^tiny/x was not made for video-classification: its weights lack "):
        opened("video-classification", folder)
    rewrite_json(folder / "config.json", model_type="bert")
    with pytest.raises(ModelError, match=r"^tiny/x "):
        opened("video-classification", folder)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_damaged_weights_are_refused_in_one_sentence(name: str, checkpoints: Checkpoints) -> None:
    checkpoints.assert_damage_is_refused(name)


@pytest.mark.parametrize(
    ("pipeline", "rate_hz"),
    [
        ("TextToVideoSD", 8),
        ("StableVideoDiffusion", 7),
        ("Wan", 16),
        ("WanImageToVideo", 16),
        ("CogVideoX", 8),
        ("LTX", 25),
        ("I2VGenXL", 16),
    ],
)
def test_a_video_moves_as_fast_as_those_that_its_pipeline_learned_from(pipeline: str, rate_hz: int) -> None:
    assert frame_rate_hz(getattr(diffusers, f"{pipeline}Pipeline")) == rate_hz


@pytest.mark.parametrize(("picture", "size"), [((1920, 1080), (832, 448)), ((1080, 1920), (448, 832)), ((500, 500), (640, 640))])
def test_a_video_made_from_a_picture_keeps_its_proportions(picture: tuple[int, int], size: tuple[int, int]) -> None:
    pipeline = object.__new__(diffusers.WanImageToVideoPipeline)  # of 832 × 480 pixels; only its signature is read
    assert video_size_px(pipeline, picture) == size
