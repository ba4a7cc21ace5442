"""Intake: bytes that people send → artifacts. What a file is, its bytes say, not its name; what cannot be read is refused here."""

import base64
import io
import mimetypes
from collections.abc import Collection
from pathlib import PurePosixPath

import filetype

from cluster.artifacts import ArtifactStore
from cluster.errors import BadFile, FileTooLarge
from cluster.messages import ArtifactRef
from cluster.settings import Limits
from cluster.tasks import Media

TEXT_TYPE = "text/plain"
FILE_ID_PREFIX = "file-"
MAX_NAME_CHARACTERS = 120


class Intake:
    """Takes files of the media that some deployed task can eat."""

    def __init__(self, artifacts: ArtifactStore, limits: Limits, media: Collection[Media] = (Media.TEXT, Media.IMAGE, Media.AUDIO)) -> None:
        self._artifacts = artifacts
        self._media = media
        self._max_bytes = limits.max_upload_bytes
        self._max_pixels = limits.max_picture_pixels

    def accept(self, content: bytes, name: str) -> ArtifactRef:
        """Stores a text, picture, recording or film. Raises BadFile or FileTooLarge with one sentence. Blocks."""
        name = _safe_name(name)
        if not content:
            raise BadFile(f"{name} is empty (0 bytes)")
        if len(content) > self._max_bytes:
            raise FileTooLarge(f"{name} has {len(content):,} bytes; the limit is {self._max_bytes:,}")
        media_type = _media_type(content, name)
        claimed = (mimetypes.guess_type(name)[0] or "").partition("/")[0]
        actual = media_type.partition("/")[0]
        if claimed in {Media.IMAGE, Media.AUDIO} and claimed != actual:
            raise BadFile(f"{name} is not {claimed}: its bytes are {media_type}")
        if actual not in self._media:
            raise BadFile(f"{name} is {media_type}; what can be worked on here is {', '.join(sorted(self._media))}")
        match actual:
            case Media.IMAGE:
                _check_picture(content, name, self._max_pixels)
            case Media.AUDIO:
                _check_recording(content, name)
            case Media.TEXT:
                _check_text(content, name)
        return self._artifacts.put(content, media_type, name)

    def accept_data_url(self, url: str, name: str) -> ArtifactRef:
        """`data:image/png;base64,…`. Raises BadFile."""
        head, comma, data = url.partition(",")
        if not head.lower().startswith("data:") or not comma or not head.endswith(";base64"):
            raise BadFile(f"{name}: a data URL reads data:<media type>;base64,<data>")
        return self.accept_base64(data, name)

    def accept_base64(self, data: str, name: str) -> ArtifactRef:
        if len(data) > self._max_bytes * 4 / 3 + 4:
            raise FileTooLarge(f"{name} is larger than the limit of {self._max_bytes:,} bytes")
        try:
            content = base64.b64decode(data, validate=True)
        except ValueError as exc:  # also letters beyond ASCII
            raise BadFile(f"{name} is not valid base64") from exc
        return self.accept(content, name)

    def known(self, file_id: str) -> ArtifactRef:
        """An upload ("file-<sha256>") or an artifact (its sha256, or a link to it). Raises NotFound."""
        return self._artifacts.ref(file_id.rpartition("/")[2].removeprefix(FILE_ID_PREFIX))

    def text(self, ref: ArtifactRef) -> str | None:
        """What a text file says; None for other media."""
        return self._artifacts.read(ref.sha256).decode("utf-8") if ref.media == Media.TEXT else None


def _safe_name(name: str) -> str:
    """What a person sees: no path, nothing unprintable (line ends, surrogates, direction marks), of bearable length."""
    printable = "".join(letter for letter in PurePosixPath(name.replace("\\", "/")).name if letter.isprintable())
    return printable[-MAX_NAME_CHARACTERS:].strip(". ") or "file"


def _media_type(content: bytes, name: str) -> str:
    kind = filetype.guess(content)
    is_text = _is_text(content)
    if kind is not None and not (is_text and str(kind.mime).startswith(("image/", "audio/"))):  # a text may begin with «BM» or «GIF»
        media_type = str(kind.mime)
        if media_type.startswith(("image/", "audio/")):
            return media_type
        if media_type.startswith("video/"):
            return media_type if _has_pictures(content, name) else f"audio/{media_type.partition('/')[2]}"
        raise BadFile(f"{name} is {media_type}; a text, a picture or a recording is needed")
    if is_text:
        return TEXT_TYPE
    raise BadFile(f"{name} is neither a picture nor a recording nor text in UTF-8")


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _check_picture(content: bytes, name: str, max_pixels: int) -> None:
    """Its size stands at its beginning, so a picture of too many pixels is refused before it takes their memory."""
    from PIL import Image

    too_large = FileTooLarge(f"{name} has more than {max_pixels:,} pixels, which is the limit")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > max_pixels:
                raise too_large
            picture.load()
    except Image.DecompressionBombError as exc:  # Pillow's own limit, which stands above ours
        raise too_large from exc
    except (OSError, ValueError, SyntaxError) as exc:
        raise BadFile(f"{name} cannot be read as a picture: it is damaged, cut off or of an unknown kind") from exc


def _check_recording(content: bytes, name: str) -> None:
    if not _streams(content, name)[1]:
        raise BadFile(f"{name} holds no sound")


def _check_text(content: bytes, name: str) -> None:
    if not content.decode("utf-8").strip():
        raise BadFile(f"{name} holds no text")


def _has_pictures(content: bytes, name: str) -> bool:
    return _streams(content, name)[0] > 0


def _streams(content: bytes, name: str) -> tuple[int, bool]:
    """The number of video streams, and whether there is sound: a stream of it with something in it, not a header alone."""
    import av

    try:
        with av.open(io.BytesIO(content), mode="r") as container:
            sound = container.streams.audio
            return len(container.streams.video), any(packet.size for packet in (container.demux(sound) if sound else ()))
    except (av.FFmpegError, ValueError) as exc:
        raise BadFile(f"{name} cannot be read as a recording: it is damaged, cut off or of an unknown kind") from exc
