"""Painters: diffusion pipelines that make a picture from a text, from another picture, from a control image, or from nothing."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import diffusers
import numpy as np
from PIL import Image

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Option
from deployments.hub.checkpoint import opened, precision
from deployments.hub.diffusion import (
    Diffusion,
    auto_pipelines,
    call_parameters,
    native_side_px,
    open_pipeline,
    pipeline_class,
    refuse_gaps,
    variant_of,
    wrong_pipeline,
)
from deployments.model import Call, Output
from deployments.vision import open_picture, picture_output

BASE = "base"  # a ControlNet's folder holds the pipeline that it steers here
STRENGTH = 0.7  # how much of the given picture is painted over: 0 nothing, 1 all
MULTIPLE_PX = 16  # sides that every autoencoder and patch size divides
# Pipelines that follow an instruction about a picture, by a part of their names.
EDITORS = ("InstructPix2Pix", "Kontext", "Edit", "Flux2")
# Text-to-image pipelines that diffusers' own table of them leaves out.
MORE_TEXT_TO_IMAGE = ("AmusedPipeline", "HiDreamImagePipeline", "LDMTextToImagePipeline", "SanaSprintPipeline")
# DDIM draws from a DDPM network in a twentieth of the steps (Song et al., 2021).
UNCONDITIONAL = {
    "DDPMPipeline": "DDIMPipeline",
    **{name: name for name in ("DDIMPipeline", "PNDMPipeline", "LDMPipeline", "ScoreSdeVePipeline", "ConsistencyModelPipeline")},
}
# A ControlNet's class and the pipeline it steers, and the one that runs both.
CONTROLLED = {
    ("ControlNetModel", "StableDiffusionPipeline"): "StableDiffusionControlNetPipeline",
    ("ControlNetModel", "StableDiffusionXLPipeline"): "StableDiffusionXLControlNetPipeline",
    ("SD3ControlNetModel", "StableDiffusion3Pipeline"): "StableDiffusion3ControlNetPipeline",
    ("FluxControlNetModel", "FluxPipeline"): "FluxControlNetPipeline",
}


class _Painter(Diffusion):
    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [picture_output(as_picture(self.generate(call, **self.arguments(call)).images[0]), "picture.png") for call in calls]

    @abstractmethod
    def arguments(self, call: Call) -> dict[str, Any]:
        """What the pipeline is called with for this call."""


class TextToImage(_Painter):
    """Draws what a text describes, in the size that the checkpoint was trained on."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        kind = pipeline_class(card, folder)
        known = kind in auto_pipelines().AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values() and "Control" not in kind.__name__
        if not known and kind.__name__ not in MORE_TEXT_TO_IMAGE:
            raise wrong_pipeline(card, kind)
        pipeline = open_pipeline(kind, card, folder)
        refuse_other_channels(card, pipeline, 1)
        return cls(card, pipeline)

    def arguments(self, call: Call) -> dict[str, Any]:
        return {"prompt": described(call.inputs[0])}


class ImageToImage(_Painter):
    """Redraws a picture as a prompt says; of a text-to-image checkpoint the pipeline that starts from a picture is taken."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        named = pipeline_class(card, folder)
        kind = _redrawing(named)
        if kind is None:
            raise wrong_pipeline(card, named)
        pipeline = open_pipeline(kind, card, folder)
        refuse_other_channels(card, pipeline, 2 if "InstructPix2Pix" in kind.__name__ else 1)
        return cls(card, pipeline)

    def arguments(self, call: Call) -> dict[str, Any]:
        picture = fitted(open_picture(Path(call.inputs[0])), native_side_px(self.pipeline))
        size = {"height": picture.height, "width": picture.width}
        return {"prompt": described(call.options.get(Option.PROMPT, "")), "image": picture, "strength": STRENGTH, **size}


class ImageEditor(_Painter):
    """Changes a picture as an instruction says (Brooks et al., 2023, InstructPix2Pix)."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        kind = pipeline_class(card, folder)
        if not _edits(kind):
            raise wrong_pipeline(card, kind)
        pipeline = open_pipeline(kind, card, folder)
        refuse_other_channels(card, pipeline, 2 if "InstructPix2Pix" in kind.__name__ else 1)
        return cls(card, pipeline)

    def arguments(self, call: Call) -> dict[str, Any]:
        text, path = call.inputs
        picture = fitted(open_picture(Path(path)), native_side_px(self.pipeline))
        return {"prompt": described(text), "image": picture, "height": picture.height, "width": picture.width}


class UnconditionalPainter(_Painter):
    """Draws a picture of the kind that the checkpoint was trained on. Having no input, it always draws the same one."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        named = pipeline_class(card, folder)
        if named.__name__ not in UNCONDITIONAL:
            raise wrong_pipeline(card, named)
        return cls(card, open_pipeline(getattr(diffusers, UNCONDITIONAL[named.__name__]), card, folder))

    def arguments(self, call: Call) -> dict[str, Any]:
        return {"num_inference_steps": call_parameters(type(self.pipeline))["num_inference_steps"].default}


class ControlledPainter(_Painter):
    """Draws what a text describes along a control image (Zhang et al., 2023, ControlNet)."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        if not (folder / BASE).is_dir():
            raise ModelError(f"{card.id} lacks the folder {BASE}/ with the pipeline that the ControlNet steers")
        control, steered = _class_of(card, folder), pipeline_class(card, folder / BASE)
        name = CONTROLLED.get((control, steered.__name__))
        if name is None:
            raise ModelError(f"{card.id} is a {control} beside a {steered.__name__}, which cannot do {' or '.join(card.tasks)}")
        options = {"use_safetensors": True, "dtype": precision(), "variant": variant_of(folder)}
        network = opened(getattr(diffusers, control), card, folder, **options)
        refuse_gaps(card, network)
        pipeline = open_pipeline(getattr(diffusers, name), card, folder / BASE, controlnet=network)
        _refuse_another_base(card, pipeline)
        return cls(card, pipeline)

    def arguments(self, call: Call) -> dict[str, Any]:
        path, text = call.inputs
        picture = fitted(open_picture(Path(path)), native_side_px(self.pipeline))
        place = "control_image" if "control_image" in call_parameters(type(self.pipeline)) else "image"
        return {"prompt": described(text), place: picture, "height": picture.height, "width": picture.width}


def described(text: Any) -> str:
    """The prompt; its end is cut where the text encoder's window ends (CLIP: 77 tokens)."""
    prompt = str(text).strip()
    if not prompt:
        raise ModelError("the description of the picture is empty")
    return prompt


def fitted(picture: Image.Image, side_px: int) -> Image.Image:
    """Scaled so that the longer side is `side_px` and both are multiples of MULTIPLE_PX, in about the same proportions."""
    scale = side_px / max(picture.size)
    width, height = (max(MULTIPLE_PX, round(side * scale / MULTIPLE_PX) * MULTIPLE_PX) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def as_picture(pixels: Any) -> Image.Image:
    """From (height, width, channels) of 0..1; one channel is a grey picture."""
    if not np.isfinite(pixels).all():
        raise ModelError("the model drew numbers that are no colours; its weights may be damaged or too coarse in half precision")
    levels = (np.asarray(pixels, np.float32).clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(levels.squeeze(-1) if levels.shape[-1] == 1 else levels).convert("RGB")


def refuse_other_channels(card: ModelCard, pipeline: Any, pictures: int) -> None:
    """A U-Net that reads the latents of more or fewer pictures (inpainting, editing, upscaling) than the pipeline gives it."""
    unet, vae = getattr(pipeline, "unet", None), getattr(pipeline, "vae", None)
    if unet is None or vae is None:
        return
    given = pictures * vae.config.get("latent_channels", unet.config.in_channels)
    if unet.config.in_channels != given:
        task = " or ".join(card.tasks)
        raise ModelError(f"{card.id} was not made for {task}: its U-Net reads {unet.config.in_channels} channels, not {given}")


def _edits(kind: Any) -> bool:
    return any(part in kind.__name__ for part in EDITORS) and not any(part in kind.__name__ for part in ("Inpaint", "Control"))


def _redrawing(kind: Any) -> Any | None:
    """The pipeline that starts from a picture with the parts of this one."""
    from_text = auto_pipelines().AUTO_TEXT2IMAGE_PIPELINES_MAPPING
    from_picture = auto_pipelines().AUTO_IMAGE2IMAGE_PIPELINES_MAPPING
    if "Control" in kind.__name__:
        return None
    if _edits(kind) or kind in from_picture.values():
        return kind
    return next((from_picture.get(name) for name, known in from_text.items() if known is kind), None)


def _class_of(card: ModelCard, folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise ModelError(f"{card.id} has no config.json that names a ControlNet") from exc


def _refuse_another_base(card: ModelCard, pipeline: Any) -> None:
    if not hasattr(pipeline, "unet"):
        return
    own, base = (part.config.cross_attention_dim for part in (pipeline.controlnet, pipeline.unet))
    if own != base:
        raise ModelError(f"{card.id} steers a model with text vectors of {own} numbers, and the one in {BASE}/ has {base}")
