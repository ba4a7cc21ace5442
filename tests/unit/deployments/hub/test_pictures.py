"""What holds for every vision runner."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.samples import zip_named_png
from cluster.errors import ModelError
from cluster.tasks import TASKS, Family, Task
from deployments.model import MediaOutput, Output
from tests.tiny.runs import Checkpoints, assert_alike, assert_one_sentence, give, opened, pixels, refused, run, task_of, told
from tests.tiny.vision import CHECKPOINTS
from tests.tiny.vision_runs import blots, built

# transformers compiles a part of ZoeDepth with torch.jit when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
NAMES = [str(name) for name in CHECKPOINTS]
OF_TRANSFORMERS = [name for name in NAMES if "/" not in name and task_of(name) not in (Task.HED_CONTROL, Task.SCRIBBLE_CONTROL)]
WITHOUT_CHECKPOINT = {Task.IMAGE_TO_TEXT, Task.CANNY_CONTROL, Task.MLSD_CONTROL}


def assert_alike_in_pixels(one: Output, other: Output) -> None:
    if isinstance(one.value, MediaOutput):
        assert np.abs(pixels(one) - pixels(other)).max() <= 2
    assert_alike(dict(one.data), dict(other.data))


def test_every_vision_task_with_a_checkpoint_has_a_tiny_one() -> None:
    assert {task_of(name) for name in NAMES} == {task for task in TASKS if TASKS[task].family == Family.VISION} - WITHOUT_CHECKPOINT


@pytest.mark.parametrize("name", NAMES)
def test_pictures_in_a_batch_get_what_they_get_alone(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    paths = blots(tmp_path), blots(tmp_path, (50, 120), 1), blots(tmp_path, seed=2)
    together = run(checkpoints.model(name), task_of(name), *paths)
    assert len({str(reply) for reply in together}) == len(paths)
    for path, reply in zip(paths, together, strict=True):
        assert isinstance(reply, Output), reply
        assert_alike_in_pixels(reply, give(checkpoints.model(name), task_of(name), path))


@pytest.mark.parametrize("name", NAMES)
def test_odd_files_are_answered_or_refused_in_one_sentence_and_spoil_no_neighbour(
    name: str, checkpoints: Checkpoints, tmp_path: Path
) -> None:
    odd = [(1, 1), (400, 3)]
    paths = blots(tmp_path), zip_named_png(tmp_path), *(blots(tmp_path, size) for size in odd)
    good, bad, *replies = run(checkpoints.model(name), task_of(name), *paths)
    told(good)
    refused(bad)
    for size, reply in zip(odd, replies, strict=True):
        if isinstance(reply, ModelError):
            assert_one_sentence(reply.message)
        elif isinstance(reply.value, MediaOutput):
            assert pixels(reply).shape[:2] == size[::-1]


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_a_damaged_or_lying_checkpoint_is_refused_in_one_sentence(name: str, checkpoints: Checkpoints) -> None:
    checkpoints.assert_damage_is_refused(name)
    if task_of(name) != Task.IMAGE_FEATURE_EXTRACTION:
        checkpoints.assert_another_network_is_refused(name)


def test_a_checkpoint_of_texts_gives_no_vectors_of_pictures(checkpoints: Checkpoints) -> None:
    name = "image-feature-extraction"
    lying = checkpoints.changed(name, "config.json", model_type="bert", architectures=["BertForMaskedLM"])
    assert "was not made for" in checkpoints.refused(name, lying)


def test_a_checkpoint_without_the_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"was not made for image-classification: its weights lack classifier\.bias"):
        opened(Task.IMAGE_CLASSIFICATION, built("image-feature-extraction", tmp_path))


def test_a_checkpoint_that_needs_timm_says_so(checkpoints: Checkpoints) -> None:
    place = checkpoints.copy("object-detection/detr")
    config = json.loads((place / "config.json").read_text()) | {"use_timm_backbone": True, "backbone": "resnet50", "backbone_config": None}
    (place / "config.json").write_text(json.dumps(config))
    assert "requires the timm library but it was not found in your environment" in checkpoints.refused("object-detection", place)
    (place / "config.json").write_text(json.dumps({"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {}}))
    assert "timm" in checkpoints.refused("image-classification", place)


def test_a_checkpoint_without_a_processor_says_which_file_it_lacks(checkpoints: Checkpoints) -> None:
    place = checkpoints.copy("image-classification")
    (place / "preprocessor_config.json").unlink()
    assert "tiny/x has no preprocessor_config.json" in checkpoints.refused("image-classification", place)


@pytest.mark.parametrize("settings", [{"feature_extractor_type": "SegformerFeatureExtractor"}, {}])
def test_settings_of_2022_are_understood(settings: dict[str, str], tmp_path: Path) -> None:
    """Sizes were numbers, processors were feature extractors, and some named no class at all."""
    place, path = built("image-segmentation", tmp_path), blots(tmp_path)
    today = give(opened(Task.IMAGE_SEGMENTATION, place), Task.IMAGE_SEGMENTATION, path)
    scaling = {"do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    past = settings | scaling | {"do_resize": True, "size": 64, "resample": 2, "reduce_labels": True}
    (place / "preprocessor_config.json").write_text(json.dumps(past))
    assert_alike_in_pixels(give(opened(Task.IMAGE_SEGMENTATION, place), Task.IMAGE_SEGMENTATION, path), today)
