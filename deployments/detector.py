"""Object detection with CenterNet (Zhou et al., arXiv 1904.07850) on MobileNetV3: what is in a photograph, how often, and where."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import ModelError
from deployments.model import Call, Computation, Output
from deployments.vision import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

INPUT_PIXELS = 512
DETECTIONS = "tower_0/detections"  # (1, 100, 6): left, top, right, bottom in input pixels, score, class
MIN_SCORE = 0.35  # a clear object scores 0.4 to 0.7 with this small network, a mistaken one up to 0.3
SAME_OBJECT_OVERLAP = 0.5  # intersection over union above which two boxes of a class are one object

COCO = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
]


@dataclass(frozen=True, slots=True)
class Found:
    """One object; the box is (left, top, right, bottom) in pixels of the picture."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Detector(Computation):
    """Finds the 80 kinds of things of COCO."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self._graph = graph

    @classmethod
    def load(cls, folder: Path) -> "Detector":
        from deployments.tfjs_graph import TfjsGraph

        description = next(folder.glob("*.json"), None)
        if description is None:
            raise ModelError(f"no TF.js graph (.json) in {folder.name}")
        return cls(TfjsGraph(description))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [findings(self.find(open_picture(Path(call.inputs[0])))) for call in calls]

    def find(self, picture: "Image") -> list[Found]:
        import numpy as np
        import torch
        from PIL import Image, ImageOps

        # Padded, not stretched: stretched, the network takes scikit-image's cat for a dog.
        square = ImageOps.pad(picture, (INPUT_PIXELS, INPUT_PIXELS), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(square, dtype=np.float32)).unsqueeze(0)
        (detections,) = self._graph.run(pixels, [DETECTIONS])
        rows = [row for row in detections[0].tolist() if row[4] >= MIN_SCORE]
        return distinct([Found(COCO[int(row[5])], round(row[4], 4), _unpadded(row[:4], picture.size)) for row in rows])


def distinct(found: Sequence[Found]) -> list[Found]:
    """The surest box of each object (greedy non-maximum suppression within a class)."""
    kept: list[Found] = []
    for candidate in sorted(found, key=lambda thing: -thing.score):
        rivals = (thing.box for thing in kept if thing.label == candidate.label)
        if all(overlap(box, candidate.box) < SAME_OBJECT_OVERLAP for box in rivals):
            kept.append(candidate)
    return kept


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union, 0..1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


def inside(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels, cut at the edges of a picture of this width and height."""
    left, top, right, bottom = (round(min(max(place, 0.0), float(size[axis])), 1) for place, axis in zip(box, (0, 1, 0, 1), strict=True))
    return left, top, right, bottom


def _unpadded(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """From the padded square back to the picture, cut at its edges."""
    scale = INPUT_PIXELS / max(size)
    margins = [(INPUT_PIXELS - side * scale) / 2 for side in size]
    return inside([(place - margins[axis]) / scale for place, axis in zip(box, (0, 1, 0, 1), strict=True)], size)


def findings(found: Sequence[Found]) -> Output:
    """Counts by kind for a reader, boxes for the next step."""
    groups: dict[str, list[Found]] = defaultdict(list)
    for thing in found:
        groups[thing.label].append(thing)
    counts = ", ".join(f"{len(things)} × {label} ({things[0].score:.2f})" for label, things in groups.items())
    objects = [{"label": thing.label, "score": thing.score, "box": list(thing.box)} for thing in found]
    return Output(counts or "no known objects found", {"objects": objects})
