"""Tiny diffusion pipelines with random weights, laid out as the hub's: Stable Diffusion v1.5's class, its ControlNets, DDPM, SDXL."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TEXT_VECTOR = 16  # numbers a token of the text encoder
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1, "clip_sample": False}
BLOCKS = (8, 16)  # channels a level; two levels: the autoencoder makes one latent of 2 × 2 pixels
CONTROLS = ("canny", "depth", "hed", "mlsd", "normal", "openpose", "scribble", "seg")


def stable_diffusion(folder: Path) -> None:
    scheduler = PNDMScheduler(skip_prk_steps=True, **{name: value for name, value in SCHEDULE.items() if name != "clip_sample"})
    StableDiffusionPipeline(**_parts(4), scheduler=scheduler).save_pretrained(folder)
    _as_on_the_hub(folder)


def instruct_pix2pix(folder: Path) -> None:
    StableDiffusionInstructPix2PixPipeline(**_parts(8), scheduler=DDIMScheduler(**SCHEDULE)).save_pretrained(folder)
    _as_on_the_hub(folder)


def stable_diffusion_xl(folder: Path) -> None:
    torch.manual_seed(0)
    encoders = {"text_encoder": CLIPTextModel(_text_config()), "text_encoder_2": CLIPTextModelWithProjection(_text_config())}
    # Two text encoders side by side; the pooled text and six sizes (8 numbers each) are added to the time.
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": TEXT_VECTOR + 48}
    parts = {"vae": autoencoder(), "unet": unet(4, cross_attention_dim=2 * TEXT_VECTOR, **added), **encoders}
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    tokenizers = {"tokenizer": tokenizer(), "tokenizer_2": tokenizer()}
    StableDiffusionXLPipeline(**parts, **tokenizers, scheduler=scheduler, add_watermarker=False).save_pretrained(folder)


def ddpm(folder: Path) -> None:
    """As google/ddpm-cifar10-32: the network and the schedule lie in the top folder, without subfolders."""
    torch.manual_seed(0)
    blocks: dict[str, Any] = {
        "block_out_channels": BLOCKS,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    network = UNet2DModel(sample_size=16, layers_per_block=1, norm_num_groups=4, attention_head_dim=4, **blocks)
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(folder)
    for file in [*folder.glob("unet/*"), *folder.glob("scheduler/*")]:
        file.rename(folder / file.name)
    (folder / "unet").rmdir()
    (folder / "scheduler").rmdir()


def controlnet(folder: Path) -> None:
    torch.manual_seed(0)
    network = ControlNetModel.from_unet(unet(4), conditioning_embedding_out_channels=(4, 8))
    with torch.no_grad():  # a new ControlNet ends in zeros and steers nothing
        for name, weights in network.named_parameters():
            if name.startswith(("controlnet_down_blocks", "controlnet_mid_block", "controlnet_cond_embedding.conv_out")):
                weights.normal_()
    network.save_pretrained(folder)
    stable_diffusion(folder / "base")


def unet(in_channels: int, **changed: Any) -> UNet2DConditionModel:
    blocks: dict[str, Any] = {
        "block_out_channels": BLOCKS,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    options = {"sample_size": 16, "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": TEXT_VECTOR}
    return UNet2DConditionModel(in_channels=in_channels, out_channels=4, **{**blocks, **options, **changed})


def autoencoder() -> AutoencoderKL:
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=BLOCKS, norm_num_groups=4, latent_channels=4, sample_size=32, **kinds)


def text_encoder() -> CLIPTextModel:
    return CLIPTextModel(_text_config())


def tokenizer() -> CLIPTokenizer:
    """Byte by byte, as CLIP's begins before its merges: each byte inside a word, and each at its end."""
    letters = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 324)]]  # GPT-2's printable alphabet of the 256 bytes
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=77)


def rewrite_json(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def _parts(unet_channels: int) -> dict[str, Any]:
    torch.manual_seed(0)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    checks = {"safety_checker": _safety_checker(), "feature_extractor": pictures}
    return {"vae": autoencoder(), "text_encoder": text_encoder(), "tokenizer": tokenizer(), "unet": unet(unet_channels), **checks}


def _safety_checker() -> StableDiffusionSafetyChecker:
    """New, it is content with every picture: no picture is nearer to a concept than the thresholds of 1."""
    tower = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    return StableDiffusionSafetyChecker(CLIPConfig(text_config=tower, vision_config=vision, projection_dim=8))


def _as_on_the_hub(folder: Path) -> None:
    """CLIP's tokenizer as vocab.json and merges.txt in place of tokenizer.json; its image processor by its older name."""
    tokens = folder / "tokenizer"
    (tokens / "vocab.json").write_text(json.dumps(json.loads((tokens / "tokenizer.json").read_text())["model"]["vocab"]))
    (tokens / "merges.txt").write_text("#version: 0.2\n")
    (tokens / "tokenizer.json").unlink()
    rewrite_json(folder / "model_index.json", feature_extractor=["transformers", "CLIPImageProcessor"])


def _text_config() -> CLIPTextConfig:
    sizes = {"vocab_size": 514, "hidden_size": TEXT_VECTOR, "intermediate_size": 32, "projection_dim": TEXT_VECTOR}
    tokens = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    return CLIPTextConfig(num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=77, **sizes, **tokens)


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "text-to-image": stable_diffusion,
    "text-to-image/sdxl": stable_diffusion_xl,
    "image-to-image": stable_diffusion,
    "image-editing": instruct_pix2pix,
    "unconditional-image-generation": ddpm,
    **{f"{control}-text-to-image": controlnet for control in CONTROLS},
}
