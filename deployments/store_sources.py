"""Where a model file's bytes come from: a local path or the hub here, wheels in store_wheels. Knows nothing of final folders.

A source hands over a file only whole, checked against its pinned size and hash, and fsynced.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import BinaryIO, Protocol

import httpx2
from huggingface_hub import (
    constants,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from tqdm import tqdm  # type: ignore[import-untyped]

from cluster.catalogue import ModelCard, ModelFile
from cluster.errors import ModelCorrupt
from cluster.hub_line import HUB_TOKEN_ENV, HubSilent, first_line, require_reachable

CHUNK_BYTES = 1 << 20

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
    """Downloads from the hub at the pinned revision, or copies from the hub library's own cache on this machine."""

    def __init__(self, endpoint: str | None = None, token_env: str = HUB_TOKEN_ENV) -> None:
        self._endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token_env = token_env

    def fetch(self, wanted: Wanted) -> None:
        card, file = wanted.card, wanted.file
        revision = file.hub_revision or card.revision
        if revision is None or not file.on_hub:
            raise SourceFailed("the hub does not have this file")
        place = _Place(file.hub_id or card.id, file.hub_path or file.path, revision)
        cached = try_to_load_from_cache(place.repository, place.path, revision=place.revision)
        if isinstance(cached, str):
            copy_checked(Path(cached), wanted)
            return
        if constants.is_offline_mode():
            raise SourceFailed("HF_HUB_OFFLINE is set and the hub library's cache lacks the file")
        try:
            require_reachable(self._endpoint)
        except HubSilent as exc:
            raise SourceFailed(str(exc)) from exc
        keep_checked(self._download(place, wanted), lambda path: digest_of(path, file), wanted)

    def _download(self, place: "_Place", wanted: Wanted) -> Path:
        """`local_dir` keeps an unfinished file there, so that the next pull asks only for the rest."""
        try:
            path = hf_hub_download(
                place.repository,
                place.path,
                revision=place.revision,
                local_dir=wanted.staging / "hub" / place.repository.replace("/", "--"),
                endpoint=self._endpoint,
                token=os.environ.get(self._token_env) or None,
                tqdm_class=_meter(wanted.tell),
            )
        except (HfHubHTTPError, EntryNotFoundError, httpx2.HTTPError, OSError) as exc:
            behind = exc.__cause__ if isinstance(exc, LocalEntryNotFoundError) and isinstance(exc.__cause__, Exception) else exc
            raise SourceFailed(first_line(behind)) from exc
        return Path(path)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file lies on the hub."""

    repository: str
    path: str
    revision: str


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file's bytes come to: the hash that its card pins it by, sha256 or git's."""

    hash: str
    size_bytes: int


def digest_of(path: Path, file: ModelFile) -> Digest:
    size_bytes = path.stat().st_size
    hasher = hasher_of(file, size_bytes)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
    return Digest(hasher.hexdigest(), size_bytes)


def hasher_of(file: ModelFile, size_bytes: int) -> "hashlib._Hash":
    """sha256, or git's: the sha1 of a header that holds the size, and the content. That sha1 is the hub's own name of the file."""
    if file.sha256 is not None:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)


def check_digest(got: Digest, card: ModelCard, file: ModelFile) -> None:
    """Raises ModelCorrupt, naming the file and both values."""
    if got.size_bytes != file.size_bytes:
        raise ModelCorrupt(f"{file.path} of {card.id} has {got.size_bytes} bytes; its card says {file.size_bytes}")
    if got.hash != file.digest:
        kind = "sha256" if file.sha256 is not None else "git hash"
        raise ModelCorrupt(f"{file.path} of {card.id} has {kind} {got.hash}; its card says {file.digest}")


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
            digest = copy_hashed(stream, part, wanted)
    except OSError as exc:
        raise SourceFailed(f"{source} cannot be copied ({exc.strerror})") from exc
    keep_checked(wanted.part, lambda _: digest, wanted)


def copy_hashed(source: BinaryIO, sink: BinaryIO, wanted: Wanted) -> Digest:
    hasher, size_bytes = hasher_of(wanted.file, wanted.file.size_bytes), 0
    while chunk := source.read(CHUNK_BYTES):
        sink.write(chunk)
        hasher.update(chunk)
        size_bytes += len(chunk)
        wanted.tell(size_bytes)
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
