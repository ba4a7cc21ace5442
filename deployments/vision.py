"""Picture experts: what a photograph shows (EfficientNet-Lite0) and what is written in it (RapidOCR)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cluster.errors import ModelError
from deployments.labels import TOP, in_words, likely, ranking
from deployments.model import Call, Computation, MediaOutput, Output

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

CLASS_NAMES = Path(__file__).with_name("imagenet_classes.txt")  # ImageNet-1k's 1000 synsets, first lemma each
# The crop of the published evaluation: the middle 7/8 of the shorter side.
RESIZED_PIXELS, CROPPED_PIXELS = 256, 224
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0  # EfficientNet-Lite maps 0..255 to about -1..1
WIDE_GAP = 1.5  # line heights; a wider gap between two pieces of a line is a column and is kept visible


class EfficientNet(Computation):
    """Classifies photographs into the 1000 classes of ImageNet.

    One after the other: on a CPU eight in one pass take longer than eight passes, as their layers leave the core's own cache.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = network
        self._names = CLASS_NAMES.read_text(encoding="utf-8").splitlines()

    @classmethod
    def load(cls, folder: Path) -> "EfficientNet":
        import torch

        from deployments.efficientnet import EfficientNetLite0

        weights = next(folder.glob("*.pth"), None)
        if weights is None:
            raise ModelError(f"no .pth file in {folder.name}")
        network = EfficientNetLite0()
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return cls(network.eval())

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        import torch

        pictures = torch.stack([_model_input(open_picture(Path(call.inputs[0]))) for call in calls])
        with torch.inference_mode():
            scores = self._network(pictures).softmax(dim=1).tolist()
        found = [ranking(zip(self._names, row, strict=True), TOP) for row in scores]
        return [Output(in_words(likely(labels)), {"labels": labels}) for labels in found]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that the detector framed; corners are (x, y) in pixels, clockwise from the top left."""

    text: str
    score: float
    corners: tuple[tuple[float, float], ...]

    @property
    def left(self) -> float:
        return min(x for x, _ in self.corners)

    @property
    def right(self) -> float:
        return max(x for x, _ in self.corners)

    @property
    def middle(self) -> float:
        return fmean(y for _, y in self.corners)

    @property
    def height(self) -> float:
        """Along the left edge, so that a slanted line is not taken for a tall one."""
        return max(self.corners[-1][1] - self.corners[0][1], 1.0)


class Ocr(Computation):
    """Reads printed text with PP-OCR (Latin and Chinese scripts)."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self._engine = engine

    @classmethod
    def load(cls, threads: int) -> "Ocr":
        from rapidocr import RapidOCR

        threading = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": threads for kind in ("intra", "inter")}
        return cls(RapidOCR(params={"Global.log_level": "error", **threading}))

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._read(Path(call.inputs[0])) for call in calls]

    def _read(self, path: Path) -> Output:
        import numpy as np

        pixels = np.asarray(open_picture(path))[:, :, ::-1]  # RapidOCR takes BGR, as OpenCV does
        found = self._engine(pixels)
        if not found.txts:
            raise ModelError("no text was found in the picture")
        pieces = [
            Piece(text, round(float(score), 4), tuple((float(x), float(y)) for x, y in box))
            for text, score, box in zip(found.txts, found.scores, found.boxes, strict=True)
        ]
        lines = in_reading_order(pieces)
        data = [{"text": p.text, "score": p.score, "box": [list(c) for c in p.corners]} for line in lines for p in line]
        return Output("\n".join(map(_joined, lines)), {"lines": data})


def in_reading_order(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Lines from the top, each from the left. Pieces share a line when their middles differ by less than half a height."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.middle):
        beside = lines[-1][-1] if lines else None
        if beside and piece.middle - beside.middle < min(piece.height, beside.height) / 2:
            lines[-1].append(piece)
        else:
            lines.append([piece])
    return [sorted(line, key=lambda piece: piece.left) for line in lines]


def open_picture(path: Path) -> "Image":
    """An RGB picture, upright as its EXIF says, transparency on white. Raises ModelError when it is no picture."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.has_transparency_data:
                layered = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
            return upright.convert("RGB")
    except UnidentifiedImageError as exc:
        raise ModelError(f"{path.name} is not a picture that can be read") from exc
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise ModelError(f"{path.name} could not be read as a picture: it is damaged or too large") from exc


def picture_output(picture: "Image", name: str, data: Mapping[str, Any] | None = None) -> Output:
    """A PNG with its size in pixels among the data."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    size = {"width_px": picture.width, "height_px": picture.height}
    return Output(MediaOutput(buffer.getvalue(), "image/png", name), {**size, **(data or {})})


def _model_input(picture: "Image") -> "Tensor":
    """(3, 224, 224), centred crop."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    side = min(picture.size) * CROPPED_PIXELS // RESIZED_PIXELS or 1
    square = ImageOps.fit(picture, (side, side), centering=(0.5, 0.5))
    cropped = square.resize((CROPPED_PIXELS, CROPPED_PIXELS), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(cropped, dtype=np.float32))
    return ((pixels - PIXEL_MEAN) / PIXEL_SCALE).permute(2, 0, 1)


def _joined(line: Sequence[Piece]) -> str:
    text = line[0].text
    for before, piece in pairwise(line):
        text += ("   " if piece.left - before.right > WIDE_GAP * piece.height else " ") + piece.text
    return text
