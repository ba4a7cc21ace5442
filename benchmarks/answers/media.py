"""Makes the files of the suite: photographs and recordings out of packages, drawn pages, spoken sentences, texts.

Nothing is left to chance: the same medium gives the same file, but for espeak-ng, which times its second sentence a little otherwise.
"""

import shutil
from functools import cache
from pathlib import Path

from benchmarks import samples
from benchmarks.answers.suite import Medium
from cluster.errors import HuggingGPTError
from cluster.tasks import Task
from deployments.model import Call, MediaOutput
from deployments.speech import Espeak, Hibari

PAGE_WIDTH = 900  # pixels
MARGIN, LINE_HEIGHT, LETTER_HEIGHT, COLUMN = 40, 70, 32, 640  # pixels; COLUMN is where the second one begins
COLLAGE_HEIGHT = 400  # pixels


def make(name: str, medium: Medium, folder: Path) -> Path:
    """The file of this name in `folder`. Raises FileNotFoundError when the package that holds it is missing."""
    path = folder / name
    if path.exists():
        return path
    match medium:
        case Medium(photographs=tuple(sources)):
            _photograph(sources, path)
        case Medium(lines=tuple(lines)):
            _page(lines, path)
        case Medium(speak=str(words)):
            path.write_bytes(_spoken(words, medium.language))
        case Medium(recording=str(source)):
            shutil.copyfile(samples.recording(source), path)
        case Medium(text=str(text)):
            path.write_text(text, encoding="utf-8")
    return path


def _photograph(sources: tuple[str, ...], path: Path) -> None:
    """One as it ships; several side by side, equally high."""
    from PIL import Image, ImageOps

    if len(sources) == 1:
        shutil.copyfile(samples.photograph(sources[0]), path)
        return
    parts = []
    for source in sources:
        with Image.open(samples.photograph(source)) as picture:
            width = round(picture.width * COLLAGE_HEIGHT / picture.height)
            parts.append(ImageOps.fit(picture.convert("RGB"), (width, COLLAGE_HEIGHT)))
    collage = Image.new("RGB", (sum(part.width for part in parts), COLLAGE_HEIGHT))
    left = 0
    for part in parts:
        collage.paste(part, (left, 0))
        left += part.width
    collage.save(path)


def _page(lines: tuple[str, ...], path: Path) -> None:
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (PAGE_WIDTH, 2 * MARGIN + LINE_HEIGHT * len(lines)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(LETTER_HEIGHT)
    for row, line in enumerate(lines):
        left, _, right = (part.strip() for part in line.partition("|"))
        draw.text((MARGIN, MARGIN + LINE_HEIGHT * row), left, "black", font)
        draw.text((COLUMN, MARGIN + LINE_HEIGHT * row), right, "black", font)
    page.save(path)


def _spoken(words: str, language: str) -> bytes:
    """A WAV, by the natural voice in English and by espeak-ng in other languages."""
    (output,) = _voice(language == "en").compute([Call(Task.TEXT_TO_SPEECH, (words,), {"language": language})])
    if not isinstance(output.value, MediaOutput):
        raise HuggingGPTError(f"the voice gave no recording of «{words}»")
    return output.value.content


@cache
def _voice(is_english: bool) -> Hibari | Espeak:
    return Hibari.load(threads=1) if is_english else Espeak()
