import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SamImageProcessorPil, SamModel, SegformerForSemanticSegmentation, UperNetForSemanticSegmentation, pipeline

from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.hub.segmenters import MAP_PIXELS, Mask, Region, _distinct, painted, palette
from tests.tiny.runs import give, opened, pixels
from tests.tiny.vision_runs import blots, built, loaded

SEGMENT, CONTROL, OUTLINE = Task.IMAGE_SEGMENTATION, Task.SEG_CONTROL, Task.MASK_GENERATION
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def classes_by_hand(network: Any, path: Path) -> "np.ndarray[Any, Any]":
    """(height, width): the classes that the network sees, prepared without a processor."""
    picture = Image.open(path)
    small = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR), dtype=np.float32)
    values = ((torch.from_numpy(small) / 255 - MEAN) / STD).permute(2, 0, 1)[None]
    with torch.inference_mode():
        logits = network(pixel_values=values).logits
    return torch.nn.functional.interpolate(logits, (picture.height, picture.width), mode="bilinear").argmax(dim=1)[0].numpy()  # type: ignore[no-any-return]


def test_regions_are_those_of_the_network_and_their_shares_add_up(tmp_path: Path) -> None:
    place, path = built(SEGMENT, tmp_path), blots(tmp_path)
    classes = classes_by_hand(SegformerForSemanticSegmentation.from_pretrained(place).eval(), path)
    reply = give(opened(SEGMENT, place), SEGMENT, path)
    names = ["wall", "building", "sky", "floor"]
    shares = {row["label"]: row["share"] for row in reply.data["segments"]}
    assert shares == pytest.approx({names[one]: float((classes == one).mean()) for one in np.unique(classes)}, abs=5e-3)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    colours = palette()[classes].astype(int)
    expected = 0.6 * colours + 0.4 * np.asarray(Image.open(path)).astype(int)
    assert (np.abs(pixels(reply) - expected).max(axis=2) <= 2).mean() > 0.99
    assert reply.data["segments"][0]["colour"] == "#" + bytes(palette()[names.index(reply.data["segments"][0]["label"])].tolist()).hex()


def test_the_control_image_is_drawn_in_ade20k_s_colours(tmp_path: Path) -> None:
    place, path = built(CONTROL, tmp_path), blots(tmp_path)
    classes = classes_by_hand(UperNetForSemanticSegmentation.from_pretrained(place).eval(), path)
    assert (pixels(give(opened(CONTROL, place), CONTROL, path)) == palette()[classes]).all(axis=2).mean() > 0.99


def test_the_palette_is_mmsegmentation_s() -> None:
    assert palette().shape == (150, 3)
    assert palette()[[0, 1, 2, 12, 149]].tolist() == [[120, 120, 120], [180, 120, 120], [6, 230, 230], [150, 5, 61], [92, 0, 255]]


def test_a_model_of_other_classes_makes_no_control_image(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"knows 4 classes, and seg-control needs the 150 of ADE20K"):
        opened(CONTROL, built(SEGMENT, tmp_path))


@pytest.mark.parametrize("name", [f"{SEGMENT}/mask2former", f"{SEGMENT}/detr"])
@pytest.mark.parametrize("kind", ["panoptic", "semantic", "instance"])
def test_segments_are_those_of_the_library_s_own_pipeline(name: str, kind: str, tmp_path: Path) -> None:
    place, path = built(name, tmp_path), blots(tmp_path, (50, 120), 1)
    ask = pipeline("image-segmentation", model=str(place), image_processor=str(place))
    expected = ask(str(path), subtask=kind, threshold=0.8, overlap_mask_area_threshold=0.8)
    reply = give(opened(SEGMENT, place, f"tiny/x-{kind}"), SEGMENT, path)
    assert reply.data["segments"] or not expected
    shares = sorted(((one["label"], float(np.mean(np.asarray(one["mask"]) > 0))) for one in expected), key=lambda pair: -pair[1])
    assert [row["label"] for row in reply.data["segments"]] == [label for label, _ in shares]
    assert [row["share"] for row in reply.data["segments"]] == pytest.approx([share for _, share in shares], abs=2e-3)


def test_two_things_of_a_class_have_two_colours_and_the_rest_stays_as_it_is() -> None:
    numbers = np.array([[1, 2, 0]])
    (row,) = np.asarray(painted(Image.new("RGB", (3, 1), "white"), numbers, [Region(1, 7), Region(2, 7)])).tolist()
    assert row[0] != row[1]
    assert row[2] == [255, 255, 255]


@pytest.mark.parametrize("name", [str(SEGMENT), str(OUTLINE)])
def test_a_large_photograph_keeps_its_size(name: str, tmp_path: Path) -> None:
    task = Task(name)
    assert pixels(give(loaded(name, tmp_path), task, blots(tmp_path, (MAP_PIXELS + 500, 40)))).shape == (40, MAP_PIXELS + 500, 3)


def masks_by_hand(place: Path, path: Path) -> list[Mask]:
    """With the library's grid of points, its enlarging and its filter."""
    picture, processor = Image.open(path), SamImageProcessorPil.from_pretrained(place)
    network = SamModel.from_pretrained(place).eval()
    inputs = processor(picture, return_tensors="pt")
    box, points, _, _ = processor.generate_crop_boxes(picture, 64, points_per_crop=16)
    with torch.inference_mode():
        answer = network(pixel_values=inputs["pixel_values"], input_points=points.float())
    sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
    logits = processor.post_process_masks(answer.pred_masks, *sizes, binarize=False)[0]
    size = inputs["original_sizes"][0].tolist()
    found, scores, boxes = processor.filter_masks(logits, answer.iou_scores[0], size, box[0])
    ones = [sum(one["counts"][1::2]) for one in found]  # run lengths: of zeros and of ones in turn
    rows = zip(boxes.tolist(), ones, scores.tolist(), strict=True)
    return [Mask((b[0], b[1], b[2] + 1, b[3] + 1), count, round(min(score, 1.0), 4), np.zeros(0, np.uint8)) for b, count, score in rows]


def test_sam_s_masks_are_those_of_the_library_s_own_steps(tmp_path: Path) -> None:
    place, path = built(OUTLINE, tmp_path), blots(tmp_path)
    expected = masks_by_hand(place, path)
    assert len(expected) > 5  # many points fall on the same things
    kept = sorted(_distinct(expected), key=lambda mask: -mask.pixels)
    found = give(opened(OUTLINE, place), OUTLINE, path).data["masks"]
    assert [tuple(mask["box"]) for mask in found] == [mask.box for mask in kept]
    assert [mask["area_px"] for mask in found] == pytest.approx([mask.pixels for mask in kept], abs=3)
    assert [mask["score"] for mask in found] == pytest.approx([mask.score for mask in kept], abs=1e-3)


def test_of_masks_that_frame_the_same_thing_the_surest_stays() -> None:
    bits = np.zeros(0, np.uint8)
    sure, same, other = (Mask(box, 9, score, bits) for box, score in [((0, 0, 10, 10), 0.9), ((0, 0, 10, 9), 0.95), ((0, 0, 5, 5), 0.89)])
    assert _distinct([sure, same, other]) == [same, other]


def test_sam_2_as_the_hub_stores_it_is_opened(tmp_path: Path) -> None:
    place = built(f"{OUTLINE}/sam2", tmp_path)
    config = json.loads((place / "config.json").read_text()) | {"model_type": "sam2_video", "architectures": ["Sam2VideoModel"]}
    (place / "config.json").write_text(json.dumps(config))
    assert give(opened(OUTLINE, place), OUTLINE, blots(tmp_path)).data["masks"]
