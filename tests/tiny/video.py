"""Tiny video networks with random weights, laid out as the hub's: VideoMAE, TimeSformer, and two video diffusion pipelines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessorPil,
)

from tests.tiny.image_generation import BLOCKS, SCHEDULE, TEXT_VECTOR, autoencoder, rewrite_json, text_encoder, tokenizer

ACTIONS = ("clapping", "running", "swimming")
WIDE_BLOCKS = (32, 32)  # channels a level; these networks normalize in 32 groups
TOWER = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def videomae(folder: Path) -> None:
    torch.manual_seed(0)
    sizes = {"decoder_hidden_size": 16, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 32}
    VideoMAEForVideoClassification(VideoMAEConfig(**TOWER, **sizes, num_frames=4, **_labels())).save_pretrained(folder)
    _image_processor(folder)


def timesformer(folder: Path) -> None:
    torch.manual_seed(0)
    TimesformerForVideoClassification(TimesformerConfig(**TOWER, num_frames=4, **_labels())).save_pretrained(folder)
    _image_processor(folder)


def text_to_video(folder: Path) -> None:
    """The class of ali-vilab/text-to-video-ms-1.7b."""
    torch.manual_seed(0)
    network = UNet3DConditionModel(
        sample_size=8,
        block_out_channels=BLOCKS,
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        cross_attention_dim=TEXT_VECTOR,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )
    parts = {"vae": autoencoder(), "text_encoder": text_encoder(), "tokenizer": tokenizer(), "unet": network}
    TextToVideoSDPipeline(**parts, scheduler=DDIMScheduler(**SCHEDULE)).save_pretrained(folder)


def image_to_video(folder: Path) -> None:
    """The class of stabilityai/stable-video-diffusion-img2vid-xt."""
    torch.manual_seed(0)
    network = UNetSpatioTemporalConditionModel(
        sample_size=8,
        block_out_channels=(32,),
        layers_per_block=1,
        num_attention_heads=(2,),
        cross_attention_dim=TEXT_VECTOR,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=2,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",),
        up_block_types=("CrossAttnUpBlockSpatioTemporal",),
    )
    levels = ("DownEncoderBlock2D",) * 2
    vae = AutoencoderKLTemporalDecoder(block_out_channels=WIDE_BLOCKS, down_block_types=levels, latent_channels=4, sample_size=32)
    eye = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**TOWER, "image_size": 224, "patch_size": 32}, projection_dim=TEXT_VECTOR))
    sigmas = {"use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0, "timestep_type": "continuous"}
    scheduler = EulerDiscreteScheduler(prediction_type="v_prediction", **sigmas)
    looks = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    StableVideoDiffusionPipeline(vae, eye, network, scheduler, looks).save_pretrained(folder)
    rewrite_json(folder / "model_index.json", feature_extractor=["transformers", "CLIPImageProcessor"])


def _labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(ACTIONS)), "label2id": {name: place for place, name in enumerate(ACTIONS)}}


def _image_processor(folder: Path) -> None:
    """By the name that the hub's checkpoints have, written before processors had backends."""
    VideoMAEImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    rewrite_json(folder / "preprocessor_config.json", image_processor_type="VideoMAEImageProcessor")


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "video-classification": videomae,
    "video-classification/timesformer": timesformer,
    "text-to-video": text_to_video,
    "image-to-video": image_to_video,
}
