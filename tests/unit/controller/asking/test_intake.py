"""What people send: good files become artifacts, everything else one sentence."""

import base64
import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from benchmarks import samples
from cluster.artifacts import ArtifactStore
from cluster.errors import BadFile, FileTooLarge, NotFound
from cluster.settings import Limits
from cluster.tasks import Media
from controller.asking.intake import Intake

LIMIT = 1_000_000
UNREADABLE = "it is damaged, cut off or of an unknown kind$"


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(ArtifactStore(f"file://{tmp_path}/artifacts"), Limits(max_upload_bytes=LIMIT))


def a_png() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()


def a_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return a_png()[:12] + header + struct.pack(">I", zlib.crc32(header)) + a_png()[33:]


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "no picture")
    return file.getvalue()


def a_wav(folder: Path) -> bytes:
    return samples.silence(folder, 0.1).read_bytes()


def test_a_text_a_picture_and_a_recording_are_taken_for_what_they_are(intake: Intake, tmp_path: Path) -> None:
    assert intake.accept("Grüß Gott, 你好".encode(), "hello.txt").media_type == "text/plain"
    assert intake.accept(a_png(), "noise.png").media_type == "image/png"
    assert intake.accept(a_wav(tmp_path), "silence.wav").media == "audio"


def test_a_picture_under_a_name_without_ending_is_a_picture(intake: Intake) -> None:
    assert intake.accept(a_png(), "picture").media_type == "image/png"


@pytest.mark.parametrize("text", ["BMW built the car.", "GIF is a format of pictures.", "ID3 tags name a song."])
def test_a_text_that_begins_like_a_picture_or_a_song_is_a_text(intake: Intake, text: str) -> None:
    assert intake.accept(text.encode(), "text.txt").media_type == "text/plain"


def test_a_text_is_read_back(intake: Intake) -> None:
    assert intake.text(intake.accept("你好".encode(), "hello.txt")) == "你好"
    assert intake.text(intake.accept(a_png(), "noise.png")) is None


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (b"", "empty.wav", r"empty\.wav is empty \(0 bytes\)"),
        (a_zip(), "not_a_picture.png", r"not_a_picture\.png is application/zip"),
        (a_zip(), "archive.zip", "a text, a picture or a recording is needed"),
        (b"just words", "words.png", r"words\.png is not image"),
        (a_png(), "song.wav", r"song\.wav is not audio: its bytes are image/png"),
        (a_png()[:200], "cut.png", rf"cut\.png cannot be read as a picture: {UNREADABLE}"),
        (
            b"\x89PNG\r\n\x1a\nnothing of the kind",
            "odd.png",
            rf"odd\.png cannot be read as a picture: {UNREADABLE}",
        ),
        (b"RIFF\x24\x00\x00\x00WAVE", "cut.wav", rf"cut\.wav cannot be read as a recording: {UNREADABLE}"),
        (bytes(range(256)), "data.bin", "neither a picture nor a recording nor text in UTF-8"),
        ("Grüß Gott".encode("latin-1"), "old.txt", "UTF-8"),
        ("hello".encode("utf-16"), "windows.txt", "UTF-8"),
        (b" \n\t", "blank.txt", r"blank\.txt holds no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name(intake: Intake, content: bytes, name: str, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        intake.accept(content, name)


def test_a_file_beyond_the_limit_is_refused_with_both_sizes(intake: Intake) -> None:
    with pytest.raises(FileTooLarge, match=r"1,000,001 bytes; the limit is 1,000,000"):
        intake.accept(b"x" * (LIMIT + 1), "long.txt")
    assert intake.accept(b"x" * LIMIT, "long.txt").size_bytes == LIMIT


@pytest.mark.parametrize(("width", "height"), [(8_000, 8_000), (60_000, 60_000)])
def test_a_picture_of_too_many_pixels_is_refused_unread(intake: Intake, width: int, height: int) -> None:
    with pytest.raises(FileTooLarge, match=r"bomb\.png has more than 50,000,000 pixels, which is the limit"):
        intake.accept(a_bomb(width, height), "bomb.png")


def test_a_recording_without_a_single_sample_is_refused(intake: Intake, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"nothing\.wav holds no sound"):
        intake.accept(samples.silence(tmp_path, 0).read_bytes(), "nothing.wav")


def test_base64_beyond_the_limit_is_refused(intake: Intake) -> None:
    with pytest.raises(FileTooLarge):
        intake.accept_base64("A" * (2 * LIMIT), "long.txt")


@pytest.mark.parametrize("name", ["../../etc/cat.png", "C:\\pictures\\cat.png", "/cat.png"])
def test_folders_in_a_name_are_dropped(intake: Intake, name: str) -> None:
    assert intake.accept(a_png(), name).name == "cat.png"


def test_a_data_url_is_read(intake: Intake) -> None:
    content = a_png()
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    assert intake.accept_data_url(url, "picture") == intake.accept(content, "picture")


@pytest.mark.parametrize(
    "url", ["data:image/png,abc", "data:image/png;base64", "data:image/png;base64,", "data:image/png;base64,!", "image/png;base64,QQ=="]
)
def test_a_broken_data_url_is_refused(intake: Intake, url: str) -> None:
    with pytest.raises(BadFile, match="picture"):
        intake.accept_data_url(url, "picture")


@pytest.mark.parametrize("data", ["no base64!", "QQ", "你好", "ä" * 4])
def test_what_is_not_base64_is_refused(intake: Intake, data: str) -> None:
    with pytest.raises(BadFile, match="is not valid base64$"):
        intake.accept_base64(data, "file")


def test_an_upload_is_known_by_its_id_and_by_its_link(intake: Intake) -> None:
    ref = intake.accept(b"hello", "hello.txt")
    for known_as in (f"file-{ref.sha256}", ref.sha256, f"/v1/artifacts/{ref.sha256}"):
        assert intake.known(known_as) == ref


@pytest.mark.parametrize("unknown", ["", "file-", "file-" + "0" * 64, "cat.png", "file-../../etc/passwd"])
def test_an_unknown_id_is_not_found(intake: Intake, unknown: str) -> None:
    with pytest.raises(NotFound):
        intake.known(unknown)


def test_a_film_is_taken_where_a_task_eats_films_and_refused_elsewhere(tmp_path: Path) -> None:
    film = samples.clip(tmp_path).read_bytes()
    store = ArtifactStore(f"file://{tmp_path}/artifacts")
    assert Intake(store, Limits(), set(Media)).accept(film, "clip.mp4").media is Media.VIDEO
    with pytest.raises(BadFile, match="clip.mp4 is video/mp4; what can be worked on here is audio, image, text"):
        Intake(store, Limits()).accept(film, "clip.mp4")
