"""The words of a page with their places, from what an OCR model found. Knows no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PAGE = 1000  # LayoutLM's unit: a thousandth of the page's width or height

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PageWord:
    """One word; the box is (left, top, right, bottom) in pixels."""

    text: str
    box: Box

    def on_page(self, width: int, height: int) -> list[int]:
        """The box in thousandths of a page of this size in pixels."""
        sides = (width, height, width, height)
        return [min(max(round(PAGE * place / side), 0), PAGE) for place, side in zip(self.box, sides, strict=True)]


def page_words(lines: Sequence[Mapping[str, Any]]) -> list[PageWord]:
    """The words of deployments.vision.Ocr's pieces. A piece's width is shared out by characters, since OCR frames no words."""
    words: list[PageWord] = []
    for line in lines:
        text, corners = str(line["text"]), line["box"]
        left, right = min(x for x, _ in corners), max(x for x, _ in corners)
        top, bottom = min(y for _, y in corners), max(y for _, y in corners)
        step, place = (right - left) / max(len(text), 1), 0
        for word in text.split():
            place = text.index(word, place)
            words.append(PageWord(word, (left + place * step, top, left + (place + len(word)) * step, bottom)))
            place += len(word)
    return words


def around(words: Sequence[PageWord]) -> list[float]:
    """The smallest box that holds all of them."""
    boxes = [word.box for word in words]
    places = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    return [round(place, 1) for place in places]
