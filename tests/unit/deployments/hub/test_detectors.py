from pathlib import Path

import pytest
from transformers import pipeline

from cluster.tasks import Task
from tests.tiny.runs import give, opened
from tests.tiny.vision_runs import blots, built, loaded

DETECT = Task.OBJECT_DETECTION
NAMES = [str(DETECT), f"{DETECT}/detr", f"{DETECT}/rt_detr"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(90, 60), (50, 120)])
def test_the_objects_are_those_of_the_library_s_own_pipeline(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    place, path = built(name, tmp_path), blots(tmp_path, size)
    expected = pipeline("object-detection", model=str(place), image_processor=str(place))(str(path), threshold=0.5)
    found = give(opened(DETECT, place), DETECT, path).data["objects"]
    assert found
    expected.sort(key=lambda thing: -thing["score"])
    assert [thing["label"] for thing in found] == [thing["label"] for thing in expected]
    assert [thing["score"] for thing in found] == pytest.approx([thing["score"] for thing in expected], abs=1e-3)
    for thing, other in zip(found, expected, strict=True):  # the pipeline cuts fractions off, and leaves what sticks out
        inside = [min(max(place, 0), limit) for place, limit in zip(other["box"].values(), size * 2, strict=True)]
        assert thing["box"] == pytest.approx(inside, abs=1.1)


@pytest.mark.parametrize("name", NAMES)
def test_objects_are_counted_by_kind_and_lie_in_the_picture(name: str, tmp_path: Path) -> None:
    reply = give(loaded(name, tmp_path), DETECT, blots(tmp_path, (90, 60)))
    objects = reply.data["objects"]
    assert str(reply.value).startswith(f"{sum(thing['label'] == objects[0]['label'] for thing in objects)} × {objects[0]['label']} (")
    for thing in objects:
        left, top, right, bottom = thing["box"]
        assert 0 <= left <= right <= 90
        assert 0 <= top <= bottom <= 60
        assert 0.5 <= thing["score"] <= 1
    assert [thing["score"] for thing in objects] == sorted((thing["score"] for thing in objects), reverse=True)
