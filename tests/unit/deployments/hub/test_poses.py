from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import VitPoseForPoseEstimation, VitPoseImageProcessorPil

from benchmarks.samples import photograph
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.hub.poses import COCO_JOINTS, Pose, drawn, person_detector
from deployments.vision import open_picture
from tests.tiny import vision
from tests.tiny.runs import give, opened, pixels
from tests.tiny.vision_runs import blots, built, loaded

JOINTS, CONTROL = Task.KEYPOINT_DETECTION, Task.OPENPOSE_CONTROL
RED, GREEN_LIMB = [255, 0, 0], [0, 153, 0]


def standing(size: float = 500) -> Pose:
    """A person seen from the front, arms stretched out; COCO's order."""
    places = [(50, 10), (52, 8), (48, 8), (55, 9), (45, 9), (65, 25), (35, 25), (80, 25), (20, 25), (95, 25), (5, 25)]
    places += [(58, 55), (42, 55), (58, 75), (42, 75), (58, 95), (42, 95)]
    return Pose(np.array(places, dtype=np.float32) * size / 100, np.ones(17, dtype=np.float32))


def colour_at(pose: Pose, x: float, y: float, size: int = 500) -> list[int]:
    found: list[int] = np.asarray(drawn([pose], (size, size)))[int(y * size / 100), int(x * size / 100)].tolist()
    return found


def test_the_skeleton_has_openpose_s_colours() -> None:
    assert colour_at(standing(), 50, 10) == RED  # nose
    assert colour_at(standing(), 50, 25) == [255, 85, 0]  # neck: the middle of the shoulders
    assert colour_at(standing(), 5, 25) == [170, 255, 0]  # the right wrist, on the viewer's left
    assert colour_at(standing(), 95, 25) == [0, 255, 85]  # the left one
    assert colour_at(standing(), 42, 95) == [0, 170, 255]  # the right ankle
    assert colour_at(standing(), 52, 8) == [255, 0, 255]  # the left eye
    assert colour_at(standing(), 27, 25) == [153, 102, 0]  # the right upper arm, at 60 percent of [255, 170, 0]
    assert colour_at(standing(), 46, 40) == GREEN_LIMB  # neck to right hip
    assert colour_at(standing(), 90, 80) == [0, 0, 0]


def test_what_was_not_seen_is_not_drawn() -> None:
    pose = standing()
    pose.scores[[5, 10]] = 0.1  # a shoulder, so there is no neck either, and a wrist
    assert colour_at(pose, 50, 25) == [0, 0, 0]
    assert colour_at(pose, 12, 25) == [0, 0, 0]
    assert colour_at(pose, 20, 25) == [255, 255, 0]  # the elbow is


def test_the_skeleton_grows_with_the_picture() -> None:
    shares = [np.mean(np.asarray(drawn([standing(size)], (size, size))).any(axis=2)) for size in (512, 2048)]
    assert shares[1] == pytest.approx(shares[0], rel=0.1)


def test_joints_of_the_whole_picture_are_the_library_s_own_where_nobody_is_found(tmp_path: Path) -> None:
    place, path = built(JOINTS, tmp_path), blots(tmp_path)
    assert not [thing for thing in person_detector().find(open_picture(path)) if thing.label == "person"]
    network, processor = VitPoseForPoseEstimation.from_pretrained(place).eval(), VitPoseImageProcessorPil.from_pretrained(place)
    boxes = [[[0.0, 0.0, 90.0, 60.0]]]
    with torch.inference_mode():
        answer = network(**processor(Image.open(path), boxes=boxes, return_tensors="pt"))
    ((expected,),) = processor.post_process_pose_estimation(answer, boxes=boxes, threshold=0.3)
    (person,) = give(opened(JOINTS, place), JOINTS, path).data["people"]
    assert [joint["joint"] for joint in person["joints"]] == [COCO_JOINTS[label] for label in expected["labels"].tolist()]
    assert np.array([joint["place"] for joint in person["joints"]]) == pytest.approx(expected["keypoints"].numpy(), abs=0.1)


def test_a_person_s_joints_are_looked_for_where_the_detector_saw_the_person(tmp_path: Path) -> None:
    """The astronaut beside an empty wall: the joints of random weights scatter, but over the person's box alone."""
    astronaut = Image.open(photograph("astronaut.png")).convert("RGB")
    wide = Image.new("RGB", (1536, 512), "grey")
    wide.paste(astronaut, (1024, 0))
    wide.save(tmp_path / "wide.png")
    (person,) = give(loaded(JOINTS, tmp_path), JOINTS, tmp_path / "wide.png").data["people"]
    assert min(joint["place"][0] for joint in person["joints"]) > 800


def test_a_reader_gets_a_line_for_each_person(tmp_path: Path) -> None:
    reply = give(loaded(JOINTS, tmp_path), JOINTS, blots(tmp_path))
    first = reply.data["people"][0]["joints"][0]
    assert str(reply.value).startswith(f"person 1: {first['joint']} at {first['place'][0]:.0f}, {first['place'][1]:.0f}")


def test_where_no_joint_is_sure_there_are_no_people_and_the_control_image_is_black(tmp_path: Path) -> None:
    place = built(JOINTS, tmp_path)
    network = VitPoseForPoseEstimation.from_pretrained(place)
    torch.nn.init.zeros_(network.head.conv.weight)
    network.save_pretrained(place)
    assert give(opened(JOINTS, place), JOINTS, blots(tmp_path)).value == "no people found"
    assert not pixels(give(opened(CONTROL, place), CONTROL, blots(tmp_path))).any()


def test_a_checkpoint_of_fewer_joints_is_refused(tmp_path: Path) -> None:
    vision.vitpose(tmp_path, joints=14)
    with pytest.raises(ModelError, match="knows 14 joints, fewer than the 17 of COCO"):
        opened(JOINTS, tmp_path)
