"""ArtifactStore: files named by the sha256 of their bytes, on any fsspec file system (a folder, s3://, gs://)."""

import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec

from cluster.errors import NotFound
from cluster.messages import ArtifactRef

CHUNK_BYTES = 1 << 20
PIECE_BYTES = 1 << 18  # are hashed and then written while they are in the processor's cache


class ArtifactStore:
    """Bytes at `{url}/{sha256[:2]}/{sha256}`, what they are called beside them as JSON. All calls block.

    Writing is atomic: the bytes land under a passing name and are renamed. Raises NotFound for an unknown sha256.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._is_local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))
        self._cache = cache or Path(tempfile.gettempdir()) / "hugginggpt-artifacts"

    def put(self, content: bytes, media_type: str, name: str) -> ArtifactRef:
        sha256 = self._put_here(content) if self._is_local else self._put_there(content)
        ref = ArtifactRef(sha256, media_type, len(content), PurePosixPath(name).name or "artifact")
        told = f"{self._path(sha256)}.json"
        if not self._exists(told):
            self._write(told, json.dumps(asdict(ref)).encode())
        return ref

    def ref(self, sha256: str) -> ArtifactRef:
        """The reference under which these bytes were first stored."""
        with _known(sha256), self._opened(f"{self._path(sha256)}.json") as file:
            return ArtifactRef(**json.loads(file.read()))

    def read(self, sha256: str) -> bytes:
        with _known(sha256), self._opened(self._path(sha256)) as file:
            return bytes(file.read())

    def chunks(self, sha256: str) -> Iterator[bytes]:
        with _known(sha256), self._opened(self._path(sha256)) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def local(self, ref: ArtifactRef) -> Path:
        """A file on this machine with these bytes; one from a remote file system is fetched once."""
        path = self._path(ref.sha256)
        if self._is_local:
            with _known(ref.sha256):
                os.stat(path)
            return Path(path)
        local = self._cache / ref.sha256
        if not local.exists():
            with _passing(self._cache) as (passing, file):
                file.writelines(self.chunks(ref.sha256))
                file.close()
                passing.replace(local)
        return local

    def _put_here(self, content: bytes) -> str:
        """Hashes on the way to the disk, so that the bytes come once from memory. What is there already is written again."""
        digest, view = hashlib.sha256(), memoryview(content)
        with _passing(Path(self._root)) as (passing, file):
            for start in range(0, len(view), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                digest.update(piece)
                file.write(piece)
            file.close()
            path = Path(self._path(digest.hexdigest()))
            try:
                passing.replace(path)
            except FileNotFoundError:  # the first of its folder
                path.parent.mkdir(exist_ok=True)
                passing.replace(path)
        return path.name

    def _put_there(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._path(sha256)
        self._fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if not self._fs.exists(path):
            self._write(path, content)
        return sha256

    def _write(self, path: str, content: bytes) -> None:
        """Into a folder that is there."""
        if self._is_local:
            with _passing(Path(self._root)) as (passing, file):
                file.write(content)
                file.close()
                passing.replace(path)
            return
        name = f"{path}.{uuid.uuid4().hex}.part"
        with self._fs.open(name, "wb") as file:
            file.write(content)
        self._fs.mv(name, path)

    def _exists(self, path: str) -> bool:
        return os.path.exists(path) if self._is_local else bool(self._fs.exists(path))

    def _opened(self, path: str) -> Any:
        """Without fsspec where it is a file: for a small one fsspec takes several times as long as reading it."""
        return Path(path).open("rb") if self._is_local else self._fs.open(path, "rb")

    def _path(self, sha256: str) -> str:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise NotFound(f"{sha256[:80]!r} is no artifact id; an id is 64 hex digits")
        return f"{self._root}/{sha256[:2]}/{sha256}"


@contextmanager
def _passing(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file to write, close and rename; gone when that fails."""
    path = folder / f"{uuid.uuid4().hex}.part"
    try:
        file = path.open("xb")
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    try:
        with file:
            yield path, file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _known(sha256: str) -> Iterator[None]:
    """Turns the file system's «not there» into one sentence."""
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound(f"no artifact has id {sha256}") from exc
