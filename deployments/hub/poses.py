"""The joints of the people in a picture (ViTPose), and the same drawn as OpenPose draws them, for ControlNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image
from transformers import VitPoseForPoseEstimation

import cluster
from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.detector import Detector
from deployments.hub.pictures import PictureModel, PictureNetwork
from deployments.model import Call, Output
from deployments.vision import open_picture, picture_output

if TYPE_CHECKING:
    import numpy.typing as npt

MIN_JOINT_SCORE = 0.3  # of a heat map's peak, as ViTPose draws them
MIN_PERSON_SCORE = 0.25  # mean over the joints, of a person that no detector saw
PEOPLE_AT_ONCE = 16
DETECTOR = Path(cluster.__file__).parent / "weights" / "centernet"
# COCO's order; the checkpoints' own names are a mixture of "L_Eye" and "left eye".
COCO_JOINTS = (
    ("nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow", "right elbow")
    + ("left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle")
)  # fmt: skip
# OpenPose's 18 points (nose, neck, right arm, left arm, right leg, left leg, eyes, ears) by their places in COCO's 17; its neck is
# no joint of COCO, and stands here as the pair that it lies between.
OPENPOSE: tuple[int | tuple[int, int], ...] = (0, (5, 6), 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
LIMBS = (
    ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10))
    + ((1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17))
)  # fmt: skip
# A rainbow in steps of 85: the colour of each limb, and of each point.
COLOURS = (
    ((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85), (0, 255, 170))
    + ((0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85))
)  # fmt: skip
LIMB_SHADE = 0.6
STICK_PIXELS, STICK_PICTURE_PIXELS = 4, 512  # half a limb's width, and a point's radius, in a picture of this shorter side


@dataclass(frozen=True, slots=True)
class Pose:
    """One person: (joints, 2) places in pixels of the picture, and how sure each is, 0..1."""

    places: "npt.NDArray[np.float32]"
    scores: "npt.NDArray[np.float32]"

    @property
    def seen(self) -> list[int]:
        return np.flatnonzero(self.scores >= MIN_JOINT_SCORE).tolist()


class PoseEstimator(PictureModel):
    """People are found by the embedded detector; where it finds none, the whole picture is taken as one person's."""

    def __init__(self, sight: PictureNetwork, detector: Detector) -> None:
        super().__init__(sight)
        self._detector = detector

    @classmethod
    def load(cls, card: ModelCard, folder: Path) -> Self:
        sight = PictureNetwork.load(VitPoseForPoseEstimation, card, folder)
        if sight.network.config.num_labels < len(COCO_JOINTS):
            raise ModelError(f"{card.id} knows {sight.network.config.num_labels} joints, fewer than the {len(COCO_JOINTS)} of COCO")
        return cls(sight, person_detector())

    def compute(self, calls: Sequence[Call]) -> list[Output]:
        return [self._output(call.task, open_picture(Path(call.inputs[0]))) for call in calls]

    def _output(self, task: Task, picture: Image.Image) -> Output:
        poses = self._poses(picture)
        people = [self._named(pose) for pose in poses]
        if task == Task.OPENPOSE_CONTROL:
            return picture_output(drawn(poses, picture.size), f"{task}.png", {"people": people})
        lines = [f"person {number}: {_sentence(person)}" for number, person in enumerate(people, 1)]
        return Output("\n".join(lines) or "no people found", {"people": people})

    def _poses(self, picture: Image.Image) -> list[Pose]:
        boxes = [_left_top_size(thing.box) for thing in self._detector.find(picture) if thing.label == "person"]
        if boxes:
            return [pose for pose in self._in_boxes(picture, boxes) if pose.seen]
        (pose,) = self._in_boxes(picture, [(0.0, 0.0, float(picture.width), float(picture.height))])
        return [pose] if pose.seen and pose.scores.mean() >= MIN_PERSON_SCORE else []

    def _in_boxes(self, picture: Image.Image, boxes: Sequence[tuple[float, ...]]) -> list[Pose]:
        poses: list[Pose] = []
        for first in range(0, len(boxes), PEOPLE_AT_ONCE):
            some = [list(box) for box in boxes[first : first + PEOPLE_AT_ONCE]]
            inputs = self._sight.prepare(picture, boxes=[some])
            for box, output in zip(some, self._sight.forward(inputs, len(some), **self._expert(len(some))), strict=True):
                ((found,),) = self._sight.processor.post_process_pose_estimation(output, boxes=[[box]])
                poses.append(Pose(found["keypoints"].numpy(), found["scores"].numpy().clip(0, 1)))
        return poses

    def _expert(self, count: int) -> dict[str, torch.Tensor]:
        """ViTPose+ has an expert for each data set that it was trained on; the first one's is COCO."""
        is_mixture = getattr(self._sight.network.config.backbone_config, "num_experts", 1) > 1
        return {"dataset_index": torch.zeros(count, dtype=torch.long, device=self._sight.network.device)} if is_mixture else {}

    def _named(self, pose: Pose) -> dict[str, Any]:
        joints = [
            {
                "joint": self._name(joint),
                "place": [round(float(side), 1) for side in pose.places[joint]],
                "score": round(float(pose.scores[joint]), 4),
            }
            for joint in pose.seen
        ]
        left, top = pose.places[pose.seen].min(axis=0)
        right, bottom = pose.places[pose.seen].max(axis=0)
        return {"box": [round(float(side), 1) for side in (left, top, right, bottom)], "joints": joints}

    def _name(self, joint: int) -> str:
        return COCO_JOINTS[joint] if joint < len(COCO_JOINTS) else self._sight.network.config.id2label.get(joint, f"joint {joint}")


@cache
def person_detector() -> Detector:
    return Detector.load(DETECTOR)


def drawn(poses: Sequence[Pose], size: tuple[int, int]) -> Image.Image:
    """Skeletons on black, in OpenPose's colours: limbs darker, joints over them."""
    import cv2

    canvas = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    thickness = max(1, round(STICK_PIXELS * min(size) / STICK_PICTURE_PIXELS))
    bodies = [_openpose(pose) for pose in poses]
    for body in bodies:
        for (one, other), colour in zip(LIMBS, COLOURS, strict=False):
            if (start := body[one]) is not None and (end := body[other]) is not None:
                middle = tuple(round(float(side)) for side in (start + end) / 2)
                length, angle = float(np.hypot(*(end - start))), float(np.degrees(np.arctan2(*(end - start)[::-1])))
                outline = np.array(cv2.ellipse2Poly(middle, (round(length / 2), thickness), round(angle), 0, 360, 1))
                cv2.fillConvexPoly(canvas, outline, tuple(round(part * LIMB_SHADE) for part in colour))
    for body in bodies:
        for place, colour in zip(body, COLOURS, strict=True):
            if place is not None:
                cv2.circle(canvas, tuple(round(float(side)) for side in place), thickness, colour, thickness=-1)
    return Image.fromarray(canvas)


def _openpose(pose: Pose) -> "list[npt.NDArray[np.float32] | None]":
    """18 places; None for a joint that was not seen."""
    seen = set(pose.seen)
    body: list[npt.NDArray[np.float32] | None] = []
    for source in OPENPOSE:
        joints = [source] if isinstance(source, int) else list(source)
        body.append(pose.places[joints].mean(axis=0) if seen.issuperset(joints) else None)
    return body


def _left_top_size(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left, top, right - left, bottom - top


def _sentence(person: dict[str, Any]) -> str:
    return ", ".join(f"{joint['joint']} at {joint['place'][0]:.0f}, {joint['place'][1]:.0f}" for joint in person["joints"])
