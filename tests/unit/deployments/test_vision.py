from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.samples import INVOICE_LINES, blank_page, empty_file, invoice, photograph, zip_named_png
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.detector import overlap
from deployments.model import Model, Output
from deployments.vision import Piece, in_reading_order, open_picture
from tests.tiny.runs import give, run

Expert = Callable[[str], Model]


def piece(text: str, left: float, top: float, height: float = 20) -> Piece:
    return Piece(text, 1.0, ((left, top), (left + 50, top), (left + 50, top + height), (left, top + height)))


def test_pieces_at_one_height_are_one_line_from_the_left() -> None:
    lines = in_reading_order([piece("$9", 300, 52), piece("Total", 0, 50), piece("Invoice", 0, 0)])
    assert [[p.text for p in line] for line in lines] == [["Invoice"], ["Total", "$9"]]


def test_overlap_is_shared_area_over_joint_area() -> None:
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "I;16", "CMYK", "LA"])
def test_every_kind_of_picture_becomes_rgb(mode: str, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / ("picture.tiff" if mode == "CMYK" else "picture.png")
    Image.new(mode, (8, 6)).save(path)
    assert (open_picture(path).mode, open_picture(path).size) == ("RGB", (8, 6))


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_picture(tmp_path / "clear.png").getpixel((1, 1)) == (255, 255, 255)


def test_a_picture_is_turned_upright_as_its_camera_says(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the top of the scene is on the right
    Image.new("RGB", (30, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (10, 30)


def test_a_file_that_is_no_picture_fails_with_one_sentence(tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(photograph("coffee.png").read_bytes()[:5000])
    for path in (zip_named_png(tmp_path), empty_file(tmp_path, "empty.png"), cut):
        with pytest.raises(ModelError, match=path.name):
            open_picture(path)


@pytest.mark.models
def test_a_cup_of_coffee_is_an_espresso(expert: Expert) -> None:
    reply = give(expert("efficientnet"), Task.IMAGE_CLASSIFICATION, photograph("coffee.png"))
    assert str(reply.value).startswith("espresso (0.9")
    assert len(reply.data["labels"]) == 5


@pytest.mark.models
def test_one_bad_picture_does_not_spoil_its_neighbours(expert: Expert, tmp_path: Path) -> None:
    paths = photograph("coffee.png"), zip_named_png(tmp_path), photograph("chelsea.png")
    first, second, third = run(expert("efficientnet"), Task.IMAGE_CLASSIFICATION, *paths)
    assert isinstance(second, ModelError)
    assert isinstance(first, Output)
    assert isinstance(third, Output)
    assert "cat" in str(third.value)


@pytest.mark.models
def test_pictures_in_a_batch_get_the_scores_they_get_alone(expert: Expert) -> None:
    model, paths = expert("efficientnet"), (photograph("coffee.png"), photograph("chelsea.png"))
    for path, reply in zip(paths, run(model, Task.IMAGE_CLASSIFICATION, *paths), strict=True):
        assert isinstance(reply, Output)
        alone = give(model, Task.IMAGE_CLASSIFICATION, path).data["labels"]
        for label, single in zip(reply.data["labels"], alone, strict=True):
            assert label["label"] == single["label"]
            assert label["score"] == pytest.approx(single["score"], abs=1e-3)


@pytest.mark.models
def test_an_invoice_is_read_line_by_line(expert: Expert, tmp_path: Path) -> None:
    reply = give(expert("rapidocr"), Task.IMAGE_TO_TEXT, invoice(tmp_path))
    expected = [f"{left}   {right}".strip() for left, right in INVOICE_LINES]
    assert str(reply.value).splitlines() == expected
    assert {line["text"] for line in reply.data["lines"]} >= {"Total due", "$1,234.50"}


@pytest.mark.models
def test_a_page_without_text_says_so(expert: Expert, tmp_path: Path) -> None:
    (reply,) = run(expert("rapidocr"), Task.IMAGE_TO_TEXT, blank_page(tmp_path))
    assert isinstance(reply, ModelError)
    assert reply.message == "no text was found in the picture"


@pytest.mark.models
@pytest.mark.parametrize(("name", "label"), [("astronaut.png", "person"), ("chelsea.png", "cat"), ("coffee.png", "cup")])
def test_the_main_object_of_a_photograph_is_found_once(expert: Expert, name: str, label: str) -> None:
    reply = give(expert("tfjs_detector"), Task.OBJECT_DETECTION, photograph(name))
    assert str(reply.value).startswith(f"1 × {label} (")
    left, top, right, bottom = reply.data["objects"][0]["box"]
    assert 0 <= left < right
    assert 0 <= top < bottom
