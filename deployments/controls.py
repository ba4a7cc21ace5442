"""Control images that need no network: edges (Canny) and straight lines (LSD), both OpenCV's. White on black, as ControlNet was trained.

Lines have a width in pixels, so they are drawn at the size that ControlNet works at: on a photograph of 12 megapixels they would
be found in its grain, and vanish when the painter shrinks it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.tasks import Task
from deployments.model import Call, Computation, Output
from deployments.vision import open_picture, picture_output

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    Pixels = npt.NDArray[np.uint8]

CONTROL_PIXELS = 512  # the shorter side of ControlNet's pictures
# Canny's thresholds are ControlNet's own (annotator/canny of lllyasviel/ControlNet).
CANNY_LOW, CANNY_HIGH = 100, 200
SHORTEST_LINE = 0.03  # of the picture's longer side; shorter segments are texture, not structure
LINE_PIXELS = 1


class CannyEdges(Computation):
    """Edges one pixel wide."""

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [_control(call, _edges(_pixels(call))) for call in calls]


class LineSegments(Computation):
    """Straight lines: what the learned M-LSD detector gives, found by the classical one (von Gioi et al., LSD, 2010)."""

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [_control(call, _lines(_pixels(call))) for call in calls]


def shrunk(picture: "Image") -> "Image":
    """The picture with a shorter side of at most CONTROL_PIXELS."""
    from PIL import Image

    scale = CONTROL_PIXELS / min(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BOX) if scale < 1 else picture


def _pixels(call: Call) -> "Pixels":
    """(height, width, 3)"""
    import numpy as np

    return np.asarray(shrunk(open_picture(Path(call.inputs[0]))))


def _edges(pixels: "Pixels") -> "Pixels":
    """Of the three colours the steepest counts: red on green of the same lightness is an edge."""
    import cv2
    import numpy as np

    return np.asarray(cv2.Canny(pixels, CANNY_LOW, CANNY_HIGH), dtype=np.uint8)


def _lines(pixels: "Pixels") -> "Pixels":
    import cv2
    import numpy as np

    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    found = cv2.createLineSegmentDetector().detect(grey)[0]
    canvas = np.zeros_like(grey)
    for x1, y1, x2, y2 in [] if found is None else found.reshape(-1, 4):  # OpenCV 4 gives (lines, 1, 4), 5 (lines, 4)
        if np.hypot(x2 - x1, y2 - y1) >= SHORTEST_LINE * max(grey.shape):
            cv2.line(canvas, (round(x1), round(y1)), (round(x2), round(y2)), 255, LINE_PIXELS)
    return canvas


def _control(call: Call, pixels: "Pixels") -> Output:
    from PIL import Image

    return picture_output(Image.fromarray(pixels).convert("RGB"), f"{Task(call.task)}.png")
