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

import fsspec

from cluster.errors import NotFound
from cluster.messages import ArtifactRef

CHUNK_BYTES = 1 << 20


class ArtifactStore:
    """Bytes at `{url}/{sha256[:2]}/{sha256}`, what they are called beside them as JSON. All calls block.

    Writing is atomic: the bytes land under a passing name and are renamed. Raises NotFound for an unknown sha256.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._is_local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))
        self._cache = cache or Path(tempfile.gettempdir()) / "hugginggpt-artifacts"

    def put(self, content: bytes, media_type: str, name: str) -> ArtifactRef:
        sha256 = hashlib.sha256(content).hexdigest()
        ref = ArtifactRef(sha256, media_type, len(content), PurePosixPath(name).name or "artifact")
        path = self._path(sha256)
        self._fs.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if not self._fs.exists(path):
            self._write(path, content)
        if not self._fs.exists(f"{path}.json"):
            self._write(f"{path}.json", json.dumps(asdict(ref)).encode())
        return ref

    def ref(self, sha256: str) -> ArtifactRef:
        """The reference under which these bytes were first stored."""
        with _known(sha256), self._fs.open(f"{self._path(sha256)}.json", "rb") as file:
            return ArtifactRef(**json.loads(file.read()))

    def read(self, sha256: str) -> bytes:
        return b"".join(self.chunks(sha256))

    def chunks(self, sha256: str) -> Iterator[bytes]:
        with _known(sha256), self._fs.open(self._path(sha256), "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def local(self, ref: ArtifactRef) -> Path:
        """A file on this machine with these bytes; one from a remote file system is fetched once."""
        path = self._path(ref.sha256)
        if self._is_local:
            with _known(ref.sha256):
                self._fs.info(path)
            return Path(path)
        local = self._cache / ref.sha256
        if not local.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            passing = local.with_suffix(f".{uuid.uuid4().hex}")
            try:
                with passing.open("wb") as file:
                    file.writelines(self.chunks(ref.sha256))
                os.replace(passing, local)
            finally:
                passing.unlink(missing_ok=True)
        return local

    def _write(self, path: str, content: bytes) -> None:
        passing = f"{path}.{uuid.uuid4().hex}.part"
        with self._fs.open(passing, "wb") as file:
            file.write(content)
        self._fs.mv(passing, path)

    def _path(self, sha256: str) -> str:
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise NotFound(f"{sha256[:80]!r} is no artifact id; an id is 64 hex digits")
        return f"{self._root}/{sha256[:2]}/{sha256}"


@contextmanager
def _known(sha256: str) -> Iterator[None]:
    """Turns the file system's «not there» into one sentence."""
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFound(f"no artifact has id {sha256}") from exc
