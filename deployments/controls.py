"""Control images that need no network: edges (Canny) and straight lines (LSD), both OpenCV's. White on black, as ControlNet was trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.tasks import Task
from deployments.model import Call, Computation, Output
from deployments.vision import open_picture, picture_output

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

# Canny's thresholds are ControlNet's own (annotator/canny of lllyasviel/ControlNet).
CANNY_LOW, CANNY_HIGH = 100, 200
SHORTEST_LINE = 0.03  # of the picture's longer side; shorter segments are texture, not structure
LINE_PIXELS = 2


class CannyEdges(Computation):
    """Edges one pixel wide."""

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [_control(call, _edges(_grey(call))) for call in calls]


class LineSegments(Computation):
    """Straight lines: what the learned M-LSD detector gives, found by the classical one (von Gioi et al., LSD, 2010)."""

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [_control(call, _lines(_grey(call))) for call in calls]


def _grey(call: Call) -> "Pixels":
    import numpy as np

    return np.asarray(open_picture(Path(call.inputs[0])).convert("L"))


def _edges(grey: "Pixels") -> "Pixels":
    import cv2

    edges: Pixels = cv2.Canny(grey, CANNY_LOW, CANNY_HIGH)
    return edges


def _lines(grey: "Pixels") -> "Pixels":
    import cv2
    import numpy as np

    found = cv2.createLineSegmentDetector().detect(grey)[0]
    canvas = np.zeros_like(grey)
    for x1, y1, x2, y2 in [] if found is None else found[:, 0]:
        if np.hypot(x2 - x1, y2 - y1) >= SHORTEST_LINE * max(grey.shape):
            cv2.line(canvas, (round(x1), round(y1)), (round(x2), round(y2)), 255, LINE_PIXELS)
    return canvas


def _control(call: Call, pixels: "Pixels") -> Output:
    from PIL import Image

    return picture_output(Image.fromarray(pixels).convert("RGB"), f"{Task(call.task)}.png")
