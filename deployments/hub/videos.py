"""Videos: networks that say what happens in one, and diffusion pipelines that make one from a text or from a picture."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForVideoClassification, VideoMAEImageProcessorPil

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Option
from deployments.hub.checkpoint import Checkpoint, network, opened
from deployments.hub.diffusion import Diffusion, auto_pipelines, call_parameters, open_pipeline, pipeline_class, wrong_pipeline
from deployments.hub.frames import Frame, read_clips, write_mp4
from deployments.hub.painters import as_picture, described
from deployments.hub.tensors import class_scores
from deployments.labels import TOP, in_words, likely, ranking
from deployments.model import Call, MediaOutput, Output
from deployments.vision import open_picture

# VideoMAE's and TimeSformer's clips are every 4th frame of 30 a second (Tong et al., 2022; Bertasius et al., 2021); the classes'
# probabilities are averaged over several clips of a video, as in their evaluations.
STRIDE_S, CLIPS = 4 / 30, 4
DECODED_AT_ONCE = 4  # frames in the decoder's memory
DEFAULT_RATE_HZ = 8
# Frames a second of the videos that these were trained on, where their pipelines take no rate.
RATES_HZ = {"Wan": 16, "SkyReels": 24, "HunyuanVideo": 24, "Kandinsky5": 24, "Mochi": 30, "Allegro": 15, "Cosmos": 24}
RATE_ARGUMENTS = ("frame_rate", "target_fps", "fps")
MULTIPLE_PX = 64  # of the sides of a video made from a picture: every U-Net and patch size divides it
OTHER_INPUTS = {"video", "audio", "images", "control_video", "control_frames", "conditioning_frames", "pose_video", "id_vit_hidden"}


class VideoClassifier(Checkpoint):
    """Short clips of actions into the classes of the checkpoint (VideoMAE, TimeSformer, ViViT, V-JEPA 2)."""

    max_batch = 4

    def __init__(self, net: Any, processor: Any) -> None:
        super().__init__(net)
        self._network, self._processor = net, processor
        self._frames = int(getattr(net.config, "frames_per_clip", None) or net.config.num_frames)

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        return cls(network(AutoModelForVideoClassification, card, folder), _processor(card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        videos = [read_clips(Path(call.inputs[0]), CLIPS, self._frames, STRIDE_S) for call in calls]
        rows = self._scores([clip for clips, _ in videos for clip in clips])
        scores = torch.split_with_sizes(rows, [len(clips) for clips, _ in videos])
        return [self._output(own.mean(dim=0), duration_s) for own, (_, duration_s) in zip(scores, videos, strict=True)]

    def _scores(self, clips: Sequence[Sequence[Frame]]) -> torch.Tensor:
        """(clips, classes)"""
        rows = []
        for start in range(0, len(clips), self.max_batch):
            pixels = torch.cat([self._pixels(clip) for clip in clips[start : start + self.max_batch]])
            with torch.inference_mode():
                logits = self._network(pixels.to(self._network.device, self._network.dtype)).logits.float().cpu()
            rows.append(class_scores(logits, self._network.config))
        return torch.cat(rows)

    def _pixels(self, clip: Sequence[Frame]) -> torch.Tensor:
        """(1, frames, 3, height, width), scaled as the checkpoint wants it."""
        pixels: torch.Tensor = self._processor(list(clip), return_tensors="pt")["pixel_values"]
        return pixels if pixels.ndim == 5 else pixels[None]

    def _output(self, scores: torch.Tensor, duration_s: float) -> Output:
        names = self._network.config.id2label
        labels = ranking(((names[place], score) for place, score in enumerate(scores.tolist())), TOP)
        return Output(in_words(likely(labels)), {"labels": labels, "duration_s": round(duration_s, 3)})


class _Filmmaker(Diffusion):
    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._film(call) for call in calls]

    @abstractmethod
    def arguments(self, call: Call) -> dict[str, Any]:
        """What the pipeline is called with for this call."""

    def _film(self, call: Call) -> Output:
        made = self.generate(call, decode_chunk_size=DECODED_AT_ONCE, **self.arguments(call))
        frames = [np.asarray(as_picture(frame)) for frame in made.frames[0]]
        rate_hz = frame_rate_hz(type(self.pipeline))
        height, width = (side - side % 2 for side in frames[0].shape[:2])
        size = {"width_px": width, "height_px": height, "frames": len(frames), "frame_rate_hz": rate_hz}
        video = MediaOutput(write_mp4(frames, rate_hz), "video/mp4", "video.mp4")
        return Output(video, {**size, "duration_s": round(len(frames) / rate_hz, 3)})


class TextToVideo(_Filmmaker):
    """Films what a text describes, in the size and length that the pipeline was made for."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        kind = pipeline_class(card, folder)
        if "Control" in kind.__name__ or not _takes(kind, {"prompt", "num_frames"}, OTHER_INPUTS | {"image"}):
            raise wrong_pipeline(card, kind)
        return cls(card, open_pipeline(kind, card, folder))

    def arguments(self, call: Call) -> dict[str, Any]:
        return {"prompt": described(call.inputs[0])}


class ImageToVideo(_Filmmaker):
    """Brings a picture to life (Blattmann et al., 2023, Stable Video Diffusion, and those that also read a text, here an empty one)."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        named = pipeline_class(card, folder)
        kind = _from_picture(named)
        if not _takes(kind, {"image", "num_frames"}, OTHER_INPUTS):
            raise wrong_pipeline(card, named)
        return cls(card, open_pipeline(kind, card, folder))

    def arguments(self, call: Call) -> dict[str, Any]:
        picture = open_picture(Path(call.inputs[0]))
        size = video_size_px(self.pipeline, picture.size)
        fitting = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
        return {"image": fitting, "width": size[0], "height": size[1], "prompt": str(call.options.get(Option.PROMPT, ""))}


def video_size_px(pipeline: Any, picture_px: tuple[int, int]) -> tuple[int, int]:
    """(width, height) with the picture's proportions and about the area that the pipeline was made for.

    A transformer with learned places (CogVideoX) makes one size only, so the picture is cut to it.
    """
    config = getattr(getattr(pipeline, "transformer", None), "config", {})
    if config.get("sample_width") and config.get("sample_height"):
        factor = pipeline.vae_scale_factor_spatial
        return config["sample_width"] * factor, config["sample_height"] * factor
    if type(pipeline).__name__ == "StableVideoDiffusionPipeline":  # its U-Net says what it learned from: 96² latents are 1024 × 576 pixels
        area, multiple = (pipeline.unet.config.sample_size * pipeline.vae_scale_factor) ** 2, 8 * pipeline.vae_scale_factor
    else:
        taken = call_parameters(type(pipeline))
        area, multiple = (taken["width"].default or 0) * (taken["height"].default or 0), MULTIPLE_PX
    scale = sqrt(area / (picture_px[0] * picture_px[1]))
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in picture_px)
    return width, height


def frame_rate_hz(kind: Any) -> int:
    """At which the pipeline's videos move as fast as those it learned from."""
    taken = call_parameters(kind)
    told = next((taken[name].default for name in RATE_ARGUMENTS if name in taken and taken[name].default), None)
    return round(told or next((rate for name, rate in RATES_HZ.items() if kind.__name__.startswith(name)), DEFAULT_RATE_HZ))


def _processor(card: ModelCard, folder: Path) -> Any:
    """The image processor of the older models; a newer model's video processor read as one, since it itself needs torchvision."""
    settings = folder / "video_preprocessor_config.json"
    if (folder / "preprocessor_config.json").exists() or not settings.exists():
        return opened(AutoImageProcessor, card, folder, backend="pil")
    known = ("size", "crop_size", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "rescale_factor", "image_mean", "image_std")
    try:
        told = json.loads(settings.read_text(encoding="utf-8"))
        return VideoMAEImageProcessorPil(**{name: told[name] for name in known if told.get(name) is not None})
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise ModelError(f"{card.id} has a {settings.name} that cannot be read") from exc


def _takes(kind: Any, needs: set[str], refuses: set[str]) -> bool:
    """Whether a pipeline can be called with `needs`, must have nothing else, and is not made for anything in `refuses`."""
    parameters = call_parameters(kind)
    asked = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    return needs <= parameters.keys() and asked <= needs | {"prompt"} and not refuses & parameters.keys()


def _from_picture(kind: Any) -> Any:
    """The pipeline that starts from a picture with the parts of this one, where diffusers knows one (LTX)."""
    tables = auto_pipelines()
    name = next((name for name, known in tables.AUTO_TEXT2VIDEO_PIPELINES_MAPPING.items() if known is kind), None)
    return tables.AUTO_IMAGE2VIDEO_PIPELINES_MAPPING.get(name, kind)
