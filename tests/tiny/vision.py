"""Tiny checkpoints of the vision tasks: folders as the hub has them, with random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from cluster.tasks import Task
from deployments.hub.soft_edges import HED, WEIGHTS

SEED = 0
# The sizes that all transformers here share.
SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SURE_MASKS = (0.9, 0.9, 0.9, 0.9)
ADE_LABELS = [f"thing {number}" for number in range(150)]


def labelled(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def save(folder: Path, kind: Any, config: Any, processor: Any, **sure: tuple[float, ...]) -> None:
    """`sure`: what is added to biases with this in their names (two underscores for a dot), since random heads are never sure."""
    torch.manual_seed(SEED)
    network = kind(config)
    with torch.no_grad():  # as they come, most heads answer with nothing but zeros
        for name, weights in network.named_parameters():
            if weights.ndim > 1 and "position" not in name:
                torch.nn.init.normal_(weights, std=2.0 if "hypernetworks" in name else 0.2)  # SAM's masks must be stable
            for part, more in sure.items():
                if part.replace("__", ".") in name:
                    weights[: len(more)] += torch.tensor(more)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


def vit(folder: Path) -> None:
    config = tf.ViTConfig(**SMALL, image_size=32, patch_size=8, **labelled("tench, Tinca tinca", "goldfish, Carassius auratus", "tiger"))
    save(folder, tf.ViTForImageClassification, config, tf.ViTImageProcessorPil(size={"height": 32, "width": 32}))


def resnet(folder: Path) -> None:
    config = tf.ResNetConfig(**RESNET, **labelled("safe", "unsafe"))
    save(folder, tf.ResNetForImageClassification, config, tf.ConvNextImageProcessorPil(size={"shortest_edge": 32}))


def dit(folder: Path) -> None:
    config = tf.BeitConfig(
        **SMALL, image_size=32, patch_size=8, use_absolute_position_embeddings=True, **labelled("letter", "invoice", "form")
    )
    size = {"height": 32, "width": 32}
    processor = tf.BeitImageProcessorPil(size=size, crop_size=size, do_center_crop=False, do_reduce_labels=False)
    save(folder, tf.BeitForImageClassification, config, processor)


def vit_trunk(folder: Path) -> None:
    """Without the pooler, as most ViTs of the hub."""
    config = tf.ViTConfig(**SMALL, image_size=32, patch_size=8)
    torch.manual_seed(SEED)
    tf.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    tf.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def resnet_trunk(folder: Path) -> None:
    save(folder, tf.ResNetModel, tf.ResNetConfig(**RESNET), tf.ConvNextImageProcessorPil(size={"shortest_edge": 32}))


def dinov3(folder: Path) -> None:
    """Its processor's settings as the hub has them, which name a class that needs torchvision."""
    config = tf.DINOv3ViTConfig(**SMALL, image_size=32, patch_size=8, num_register_tokens=2)
    save(folder, tf.DINOv3ViTModel, config, tf.ViTImageProcessorPil(size={"height": 32, "width": 32}))
    renamed(folder, "DINOv3ViTImageProcessorFast")


def clip(folder: Path) -> None:
    tower = {**SMALL, "projection_dim": 12}
    words = {**tower, "vocab_size": 32, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = tf.CLIPConfig(text_config=words, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=12)
    processor = tf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    save(folder, tf.CLIPModel, config, processor)


def yolos(folder: Path) -> None:
    config = tf.YolosConfig(**SMALL, image_size=[64, 96], patch_size=16, num_detection_tokens=6, **labelled("cat", "dog", "N/A"))
    save(
        folder,
        tf.YolosForObjectDetection,
        config,
        tf.YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}),
        class_labels_classifier__layers__2__bias=(2.0,),
    )


DETR: dict[str, Any] = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "num_queries": 6,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def detr_config(**settings: Any) -> Any:
    backbone = tf.ResNetConfig(**RESNET, out_features=["stage1", "stage2", "stage3", "stage4"])
    return tf.DetrConfig(backbone_config=backbone, **(DETR | settings))


def detr(folder: Path) -> None:
    processor = tf.DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    save(folder, tf.DetrForObjectDetection, detr_config(**labelled("cat", "dog")), processor, class_labels_classifier__bias=(2.0,))


def rt_detr(folder: Path) -> None:
    backbone = tf.RTDetrResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"])
    config = tf.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], encoder_ffn_dim=16, encoder_attention_heads=2,
        d_model=16, num_queries=6, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2,
        num_denoising=0, hidden_expansion=0.5, **labelled("cat", "dog"),
    )  # fmt: skip
    save(
        folder,
        tf.RTDetrForObjectDetection,
        config,
        tf.RTDetrImageProcessorPil(size={"height": 64, "width": 64}),
        class_embed__0__bias=(5.0,),
    )


def segformer(folder: Path) -> None:
    config = tf.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1], decoder_hidden_size=16,
        **labelled("wall", "building", "sky", "floor"),
    )  # fmt: skip
    save(folder, tf.SegformerForSemanticSegmentation, config, tf.ViTImageProcessorPil(size={"height": 64, "width": 64}, **IMAGENET))
    renamed(folder, "SegformerFeatureExtractor")


def upernet(folder: Path) -> None:
    backbone = tf.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"])
    config = tf.UperNetConfig(
        backbone_config=backbone, hidden_size=16, auxiliary_in_channels=16, auxiliary_channels=8,
        **labelled(*ADE_LABELS),
    )  # fmt: skip
    save(folder, tf.UperNetForSemanticSegmentation, config, tf.ViTImageProcessorPil(size={"height": 64, "width": 64}, **IMAGENET))
    renamed(folder, "SegformerImageProcessor")


def mask2former(folder: Path) -> None:
    backbone = tf.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16, encoder_layers=1,
        decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=6, **labelled("cat", "dog", "grass"),
    )  # fmt: skip
    save(
        folder,
        tf.Mask2FormerForUniversalSegmentation,
        config,
        tf.Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}),
        class_predictor__bias=(6.0,),
    )


def detr_panoptic(folder: Path) -> None:
    processor = tf.DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    save(
        folder,
        tf.DetrForSegmentation,
        detr_config(d_model=64, encoder_attention_heads=8, **labelled("cat", "grass")),
        processor,
        class_labels_classifier__bias=(6.0,),
    )


def depth_anything(folder: Path, **settings: Any) -> None:
    backbone = tf.Dinov2Config(
        **{**SMALL, "num_hidden_layers": 4}, image_size=56, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False
    )  # fmt: skip
    config = tf.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8,
        head_hidden_size=8, **settings,
    )  # fmt: skip
    size = {"height": 56, "width": 56}
    processor = tf.DPTImageProcessorPil(size=size, keep_aspect_ratio=True, ensure_multiple_of=14)
    save(folder, tf.DepthAnythingForDepthEstimation, config, processor)


def depth_anything_metric(folder: Path) -> None:
    depth_anything(folder, depth_estimation_type="metric", max_depth=20)


def dpt(folder: Path) -> None:
    config = tf.DPTConfig(
        **{**SMALL, "num_hidden_layers": 4}, image_size=32, patch_size=8, backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
    )  # fmt: skip
    save(folder, tf.DPTForDepthEstimation, config, tf.DPTImageProcessorPil(size={"height": 32, "width": 32}))


def dpt_hybrid(folder: Path) -> None:
    backbone = {"embedding_size": 8, "hidden_sizes": [8, 8, 16], "depths": [1, 1, 1], "num_groups": 2, "layer_type": "bottleneck",
                "global_padding": "same", "embedding_dynamic_padding": True, "out_features": ["stage1", "stage2", "stage3"]}  # fmt: skip
    config = tf.DPTConfig(
        **{**SMALL, "num_hidden_layers": 4}, image_size=32, patch_size=16, backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, is_hybrid=True, backbone_config=tf.BitConfig(**backbone), backbone_featmap_shape=[1, 16, 2, 2],
        neck_ignore_stages=[0, 1], readout_type="project",
    )  # fmt: skip
    save(folder, tf.DPTForDepthEstimation, config, tf.DPTImageProcessorPil(size={"height": 32, "width": 32}))


def zoedepth(folder: Path) -> None:
    backbone = tf.BeitConfig(
        **{**SMALL, "num_hidden_layers": 4}, image_size=64, patch_size=16, out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
        use_relative_position_bias=True,
    )  # fmt: skip
    config = tf.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8, bottleneck_features=8, num_relative_features=8,
        bin_embedding_dim=8, num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
    )  # fmt: skip
    save(folder, tf.ZoeDepthForDepthEstimation, config, tf.ZoeDepthImageProcessorPil(size={"height": 64, "width": 64}))


def glpn(folder: Path) -> None:
    config = tf.GLPNConfig(hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1], decoder_hidden_size=8)
    save(folder, tf.GLPNForDepthEstimation, config, tf.GLPNImageProcessorPil())


def sam(folder: Path) -> None:
    config = tf.SamConfig(
        vision_config={**SMALL, "output_channels": 16, "image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1],
                       "mlp_dim": 16, "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16, "num_hidden_layers": 1},
    )  # fmt: skip
    square = {"height": 64, "width": 64}
    processor = tf.SamImageProcessorPil(
        size={"longest_edge": 64}, pad_size=square, mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16}
    )
    save(folder, tf.SamModel, config, processor, iou_prediction_head__proj_out__bias=SURE_MASKS)


def sam2(folder: Path) -> None:
    """As the hub has it: of the kind sam2_video, with a processor that needs torchvision."""
    hiera = {"hidden_size": 8, "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
             "blocks_per_stage": [1, 1, 2, 1],
             "image_size": [64, 64], "num_attention_heads": 1, "window_size_per_stage": [4, 4, 2, 2], "global_attention_blocks": [3],
             "window_positional_embedding_background_size": [2, 2]}  # fmt: skip
    square = {"height": 64, "width": 64}
    vision = {"backbone_config": {"model_type": "sam2_hiera_det_model", **hiera}, "backbone_channel_list": [64, 32, 16, 8],
              "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 16}  # fmt: skip
    config = tf.Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16, "num_hidden_layers": 1},
    )  # fmt: skip
    save(folder, tf.Sam2Model, config, tf.ViTImageProcessorPil(size=square), iou_prediction_head__proj_out__bias=(9.0, 9.0, 9.0, 9.0))
    renamed(folder, "Sam2ImageProcessorFast")


def vitpose(folder: Path, joints: int = 17, **settings: Any) -> None:
    backbone = tf.VitPoseBackboneConfig(**SMALL, image_size=[64, 48], patch_size=[16, 16], out_indices=[2], **settings)
    config = tf.VitPoseConfig(backbone_config=backbone, **labelled(*(f"joint {number}" for number in range(joints))))
    save(folder, tf.VitPoseForPoseEstimation, config, tf.VitPoseImageProcessorPil(size={"height": 64, "width": 48}))


def vitpose_plus(folder: Path) -> None:
    vitpose(folder, num_experts=3, part_features=4)


def hed(folder: Path) -> None:
    torch.manual_seed(SEED)
    network = HED([[3, 4, 4], [4, 4, 4], [4, 8, 8, 8], [8, 8, 8, 8], [8, 8, 8, 8]])
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / WEIGHTS)


def renamed(folder: Path, processor: str) -> None:
    """Writes another class into the processor's settings."""
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_processor_type": processor}))


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    Task.IMAGE_CLASSIFICATION: vit,
    f"{Task.IMAGE_CLASSIFICATION}/resnet": resnet,
    Task.TABULAR_CLASSIFICATION: dit,
    Task.IMAGE_FEATURE_EXTRACTION: vit_trunk,
    f"{Task.IMAGE_FEATURE_EXTRACTION}/resnet": resnet_trunk,
    f"{Task.IMAGE_FEATURE_EXTRACTION}/dinov3": dinov3,
    f"{Task.IMAGE_FEATURE_EXTRACTION}/clip": clip,
    Task.OBJECT_DETECTION: yolos,
    f"{Task.OBJECT_DETECTION}/detr": detr,
    f"{Task.OBJECT_DETECTION}/rt_detr": rt_detr,
    Task.IMAGE_SEGMENTATION: segformer,
    f"{Task.IMAGE_SEGMENTATION}/mask2former": mask2former,
    f"{Task.IMAGE_SEGMENTATION}/detr": detr_panoptic,
    Task.SEG_CONTROL: upernet,
    Task.MASK_GENERATION: sam,
    f"{Task.MASK_GENERATION}/sam2": sam2,
    Task.DEPTH_ESTIMATION: depth_anything,
    f"{Task.DEPTH_ESTIMATION}/metric": depth_anything_metric,
    f"{Task.DEPTH_ESTIMATION}/glpn": glpn,
    f"{Task.DEPTH_ESTIMATION}/zoedepth": zoedepth,
    Task.DEPTH_CONTROL: dpt,
    Task.NORMAL_CONTROL: dpt_hybrid,
    Task.KEYPOINT_DETECTION: vitpose,
    f"{Task.KEYPOINT_DETECTION}/plus": vitpose_plus,
    Task.OPENPOSE_CONTROL: vitpose,
    Task.HED_CONTROL: hed,
    Task.SCRIBBLE_CONTROL: hed,
}
