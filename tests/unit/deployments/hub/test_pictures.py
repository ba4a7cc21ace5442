"""What holds for every vision runner."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.samples import zip_named_png
from cluster.errors import ModelError
from cluster.tasks import TASKS, Family, Task
from deployments.model import MediaOutput, Model, Output
from tests.tiny.vision import CHECKPOINTS
from tests.tiny.vision_runs import blots, built, give, loaded, opened, pixels, run, task_of

# transformers compiles a part of ZoeDepth with torch.jit when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
NAMES = [str(name) for name in CHECKPOINTS]
OF_TRANSFORMERS = [name for name in NAMES if "/" not in name and task_of(name) not in (Task.HED_CONTROL, Task.SCRIBBLE_CONTROL)]
WITHOUT_CHECKPOINT = {Task.IMAGE_TO_TEXT, Task.CANNY_CONTROL, Task.MLSD_CONTROL}


def assert_alike(one: Output, other: Output) -> None:
    if isinstance(one.value, MediaOutput):
        assert np.abs(pixels(one) - pixels(other)).max() <= 2
    assert_close(dict(one.data), dict(other.data))


def assert_close(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    else:
        assert one == (other if isinstance(one, str) else pytest.approx(other, rel=1e-3, abs=2e-3))


def test_every_vision_task_with_a_checkpoint_has_a_tiny_one() -> None:
    assert {task_of(name) for name in NAMES} == {task for task in TASKS if TASKS[task].family == Family.VISION} - WITHOUT_CHECKPOINT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """By the checkpoint's name; each is loaded once."""
    return cache(lambda name: loaded(name, tmp_path_factory.mktemp("checkpoint")))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_in_a_batch_get_what_they_get_alone(name: str, model: Callable[[str], Model], tmp_path: Path) -> None:
    paths = blots(tmp_path), blots(tmp_path, (50, 120), 1), blots(tmp_path, seed=2)
    together = run(model(name), task_of(name), *paths)
    assert len({str(reply) for reply in together}) == len(paths)
    for path, reply in zip(paths, together, strict=True):
        assert isinstance(reply, Output), reply
        assert_alike(reply, give(model(name), task_of(name), path))


@pytest.mark.parametrize("name", NAMES)
def test_odd_files_are_answered_or_refused_in_one_sentence_and_spoil_no_neighbour(
    name: str, model: Callable[[str], Model], tmp_path: Path
) -> None:
    odd = [(1, 1), (400, 3)]
    paths = blots(tmp_path), zip_named_png(tmp_path), *(blots(tmp_path, size) for size in odd)
    good, bad, *replies = run(model(name), task_of(name), *paths)
    assert isinstance(good, Output)
    assert isinstance(bad, ModelError)
    for size, reply in zip(odd, replies, strict=True):
        if isinstance(reply, ModelError):
            assert "\n" not in reply.message
            assert len(reply.message) < 400
        elif isinstance(reply.value, MediaOutput):
            assert pixels(reply).shape[:2] == size[::-1]


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_a_damaged_or_lying_checkpoint_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    place = built(name, tmp_path)
    weights = place / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert_refused(name, place, "could not be loaded")
    weights.write_bytes(b"not tensors at all")
    assert_refused(name, place, "could not be loaded")
    weights.write_bytes(whole)
    (place / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))
    embeds = task_of(name) == Task.IMAGE_FEATURE_EXTRACTION  # a BERT could do so, of texts
    assert_refused(name, place, "was not made for" if embeds else f"BertForMaskedLM, which cannot do {task_of(name)}")


def test_a_checkpoint_without_the_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"was not made for image-classification: its weights lack classifier\.bias"):
        opened(Task.IMAGE_CLASSIFICATION, built("image-feature-extraction", tmp_path))


def test_a_checkpoint_that_needs_timm_says_so(tmp_path: Path) -> None:
    place = built("object-detection/detr", tmp_path)
    config = json.loads((place / "config.json").read_text()) | {"use_timm_backbone": True, "backbone": "resnet50", "backbone_config": None}
    (place / "config.json").write_text(json.dumps(config))
    assert_refused("object-detection", place, "requires the timm library but it was not found in your environment")
    (place / "config.json").write_text(json.dumps({"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {}}))
    assert_refused("image-classification", place, "timm")


def assert_refused(name: str, place: Path, reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        opened(task_of(name), place)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_a_checkpoint_without_a_processor_says_which_file_it_lacks(tmp_path: Path) -> None:
    place = built("image-classification", tmp_path)
    (place / "preprocessor_config.json").unlink()
    assert_refused("image-classification", place, "tiny/x has no preprocessor_config.json")


@pytest.mark.parametrize("settings", [{"feature_extractor_type": "SegformerFeatureExtractor"}, {}])
def test_settings_of_2022_are_understood(settings: dict[str, str], tmp_path: Path) -> None:
    """Sizes were numbers, processors were feature extractors, and some named no class at all."""
    place, path = built("image-segmentation", tmp_path), blots(tmp_path)
    today = give(opened(Task.IMAGE_SEGMENTATION, place), Task.IMAGE_SEGMENTATION, path)
    scaling = {"do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    past = settings | scaling | {"do_resize": True, "size": 64, "resample": 2, "reduce_labels": True}
    (place / "preprocessor_config.json").write_text(json.dumps(past))
    assert_alike(give(opened(Task.IMAGE_SEGMENTATION, place), Task.IMAGE_SEGMENTATION, path), today)
