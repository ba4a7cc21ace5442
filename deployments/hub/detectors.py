"""Networks that find objects: DETR and what came after it (YOLOS, RT-DETR, Deformable DETR, D-FINE, Table Transformer)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from transformers import AutoModelForObjectDetection

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from deployments.detector import Found, findings, inside
from deployments.hub.pictures import PictureModel, PictureNetwork
from deployments.model import Call, Output
from deployments.vision import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_SCORE = 0.5


class ObjectDetector(PictureModel):
    """The objects that a checkpoint knows, the surest first, boxes in pixels of the picture."""

    max_batch = 8

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        sight = PictureNetwork.load(AutoModelForObjectDetection, card, folder)
        if not hasattr(sight.processor, "post_process_object_detection"):
            raise ModelError(f"the image processor of {card.id}, {type(sight.processor).__name__}, knows no boxes")
        return cls(sight)

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        pictures = [open_picture(Path(call.inputs[0])) for call in calls]
        outputs = self._sight.see(pictures)
        return [findings(self._found(output, picture)) for output, picture in zip(outputs, pictures, strict=True)]

    def _found(self, output: Any, picture: "Image") -> list[Found]:
        sizes = [(picture.height, picture.width)]
        (found,) = self._sight.processor.post_process_object_detection(output, threshold=MIN_SCORE, target_sizes=sizes)
        rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True)
        things = [Found(self._sight.label(label), round(score, 4), inside(box, picture.size)) for label, score, box in rows]
        return sorted(things, key=lambda thing: -thing.score)
