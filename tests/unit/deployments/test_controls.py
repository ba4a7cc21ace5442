from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.samples import photograph, zip_named_png
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.controls import CannyEdges, LineSegments
from tests.tiny.runs import give, pixels, run

CANNY, LINES = Task.CANNY_CONTROL, Task.MLSD_CONTROL


def square(folder: Path, size: int = 200, inside: str = "white", outside: str = "black") -> Path:
    """Its edges lie at a quarter and at three quarters."""
    picture = Image.new("RGB", (size, size), outside)
    ImageDraw.Draw(picture).rectangle((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill=inside)
    picture.save(folder / "square.png")
    return folder / "square.png"


def test_edges_are_white_on_black_where_the_picture_changes(tmp_path: Path) -> None:
    found = pixels(give(CannyEdges(), CANNY, square(tmp_path)))[:, :, 0]
    assert set(np.unique(found)) == {0, 255}
    rows, columns = np.nonzero(found)
    near_an_edge = np.minimum.reduce([abs(rows - 50), abs(rows - 150), abs(columns - 50), abs(columns - 150)])
    assert near_an_edge.max() <= 2
    assert 350 < len(rows) < 450  # one pixel wide, all around


def test_colours_of_the_same_lightness_have_an_edge_between_them(tmp_path: Path) -> None:
    assert Image.new("RGB", (1, 1), (255, 0, 0)).convert("L").getpixel((0, 0)) == Image.new("RGB", (1, 1), (0, 130, 0)).convert(
        "L"
    ).getpixel((0, 0))
    assert pixels(give(CannyEdges(), CANNY, square(tmp_path, inside="#ff0000", outside="#008200"))).any()


def test_straight_lines_are_found_and_curves_are_not_straightened(tmp_path: Path) -> None:
    found = pixels(give(LineSegments(), LINES, square(tmp_path)))[:, :, 0]
    for edge in (50, 150):
        assert found[edge - 3 : edge + 4, 60:140].any(axis=0).mean() > 0.9
        assert found[60:140, edge - 3 : edge + 4].any(axis=1).mean() > 0.9
    assert not found[70:130, 70:130].any()


def test_an_empty_picture_has_no_lines(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "grey.png")
    for model, task in ((CannyEdges(), CANNY), (LineSegments(), LINES)):
        assert not pixels(give(model, task, tmp_path / "grey.png")).any()


@pytest.mark.parametrize(("model", "task"), [(CannyEdges(), CANNY), (LineSegments(), LINES)])
def test_a_large_photograph_is_drawn_at_controlnet_s_size(model: CannyEdges | LineSegments, task: Task, tmp_path: Path) -> None:
    assert pixels(give(model, task, square(tmp_path, 2000))).shape == (512, 512, 3)
    assert pixels(give(model, task, photograph("chelsea.png"))).shape == (300, 451, 3)


@pytest.mark.parametrize(("model", "task"), [(CannyEdges(), CANNY), (LineSegments(), LINES)])
def test_odd_files_spoil_no_neighbour(model: CannyEdges | LineSegments, task: Task, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    dot, bad, good = run(model, task, tmp_path / "dot.png", zip_named_png(tmp_path), square(tmp_path))
    assert pixels(dot).shape == (1, 1, 3)
    assert isinstance(bad, ModelError)
    assert pixels(good).any()
