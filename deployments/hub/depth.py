"""Networks that tell depth from one picture: as a picture (near is white) and as surface normals (ControlNet's annotator)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForDepthEstimation

from cluster.catalogue import ModelCard
from cluster.tasks import Task
from deployments.hub.pictures import PictureModel, PictureNetwork
from deployments.model import Call, Output
from deployments.vision import open_picture, picture_output

if TYPE_CHECKING:
    import numpy.typing as npt

    Map = npt.NDArray[np.float32]  # (height, width)

NEAREST_M = 1e-3
ZOE_PADDING = 3  # ZoeDepth's processor mirrors a margin of 3 × √(side / 2) pixels around the picture
# ControlNet's annotator/midas: normals from a map whose shorter side is 384; what lies in the farther part of the range is flat.
NORMALS_PIXELS = 384
BACKGROUND = 0.4
UPWARD = 2 * np.pi  # the third component before the vector is brought to length 1
MIDAS_RANGE = 2000.0  # about what DPT-hybrid's raw disparities span, which ControlNet's gradients were taken from


class DepthEstimator(PictureModel):
    """Depth as a grey picture, a control image of depth, or one of normals."""

    max_batch = 4

    def __init__(self, sight: PictureNetwork) -> None:
        super().__init__(sight)
        self._is_metric = is_metric(sight.network.config)

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        # In half precision MiDaS' disparities, up to some thousands, come in steps that show in the normals.
        return cls(PictureNetwork.load(AutoModelForDepthEstimation, card, folder, dtype=torch.float32))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        pictures = [open_picture(Path(call.inputs[0])) for call in calls]
        outputs = self._sight.see(pictures)
        return [
            self._output(call.task, self._map(*pair), pair[1])
            for call, pair in zip(calls, zip(outputs, pictures, strict=True), strict=True)
        ]

    def _map(self, output: Any, picture: Image.Image) -> "Map":
        """What the network says, at the picture's size: metres, or disparities without a scale."""
        depth: Map = output.predicted_depth[0].squeeze().numpy()
        if self._sight.network.config.model_type != "zoedepth":
            return _resized(depth, picture.size)
        across, down = (int(np.sqrt(side / 2) * ZOE_PADDING) for side in picture.size)
        padded = _resized(depth, (picture.width + 2 * across, picture.height + 2 * down))
        return padded[down : down + picture.height, across : across + picture.width]

    def _output(self, task: Task, depth: "Map", picture: Image.Image) -> Output:
        disparity: Map = np.reciprocal(np.maximum(depth, np.float32(NEAREST_M))) if self._is_metric else depth
        name = f"{Task(task)}.png"
        if task == Task.NORMAL_CONTROL:
            return picture_output(self._normals(disparity, picture.size), name)
        grey = Image.fromarray((_spread(disparity) * 255).astype(np.uint8))
        metres = {"nearest_m": round(float(depth.min()), 3), "farthest_m": round(float(depth.max()), 3)}
        data = {"white_is": "near", **(metres if self._is_metric else {})}
        return picture_output(grey if task == Task.DEPTH_ESTIMATION else grey.convert("RGB"), name, data)

    def _normals(self, disparity: "Map", size: tuple[int, int]) -> Image.Image:
        scale = min(1.0, NORMALS_PIXELS / min(size))
        small = _resized(disparity, (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
        is_midas = getattr(self._sight.network.config, "is_hybrid", False)
        raw = small if is_midas else _spread(small) * np.float32(MIDAS_RANGE)
        return Image.fromarray(normals(raw, _spread(small) < BACKGROUND)).resize(size, Image.Resampling.BILINEAR)


def is_metric(config: Any) -> bool:
    """Whether a network tells metres (far is large) and not disparities (near is large).

    GLPN, ZoeDepth and Depth Pro always do, Depth Anything says so, and of the DPTs those on DINOv2 do (trained on NYU and KITTI).
    """
    if config.model_type in {"glpn", "zoedepth", "depth_pro"}:
        return True
    backbone = getattr(config, "backbone_config", None)
    return getattr(config, "depth_estimation_type", "") == "metric" or (
        config.model_type == "dpt" and getattr(backbone, "model_type", "") == "dinov2"
    )


def normals(disparity: "Map", background: "npt.NDArray[np.bool_]") -> "npt.NDArray[np.uint8]":
    """(height, width, 3): x, y and z of the surface's direction as red, green and blue, -1..1 as 0..255; flat where background."""
    import cv2

    sideways, downward = (np.array(cv2.Sobel(disparity, cv2.CV_32F, *axes, ksize=3), dtype=np.float32) for axes in ((1, 0), (0, 1)))
    sideways[background] = downward[background] = 0
    vectors = np.stack([sideways, downward, np.full_like(sideways, UPWARD)], axis=2)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    pixels: npt.NDArray[np.uint8] = (vectors * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
    return pixels


def _spread(values: "Map") -> "Map":
    """Onto 0..1; a flat map becomes 0."""
    low, high = values.min(), values.max()
    spread: Map = ((values - low) / max(high - low, np.finfo(np.float32).tiny)).astype(np.float32)
    return spread


def _resized(values: "Map", size: tuple[int, int]) -> "Map":
    """To (width, height), bicubic as the libraries do it, averaging when it shrinks."""
    if values.shape == (size[1], size[0]):
        return values
    shrinks = size[0] < values.shape[1]
    resized: Map = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size[::-1], mode="bicubic", align_corners=False, antialias=shrinks
    )[0, 0].numpy()
    return resized
