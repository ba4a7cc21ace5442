"""Networks that divide a picture: into labelled regions (semantic, instance, panoptic), and into all things that can be outlined."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoModelForImageSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForMaskGeneration,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
)

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.detector import overlap
from deployments.hub.pictures import PictureModel, PictureNetwork
from deployments.hub.tensors import moved
from deployments.model import Call, Output
from deployments.vision import open_picture, picture_output

if TYPE_CHECKING:
    import numpy.typing as npt

    Map = npt.NDArray[np.int64]  # (height, width)
    Pixels = npt.NDArray[np.uint8]  # (height, width, 3)

PALETTE = Path(__file__).parents[1] / "ade20k_palette.txt"  # of mmsegmentation, which ControlNet's maps were drawn with: RGB of 150 classes
KINDS = (
    AutoModelForUniversalSegmentation,
    AutoModelForSemanticSegmentation,
    AutoModelForInstanceSegmentation,
    AutoModelForImageSegmentation,
)
# Regions are found on a map of at most this many pixels a side: 150 classes at a photograph's full size would take gigabytes.
MAP_PIXELS = 1024
COVER = 0.6  # of a region's colour over the picture
# MaskFormer's and Mask2Former's published panoptic settings.
MIN_SCORE = 0.8
MIN_UNCOVERED = 0.8  # the share of a region that must not lie under surer ones
# SAM's automatic mask generator: points a side, how sure and how stable a mask must be, and when two boxes frame the same thing.
GRID, CPU_GRID = 32, 16  # a CPU needs a second for every 64 points
POINTS_AT_ONCE = 64
MIN_MASK_SCORE, MIN_STABILITY, STABILITY_OFFSET = 0.88, 0.95, 1.0
SAME_THING = 0.7
NEXT_COLOUR = 37  # steps along the palette between two things of a class; 37 and 150 have no common divisor


@dataclass(frozen=True, slots=True)
class Region:
    """`number` is its value in the map."""

    number: int
    label: int
    score: float | None = None


class Segmenter(PictureModel):
    """The picture with its regions in colours, or ControlNet's map of ADE20K's classes."""

    max_batch = 4

    def __init__(self, sight: PictureNetwork, model_id: str) -> None:
        super().__init__(sight)
        # One architecture serves three kinds of checkpoint, and only the name tells which it is.
        self._kind = next((kind for kind in ("semantic", "instance") if kind in model_id.lower()), "panoptic")

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        sight = PictureNetwork.load(KINDS, card, folder)
        known = sight.network.config.num_labels
        if Task.SEG_CONTROL in card.tasks and known != len(palette()):
            raise ModelError(f"{card.id} knows {known} classes, and {Task.SEG_CONTROL} needs the {len(palette())} of ADE20K")
        return cls(sight, card.id)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        pictures = [open_picture(Path(call.inputs[0])) for call in calls]
        outputs = self._sight.see(pictures)
        return [self._output(call.task, *pair) for call, pair in zip(calls, zip(outputs, pictures, strict=True), strict=True)]

    def _output(self, task: Task, output: Any, picture: Image.Image) -> Output:
        height, width = _map_size(picture)
        if task == Task.SEG_CONTROL:
            classes = self._classes(output, (height, width))
            control = Image.fromarray(palette()[classes])
            return picture_output(
                control.resize(picture.size, Image.Resampling.NEAREST), f"{task}.png", {"segments": self._legend(classes, _whole(classes))}
            )
        numbers, regions = self._regions(output, (height, width))
        covered = painted(picture, numbers, regions)
        return picture_output(covered, "segmentation.png", {"segments": self._legend(numbers, regions)})

    def _regions(self, output: Any, size: tuple[int, int]) -> tuple["Map", list[Region]]:
        find = getattr(self._sight.processor, f"post_process_{self._kind}_segmentation", None)
        if self._kind == "semantic" or find is None or _is_per_pixel(output):
            classes = self._classes(output, size)
            return classes, _whole(classes)
        settings = {"threshold": MIN_SCORE, "overlap_mask_area_threshold": MIN_UNCOVERED, "target_sizes": [size]}
        more: dict[str, Any] = {"label_ids_to_fuse": set()} if self._kind == "panoptic" else {}
        (found,) = find(output, **settings, **more)
        regions = [Region(one["id"], one["label_id"], round(float(one["score"]), 4)) for one in found["segments_info"]]
        return np.asarray(found["segmentation"].long()), regions

    def _classes(self, output: Any, size: tuple[int, int]) -> "Map":
        """(height, width): the class of each pixel."""
        if _is_per_pixel(output):
            logits = torch.nn.functional.interpolate(output.logits, size=size, mode="bilinear", align_corners=False)
            return np.asarray(logits[0].argmax(dim=0))
        (classes,) = self._sight.processor.post_process_semantic_segmentation(output, target_sizes=[size])
        return np.asarray(classes.long())

    def _legend(self, numbers: "Map", regions: Sequence[Region]) -> list[dict[str, Any]]:
        """Largest first; shares of the picture, 0..1."""
        colours = colours_of(regions)
        shares = {region.number: float((numbers == region.number).mean()) for region in regions}
        rows = [
            {
                "label": self._sight.label(region.label),
                "share": round(shares[region.number], 4),
                "colour": _hex(colours[region.number]),
                **({} if region.score is None else {"score": region.score}),
            }
            for region in regions
        ]
        return sorted(rows, key=lambda row: -row["share"])


@dataclass(frozen=True, slots=True)
class Mask:
    """One thing that was outlined; the box is (left, top, right, bottom) in pixels of the map, `bits` its pixels, packed."""

    box: tuple[int, int, int, int]
    pixels: int
    score: float
    bits: "npt.NDArray[np.uint8]"


class MaskGenerator(PictureModel):
    """Outlines everything in a picture: Segment Anything asked at a grid of points (SAM, SAM-HQ, SAM 2)."""

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        return cls(PictureNetwork.load(AutoModelForMaskGeneration, card, folder))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._output(open_picture(Path(call.inputs[0]))) for call in calls]

    def _output(self, picture: Image.Image) -> Output:
        height, width = _map_size(picture)
        masks = sorted(self._masks(picture.resize((width, height), Image.Resampling.BICUBIC)), key=lambda mask: -mask.pixels)
        numbers = np.full((height, width), -1)
        for number, mask in enumerate(masks):  # the largest first, so that what lies on it stays visible
            numbers[np.unpackbits(mask.bits, count=height * width).reshape(height, width) > 0] = number
        regions = [Region(number, NEXT_COLOUR * (number + 1)) for number in range(len(masks))]
        scale = picture.width / width
        rows = [
            {
                "box": [round(place * scale, 1) for place in mask.box],
                "area_px": round(mask.pixels * scale**2),
                "score": mask.score,
                "colour": _hex(colour),
            }
            for mask, colour in zip(masks, colours_of(regions).values(), strict=True)
        ]
        return picture_output(painted(picture, numbers, regions), "masks.png", {"masks": rows})

    def _masks(self, picture: Image.Image) -> list[Mask]:
        """Sure and stable ones, the surest of those that frame the same thing."""
        inputs = self._sight.prepare(picture)
        height, width = inputs["reshaped_input_sizes"][0].tolist() if "reshaped_input_sizes" in inputs else inputs["pixel_values"].shape[2:]
        points = _grid(GRID if self._sight.network.device.type == "cuda" else CPU_GRID) * torch.tensor([width, height])
        found: list[Mask] = []
        with torch.inference_mode():
            embedded = self._sight.network.get_image_embeddings(moved(inputs["pixel_values"], self._sight.network))
            # SAM-HQ gives the inner layers' too; SAM 2 a list of scales, which is one embedding.
            inner = {"intermediate_embeddings": embedded[1]} if isinstance(embedded, tuple) else {}
            whole = embedded[0] if isinstance(embedded, tuple) else embedded
            for first in range(0, len(points), POINTS_AT_ONCE):
                some = moved(points[None, first : first + POINTS_AT_ONCE, None], self._sight.network)
                answer = self._sight.network(image_embeddings=whole, input_points=some, **inner)
                scores, logits = answer.iou_scores[0].flatten().float().cpu(), answer.pred_masks[0].flatten(0, 1).float().cpu()
                sure = scores > MIN_MASK_SCORE
                found += _stable(self._enlarged(logits[sure], inputs, picture), scores[sure])
        return _distinct(found)

    def _enlarged(self, logits: torch.Tensor, inputs: Mapping[str, torch.Tensor], picture: Image.Image) -> torch.Tensor:
        """(masks, height, width) of the picture. SAM pads pictures to a square at their right and bottom, SAM 2 stretches them."""
        if "reshaped_input_sizes" in inputs:
            height, width = inputs["reshaped_input_sizes"][0].tolist()
            square = torch.nn.functional.interpolate(
                logits[:, None], inputs["pixel_values"].shape[2:], mode="bilinear", align_corners=False
            )
            logits = square[:, 0, :height, :width]
        size = (picture.height, picture.width)
        return torch.nn.functional.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _grid(side: int) -> torch.Tensor:
    """(side², 2): x and y of the middles of a chequerboard's fields on 0..1."""
    places = (torch.arange(side) + 0.5) / side
    return torch.cartesian_prod(places, places).flip(1)


def _stable(logits: torch.Tensor, scores: torch.Tensor) -> list[Mask]:
    """Those masks that stay much the same when the threshold moves by STABILITY_OFFSET (SAM's automatic mask generator)."""
    inner = (logits > STABILITY_OFFSET).sum(dim=(1, 2))
    outer = (logits > -STABILITY_OFFSET).sum(dim=(1, 2))
    masks = []
    for row in torch.nonzero((inner > 0) & (inner / outer.clamp(min=1) >= MIN_STABILITY)).flatten().tolist():
        mask = (logits[row] > 0).numpy()
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        masks.append(Mask(box, int(mask.sum()), round(min(float(scores[row]), 1.0), 4), np.packbits(mask)))
    return masks


def _distinct(masks: Sequence[Mask]) -> list[Mask]:
    """Greedy non-maximum suppression by boxes."""
    kept: list[Mask] = []
    for mask in sorted(masks, key=lambda mask: -mask.score):
        if all(overlap(mask.box, other.box) <= SAME_THING for other in kept):
            kept.append(mask)
    return kept


@cache
def palette() -> "Pixels":
    """(150, 3)"""
    return np.loadtxt(PALETTE, dtype=np.uint8)


def colours_of(regions: Sequence[Region]) -> dict[int, "npt.NDArray[np.uint8]"]:
    """A class has its colour of the palette; a second thing of the class takes another one."""
    before: Counter[int] = Counter()
    colours = {}
    for region in regions:
        colours[region.number] = palette()[(region.label + NEXT_COLOUR * before[region.label]) % len(palette())]
        before[region.label] += 1
    return colours


def painted(picture: Image.Image, numbers: "Map", regions: Sequence[Region]) -> Image.Image:
    """The picture under its regions' colours; what belongs to none is left as it is."""
    height, width = numbers.shape
    colours = np.zeros((height, width, 3), dtype=np.uint8)
    cover = np.zeros((height, width), dtype=np.uint8)
    for number, colour in colours_of(regions).items():
        colours[numbers == number] = colour
        cover[numbers == number] = round(255 * COVER)
    layer, mask = (Image.fromarray(pixels).resize(picture.size, Image.Resampling.NEAREST) for pixels in (colours, cover))
    return Image.composite(layer, picture, mask)


def _whole(classes: "Map") -> list[Region]:
    """Each class of a map of classes is one region."""
    return [Region(label, label) for label in np.unique(classes).tolist()]


def _is_per_pixel(output: Any) -> bool:
    logits = getattr(output, "logits", None)
    return logits is not None and logits.ndim == 4


def _map_size(picture: Image.Image) -> tuple[int, int]:
    scale = min(1.0, MAP_PIXELS / max(picture.size))
    return max(1, round(picture.height * scale)), max(1, round(picture.width * scale))


def _hex(colour: "npt.NDArray[np.uint8]") -> str:
    return "#" + colour.tobytes().hex()
