"""Where a model file's bytes come from: a local path or the hub here, wheels in store_wheels. Knows nothing of final folders.

A source hands over a file only whole, checked against its pinned size and sha256, and fsynced.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import BinaryIO, Protocol

import httpx2
from huggingface_hub import (
    constants,
    get_session,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from tqdm import tqdm  # type: ignore[import-untyped]

from cluster.catalogue import ModelCard, ModelFile
from cluster.errors import ModelCorrupt

CHUNK_BYTES = 1 << 20
HUB_CONNECT_TIMEOUT_S = 2.0
# A hub that did not answer is asked again only after this long: huggingface_hub itself retries for 23 s per file.
HUB_REST_S = 300.0

Tell = Callable[[int], None]  # bytes of this file that are there


class SourceFailed(Exception):
    """Why a source cannot deliver a file; the next source is tried. Never leaves the store."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to fetch. `staging` keeps what a killed pull had got; `into` appears only when the bytes are right."""

    card: ModelCard
    file: ModelFile
    staging: Path
    into: Path
    tell: Tell

    @property
    def part(self) -> Path:
        return self.into.with_name(self.into.name + ".part")


class Source(Protocol):
    def fetch(self, wanted: Wanted) -> None:
        """Puts the file at `wanted.into`. Raises SourceFailed, or ModelCorrupt when the bytes are not the pinned ones."""


class LocalSource:
    """Copies a file that lies on this machine."""

    def fetch(self, wanted: Wanted) -> None:
        if wanted.file.local is None:
            raise SourceFailed("the card names no local path")
        copy_checked(wanted.file.local.expanduser(), wanted)


class HubSource:
    """Downloads from the hub at the card's revision, or copies from the hub library's own cache on this machine."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint or constants.ENDPOINT

    def fetch(self, wanted: Wanted) -> None:
        card, name = wanted.card, wanted.file.hub_path or wanted.file.path
        if card.revision is None or not wanted.file.on_hub:
            raise SourceFailed("the hub does not have this file")
        cached = try_to_load_from_cache(card.id, name, revision=card.revision)
        if isinstance(cached, str):
            copy_checked(Path(cached), wanted)
            return
        if constants.is_offline_mode():
            raise SourceFailed("HF_HUB_OFFLINE is set and the hub library's cache lacks the file")
        require_reachable(self._endpoint)
        keep_checked(self._download(name, wanted), digest_of, wanted)

    def _download(self, name: str, wanted: Wanted) -> Path:
        """`local_dir` keeps an unfinished file there, so that the next pull asks only for the rest."""
        try:
            path = hf_hub_download(
                wanted.card.id,
                name,
                revision=wanted.card.revision,
                local_dir=wanted.staging / "hub",
                endpoint=self._endpoint,
                tqdm_class=_meter(wanted.tell),
            )
        except (HfHubHTTPError, EntryNotFoundError, httpx2.HTTPError, OSError) as exc:
            raise SourceFailed(_first_line(exc)) from exc
        return Path(path)


_asleep_until_s: dict[str, float] = {}  # per process and hub endpoint, on the monotonic clock


def require_reachable(endpoint: str) -> None:
    """Asks the hub for any answer within 2 s. Raises SourceFailed; a silent hub is not asked again for five minutes."""
    if time.monotonic() < _asleep_until_s.get(endpoint, 0.0):
        raise SourceFailed(f"{endpoint} did not answer a moment ago")
    try:
        get_session().head(endpoint, timeout=HUB_CONNECT_TIMEOUT_S)
    except (httpx2.HTTPError, OSError) as exc:
        _asleep_until_s[endpoint] = time.monotonic() + HUB_REST_S
        raise SourceFailed(f"{endpoint} does not answer ({_first_line(exc)})") from exc


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's bytes come to."""

    sha256: str
    size_bytes: int


def digest_of(path: Path) -> Digest:
    with path.open("rb") as stream:
        return Digest(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def check_digest(got: Digest, card: ModelCard, file: ModelFile) -> None:
    """Raises ModelCorrupt, naming the file and both values."""
    if got.size_bytes != file.size_bytes:
        raise ModelCorrupt(f"{file.path} of {card.id} has {got.size_bytes} bytes; its card says {file.size_bytes}")
    if got.sha256 != file.sha256:
        raise ModelCorrupt(f"{file.path} of {card.id} has sha256 {got.sha256}; its card says {file.sha256}")


def keep_checked(part: Path, measure: Callable[[Path], Digest], wanted: Wanted) -> None:
    """Moves a finished download to its place once its bytes are right and on the disk; deletes it when they are wrong."""
    try:
        check_digest(measure(part), wanted.card, wanted.file)
    except ModelCorrupt:
        part.unlink()
        raise
    sync(part)
    os.replace(part, wanted.into)


def copy_checked(source: Path, wanted: Wanted) -> None:
    """Copies and hashes in one pass. Raises SourceFailed when the source cannot be read."""
    try:
        with source.open("rb") as stream, wanted.part.open("wb") as part:
            digest = copy_hashed(stream, part, wanted.tell)
    except OSError as exc:
        raise SourceFailed(f"{source} cannot be copied ({exc.strerror})") from exc
    keep_checked(wanted.part, lambda _: digest, wanted)


def copy_hashed(source: BinaryIO, sink: BinaryIO, tell: Tell) -> Digest:
    hasher, size_bytes = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        sink.write(chunk)
        hasher.update(chunk)
        size_bytes += len(chunk)
        tell(size_bytes)
    return Digest(hasher.hexdigest(), size_bytes)


def sync(path: Path) -> None:
    """To the disk, for a file or a folder: after a power cut, a name must not stand for bytes that never got there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _meter(tell: Tell) -> "type[tqdm]":
    """The hub library reports through a tqdm class; this one draws nothing and passes the numbers on."""

    class Meter(tqdm):
        def __init__(self, *args: object, **kwargs: object) -> None:
            kwargs.pop("name", None)  # the hub library's own tqdm takes it, the plain one does not
            super().__init__(*args, **{**kwargs, "file": StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            tell(int(self.n))
            return shown

    return Meter


def _first_line(exc: Exception) -> str:
    lines = [line for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
