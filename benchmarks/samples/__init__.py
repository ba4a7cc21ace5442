"""Files for the demo and for tests: recordings, photographs, a rendered invoice, a speech, and files that are not what they say."""

import zipfile
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SPEECH = Path(__file__).with_name("speech.txt")  # about climate change, some 200 English words with numbers and names
BECKETT = "Ever tried, ever failed. No matter. Try again. Fail again. Fail better."
TWO_CITIES = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of light, it was the season of darkness, "
    "it was the spring of hope, it was the winter of despair, we had everything before us, we had nothing before us, "
    "we were all going direct to heaven, we were all going direct the other way. In short, the period was so far like the "
    "present period that some of its noisiest authorities insisted on its being received, for good or for evil, "
    "in the superlative degree of comparison only."
)
INVOICE_LINES = (
    ("Northwind Traders Ltd", ""),
    ("Invoice 2024-0117", ""),
    ("Coffee beans 20 kg", "$840.00"),
    ("Paper cups 5000", "$394.50"),
    ("Total due", "$1,234.50"),
)


def recording(name: str) -> Path:
    """`beckett.wav` or `two_cities.wav` out of the package moonshine-voice, which is not imported."""
    try:
        found = next(file for file in files("moonshine-voice") or () if file.name == name)
    except (PackageNotFoundError, StopIteration) as exc:
        raise FileNotFoundError(f"{name} comes with the package moonshine-voice 0.1.5; `make setup` installs it") from exc
    return Path(str(found.locate()))


def photograph(name: str) -> Path:
    """A picture that ships inside scikit-image: astronaut.png, coffee.png, chelsea.png."""
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(f"{name} comes with the package scikit-image; `make setup` installs it")
    return Path(package.submodule_search_locations[0], "data", name)


def invoice(folder: Path) -> Path:
    """A page with INVOICE_LINES, drawn into `folder`."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (900, 420), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(30)
    for row, (left, right) in enumerate(INVOICE_LINES):
        draw.text((40, 30 + 70 * row), left, "black", font)
        draw.text((640, 30 + 70 * row), right, "black", font)
    path = folder / "invoice.png"
    page.save(path)
    return path


def blank_page(folder: Path) -> Path:
    from PIL import Image

    path = folder / "blank.png"
    Image.new("RGB", (320, 240), "white").save(path)
    return path


def zip_named_png(folder: Path) -> Path:
    path = folder / "not_a_picture.png"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no picture")
    return path


def empty_file(folder: Path, name: str = "empty.wav") -> Path:
    path = folder / name
    path.touch()
    return path


def silence(folder: Path, duration_s: float = 2.0) -> Path:
    import wave

    path, rate_hz = folder / "silence.wav", 16_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(bytes(2 * round(duration_s * rate_hz)))
    return path


def clip(folder: Path, frames: int = 16) -> Path:
    """A short film: the cat, and the view moves to the right."""
    import av
    from PIL import Image

    path = folder / "clip.mp4"
    with av.open(str(path), "w") as film, Image.open(photograph("chelsea.png")) as picture:
        stream = film.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 224, 224, "yuv420p"
        for n in range(frames):
            frame: Any = av.VideoFrame.from_image(picture.convert("RGB").crop((8 * n, 20, 8 * n + 224, 244)))  # type: ignore[no-untyped-call]
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path
